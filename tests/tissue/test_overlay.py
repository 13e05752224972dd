"""The overlay: bounded, and all that a person must see is drawn, nothing else is changed."""

from __future__ import annotations

import numpy as np
from shapely.geometry import box

from slidestudy.tissue.overlay import OVERLAY_SIDE, UNREADABLE_COLOUR, draw_overlay
from slidestudy.tissue.polygons import Region

NOTHING = np.zeros((400, 600), np.uint8)
WHITE = np.full((400, 600, 3), 255, np.uint8)


def test_the_overlay_is_bounded_and_shows_both_outlines() -> None:
    picture = np.full((1500, 3000, 3), 255, np.uint8)
    tissue, pen = np.zeros((2, 1500, 3000), np.uint8)
    tissue[300:900, 300:900], pen[300:900, 1500:2000] = 1, 1
    overlay = draw_overlay(picture, tissue, pen)
    assert overlay.shape == (OVERLAY_SIDE // 2, OVERLAY_SIDE, 3)
    assert (overlay[200, 95:110].astype(int) @ [-1, 2, -1] > 50).any(), "green where tissue begins"
    assert (overlay[200, 505:520].astype(int) @ [-1, -1, 2] > 50).any(), "blue where pen begins"
    assert (overlay[200, 200] == 255).all(), "the tissue itself stays as it is"
    assert (picture == 255).all()


def test_a_small_overview_is_not_enlarged() -> None:
    nothing = np.zeros((40, 60), np.uint8)
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    np.testing.assert_array_equal(draw_overlay(picture, nothing, nothing), picture)


def test_holes_are_outlined_thinner_than_the_tissue() -> None:
    tissue = NOTHING.copy()
    tissue[50:350, 50:550] = 1
    tissue[150:250, 200:400] = 0
    drawn = (draw_overlay(WHITE, tissue, NOTHING) < 200).any(-1)
    outer, hole = drawn[200, 40:60].sum(), drawn[200, 190:210].sum()
    assert outer > hole > 0


def test_what_cannot_be_read_is_hatched() -> None:
    readable = np.ones((400, 600), bool)
    readable[64:128, 128:192] = False
    overlay = draw_overlay(WHITE, NOTHING, NOTHING, readable)
    marked = (overlay == UNREADABLE_COLOUR).all(-1)
    assert 0.1 < marked[64:128, 128:192].mean() < 0.5
    assert not marked[readable].any()
    assert (overlay[readable] == 255).all()


def region(section: int, left: float, top: float, right: float, bottom: float) -> Region:
    return Region("Tissue", section, box(left, top, right, bottom), (right - left) * (bottom - top))


def test_each_section_bears_its_number_once_on_its_largest_piece() -> None:
    regions = [region(1, 200, 200, 1200, 1200), region(1, 1300, 200, 1400, 300), region(2, 1600, 200, 2300, 1200)]
    overlay = draw_overlay(WHITE, NOTHING, NOTHING, None, regions, downsample=4.0)
    written = (overlay < 200).any(-1)
    assert written[150:200, 150:200].any(), "1 in the middle of its larger piece"
    assert written[150:200, 460:520].any(), "2 in the middle of its piece"
    assert not written[:, 300:400].any()


def test_a_number_stays_inside_the_picture() -> None:
    for x, y in ((0, 0), (2390, 0), (0, 1590), (2390, 1590)):
        overlay = draw_overlay(WHITE, NOTHING, NOTHING, None, [region(12, x, y, x + 10, y + 10)], downsample=4.0)
        written = (overlay < 200).any(-1)
        assert written.sum() > 20
        assert written[1:-1, 1:-1].sum() == written.sum()


def test_pen_bears_no_number() -> None:
    pen = Region("Pen", 0, box(0, 0, 1000, 1000), 1.0)
    np.testing.assert_array_equal(draw_overlay(WHITE, NOTHING, NOTHING, None, [pen], 4.0), WHITE)
