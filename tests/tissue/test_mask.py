"""Tissue and felt pen on overview pictures: painted ones with known truth, and real ones."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.demo.scanner import SCANNER_A, Pen
from slidestudy.slides.reader import Slide
from slidestudy.tissue.mask import Masks, find_pen, find_tissue

RGB = npt.NDArray[np.uint8]
MPP = 8.0
SIDE = 300
MM2_PER_PIXEL = MPP**2 / 1e6


def density(haematoxylin: npt.ArrayLike, eosin: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Colours of stained tissue at optical densities (natural logarithm), (..., 3)."""
    absorbed = np.multiply.outer(haematoxylin, SCANNER_A.haematoxylin) + np.multiply.outer(eosin, SCANNER_A.eosin)
    return np.asarray(SCANNER_A.background) * np.exp(-absorbed)


def disc(radius: float, centre: tuple[float, float] = (SIDE / 2, SIDE / 2)) -> npt.NDArray[np.bool_]:
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.hypot(x - centre[0], y - centre[1]) < radius


def overview(tissue: npt.NDArray[np.bool_]) -> RGB:
    """H&E tissue on glass, with cellular and fibrous places."""
    rng = np.random.default_rng(0)
    patches = cv2.GaussianBlur(rng.random((SIDE, SIDE)), (0, 0), 3)
    cellular = np.clip(0.5 + (patches - patches.mean()) / patches.std() / 3, 0, 1)
    picture = np.where(tissue[..., None], density(0.1 + 1.0 * cellular, 0.6 - 0.3 * cellular), SCANNER_A.background)
    return np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)


def find(picture: RGB, area: float = 0.02, hole: float = 0.01, pen: bool = True) -> Masks:
    return find_tissue(picture, MPP, min_area_mm2=area, min_hole_mm2=hole, exclude_pen=pen)


