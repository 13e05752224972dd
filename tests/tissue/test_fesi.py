"""FESI gives the mask of a slow, plain reference, and chooses the published thumbnail."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage
from tests.tissue.pictures import RGB, disc, glass, overview

from slidestudy.slides.reader import Slide
from slidestudy.tissue.fesi import fesi, improved_fesi, thumbnail_side
from slidestudy.tissue.mask import find_tissue, overview_downsample

Values = npt.NDArray[np.float64]
EIGHT = np.ones((3, 3), int)
WHITE = np.array([0.95047, 1.0, 1.08883])
TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])


# The reference: each step as the description has it, with scipy and loops


def grey_of(colours: Values) -> Values:
    return 0.2125 * colours[..., 0] + 0.7154 * colours[..., 1] + 0.0721 * colours[..., 2]


def laplacian(grey: Values) -> Values:
    """Four times a pixel less its four neighbours; beyond the border the picture is mirrored, its edge repeated."""
    wide = np.pad(grey, 1, mode="symmetric")
    neighbours = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]
    return np.abs(4 * grey - neighbours)


def reference(values: Values) -> npt.NDArray[np.bool_]:
    blurred = ndimage.gaussian_filter(values, 1.0, truncate=5, mode="nearest")
    above = blurred >= blurred.mean()
    smooth = ndimage.median_filter(above.astype(np.uint8), 7, mode="nearest")
    opened = ndimage.grey_dilation(ndimage.grey_erosion(smooth, (5, 5)), (5, 5))
    depth = ndimage.distance_transform_edt(~above)
    deepest = np.unravel_index(depth.argmax(), depth.shape)
    alike, _ = ndimage.label(opened == opened[deepest], EIGHT)
    foreground = alike != alike[deepest]

    distance = ndimage.distance_transform_edt(foreground)
    labels, _ = ndimage.label(foreground, EIGHT)
    largest, chosen = distance.max(), np.zeros(foreground.shape, bool)
    peaks: list[tuple[int, int]] = []
    while distance.max() > 0:
        y, x = (int(i) for i in np.unravel_index(distance.argmax(), distance.shape))
        near = any(np.hypot(y - v, x - u) <= 500 for v, u in peaks)
        region = labels == labels[y, x]
        if distance[y, x] > 0.6 * largest or near:
            chosen |= region
            peaks.append((y, x))
        distance[region] = 0
    return chosen


def lab_grey(colours: Values) -> Values:
    """RGB to Lab, L and a set to 100, back to RGB and to grey: the textbook's formulas, in full."""
    linear = np.where(colours > 0.04045, ((colours + 0.055) / 1.055) ** 2.4, colours / 12.92)
    relative = linear @ TO_XYZ.T / WHITE
    f = np.where(relative > 0.008856, np.cbrt(relative), 7.787 * relative + 16 / 116)
    lightness, a, b = 116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])
    lightness, a = np.full_like(lightness, 100), np.full_like(a, 100)
    y = (lightness + 16) / 116
    f = np.stack([y + a / 500, y, np.maximum(y - b / 200, 0)], -1)
    xyz = np.where(f > 0.2068966, f**3, (f - 16 / 116) / 7.787) * WHITE
    linear = xyz @ np.linalg.inv(TO_XYZ).T
    back = np.where(linear > 0.0031308, 1.055 * np.clip(linear, 0, None) ** (1 / 2.4) - 0.055, 12.92 * linear)
    return grey_of(np.clip(back, 0, 1))


def reference_fesi(picture: RGB) -> npt.NDArray[np.bool_]:
    return reference(laplacian(grey_of(picture / 255)))


def reference_improved(picture: RGB) -> npt.NDArray[np.bool_]:
    """The reversal of the channels is the published code's."""
    colours = picture[..., ::-1] / 255
    most, least = colours.max(-1), colours.min(-1)
    saturation = np.where(most > 0, (most - least) / np.where(most > 0, most, 1), 0)
    yellow = lab_grey(colours)
    return reference(laplacian(grey_of(colours)) * saturation * (yellow >= yellow.mean()))


# Pictures


def scattered(seed: int, width: int = 900, height: int = 260) -> RGB:
    """Pieces of many sizes, some more than 500 px from all others, with holes, at the border and beyond it."""
    rng = np.random.default_rng(seed)
    tissue = np.zeros((height, width), np.uint8)
    for _ in range(rng.integers(3, 12)):
        centre = int(rng.integers(0, width)), int(rng.integers(0, height))
        axes = int(rng.integers(4, 70)), int(rng.integers(4, 50))
        cv2.ellipse(tissue, centre, axes, float(rng.uniform(0, 180)), 0, 360, int(rng.random() < 0.8), -1)
    return overview(tissue > 0, grain=float(rng.uniform(1, 5)))


