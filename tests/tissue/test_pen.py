"""Felt pen: strokes of every ink are found, tissue of every stain is left alone, on painted and on real pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tissue.pictures import MPP, RGB, density, disc, overlap, overview, thumbnail

from slidestudy.demo.scanner import Pen
from slidestudy.slides.reader import Slide
from slidestudy.tissue.mask import find_tissue
from slidestudy.tissue.pen import find_pen


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
    found = find_tissue(picture, MPP, min_area_mm2=0.02, min_hole_mm2=0.01, exclude_pen=True)
    assert found.pen[ink].mean() > 0.99
    assert not (found.tissue & found.pen).any()
    around = cv2.dilate(ink.astype(np.uint8), np.ones((21, 21), np.uint8)) > 0
    assert not found.pen[~around].any(), "what is far from the stroke is no pen"
    assert overlap(found.tissue[~around], tissue[~around]) > 0.97


@pytest.mark.parametrize("pen", INKS, ids=str)
def test_pen_stays_where_it_is_not_to_be_excluded(pen: Pen | tuple[int, int, int]) -> None:
    picture, _ = stroke(pen, overview(disc(90)))
    assert not find_tissue(picture, MPP, min_area_mm2=0.02, min_hole_mm2=0.01, exclude_pen=False).pen.any()


@pytest.mark.parametrize(("pen", "least"), [(Pen.BLUE, 0.97), (Pen.GREEN, 0.97), (Pen.RED, 0.97), (Pen.BLACK, 0.85)])
def test_the_faint_end_of_a_stroke_is_found_through_its_strong_part(pen: Pen, least: float) -> None:
    """The ink's density falls along the stroke to a third; faint grey far from black may be a shadow."""
    strength = np.linspace(1, 1 / 3, 260)
    picture = np.full((120, 300, 3), 245.0)
    densities = -np.log10(np.asarray(pen.value) / 245)
    picture[50:62, 20:280] = 245 * 10 ** -(strength[:, None] * densities)
    found = find_pen(picture.astype(np.uint8), MPP)
    assert found[50:62, 20:280].mean() > least
    assert found.mean() < 0.3


@settings(deadline=None)
@given(st.floats(0, 2), st.floats(0, 2))
def test_no_mixture_of_haematoxylin_and_eosin_is_pen(haematoxylin: float, eosin: float) -> None:
    colour = np.round(density(haematoxylin, eosin)).astype(np.uint8)
    assert not find_pen(np.broadcast_to(colour, (40, 40, 3)).copy(), MPP).any()


@settings(deadline=None)
@given(st.floats(0, 0.6), st.floats(0, 0.7))
def test_no_mixture_of_haematoxylin_and_dab_is_pen(haematoxylin: float, dab: float) -> None:
    """Immunohistochemistry, with the densities of Ruifrok and Johnston 2001."""
    densities = haematoxylin * np.array([0.650, 0.704, 0.286]) + dab * np.array([0.268, 0.570, 0.776])
    colour = np.round(245 * 10**-densities).astype(np.uint8)
    assert not find_pen(np.broadcast_to(colour, (40, 40, 3)).copy(), MPP).any()


@pytest.mark.parametrize("pigment", [(110, 70, 45), (60, 35, 25), (40, 22, 15)])
def test_melanin_is_no_pen(pigment: tuple[int, int, int]) -> None:
    picture = overview(disc(90))
    picture[disc(30)] = pigment
    assert not find_pen(picture, MPP).any()


def test_a_speck_of_ink_colour_is_no_stroke() -> None:
    picture = overview(disc(90))
    picture[20:23, 20:23] = Pen.BLUE.value
    assert not find_pen(picture, MPP).any()


def test_blood_is_no_red_pen() -> None:
    """The reddest places of real haemorrhages at a low resolution."""
    for blood in ((209, 129, 146), (216, 133, 156), (224, 153, 177)):
        picture = overview(disc(90))
        picture[disc(40)] = blood
        assert not find_pen(picture, MPP).any()


