"""Quality scores mean what they say: stain in known mixtures, focus on sharp and blurred real tissue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tissue.pictures import MPP, RGB, disc, overview

from slidestudy.slides.reader import Slide
from slidestudy.tissue.mask import find_tissue
from slidestudy.tissue.quality import (
    BLURRED_BELOW,
    EOSIN,
    HAEMATOXYLIN,
    PALE_BELOW,
    focus_scores,
    focus_windows,
    pen_fraction,
    sharpness,
    stain_scores,
    warnings_of,
)

REAL = [("cmu-1-small-region.svs", 0.499), ("tcga-cr-7395-01a-01-ts1.svs", 0.5), ("her2st_C2.tif", 0.69)]


def stained(haematoxylin: float, eosin: float) -> RGB:
    densities = haematoxylin * np.asarray(HAEMATOXYLIN) + eosin * np.asarray(EOSIN)
    return np.broadcast_to(np.round(256 * 10**-densities - 1), (20, 20, 3)).astype(np.uint8)


EVERYWHERE = np.ones((20, 20), np.uint8)
NOWHERE = np.zeros((20, 20), np.uint8)

# Stain


@settings(deadline=None)
@given(st.floats(0, 0.7), st.floats(0, 0.7))
def test_the_densities_of_a_mixture_are_given_back(haematoxylin: float, eosin: float) -> None:
    scores = stain_scores(stained(haematoxylin, eosin), EVERYWHERE, NOWHERE)
    assert scores["haematoxylin"] == pytest.approx(haematoxylin, abs=0.03)
    assert scores["eosin"] == pytest.approx(eosin, abs=0.03)
    total = haematoxylin * sum(HAEMATOXYLIN) + eosin * sum(EOSIN)
    assert scores["stain_density"] == pytest.approx(total / 3, abs=0.02)


def test_tissue_and_glass_are_measured_apart() -> None:
    picture = np.full((20, 20, 3), 240, np.uint8)
    picture[:10] = (200, 100, 150)
    tissue = NOWHERE.copy()
    tissue[:10] = 1
    scores = stain_scores(picture, tissue, 1 - tissue)
    assert scores["background"] == 240
    assert scores["brightness"] == pytest.approx(0.299 * 200 + 0.587 * 100 + 0.114 * 150, abs=0.6)
    assert scores["saturation"] == pytest.approx(0.5, abs=0.01)


def test_what_is_not_there_has_no_score() -> None:
    nothing = stain_scores(stained(0.3, 0.3), NOWHERE, NOWHERE)
    assert len(nothing) == 6
    assert set(nothing.values()) == {None}
    assert stain_scores(stained(0.3, 0.3), EVERYWHERE, NOWHERE)["background"] is None
    assert pen_fraction(NOWHERE, NOWHERE) is None


def test_the_fraction_of_pen_is_that_of_pen_and_tissue() -> None:
    pen, tissue = NOWHERE.copy(), NOWHERE.copy()
    pen[:5], tissue[5:20] = 1, 1
    assert pen_fraction(tissue, pen) == 0.25


# Focus


@pytest.fixture(scope="module")
def windows(shared: Path) -> dict[str, npt.NDArray[np.uint8]]:
    """Windows of tissue of each real slide."""
    found = {}
    for name, mpp in REAL:
        with Slide(shared / "slides" / name) as slide:
            downsample = MPP / mpp
            overview = slide.read_overview(downsample).picture
            tissue = find_tissue(overview, MPP, min_area_mm2=0.02, min_hole_mm2=0.01, exclude_pen=True).tissue
            coords, extent = focus_windows(tissue, slide.size, mpp, downsample, 16)
            found[name] = np.concatenate([batch.tiles for batch in slide.tiles(coords, extent, 256)])
    return found


def scores(tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    return np.array([score for tile in tiles if (score := sharpness(tile)) is not None])


def blurred(tiles: npt.NDArray[np.uint8], sigma: float) -> npt.NDArray[np.uint8]:
    return np.stack([cv2.GaussianBlur(tile, (0, 0), sigma) for tile in tiles])


@pytest.mark.shared
@pytest.mark.parametrize("name", [name for name, _ in REAL])
def test_focus_falls_with_every_blur_of_a_real_slide(windows: dict[str, Any], name: str) -> None:
    medians = [np.median(scores(blurred(windows[name], s) if s else windows[name])) for s in (0, 0.5, 1, 2, 3, 5)]
    assert (np.diff(medians) < -0.02).all(), medians


@pytest.mark.shared
@pytest.mark.parametrize("name", [name for name, _ in REAL])
def test_sharp_and_blurred_real_slides_lie_on_both_sides_of_the_bound(windows: dict[str, Any], name: str) -> None:
    """Blurred by a Gaussian of 2 px (about 1 um) and of 3 px."""
    assert (scores(windows[name]) > BLURRED_BELOW).all()
    assert (scores(blurred(windows[name], 2)) < BLURRED_BELOW).mean() > 0.8
    assert (scores(blurred(windows[name], 3)) < BLURRED_BELOW).all()


@pytest.mark.shared
def test_focus_hardly_depends_on_the_strength_of_the_stain(windows: dict[str, Any]) -> None:
    for tiles in windows.values():
        pale = np.round(245 - (245 - tiles.astype(float)) / 2).clip(0, 255).astype(np.uint8)
        assert np.median(scores(pale)) == pytest.approx(np.median(scores(tiles)), abs=0.03)


def test_a_window_without_structure_is_not_judged() -> None:
    noise = 240 + np.random.default_rng(0).normal(0, 2, (256, 256, 3))
    assert sharpness(noise.astype(np.uint8)) is None
    assert sharpness(np.full((256, 256, 3), 90, np.uint8)) is None


def test_windows_lie_in_tissue_and_are_spread_over_it() -> None:
    tissue = disc(120).astype(np.uint8)
    size, mpp, downsample = (4800, 4800), 0.5, 16.0
    coords, extent = focus_windows(tissue, size, mpp, downsample, 20)
    assert extent == 256
    assert len(coords) == len(np.unique(coords, axis=0)) == 20
    centres = (coords + 128) / 16
    assert (np.hypot(*(centres - 150).T) < 120).all()
    assert np.ptp(centres, axis=0).min() > 150, "from top to bottom and from left to right"
    again, _ = focus_windows(tissue, size, mpp, downsample, 20)
    np.testing.assert_array_equal(coords, again)


def test_there_are_no_more_windows_than_asked_for_or_than_there_is_tissue() -> None:
    size, mpp, downsample = (4800, 4800), 0.5, 16.0
    assert len(focus_windows(disc(120).astype(np.uint8), size, mpp, downsample, 1)[0]) == 1
    assert len(focus_windows(disc(120).astype(np.uint8), size, mpp, downsample, 0)[0]) == 0
    small = focus_windows(disc(25).astype(np.uint8), size, mpp, downsample, 1000)[0]
    assert 0 < len(small) < 10
    assert len(focus_windows(np.zeros((300, 300), np.uint8), size, mpp, downsample, 20)[0]) == 0
    assert len(focus_windows(np.ones((3, 3), np.uint8), (40, 40), mpp, downsample, 20)[0]) == 0


def test_no_window_gives_no_focus() -> None:
    class Unread:
        slide_id = "s1"
        size = (10, 10)

        def tiles(self, *_: object) -> list[Any]:
            return []

    empty: Any = Unread()
    found = focus_scores(empty, np.zeros((0, 2), np.int32), 256.0)
    assert found == {"focus": None, "blurred_fraction": None, "focus_windows": 0}


# Warnings


def quality(**scores: Any) -> dict[str, Any]:
    fine = {"pen_fraction": 0.0, "stain_density": 0.2, "blurred_fraction": 0.0, "focus_windows": 32}
    return fine | scores


@pytest.mark.parametrize(
    ("scores", "unreadable", "codes"),
    [
        ({}, 0.0, []),
        ({"pen_fraction": None, "stain_density": None, "blurred_fraction": None}, 0.0, []),
        ({"blurred_fraction": 0.6}, 0.0, ["blurred"]),
        ({"blurred_fraction": 0.5}, 0.0, []),
        ({"pen_fraction": 0.2}, 0.0, ["pen"]),
        ({"pen_fraction": 0.1}, 0.0, []),
        ({"stain_density": PALE_BELOW / 2}, 0.0, ["pale"]),
        ({}, 0.001, ["unreadable"]),
        (
            {"blurred_fraction": 1.0, "pen_fraction": 0.9, "stain_density": 0.0},
            0.04,
            ["unreadable", "pen", "pale", "blurred"],
        ),
    ],
)
def test_what_is_conspicuous_is_said(scores: dict[str, Any], unreadable: float, codes: list[str]) -> None:
    warnings = warnings_of(quality(**scores), unreadable)
    assert [w["code"] for w in warnings] == codes
    assert all(len(w["message"]) > 20 for w in warnings)


def test_the_stain_of_usual_slides_is_not_called_pale() -> None:
    tissue = disc(90)
    for strength, pale in ((1.0, False), (0.5, False), (0.1, True)):
        found = stain_scores(overview(tissue, strength), tissue.astype(np.uint8), NOWHERE)["stain_density"]
        assert (found is not None and found < PALE_BELOW) == pale
