"""The hand-crafted features: always finite, named, about the same at every resolution, and telling of nuclei."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from slidestudy.demo.layout import plan_layout
from slidestudy.demo.scanner import SCANNER_A, scan
from slidestudy.demo.tissue import paint_tissue
from slidestudy.features.stain_texture import DIM, STAINS, encode_tile, feature_names, separate_stains

RGB = npt.NDArray[np.uint8]
NAMES = feature_names()
MIDDLE = (125, 375)
DENSITIES = [name for name in NAMES if "per_mm2" in name and not name.endswith("_0.3")]
"""Counts per area; of the strongest blobs there are too few in one field to compare."""


def named(image: RGB, mpp: float = 0.5) -> dict[str, float]:
    return dict(zip(NAMES, encode_tile(image, mpp).tolist(), strict=True))


def flat(colour: tuple[int, int, int], side: int = 64) -> RGB:
    return np.full((side, side, 3), colour, np.uint8)


def painted(til: float, mpp: float = 0.5, seed: int = 5) -> RGB:
    """The middle of a generated field, 256 um wide, seen by the same optics at any resolution."""
    rng = np.random.default_rng(seed)
    maps = paint_tissue(rng, plan_layout(rng, (512, 512), til, mucinous=False), mpp)
    image = scan(rng, maps, replace(SCANNER_A, mpp=mpp, noise=0.5), (1.0, 1.0))
    middle = slice(round(128 / mpp), round(384 / mpp))
    return np.ascontiguousarray(image[middle, middle])


# Shape and soundness


def test_every_feature_has_a_name_of_its_own() -> None:
    assert len(NAMES) == len(set(NAMES)) == DIM
    assert encode_tile(flat((200, 150, 180)), 0.5).shape == (DIM,)
    assert encode_tile(flat((200, 150, 180)), 0.5).dtype == np.float32


@pytest.mark.parametrize("mpp", [0.25, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (128, 128, 128), (255, 0, 0), (120, 60, 140)])
def test_a_tile_of_one_colour_gives_finite_features_without_spread(colour: tuple[int, int, int], mpp: float) -> None:
    features = named(flat(colour), mpp)
    assert all(np.isfinite(v) for v in features.values())
    spreads = [features[name] for name in NAMES if name.endswith("_sd") or "band" in name or "gradient" in name]
    np.testing.assert_allclose(spreads, 0, atol=2e-3)


@settings(deadline=None)
@given(stn.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))), st.floats(0.05, 10))
def test_any_image_gives_finite_features(image: RGB, mpp: float) -> None:
    assert np.isfinite(encode_tile(image, mpp)).all()


@settings(deadline=None)
@given(stn.arrays(np.uint8, st.integers(16, 40).map(lambda side: (side, side, 3))), st.floats(0.05, 10))
def test_features_of_every_tile_that_a_study_may_ask_for_fit_float16(image: RGB, mpp: float) -> None:
    assert np.abs(encode_tile(image, mpp)).max() < 65_504


@pytest.mark.parametrize("seed", range(3))
def test_noise_gives_finite_features(seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    assert np.isfinite(encode_tile(noise, 0.5)).all()


def test_the_same_tile_gives_the_same_bytes() -> None:
    image = painted(40)
    assert encode_tile(image, 0.5).tobytes() == encode_tile(image.copy(), 0.5).tobytes()


# Stains


def test_stains_mixed_by_their_vectors_are_separated_again() -> None:
    directions = STAINS / np.linalg.norm(STAINS, axis=1, keepdims=True)
    haematoxylin, eosin = np.meshgrid(np.linspace(0, 0.8, 9), np.linspace(0, 0.6, 7))
    density = haematoxylin[..., None] * directions[0] + eosin[..., None] * directions[1]
    od, h, e = separate_stains(np.round(245 * 10**-density).astype(np.uint8))
    np.testing.assert_allclose(od, density, atol=0.01)
    np.testing.assert_allclose(h, haematoxylin, atol=0.02)
    np.testing.assert_allclose(e, eosin, atol=0.02)


@settings(deadline=None)
@given(stn.arrays(np.uint8, (4, 4, 3)))
def test_no_stain_is_negative(image: RGB) -> None:
    od, h, e = separate_stains(image)
    assert min(od.min(), h.min(), e.min()) >= 0
    assert np.isfinite(od).all()


def test_glass_is_white_and_unstained() -> None:
    features = named(flat((250, 250, 250)))
    assert features["white"] == 1
    assert max(features[name] for name in ("red_od_mean", "h_mean", "e_mean", "dark", "nuclear_fraction")) == 0


def test_black_is_dark() -> None:
    features = named(flat((0, 0, 0)))
    assert (features["dark"], features["white"]) == (1, 0)
    assert features["green_od_mean"] > 2


def test_haematoxylin_is_bluish_and_eosin_pinkish() -> None:
    nuclear, fibrous = named(flat((90, 80, 160))), named(flat((235, 150, 190)))
    assert (nuclear["bluish"], nuclear["pinkish"]) == (1, 0)
    assert (fibrous["bluish"], fibrous["pinkish"]) == (0, 1)
    assert nuclear["h_share"] > fibrous["h_share"]
    assert nuclear["h_mean"] > fibrous["h_mean"]


# Nuclei


def discs(radius_um: float, step_um: float, mpp: float = 0.5, side_um: float = 200.0) -> tuple[RGB, int]:
    """Dark round nuclei on eosin, at a distance from each other, and their number."""
    side = round(side_um / mpp)
    image = flat((232, 170, 205), side)
    centres = np.arange(step_um / 2, side_um, step_um) / mpp
    for x in centres:
        for y in centres:
            cv2.circle(image, (round(x), round(y)), round(radius_um / mpp), (75, 45, 120), -1, cv2.LINE_AA)
    return cv2.GaussianBlur(image, (0, 0), 0.4 / mpp), len(centres) ** 2


@pytest.mark.parametrize("mpp", [0.25, 0.4, 0.5])
def test_small_round_nuclei_are_counted_in_thousands_per_mm2(mpp: float) -> None:
    image, count = discs(3.5, 20.0, mpp)
    features = named(image, mpp)
    per_mm2 = count / 0.2**2 / 1000
    assert features["round_dark_per_mm2"] == pytest.approx(per_mm2, rel=0.02)
    assert features["blob2.6_per_mm2_0.15"] == pytest.approx(per_mm2, rel=0.02)
    assert features["large_nuclei_per_mm2"] == 0
    assert features["nuclear_area_mean"] * 50 == pytest.approx(np.pi * 3.5**2, rel=0.25)
    assert features["nuclear_fraction"] == pytest.approx(count * np.pi * 3.5**2 / 200**2, rel=0.25)


def test_large_nuclei_are_told_from_small_ones() -> None:
    image, count = discs(7.0, 33.0)
    features = named(image)
    assert features["large_nuclei_per_mm2"] == pytest.approx(count / 0.2**2 / 1000, rel=0.02)
    assert features["round_dark_per_mm2"] == 0


def test_parallel_fibres_are_coherent_and_nuclei_are_not() -> None:
    stripes = flat((235, 150, 190), 200)
    stripes[::8] = stripes[1::8] = (190, 90, 140)
    assert named(stripes)["e_coherence1.6"] > 0.95
    assert named(discs(3.5, 20.0)[0])["h_coherence1.6"] < 0.2


def test_an_infiltrated_field_has_more_dark_blobs_than_a_poor_one() -> None:
    poor, rich = named(painted(5)), named(painted(80))
    for name in ("blob2.6_per_mm2_0.15", "blob2.6_per_mm2_0.3", "h_mean", "h_q95", "nuclear_fraction"):
        assert rich[name] > 1.2 * poor[name], name


# Resolution


def test_densities_are_about_the_same_at_both_scanners_resolutions() -> None:
    coarse, fine = named(painted(60, 0.5), 0.5), named(painted(60, 0.4), 0.4)
    for name in [*DENSITIES, "nuclear_fraction", "h_mean", "e_mean"]:
        assert coarse[name] == pytest.approx(fine[name], rel=0.25, abs=0.1), name


@pytest.fixture(scope="module")
def crchisto(shared: Path) -> dict[str, RGB]:
    """The middle quarter of every real image at 0.55 um/px, 250 px wide."""
    files = sorted((shared / "cells" / "crchisto" / "images").iterdir())
    middle = slice(*MIDDLE)
    return {p.stem: np.ascontiguousarray(cv2.imread(str(p))[middle, middle, ::-1]) for p in files}


@pytest.mark.shared
def test_densities_of_real_images_survive_resampling(crchisto: dict[str, RGB]) -> None:
    rows = []
    for image in list(crchisto.values())[:20]:
        # The same field as at 0.55 and at 0.69 um/px: the ratio of 0.4 to 0.5.
        resized = cv2.resize(image, (200, 200), interpolation=cv2.INTER_AREA)
        rows.append((encode_tile(image, 0.55), encode_tile(resized, 0.55 * 1.25)))
    fine, coarse = (pd.DataFrame(side, columns=NAMES) for side in zip(*rows, strict=True))
    for name in [*DENSITIES, "nuclear_fraction"]:
        assert coarse[name].mean() == pytest.approx(fine[name].mean(), rel=0.2, abs=0.03), name
        assert np.corrcoef(coarse[name], fine[name])[0, 1] > 0.9, name


@pytest.mark.shared
def test_real_images_rich_in_nuclei_and_in_inflammation_are_told_from_poor_ones(
    shared: Path, crchisto: dict[str, RGB]
) -> None:
    features = pd.DataFrame([encode_tile(image, 0.55) for image in crchisto.values()], columns=NAMES, index=[*crchisto])
    points = pd.read_csv(shared / "cells" / "crchisto" / "points.csv")
    points = points[points["x"].between(*MIDDLE) & points["y"].between(*MIDDLE)]

    def correlation(feature: str, kind: str) -> float:
        counts = points.loc[points["class"] == kind, "image"].value_counts()
        return float(features[feature].corr(counts.reindex(features.index, fill_value=0)))

    table = {(f, k): correlation(f, k) for f in DENSITIES for k in ("any", "inflammatory")}
    print("\n".join(f"{f:24} {k:14} r = {r:.2f}" for (f, k), r in table.items()))
    assert table["round_dark_per_mm2", "any"] > 0.7
    assert table["round_dark_per_mm2", "inflammatory"] > 0.4
    assert table["blob2.6_per_mm2_0.15", "inflammatory"] > 0.5
    assert table["large_nuclei_per_mm2", "inflammatory"] < table["round_dark_per_mm2", "inflammatory"]