def test_the_rows_at_which_the_picture_is_cut_into_strips_do_not_show() -> None:
    picture, ink = stroke(Pen.RED, overview(disc(90)))
    tall = np.concatenate([picture, overview(np.zeros((300, 300), bool)), picture[::-1]])
    found = find_pen(tall, MPP)
    np.testing.assert_array_equal(found[:300], find_pen(picture, MPP))
    assert found[-300:][ink[::-1]].mean() > 0.99


# Real thumbnails and slides, taken to have about 16 um/px


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "recall", "precision"),
    # Other ink than that of the mask is in the pictures of green and red, and it is found too.
    [("pen_green", 0.98, 0.85), ("pen_red", 0.92, 0.88), ("pen_black", 0.99, 0.93), ("coverslip_edge", 0.8, 0.98)],
)
def test_pen_on_real_thumbnails_is_found_and_little_else(
    shared: Path, name: str, recall: float, precision: float
) -> None:
    truth = cv2.imread(str(shared / "qc" / f"{name}_mask.png"), cv2.IMREAD_GRAYSCALE) > 0
    pen = find_pen(thumbnail(shared, name), 16.0) > 0
    # The margin around strokes is wanted: it is no mistake.
    near = cv2.dilate(truth.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    print(f"{name}: recall {pen[truth].mean():.3f}, precision {near[pen].mean():.3f}")
    assert pen[truth].mean() > recall
    assert near[pen].mean() > precision


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "mpp", "least", "most"),
    [
        ("tcga-green-pen", 8.0, 0.15, 0.3),
        ("tcga-red-pen", 8.0, 0.25, 0.4),
        ("wsi-blue-pen", 16.0, 0.03, 0.08),
        ("diagnostic-slide-thumb-rgb", 16.0, 0.35, 0.5),
    ],
)
def test_pen_on_other_real_thumbnails_is_noticed(
    shared: Path, name: str, mpp: float, least: float, most: float
) -> None:
    assert least < find_pen(thumbnail(shared, name), mpp).mean() < most


@pytest.mark.shared
def test_black_rings_over_real_tissue_are_found_and_the_tissue_between_them_is_not(shared: Path) -> None:
    pen = find_pen(thumbnail(shared, "diagnostic-slide-thumb-rgb"), 16.0)
    rings = [(86, 130), (222, 180), (210, 315), (335, 270), (385, 310), (180, 395), (300, 360)]
    assert all(pen[y, x] for x, y in rings)
    assert not any(pen[y, x] for x, y in [(300, 220), (150, 120), (330, 400), (180, 330), (200, 120)])


@pytest.mark.shared
@pytest.mark.parametrize("mpp", [1.0, 8.0, 16.0])
def test_a_clean_real_thumbnail_has_no_pen(shared: Path, mpp: float) -> None:
    assert not find_pen(thumbnail(shared, "tcga-lung-rgb"), mpp).any()


@pytest.mark.shared
def test_of_the_regions_of_colon_only_those_with_surgical_ink_have_pen(shared: Path) -> None:
    """Of 121 regions three have much of the blue or black ink with which a surgical margin is marked."""
    folder = shared / "studies" / "colon-til" / "slides"
    marked = []
    for path in sorted(folder.glob("*/*")):
        with Slide(path) as slide:
            picture = slide.read_overview(MPP / (0.55 if path.parent.name == "crchisto" else 0.275)).picture
        if find_pen(picture, MPP).any():
            marked.append(path.stem)
    assert marked == ["train_12", "train_2", "img12"]


@pytest.mark.shared
@pytest.mark.parametrize("name", ["cmu-1-small-region.svs", "her2st_C2.tif", "her2st_C3.tif", "kidney-48-5.tif"])
@pytest.mark.parametrize("mpp", [4.0, 16.0])
def test_real_slides_without_pen_have_none(shared: Path, name: str, mpp: float) -> None:
    with Slide(shared / "slides" / name) as slide:
        assert not find_pen(slide.read_overview(mpp / 0.5).picture, mpp).any()
