"""Reading slides: the pixels are OpenSlide's, and what the file says is handed over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageCms

from slidestudy.slides.reader import Slide
from tests.slides.builders import (
    RGB,
    TILED,
    crop,
    openslides_level,
)

Write = Callable[..., Path]
NAMES = [*TILED, "jpeg-shared-tables-ycbcr", "jpeg-shared-tables-rgb"]
REAL = ["cmu-1-small-region.svs", "tcga-cr-7395-01a-01-ts1.svs", "her2st_C3.tif", "valid_tiff.tif"]


@pytest.mark.parametrize("name", NAMES)
def test_level_0_has_openslides_pixels(opened: dict[str, tuple[Slide, RGB]], name: str) -> None:
    slide, expected = opened[name]
    np.testing.assert_array_equal(slide.read(0, 0, 0, *slide.size), expected)


@settings(deadline=None, max_examples=120)
@given(st.sampled_from(NAMES), st.integers(-80, 1000), st.integers(-80, 800), st.integers(1, 300), st.integers(1, 300))
def test_any_window_of_level_0_has_openslides_pixels_and_is_white_outside(
    opened: dict[str, tuple[Slide, RGB]], name: str, x: int, y: int, width: int, height: int
) -> None:
    slide, expected = opened[name]
    np.testing.assert_array_equal(slide.read(x, y, 0, width, height), crop(expected, x, y, width, height))
    tile = slide.read_square(x, y, width, width)
    np.testing.assert_array_equal(tile, crop(expected, x, y, width, width))


@pytest.mark.shared
@pytest.mark.parametrize("name", REAL)
def test_a_real_slides_windows_have_openslides_pixels(shared: Path, name: str) -> None:
    path, rng = shared / "slides" / name, np.random.default_rng(0)
    with Slide(path) as slide, openslide.OpenSlide(path) as reference:
        assert slide.kind == "chunks"
        width, height = slide.size
        corners = rng.integers((-200, -200), (width + 100, height + 100), (12, 2)).tolist()
        # The borders of the slide, and of its first chunks.
        corners += [(-100, -100), (width - 150, height - 150), (200, 200), (width + 10, 0)]
        for x, y in corners:
            rgba = np.asarray(reference.read_region((x, y), 0, (300, 280)))
            expected = np.where(rgba[..., 3:] == 0, np.uint8(255), rgba[..., :3])
            np.testing.assert_array_equal(slide.read(x, y, 0, 300, 280), expected)


@pytest.mark.shared
@pytest.mark.parametrize("name", REAL)
def test_a_real_slides_lower_levels_have_openslides_pixels_where_it_does_not_interpolate(
    shared: Path, name: str
) -> None:
    path = shared / "slides" / name
    compared = 0
    with Slide(path) as slide, openslide.OpenSlide(path) as reference:
        assert [round(d, 6) for d in slide.downsamples] == [round(d, 6) for d in reference.level_downsamples]
        for level, downsample in enumerate(slide.downsamples):
            for corner in [(0, 0), (100, 60), (256, 512), (1001, 377)]:
                x, y = (place * downsample for place in corner)
                if x.is_integer() and y.is_integer():
                    rgba = np.asarray(reference.read_region((int(x), int(y)), level, (90, 70)))
                    expected = np.where(rgba[..., 3:] == 0, np.uint8(255), rgba[..., :3])
                    np.testing.assert_array_equal(slide.read(int(x), int(y), level, 90, 70), expected)
                    compared += 1
        assert compared >= 3 + len(slide.downsamples)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 2), st.integers(-20, 280), st.integers(-20, 200), st.integers(1, 90), st.integers(1, 90))
def test_a_lower_level_has_openslides_pixels_from_whole_pixels(
    svs: Slide, same_tissue: dict[float, Path], level: int, x: int, y: int, width: int, height: int
) -> None:
    expected = openslides_level(same_tissue[0.5], level)
    scale = round(svs.downsamples[level])
    assert scale == svs.downsamples[level]
    np.testing.assert_array_equal(
        svs.read(x * scale, y * scale, level, width, height), crop(expected, x, y, width, height)
    )


@pytest.mark.parametrize("beyond", [1, 2, 30])
def test_a_square_beyond_the_slide_is_not_moved_into_it(svs: Slide, plain: RGB, beyond: int) -> None:
    tile = svs.read_square(1024 - 50 + beyond, 300, 50, 50)
    np.testing.assert_array_equal(tile[:, : 50 - beyond], plain[300:350, 1024 - 50 + beyond :])
    assert (tile[:, 50 - beyond :] == 255).all()


def test_what_lies_outside_the_scan_is_white(svs: Slide) -> None:
    region = svs.read(-50, -50, 0, 100, 100)
    assert (region[:50] == 255).all()
    assert (region[:, :50] == 255).all()
    assert (region[50:, 50:] < 255).any()
    assert (svs.read(5000, 5000, 0, 30, 30) == 255).all()
    # Beside the slide, where its last chunks reach beyond it.
    assert (svs.read(4 * 260, 0, 1, 10, 10) == 255).all()


def test_the_slide_tells_its_size_vendor_and_levels(svs: Slide) -> None:
    assert svs.size == (1024, 768)
    assert svs.vendor == "aperio"
    assert svs.kind == "chunks"
    assert svs.level_sizes == [(1024, 768), (256, 192), (64, 48)]
    assert svs.downsamples == [1.0, 4.0, 16.0]
    assert svs.icc_profile is None
    assert svs.beyond_end() == (0, 14)


def test_properties_are_openslides(svs: Slide, same_tissue: dict[float, Path]) -> None:
    with openslide.OpenSlide(same_tissue[0.5]) as slide:
        assert dict(svs.properties) == dict(slide.properties)


@pytest.mark.parametrize("cut", [{}, {"tile": None}], ids=["tiled", "flat"])
def test_the_icc_profile_is_handed_over(tmp_path: Path, picture: RGB, write_tiff: Write, cut: dict[str, Any]) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with Slide(write_tiff(tmp_path / "slide.tif", picture, iccprofile=profile, **cut)) as slide:
        assert slide.icc_profile == profile