def overlap(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Intersection over union."""
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    return float((a & b).sum() / (a | b).sum())


# Tissue


def test_painted_tissue_is_found() -> None:
    tissue = disc(90)
    found = find(overview(tissue))
    assert overlap(found.tissue, tissue) > 0.97
    assert not found.pen.any()


def test_a_picture_full_of_tissue_is_tissue_throughout() -> None:
    assert find(overview(np.ones((SIDE, SIDE), bool))).tissue.mean() > 0.99


@pytest.mark.parametrize("grey", [255, 240, 220])
def test_glass_alone_holds_no_tissue(grey: int) -> None:
    noise = np.random.default_rng(0).normal(0, 2, (SIDE, SIDE, 3))
    assert not find(np.clip(grey + noise, 0, 255).astype(np.uint8)).tissue.any()


def test_the_stains_strength_moves_the_outline_little() -> None:
    tissue = disc(90)
    pale = overview(tissue).astype(float)
    pale = (pale + 2 * np.asarray(SCANNER_A.background)) / 3
    assert overlap(find(pale.astype(np.uint8)).tissue, tissue) > 0.95


def test_pieces_below_the_least_area_are_dropped() -> None:
    large, small = disc(60, (100, 150)), disc(14, (240, 150))
    picture, area = overview(large | small), small.sum() * MM2_PER_PIXEL
    assert find(picture, area=0.7 * area).tissue[small].mean() > 0.9
    dropped = find(picture, area=1.5 * area).tissue
    assert not dropped[disc(30, (240, 150))].any()
    assert overlap(dropped, large) > 0.95


def test_holes_below_the_least_area_are_filled() -> None:
    hole = disc(16)
    picture, area = overview(disc(90) & ~hole), hole.sum() * MM2_PER_PIXEL
    assert find(picture, hole=0.5 * area).tissue[hole].mean() < 0.2
    assert find(picture, hole=2 * area).tissue[hole].all()


def test_glass_at_the_pictures_border_is_no_hole() -> None:
    band = np.zeros((SIDE, SIDE), bool)
    band[40:] = True
    assert not find(overview(band), hole=1000).tissue[:30].any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 2)])
def test_a_tiny_picture_has_masks_of_its_shape(shape: tuple[int, int]) -> None:
    found = find(np.full((*shape, 3), 240, np.uint8))
    assert found.tissue.shape == found.pen.shape == shape


# Pen


def stroke(pen: Pen | tuple[int, int, int], picture: RGB) -> tuple[RGB, npt.NDArray[np.bool_]]:
    """One stroke over glass and tissue, and where it is; ink absorbs, so that tissue shines through a little."""
    ink = np.zeros(picture.shape[:2], np.uint8)
    cv2.line(ink, (20, 120), (280, 200), 1, 8)
    colour = np.asarray(pen.value if isinstance(pen, Pen) else pen)
    marked = np.where(ink[..., None] > 0, 0.9 * colour + 0.1 * picture * (colour / 255), picture)
    return marked.astype(np.uint8), ink > 0


BLUES = [Pen.BLUE, (30, 90, 200)]
INKS = [*BLUES, Pen.GREEN, (20, 90, 40), Pen.RED, (220, 40, 60), Pen.BLACK, (20, 20, 25)]


@pytest.mark.parametrize("pen", INKS, ids=str)
def test_a_stroke_of_pen_is_found_and_taken_out_of_the_tissue(pen: Pen | tuple[int, int, int]) -> None:
    tissue = disc(90)
    picture, ink = stroke(pen, overview(tissue))
    found = find(picture)
    assert found.pen[ink].mean() > 0.99
    assert not (found.tissue & found.pen).any()
    around = cv2.dilate(ink.astype(np.uint8), np.ones((21, 21), np.uint8)) > 0
    assert not found.pen[~around].any(), "what is far from the stroke is no pen"
    assert overlap(found.tissue[~around], tissue[~around]) > 0.97


@pytest.mark.parametrize("pen", INKS, ids=str)
def test_pen_stays_where_it_is_not_to_be_excluded(pen: Pen | tuple[int, int, int]) -> None:
    picture, _ = stroke(pen, overview(disc(90)))
    assert not find(picture, pen=False).pen.any()


@settings(deadline=None)
@given(st.floats(0, 2), st.floats(0, 2))
def test_no_mixture_of_haematoxylin_and_eosin_is_pen(haematoxylin: float, eosin: float) -> None:
    colour = np.round(density(haematoxylin, eosin)).astype(np.uint8)
    assert not find_pen(np.broadcast_to(colour, (40, 40, 3)).copy(), MPP).any()


def test_a_speck_of_ink_colour_is_no_stroke() -> None:
    picture = overview(disc(90))
    picture[20:23, 20:23] = Pen.BLUE.value
    assert not find_pen(picture, MPP).any()


def test_a_picture_full_of_ink_has_no_tissue() -> None:
    found = find(np.full((60, 60, 3), Pen.GREEN.value, np.uint8))
    assert found.pen.all()
    assert not found.tissue.any()


# Real slides and thumbnails


def thumbnail(shared: Path, name: str) -> RGB:
    return np.ascontiguousarray(cv2.imread(str(shared / "qc" / f"{name}.png"))[..., ::-1])


@pytest.mark.shared
@pytest.mark.parametrize(("name", "least"), [("pen_green", 0.9), ("pen_red", 0.6), ("pen_black", 0.8)])
def test_most_of_the_pen_on_real_thumbnails_is_found(shared: Path, name: str, least: float) -> None:
    truth = cv2.imread(str(shared / "qc" / f"{name}_mask.png"), cv2.IMREAD_GRAYSCALE) > 0
    pen = find_pen(thumbnail(shared, name), 16.0)
    recall = float(pen[truth].mean())
    print(
        f"{name}: {recall:.1%} of the pen pixels found, {pen.mean():.1%} of the picture marked, {truth.mean():.1%} true"
    )
    assert recall > least
    assert pen.mean() < 1.6 * truth.mean(), "little else is taken for pen"


@pytest.mark.shared
@pytest.mark.parametrize("name", ["tcga-green-pen", "tcga-red-pen", "wsi-blue-pen"])
def test_pen_on_other_real_thumbnails_is_noticed(shared: Path, name: str) -> None:
    assert find_pen(thumbnail(shared, name), 16.0).mean() > 0.03


@pytest.mark.shared
def test_a_clean_real_thumbnail_has_no_pen(shared: Path) -> None:
    assert not find_pen(thumbnail(shared, "tcga-lung-rgb"), 16.0).any()


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "mpp", "least", "most"),
    [
        ("cmu-1-small-region.svs", 0.499, 0.28, 0.45),
        ("her2st_C2.tif", 0.69, 0.12, 0.22),
        ("her2st_C3.tif", 0.69, 0.12, 0.22),
        ("tcga-cr-7395-01a-01-ts1.svs", 0.5, 0.55, 0.72),
    ],
)
def test_real_tissue_is_found_without_its_glass(shared: Path, name: str, mpp: float, least: float, most: float) -> None:
    with Slide(shared / "slides" / name) as slide:
        picture = slide.read_overview(MPP / mpp)
    found = find(picture)
    assert least < found.tissue.mean() < most
    assert not found.pen.any()
    saturation = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)[..., 1]
    assert np.median(saturation[found.tissue > 0]) > 2 * np.median(saturation[found.tissue == 0])


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "mpp", "corners"),
    [
        # The skin leaves the picture of cmu-1 at the bottom left; the glass of her2st_C3 is tinted.
        ("cmu-1-small-region.svs", 0.499, ["top left", "top right", "bottom right"]),
        ("her2st_C3.tif", 0.69, ["top left", "top right", "bottom left", "bottom right"]),
    ],
)
def test_glass_in_the_corners_is_no_tissue_even_where_tinted(
    shared: Path, name: str, mpp: float, corners: list[str]
) -> None:
    with Slide(shared / "slides" / name) as slide:
        tissue = find(slide.read_overview(MPP / mpp)).tissue
    side = tissue.shape[1] // 8
    rows, columns = (
        {"top": slice(side), "bottom": slice(-side, None)},
        {"left": slice(side), "right": slice(-side, None)},
    )
    for corner in corners:
        vertical, horizontal = corner.split()
        assert not tissue[rows[vertical], columns[horizontal]].any(), corner
