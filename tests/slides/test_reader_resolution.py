"""Tiles and squares at a wanted resolution: area means, made from the nearest finer level."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.slides.reader import Slide
from tests.slides.builders import (
    RGB,
    Watched,
    collect,
    exact_area,
    grid,
    openslides_level,
)

Write = Callable[..., Path]


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 3), st.integers(-50, 800), st.integers(-50, 600), st.integers(10, 90))
def test_a_coarser_tile_is_the_area_mean_of_level_0(
    opened: dict[str, tuple[Slide, RGB]], factor: int, x: int, y: int, size: int
) -> None:
    for name in ("deflate", "jpeg-420"):
        slide, pixels = opened[name]
        tile = slide.read_square(x, y, factor * size, size)
        np.testing.assert_array_equal(tile, exact_area(pixels, x, y, factor * size, size))


@pytest.mark.shared
@pytest.mark.parametrize("factor", [2, 3])
def test_a_coarser_tile_of_a_real_slide_is_the_area_mean_of_level_0(shared: Path, factor: int) -> None:
    path = shared / "slides" / "cmu-1-small-region.svs"
    pixels = openslides_level(path)
    with Slide(path) as slide:
        coords = grid(slide.size, 256 * factor)
        tiles, _, _ = collect(slide.tiles(coords, 256 * factor, 256, 2), len(coords))
    for (x, y), tile in zip(coords.tolist(), tiles, strict=True):
        np.testing.assert_array_equal(tile, exact_area(pixels, x, y, 256 * factor, 256))


@pytest.mark.parametrize(
    ("downsample", "level"),
    [(0.5, 0), (1, 0), (3.9, 0), (4, 1), (5, 1), (15.9, 1), (16, 2), (127, 2)],
)
def test_a_tile_is_made_from_the_nearest_finer_level(
    same_tissue: dict[float, Path], monkeypatch: pytest.MonkeyPatch, downsample: float, level: int
) -> None:
    with Slide(same_tissue[0.5]) as slide:
        assert slide.downsamples == [1, 4, 16]
        watched = Watched(slide, monkeypatch)
        slide.read_square(0, 0, 64 * downsample, 64)
        assert watched.levels == {level}
        assert slide.level_for(downsample) == level


@settings(deadline=None)
@given(st.floats(1, 100))
def test_no_level_coarser_than_asked_for_is_read(svs: Slide, downsample: float) -> None:
    level = svs.level_for(downsample)
    assert svs.downsamples[level] <= downsample * 1.001
    assert all(d > downsample * 1.001 for d in svs.downsamples[level + 1 :]), "a smaller level would do"


def test_an_enlargement_reads_level_0(svs: Slide) -> None:
    assert svs.level_for(0.3) == 0


@pytest.mark.parametrize(("downsample", "reduced"), [(1, False), (4, False), (7.9, False), (8, True), (20, True)])
def test_jpeg_is_decoded_at_an_eighth_only_where_that_is_fine_enough(
    tiled: dict[str, Path], monkeypatch: pytest.MonkeyPatch, downsample: float, reduced: bool
) -> None:
    for name, can_reduce in (("jpeg-420", True), ("deflate", False)):
        with Slide(tiled[name]) as slide:
            watched = Watched(slide, monkeypatch)
            slide.read_square(0, 0, 32 * downsample, 32)
            assert watched.levels == {1 if reduced and can_reduce else 0}


def whole_level(slide: Slide, number: int) -> RGB:
    """A level of the source, its reduced ones included, put together from its chunks."""
    level = slide._levels[number]
    out = np.zeros((level.rows * level.chunk_height, level.columns * level.chunk_width, 3), np.uint8)
    indices = range(level.rows * level.columns)
    for index, chunk in zip(indices, slide._source.chunks(number, indices), strict=True):
        x, y = level.origin(index)
        assert chunk.pixels is not None
        out[y : y + level.chunk_height, x : x + level.chunk_width] = chunk.pixels
    return out[: level.height, : level.width]


@pytest.mark.shared
@pytest.mark.parametrize(("name", "full"), [("cmu-1-small-region.svs", 0), ("her2st_C2.tif", 1), ("her2st_C2.tif", 3)])
def test_real_tissue_decoded_at_an_eighth_is_near_the_exact_mean(shared: Path, name: str, full: int) -> None:
    """Measured: means of 0.13 to 0.39 grey levels and 99.9th percentiles of up to 2.2 over all levels of 3 slides."""
    with Slide(shared / "slides" / name) as slide:
        pixels, reduced = whole_level(slide, full), whole_level(slide, slide._source.reductions[full])
    height, width = (side // 8 for side in pixels.shape[:2])
    sums = pixels[: height * 8, : width * 8].reshape(height, 8, width, 8, 3).sum((1, 3), dtype=np.uint32)
    difference = np.abs(reduced[:height, :width] - sums / 64)
    assert difference.mean() < 0.5
    assert np.percentile(difference, 99.9) <= 3


def grey(image: RGB) -> npt.NDArray[np.float32]:
    return cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1.5)


def likeness(first: RGB, second: RGB) -> float:
    return float(np.corrcoef(grey(first).ravel(), grey(second).ravel())[0, 1])


def test_a_tile_shows_the_same_tissue_whatever_the_slides_resolution(same_tissue: dict[float, Path]) -> None:
    size, mpp, at_um = 128, 1.0, (160, 120)
    tiles = {}
    for slide_mpp, path in same_tissue.items():
        with Slide(path) as slide:
            x, y = (round(place / slide_mpp) for place in at_um)
            tiles[slide_mpp] = slide.read_square(x, y, size * mpp / slide_mpp, size)
            wrong = slide.read_square(x, y, size * mpp / 0.5, size)
        assert tiles[slide_mpp].shape == (size, size, 3)
    assert likeness(tiles[0.5], tiles[0.4]) > 0.97
    assert likeness(tiles[0.5], wrong) < 0.8, "the other scanner's pixels taken for the first's show something else"


@pytest.mark.parametrize("size", [64, 200])
def test_a_tile_has_the_size_asked_for_when_enlarged_too(svs: Slide, size: int) -> None:
    assert svs.read_square(10, 10, 100, size).shape == (size, size, 3)


def test_a_tile_that_ends_with_the_slide_has_no_white_edge(tmp_path: Path, write_tiff: Write) -> None:
    # The sides are such that rounding at the smaller level would move the last tile beyond it.
    dark: RGB = np.full((1001, 1001, 3), 90, np.uint8)
    path = tmp_path / "x.tif"
    with tifffile.TiffWriter(path) as file:
        for image, kind in ((dark, 0), (dark[:500, :500], 1)):
            file.write(image, tile=(256, 256), photometric="rgb", subfiletype=kind, metadata=None)
    with Slide(path) as slide:
        for extent in range(200, 320):
            last = 1001 - extent
            tile = slide.read_square(last, last, extent, extent // 2)
            assert (tile == 90).all(), extent
