from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from slidestudy.explanations import morphometry

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
Image = npt.NDArray[np.uint8]

PINK = (228, 170, 205)
NUCLEUS = (80, 45, 120)
GLASS = (246, 246, 246)


def tissue(side: int = 300, colour: tuple[int, int, int] = PINK) -> Image:
    """A flat field of one colour with a little fixed noise, uint8 (side, side, 3)."""
    noise = np.random.default_rng(0).normal(0, 2, (side, side, 3))
    return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)


def with_discs(image: Image, centres: list[tuple[int, int]], radius: int, colour: tuple[int, int, int]) -> Image:
    for centre in centres:
        cv2.circle(image, centre, radius, colour, -1)
    return image


def grid(step: int, side: int = 300) -> list[tuple[int, int]]:
    return [(x, y) for x in range(step, side - step // 2, step) for y in range(step, side - step // 2, step)]


def test_separate_nuclei_are_counted_per_mm2() -> None:
    centres = grid(40)
    measured = morphometry.measure_patch(with_discs(tissue(), centres, 6, NUCLEUS), 0.5)
    assert measured["nuclear_density"] == pytest.approx(len(centres) / 0.0225)


def test_touching_nuclei_are_split() -> None:
    pairs = [centre for x, y in grid(60) for centre in ((x, y), (x + 14, y))]
    measured = morphometry.measure_patch(with_discs(tissue(), pairs, 8, NUCLEUS), 0.5)
    assert measured["nuclear_density"] == pytest.approx(len(pairs) / 0.0225)


def test_small_round_dark_nuclei_are_told_from_large_ones() -> None:
    small = morphometry.measure_patch(with_discs(tissue(), grid(40), 5, NUCLEUS), 0.5)
    large = morphometry.measure_patch(with_discs(tissue(), grid(40), 12, NUCLEUS), 0.5)
    assert small["lymphocyte_percent"] > 95
    assert small["large_nucleus_density"] == 0
    assert large["lymphocyte_percent"] == 0
    assert large["large_nucleus_density"] == large["nuclear_density"] > 0


def test_pale_small_nuclei_are_not_lymphocyte_like() -> None:
    pale = morphometry.measure_patch(with_discs(tissue(), grid(40), 5, (165, 130, 190)), 0.5)
    assert pale["nuclear_density"] > 0
    assert pale["lymphocyte_density"] == 0


def test_elongated_nuclei_are_not_lymphocyte_like() -> None:
    image = tissue()
    for centre in grid(40):
        cv2.ellipse(image, centre, (10, 3), 0, 0, 360, NUCLEUS, -1)
    measured = morphometry.measure_patch(image, 0.5)
    assert measured["nuclear_density"] > 0
    assert measured["lymphocyte_density"] == 0


def test_mean_area_is_in_square_micrometres() -> None:
    measured = morphometry.measure_patch(with_discs(tissue(), grid(50), 10, NUCLEUS), 0.5)
    assert measured["nuclear_area_mean"] == pytest.approx(np.pi * 10**2 * 0.25, rel=0.15)


def test_mixed_sizes_vary_more_than_equal_ones() -> None:
    equal = morphometry.measure_patch(with_discs(tissue(), grid(50), 8, NUCLEUS), 0.5)
    image = with_discs(tissue(), grid(50)[::2], 5, NUCLEUS)
    mixed = morphometry.measure_patch(with_discs(image, grid(50)[1::2], 12, NUCLEUS), 0.5)
    assert mixed["nuclear_area_cv"] > equal["nuclear_area_cv"] + 0.3


@pytest.mark.parametrize("mpp", [0.25, 0.5, 1.0])
def test_the_same_tissue_measures_alike_at_any_magnification(mpp: float) -> None:
    image = with_discs(tissue(600), grid(80, 600), 14, NUCLEUS)  # drawn at 0.25 um per pixel
    side = round(600 * 0.25 / mpp)
    resampled = np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    reference = morphometry.measure_patch(image, 0.25)
    measured = morphometry.measure_patch(resampled, mpp)
    assert measured["nuclear_density"] == pytest.approx(reference["nuclear_density"], rel=0.02)
    assert measured["nuclear_area_mean"] == pytest.approx(reference["nuclear_area_mean"], rel=0.15)


def test_pink_fibrous_area_is_stroma_and_vacuoles_are_fat() -> None:
    measured = morphometry.measure_patch(with_discs(tissue(), [(90, 90), (210, 210)], 50, GLASS), 0.5)
    assert measured["fat_fraction"] == pytest.approx(2 * np.pi * 50**2 / 300**2, abs=0.03)
    assert measured["white_fraction"] < 0.03
    assert measured["stroma_fraction"] > 0.6


def test_blank_glass_is_background_and_has_no_nuclei() -> None:
    measured = morphometry.measure_patch(tissue(colour=GLASS), 0.5)
    assert measured["white_fraction"] > 0.99
    assert measured["nuclear_density"] == measured["fat_fraction"] == 0
    assert np.isnan(measured["nuclear_area_mean"])
    assert np.isnan(measured["lymphocyte_percent"])


def test_pale_bluish_area_is_mucin() -> None:
    mucin = morphometry.measure_patch(tissue(colour=(196, 200, 214)), 0.5)
    assert mucin["mucin_fraction"] > 0.8
    assert morphometry.measure_patch(tissue(), 0.5)["mucin_fraction"] < 0.01


def test_stains_are_told_apart() -> None:
    pink = morphometry.measure_patch(tissue(), 0.5)
    blue = morphometry.measure_patch(tissue(colour=(150, 130, 190)), 0.5)
    assert pink["eosin_od"] > pink["haematoxylin_od"]
    assert blue["haematoxylin_od"] > blue["eosin_od"]


@pytest.mark.parametrize("side", [1, 2, 7])
def test_tiny_patches_are_measured_without_error(side: int) -> None:
    measured = morphometry.measure_patch(np.zeros((side, side, 3), dtype=np.uint8), 0.5)
    assert set(measured) == {entry.key for entry in morphometry.MEASUREMENTS}


def test_an_image_that_is_not_uint8_rgb_is_refused() -> None:
    with pytest.raises(ValueError, match="float64"):
        morphometry.measure_patch(np.zeros((8, 8, 3)), 0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\(8, 8\)"):
        morphometry.measure_patch(np.zeros((8, 8), dtype=np.uint8), 0.5)
    with pytest.raises(ValueError, match="mpp"):
        morphometry.measure_patch(np.zeros((8, 8, 3), dtype=np.uint8), 0.0)


KEYS = [entry.key for entry in morphometry.MEASUREMENTS]
VALUES = st.one_of(st.just(float("nan")), st.just(0.0), st.floats(0, 1e5))
TABLES = st.lists(st.fixed_dictionaries(dict.fromkeys(KEYS, VALUES)), min_size=1, max_size=12)


@given(TABLES)
def test_levels_come_back_from_the_description_alone(table: list[dict[str, float]]) -> None:
    reference = morphometry.build_reference(table)
    for row in table:
        expected = {
            key: round(morphometry.percentile_of(row[key], reference[key]), 1) for key in KEYS if np.isfinite(row[key])
        }
        text = morphometry.describe(row, reference)
        assert morphometry.parse_percentiles(text) == expected
        assert morphometry.parse_description(text) == {
            key: morphometry.level_of(percentile) for key, percentile in expected.items()
        }


@given(TABLES)
def test_a_larger_value_never_has_a_lower_level(table: list[dict[str, float]]) -> None:
    reference = morphometry.build_reference(table)
    for key in KEYS:
        levels = [morphometry.level_of(morphometry.percentile_of(v, reference[key])) for v in reference[key]]
        assert levels == sorted(levels)


@given(st.text())
def test_foreign_text_has_no_levels(text: str) -> None:
    assert morphometry.parse_description(text) == {}


def test_fifths_of_a_sample_get_the_five_words() -> None:
    reference = np.arange(10.0)
    levels = [morphometry.level_of(morphometry.percentile_of(value, reference)) for value in reference]
    assert levels == [-2, -2, -1, -1, 0, 0, 1, 1, 2, 2]


def test_a_value_that_the_whole_sample_shares_is_moderate() -> None:
    assert morphometry.level_of(morphometry.percentile_of(0.0, np.zeros(7))) == 0


def test_the_description_says_first_that_it_is_no_vision_language_model() -> None:
    row = dict.fromkeys(KEYS, 1.0)
    first, *rest = morphometry.describe(row, morphometry.build_reference([row])).splitlines()
    assert "not a vision-language model" in first
    assert len([line for line in rest if line.startswith("- ")]) == len(KEYS)


def annotated(dataset: str, mpp: float) -> pd.DataFrame:
    """Measurements beside the annotated counts per mm2 of every second image, and the inflammatory fraction."""
    folder = SHARED / "cells" / dataset
    if not folder.is_dir():
        pytest.skip(f"the annotated images of {dataset} are not beside the repository")
    nuclei = pd.read_csv(next(folder.glob("[np][uo]*.csv")))
    rows = []
    for path in sorted((folder / "images").iterdir())[::2]:
        bgr = cv2.imread(str(path))
        assert bgr is not None
        rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8)
        mine = nuclei[nuclei["image"] == path.stem]
        classed = mine[mine["class"] != "any"]
        every = mine[mine["class"] == "any"] if (nuclei["class"] == "any").any() else mine
        mm2 = rgb.shape[0] * rgb.shape[1] * mpp**2 / 1e6
        inflammatory = classed["class"] == "inflammatory"
        row = {"annotated": len(every) / mm2, "inflammatory": inflammatory.sum() / mm2}
        row["fraction"] = inflammatory.mean() if len(classed) >= 30 else float("nan")
        rows.append(row | morphometry.measure_patch(rgb, mpp))
    return pd.DataFrame(rows)


@pytest.mark.shared
@pytest.mark.parametrize(("dataset", "mpp"), [("crchisto", 0.55), ("consep", 0.275)])
def test_measured_densities_follow_the_pathologists_annotations(dataset: str, mpp: float) -> None:
    table = annotated(dataset, mpp)
    classed = table.dropna(subset=["fraction"])
    assert pearsonr(table["nuclear_density"], table["annotated"]).statistic > 0.85
    assert spearmanr(table["lymphocyte_density"], table["inflammatory"]).statistic > 0.5
    assert pearsonr(classed["lymphocyte_density"], classed["fraction"]).statistic > 0.4
