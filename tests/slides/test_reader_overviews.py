"""Overviews of whole slides: area means without seams, and where they can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from slidestudy.slides import reader
from slidestudy.slides.reader import Slide
from tests.slides.builders import (
    RGB,
    crop,
    spoil,
)

Write = Callable[..., Path]


@pytest.mark.parametrize("downsample", [1.0, 1.7, 2.0, 3.3, 7.0, 16.03])
def test_an_overview_is_the_area_mean_of_level_0(
    tmp_path: Path, picture: RGB, write_tiff: Write, downsample: float
) -> None:
    height, width = picture.shape[:2]
    with Slide(write_tiff(tmp_path / "flat.tif", picture)) as slide:
        overview = slide.read_overview(downsample, 2)
    assert overview.readable.all()
    shape = int(np.ceil(height / downsample)), int(np.ceil(width / downsample))
    assert overview.picture.shape == (*shape, 3)
    assert overview.readable.shape == shape
    # Every picture element is the mean of the level-0 pixels it covers, whatever their number.
    inside = int(height / downsample), int(width / downsample)
    map_x, map_y = np.meshgrid(*((np.arange(n) + 0.5) * downsample - 0.5 for n in (inside[1], inside[0])))
    blurred = cv2.blur(picture.astype(np.float32), (max(1, round(downsample)),) * 2)
    expected = cv2.remap(blurred, map_x.astype(np.float32), map_y.astype(np.float32), cv2.INTER_LINEAR)
    difference = np.abs(overview.picture[: inside[0], : inside[1]] - expected)
    assert difference[1:-1, 1:-1].mean() < 1.5


@pytest.mark.parametrize("downsample", [3.0, 8.0, 20.0])
def test_an_overview_of_a_pyramid_agrees_with_level_0(svs: Slide, plain: RGB, downsample: float) -> None:
    overview = svs.read_overview(downsample).picture
    rows, columns = (round(side * downsample) for side in overview.shape[:2])
    # The last row and column may reach beyond the slide, where it is white.
    padded = np.pad(plain, ((0, rows - len(plain)), (0, columns - plain.shape[1]), (0, 0)), constant_values=255)
    area = cv2.resize(padded, overview.shape[1::-1], interpolation=cv2.INTER_AREA)
    difference = overview.astype(float) - area
    assert np.abs(difference).mean() < 4
    assert abs(difference.mean()) < 0.5


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_an_overview_does_not_depend_on_the_threads(svs: Slide, threads: int) -> None:
    np.testing.assert_array_equal(svs.read_overview(5.0, threads).picture, svs.read_overview(5.0).picture)


def test_an_overview_has_no_seam_between_its_blocks(tmp_path: Path, write_tiff: Write) -> None:
    column = np.linspace(0, 255, 1000)[:, None, None]
    image = np.broadcast_to(column, (1000, 3000, 3)).astype(np.uint8)
    with Slide(write_tiff(tmp_path / "wide.tif", image)) as slide:
        overview = slide.read_overview(2.0).picture
    assert overview.shape == (500, 1500, 3)
    assert set(np.diff(overview[:, 700, 0].astype(int))) <= {0, 1}
    assert (overview == overview[:, :1]).all()


def test_a_strongly_reduced_overview_is_made_of_small_windows(
    tmp_path: Path, picture: RGB, write_tiff: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    stream = reader.stream

    def watched(source: Any, windows: Any, *rest: Any) -> Any:
        asked.append(windows.width)
        return stream(source, windows, *rest)

    monkeypatch.setattr(reader, "stream", watched)
    monkeypatch.setattr(reader, "OVERVIEW_WINDOW", 256)
    with Slide(write_tiff(tmp_path / "flat.tif", picture)) as slide:
        overviews = [slide.read_overview(downsample) for downsample in (2, 20, 300)]
    assert max(asked) <= 300
    for downsample, overview in zip((2, 20, 300), overviews, strict=True):
        shape = -(-700 // downsample), -(-900 // downsample)
        assert overview.picture.shape[:2] == shape
        padded = crop(picture, 0, 0, shape[1] * downsample, shape[0] * downsample)
        area = cv2.resize(padded, shape[::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(overview.picture - area.astype(float)).max() <= 1


def test_a_damaged_chunk_costs_an_overview_the_blocks_that_touch_it(tmp_path: Path, tiled: dict[str, Path]) -> None:
    with Slide(tiled["deflate"]) as slide:
        sound = slide.read_overview(2.0)
    with Slide(spoil(tiled["deflate"], tmp_path / "x.tif", 5, 0.0)) as slide:
        overview = slide.read_overview(2.0)
    expected = np.ones((350, 450), bool)
    expected[128:256, 128:256] = False
    np.testing.assert_array_equal(overview.readable, expected)
    np.testing.assert_array_equal(overview.picture[expected], sound.picture[expected])
    assert (overview.picture[~expected] == 255).all()


def test_an_overview_may_be_smaller_than_a_pixel(svs: Slide) -> None:
    assert svs.read_overview(5000.0).picture.shape == (1, 1, 3)
