"""The shift of external cohorts: what is planted is found, and no more than is planted."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.features.planted import plant
from tests.features.shift.made_shift import DIM, SETTINGS, records, tiles, write_stores

from slidestudy.errors import StudyError
from slidestudy.features import components
from slidestudy.features.shift.measuring import SLIDES, Shift, measure_shift
from slidestudy.features.shift.sides import COLUMNS
from slidestudy.tables import load_table, write_table
from slidestudy.validation.shift_figure import draw_shift


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_stores(tmp_path_factory.mktemp("stores"))


@pytest.fixture(scope="module")
def shift(paths: list[Path]) -> Shift:
    return measure_shift(paths, *records(paths), SETTINGS)


def row(shift: Shift, cohort: str, measure: str) -> dict[str, Any]:
    (found,) = shift.measures.query("cohort == @cohort and measure == @measure").to_dict("records")
    return {str(key): value for key, value in found.items()}


def test_a_cohort_like_development_lies_within_what_splits_of_development_give(shift: Shift) -> None:
    found = row(shift, "same", "frechet")
    assert found["expected_low"] <= found["value"] <= found["expected_high"]
    assert found["ci_low"] <= found["value"] <= found["ci_high"]
    assert (found["n"], found["n_reference"], found["n_patients"]) == (48, 48, 40)
    near = row(shift, "same", "nearest_neighbour")
    assert near["value"] == pytest.approx(1, abs=0.03)
    assert near["ci_low"] < 1 < near["ci_high"]
    assert row(shift, "same", "ood_share")["value"] == pytest.approx(0.05, abs=0.06)


def test_slides_like_development_have_all_percentiles_alike(shift: Shift) -> None:
    places = shift.slides.query("cohort == 'same'")["percentile"]
    # 40 patients: standard errors of 4.6 and of 0.06, and as much again from development.
    assert places.mean() == pytest.approx(50, abs=15)
    assert (places > 80).mean() == pytest.approx(0.2, abs=0.18)


def test_a_shift_of_three_standard_deviations_is_found(shift: Shift) -> None:
    found = row(shift, "moved", "frechet")
    # Every feature moved by 3 SD: 9 times the variance of the development tiles.
    assert found["value"] == pytest.approx(9, rel=0.1)
    assert found["ci_low"] > found["expected_high"]
    assert row(shift, "moved", "nearest_neighbour")["ci_low"] > 2
    assert row(shift, "moved", "ood_share")["value"] == 1
    slides = shift.slides[shift.slides["cohort"] == "moved"]
    assert set(slides["out_of_distribution"]) == {"yes"}
    assert slides["percentile"].tolist() == [100.0] * len(slides)


def test_a_share_that_no_sample_changes_has_wilsons_interval(shift: Shift) -> None:
    found = row(shift, "moved", "ood_share")
    # 12 of 12 patients: 12 / (12 + 1.96 ** 2).
    assert (found["ci_low"], found["ci_high"]) == (pytest.approx(0.7575, abs=1e-3), 1.0)


def test_another_scanner_and_stain_are_found(shift: Shift) -> None:
    scanner = row(shift, "moved", "scanner_known")
    assert (scanner["value"], scanner["expected"], scanner["detail"]) == (0.0, 1.0, "not in development: GT450")
    assert row(shift, "same", "scanner_known")["value"] == 1
    assert row(shift, "moved", "objective_known")["value"] == 0
    assert row(shift, "moved", "vendor_known")["value"] == 1
    assert (row(shift, "moved", "mpp")["value"], row(shift, "moved", "mpp")["expected"]) == (0.26, 0.5)
    assert row(shift, "moved", "mpp_difference")["value"] == pytest.approx(-0.24)
    assert (row(shift, "moved", "mpp_outside")["value"], row(shift, "same", "mpp_outside")["value"]) == (1, 0)
    density = row(shift, "moved", "smd_stain_density")
    assert density["value"] == pytest.approx(2, abs=0.8)
    assert density["ci_low"] > 0.5
    eosin = row(shift, "moved", "smd_eosin")
    assert eosin["ci_low"] < 0 < eosin["ci_high"]
    distance = row(shift, "moved", "stain_distance")
    assert distance["ci_low"] > distance["expected"]
    assert row(shift, "same", "stain_distance")["value"] < row(shift, "same", "stain_distance")["expected_high"]


def test_a_difference_of_stain_is_in_standard_deviations_of_development(paths: list[Path], shift: Shift) -> None:
    eosin = shift.slides.groupby("cohort")["eosin"]
    expected = (eosin.mean()["same"] - eosin.mean()["north"]) / eosin.std()["north"]
    assert row(shift, "same", "smd_eosin")["value"] == pytest.approx(expected)


def test_each_external_slide_has_its_distance_to_the_nearest_development_tiles(
    paths: list[Path], shift: Shift, monkeypatch: pytest.MonkeyPatch
) -> None:
    slides = shift.slides
    assert slides.columns.tolist() == SLIDES
    assert list(dict.fromkeys(slides["cohort"])) == ["north", "same", "moved"]
    own = slides[slides["role"] == "development"]
    assert shift.limit == pytest.approx(np.quantile(own["distance"], 0.95))
    assert ((slides["distance"] > shift.limit) == (slides["out_of_distribution"] == "yes")).all()
    assert own["percentile"].mean() == pytest.approx(50)
    assert ((slides["percentile"] > 95) == (slides["out_of_distribution"] == "yes")).all()
    ratio = slides.query("cohort == 'moved'")["distance"].mean() / own["distance"].mean()
    assert row(shift, "moved", "nearest_neighbour")["value"] == pytest.approx(ratio)


def test_tiles_of_the_own_patient_are_no_neighbours(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    settings = {**SETTINGS, "roles": SETTINGS["roles"][:2]}
    paths = []
    for number in range(6):
        features = tiles(rng, 0, 15)
        # Both slides of a patient have the same tiles: their distance would be 0.
        paths += [plant(tmp_path, f"n{number}{slide}", features, "north", f"n{number}") for slide in "ab"]
    paths += [plant(tmp_path, f"s{number}", tiles(rng, 0, 15), "same") for number in range(4)]
    found = measure_shift(paths, [], [], settings)
    assert found.slides["distance"].min() > 0.1
    assert row(found, "same", "nearest_neighbour")["value"] == pytest.approx(1, abs=0.3)


def test_units_of_the_features_do_not_matter(tmp_path: Path) -> None:
    found = []
    for name, factor in (("one", 1.0), ("other", 64.0)):
        rng = np.random.default_rng(8)
        paths = []
        for cohort, patients, moved in (("north", 8, 0.0), ("same", 5, 1.0)):
            for number in range(patients):
                features = tiles(rng, moved, 20) * np.where(np.arange(DIM) % 2, factor, 1)
                paths.append(plant(tmp_path / name, f"{cohort}{number}", features, cohort))
        found.append(measure_shift(paths, [], [], {**SETTINGS, "roles": SETTINGS["roles"][:2]}))
    for measure in ("frechet", "nearest_neighbour"):
        one, other = (row(shift, "same", measure)["value"] for shift in found)
        assert one == pytest.approx(other, rel=1e-3)


def written(shift: Shift, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    write_table(folder / "shift.tsv", shift.measures)
    write_table(folder / "slides.tsv", shift.slides)
    draw_shift(shift.measures, shift.slides, shift.limit, folder / "shift.svg", folder / "shift.png")
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_the_order_of_the_stores_and_the_threads_do_not_matter(paths: list[Path], shift: Shift, tmp_path: Path) -> None:
    inspections, tissues = records(paths)
    again = measure_shift(paths[::-1], inspections[::-1], tissues[::-1], SETTINGS, threads=2)
    first = written(shift, tmp_path / "first")
    assert written(again, tmp_path / "again") == first
    assert set(first) == {"shift.tsv", "slides.tsv", "shift.svg", "shift.png"}


def test_the_tables_are_read_as_they_were_written(shift: Shift, tmp_path: Path) -> None:
    written(shift, tmp_path / "files")
    table = load_table(tmp_path / "files" / "shift.tsv")
    assert table.columns.tolist() == COLUMNS
    pd.testing.assert_series_equal(table["value"], shift.measures["value"].astype(float))
    assert table["detail"].tolist() == shift.measures["detail"].tolist()
    assert table["expected"].dtype == float
    slides = load_table(tmp_path / "files" / "slides.tsv")
    assert slides["out_of_distribution"].tolist() == shift.slides["out_of_distribution"].tolist()


def test_slides_without_records_leave_blanks_with_a_reason(paths: list[Path]) -> None:
    found = measure_shift(paths, [], [], SETTINGS)
    scanner = row(found, "same", "scanner_known")
    assert pd.isna(scanner["value"])
    assert scanner["undefined_reason"] == "no slide of the cohort says its scanner"
    assert row(found, "same", "smd_focus")["undefined_reason"] == "measured on no slide of the cohort"
    assert row(found, "same", "stain_distance")["undefined_reason"] == "measured on no slide of the cohort"
    # The feature stores say the resolution.
    assert row(found, "same", "mpp")["value"] == 0.25
    assert row(found, "moved", "frechet")["value"] > 5


def test_few_patients_give_values_without_intervals_or_reference(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    paths = [plant(tmp_path, f"n{i}", tiles(rng, 0, 9), "north") for i in range(3)]
    paths += [plant(tmp_path, f"s{i}", tiles(rng, 0, 9), "same") for i in range(2)]
    found = row(measure_shift(paths, [], [], {**SETTINGS, "roles": SETTINGS["roles"][:2]}), "same", "frechet")
    assert found["value"] > 0
    assert pd.isna(found["ci_low"])
    assert pd.isna(found["expected"])
    assert found["undefined_reason"] == "no interval: 2 patients; nothing to compare with: 3 development patients"


def test_one_development_patient_has_no_other_to_be_held_against(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    paths = [plant(tmp_path, f"n{i}", tiles(rng, 0, 9), "north", "alone") for i in range(3)]
    paths += [plant(tmp_path, f"s{i}", tiles(rng, 0, 9), "same") for i in range(4)]
    found = measure_shift(paths, [], [], {**SETTINGS, "roles": SETTINGS["roles"][:2]})
    assert np.isnan(found.limit)
    assert row(found, "same", "frechet")["undefined_reason"].startswith("no interval: 1 development patients")
    for measure in ("nearest_neighbour", "ood_share"):
        assert row(found, "same", measure)["undefined_reason"] == "the development slides are of one patient"
    assert set(found.slides["out_of_distribution"]) == {""}
    assert written(found, tmp_path / "files")["shift.svg"].startswith(b"<?xml")


def test_excluded_slides_do_not_count_and_a_cohort_of_them_says_so(paths: list[Path], tmp_path: Path) -> None:
    kept = [path for path in paths if path.parent.name != "moved"]
    bad = plant(tmp_path, "bad", np.full((30, DIM), 1000.0), "moved", status="excluded", reason={"code": "few"})
    found = measure_shift([*kept, bad], [], [], SETTINGS)
    assert "bad" not in found.slides["slide_id"].tolist()
    gone = found.measures[found.measures["cohort"] == "moved"]
    assert gone["value"].isna().all()
    assert (gone["undefined_reason"] != "").all()
    assert row(found, "moved", "frechet")["undefined_reason"] == "no slide of the cohort has features"
    assert written(found, tmp_path / "files")["shift.png"].startswith(b"\x89PNG")


def test_without_development_features_there_is_nothing_to_measure_from(paths: list[Path]) -> None:
    external = [path for path in paths if path.parent.name != "north"]
    with pytest.raises(StudyError, match="no development slide has features"):
        measure_shift(external, [], [], SETTINGS)


def test_a_slide_larger_than_a_block_of_rows_gives_the_same(
    paths: list[Path], shift: Shift, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(components, "ROWS", 7)
    again = measure_shift(paths, *records(paths), SETTINGS)
    np.testing.assert_allclose(
        again.measures["value"].to_numpy(float), shift.measures["value"].to_numpy(float), rtol=1e-5
    )


def test_no_more_than_a_slide_is_held_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    count, dim, slides = 4000, 256, 8
    paths = [
        plant(tmp_path, f"{cohort}{i}", rng.normal(size=(count, dim)), cohort)
        for cohort in ("north", "same")
        for i in range(slides)
    ]
    monkeypatch.setattr(components, "ROWS", 512)
    options = {**SETTINGS, "roles": SETTINGS["roles"][:2], "bootstrap": 100}
    tracemalloc.start()
    measure_shift(paths, [], [], options)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    whole = 2 * slides * count * dim * 2
    assert peak < whole / 2, peak / whole