@pytest.mark.parametrize("seed", range(8))
def test_fesi_is_the_plain_references(seed: int) -> None:
    picture = scattered(seed)
    np.testing.assert_array_equal(fesi(picture)[0], reference_fesi(picture))


@pytest.mark.parametrize("seed", range(8))
def test_improved_fesi_is_the_plain_references(seed: int) -> None:
    picture = scattered(seed)
    np.testing.assert_array_equal(improved_fesi(picture)[0], reference_improved(picture))


@pytest.mark.parametrize("seed", range(4))
def test_any_colours_give_the_references_mask(seed: int) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 13, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (130, 90), interpolation=cv2.INTER_CUBIC)
    picture = np.clip(picture + rng.normal(0, 8, picture.shape), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(fesi(picture)[0], reference_fesi(picture))
    np.testing.assert_array_equal(improved_fesi(picture)[0], reference_improved(picture))


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "mpp"), [("cmu-1-small-region.svs", 0.499), ("her2st_C3.tif", 0.69), ("tcga-cr-7395-01a-01-ts1.svs", 0.5)]
)
def test_real_slides_have_the_references_mask(shared: Path, name: str, mpp: float) -> None:
    """Without pen and least areas, the stage's mask is FESI's."""
    with Slide(shared / "slides" / name) as slide:
        downsample = overview_downsample("fesi", slide.size, mpp, 8)
        picture = slide.read_overview(downsample).picture
    for method, plain in (("fesi", reference_fesi), ("improved-fesi", reference_improved)):
        found = find_tissue(picture, downsample * mpp, min_area_mm2=0, min_hole_mm2=0, exclude_pen=False, method=method)
        np.testing.assert_array_equal(found.tissue, plain(picture))


# What the steps mean


def two_pieces(apart: int, width: int = 1200) -> RGB:
    """A large piece on the left, and a small one whose centre is some pixels to the right of the large one's."""
    tissue = np.zeros((300, width), bool)
    y, x = np.mgrid[:300, :width]
    tissue |= np.hypot(x - 150, y - 150) < 100
    tissue |= np.hypot(x - 150 - apart, y - 150) < 25
    return overview(tissue, noise=0)


def test_a_small_piece_is_tissue_near_a_large_one_only() -> None:
    near, far = fesi(two_pieces(400))[0], fesi(two_pieces(700))[0]
    assert near[150, 550]
    assert not far[:, 500:].any()
    assert far[150, 150]


def test_a_chain_of_near_pieces_is_followed() -> None:
    picture = two_pieces(400)
    further = two_pieces(400)[:, 500:700]
    picture[:, 850:1050] = further
    assert fesi(picture)[0][150, 900]


def test_a_hole_is_filled_unless_it_is_the_deepest_glass() -> None:
    ring = disc(120) & ~disc(60)
    picture = overview(ring, grain=1, noise=0)
    assert fesi(picture)[0][150, 150]
    assert not fesi(picture[32:268, 32:268])[0][118, 118]


def test_no_structure_at_all_is_no_tissue() -> None:
    for picture in (np.full((90, 120, 3), 200, np.uint8), np.zeros((1, 1, 3), np.uint8)):
        for method in (fesi, improved_fesi):
            assert not method(picture)[0].any()


def test_rows_are_converted_alike_in_and_across_strips() -> None:
    picture = np.concatenate([scattered(1), glass(240, 1, (260, 900)), scattered(2)])
    np.testing.assert_array_equal(improved_fesi(picture)[0], reference_improved(picture))


# The thumbnail


@pytest.mark.parametrize(
    ("size", "mpp", "side"),
    [
        ((40_000, 30_000), 0.25, 1024),
        ((41_000, 30_000), 0.25, 2048),
        ((30_000, 40_963), 0.25, 1024),
        ((100_000, 80_000), 0.5, 8192),
        ((2220, 2967), 0.499, 512),
        ((300, 400), 0.5, 400),
        ((700, 300), 28.0, 700),
        ((1, 1), 0.25, 1),
    ],
)
def test_the_thumbnails_side_is_a_power_of_two_at_least_512_or_the_slides_own(
    size: tuple[int, int], mpp: float, side: int
) -> None:
    assert thumbnail_side(size, mpp) == side


@pytest.mark.parametrize("longest", [513, 767, 1000, 2967, 40_001, 99_999])
@pytest.mark.parametrize("mpp", [0.2214, 0.499, 0.69])
def test_the_overviews_longer_side_is_exactly_the_thumbnails(longest: int, mpp: float) -> None:
    for method in ("fesi", "improved-fesi"):
        downsample = overview_downsample(method, (longest, longest // 3), mpp, 8)
        assert int(np.ceil(longest / downsample)) == thumbnail_side((longest, longest // 3), mpp)
