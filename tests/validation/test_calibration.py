"""Calibration: bins, recalibrating lines and curves of predictions whose calibration is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.validation.made_predictions import (
    MULTICLASS,
    SURVIVAL,
    ids,
    of_classes,
    of_targets,
    of_times,
    settings,
    several,
)

from slidestudy.validation.calibration_curves import BIN_COLUMNS, CURVE_COLUMNS, Calibration, calibrate
from slidestudy.validation.cohort_levels import ESTIMATE_COLUMNS, cohort_levels

REGRESSION = settings("regression", target_range=[0, 100])
CLASSIFICATION = settings("classification", target_range=[0, 1])


def measured(tables: dict[str, pd.DataFrame], options: dict[str, Any]) -> Calibration:
    return calibrate(cohort_levels(tables, dict.fromkeys(tables, "external"), options), options)


def numbers(prediction: Any, target: Any, per_patient: int = 1) -> pd.DataFrame:
    return ids(len(prediction), per_patient).assign(prediction=prediction, target=target)


def probabilities(n: int = 400, seed: int = 1, per_patient: int = 1) -> pd.DataFrame:
    """Calibrated probabilities of a class."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.02, 0.98, n)
    return numbers(p, (rng.random(n) < p).astype(float), per_patient)


def fit(found: Calibration, statistic: str, level: str = "slide", target: str = "") -> pd.Series:
    rows = found.fits.query("statistic == @statistic and level == @level and target == @target")
    (row,) = [row for _, row in rows.iterrows()]
    return row


def test_a_bin_has_the_means_of_the_rows_in_it_and_empty_bins_are_blank():
    found = measured({"a": numbers([0, 4.9, 5, 7, 9.9, 100.0], [1.0, 3, 10, 20, 30, 90])}, REGRESSION)
    bins = found.bins.query("level == 'slide'").set_index("bin")
    assert (list(bins.index), list(bins["low"][:3]), bins["high"].iloc[-1]) == (list(range(1, 21)), [0, 5, 10], 100)
    assert list(bins["n"][bins["n"] > 0]) == [2, 3, 1]
    assert list(bins.loc[[1, 2, 20], "mean_target"]) == pytest.approx([2, 20, 90])
    assert list(bins.loc[[1, 2, 20], "mean_prediction"]) == pytest.approx([2.45, 21.9 / 3, 100])
    assert bins.loc[3:19, ["mean_prediction", "mean_target", "ci_low"]].isna().all(axis=None)
    assert set(bins.loc[3:19, "undefined_reason"]) == {"no rows"}
    assert bins.loc[1, "undefined_reason"] == "no interval: 2 patients"
    assert bins.loc[2, "ci_low"] < 20 < bins.loc[2, "ci_high"]


def test_what_is_predicted_beyond_the_range_is_in_the_end_bins():
    found = measured({"a": numbers([-3.0, 104.0], [1.0, 2.0])}, REGRESSION)
    assert list(found.bins.query("level == 'slide' and n > 0")["bin"]) == [1, 20]


def test_bins_of_all_rows_hold_all_rows_at_both_levels():
    table = probabilities(300, per_patient=3)
    found = measured({"a": table}, CLASSIFICATION)
    for level, n in (("slide", 300), ("patient", 100)):
        rows = found.bins[found.bins["level"] == level]
        assert (len(rows), rows["n"].sum()) == (10, n)


def test_a_share_whose_labels_all_agree_has_wilsons_interval_of_its_patients():
    found = measured({"a": numbers([0.01] * 10 + [0.99] * 10, [0.0] * 10 + [1.0] * 10, 2)}, CLASSIFICATION)
    low, high = (found.bins.query("level == 'slide' and bin == @k").iloc[0] for k in (1, 10))
    # z^2 / (n + z^2) with n = 5 patients: Wilson's upper end of 0 of 5.
    end = 1.959964**2 / (5 + 1.959964**2)
    assert (low["mean_target"], low["ci_low"], low["ci_high"]) == (0, pytest.approx(0, abs=1e-12), pytest.approx(end))
    assert (high["mean_target"], high["ci_low"], high["ci_high"]) == (1, pytest.approx(1 - end), pytest.approx(1))


def test_calibrated_numbers_have_slope_one_and_nothing_in_the_large():
    rng = np.random.default_rng(0)
    p = rng.uniform(10, 90, 400)
    found = measured({"a": numbers(p, p + rng.normal(0, 8, 400))}, REGRESSION)
    for statistic, value in (("slope", 1), ("intercept", 0), ("in_the_large", 0)):
        row = fit(found, statistic)
        assert row["ci_low"] <= value <= row["ci_high"]
    moved = fit(measured({"a": numbers(p, 0.5 * p + 3)}, REGRESSION), "slope")
    assert (moved["value"], moved["ci_low"], moved["ci_high"]) == pytest.approx((0.5, 0.5, 0.5))


def test_calibrated_probabilities_have_slope_one_and_overconfident_ones_less():
    table = probabilities()
    row = fit(measured({"a": table}, CLASSIFICATION), "slope")
    assert row["ci_low"] < 1 < row["ci_high"]
    sharp = table.assign(prediction=lambda t: 1 / (1 + ((1 - t["prediction"]) / t["prediction"]) ** 3))
    assert fit(measured({"a": sharp}, CLASSIFICATION), "slope")["value"] == pytest.approx(row["value"] / 3, rel=1e-4)


def test_labels_higher_than_predicted_have_a_positive_intercept_in_the_large():
    low = probabilities().assign(prediction=lambda t: t["prediction"] / 2)
    assert fit(measured({"a": low}, CLASSIFICATION), "in_the_large")["ci_low"] > 0
    p = np.linspace(10, 60, 30)
    assert fit(measured({"a": numbers(p, p + 7)}, REGRESSION), "in_the_large")["value"] == pytest.approx(7)


def test_slides_of_few_patients_give_wider_intervals_than_as_many_patients():
    table = probabilities(200).sort_values("prediction", ignore_index=True)
    alone = fit(measured({"a": table}, CLASSIFICATION), "slope")
    twice = pd.concat([table, table], ignore_index=True)
    paired = fit(measured({"a": twice.assign(slide_id=ids(400)["slide_id"])}, CLASSIFICATION), "slope")
    apart = fit(measured({"a": twice.assign(**ids(400))}, CLASSIFICATION), "slope")
    width = {name: row["ci_high"] - row["ci_low"] for name, row in (("a", alone), ("p", paired), ("s", apart))}
    assert width["p"] == pytest.approx(width["a"], rel=1e-6)
    assert width["s"] < 0.85 * width["p"]


@pytest.mark.parametrize(
    ("prediction", "target", "statistic", "reason"),
    [
        ([0.2, 0.3, 0.8, 0.9], [0, 0, 1, 1], "slope", "the predictions of the classes do not overlap"),
        ([0.2, 0.3, 0.8, 0.9], [1, 1, 1, 1], "slope", "one class only"),
        ([0.2, 0.3, 0.8, 0.9], [1, 1, 1, 1], "in_the_large", "one class only"),
        ([0.5, 0.5, 0.5, 0.5], [0, 1, 1, 0], "intercept", "constant prediction"),
        ([0.5], [1], "slope", "fewer than two rows"),
        ([], [], "slope", "no rows"),
    ],
)
def test_a_line_that_does_not_exist_is_blank_with_the_reason(prediction, target, statistic, reason):
    row = fit(measured({"a": numbers(prediction, target)}, CLASSIFICATION), statistic)
    assert pd.isna(row["value"])
    assert row["undefined_reason"] == reason


def test_a_curve_follows_the_labels_within_its_band_and_between_the_ends_of_the_predictions():
    found = measured({"a": probabilities()}, CLASSIFICATION).curves.query("level == 'slide'")
    table = probabilities()
    assert len(found) == 101
    ends = (found["prediction"].iloc[0], found["prediction"].iloc[-1])
    assert ends == (table["prediction"].min(), table["prediction"].max())
    inner = found[10:-10]
    assert (inner["value"] - inner["prediction"]).abs().max() < 0.12
    assert ((inner["ci_low"] <= inner["value"]) & (inner["value"] <= inner["ci_high"])).mean() > 0.95
    assert found[["value", "ci_low", "ci_high"]].min().min() >= 0
    assert found[["value", "ci_low", "ci_high"]].max().max() <= 1


def test_a_straight_relation_is_its_own_curve():
    p = np.linspace(0, 100, 60)
    found = measured({"a": numbers(p, 20 + 0.5 * p)}, REGRESSION).curves
    assert found["value"].to_numpy() == pytest.approx(20 + 0.5 * found["prediction"].to_numpy())


@pytest.mark.parametrize("n", [0, 1, 9])
def test_few_rows_have_no_curve(n):
    table = probabilities(400).head(n)
    assert len(measured({"a": table}, CLASSIFICATION).curves) == 0


def test_equal_predictions_in_a_sample_do_not_break_the_curve():
    table = numbers([0.3] * 15 + [0.6], [0.0, 1.0] * 8)
    found = measured({"a": table}, CLASSIFICATION).curves
    assert found["value"].astype(float).notna().all()


def test_each_class_is_calibrated_against_the_rest():
    table = of_classes(80)
    found = measured({"a": table}, MULTICLASS)
    assert list(found.fits["target"].unique()) == ["adenoma", "carcinoma", "normal"]
    alone = table.assign(target=(table["target"] == "normal").astype(float), prediction=table["probability.normal"])
    expected = fit(measured({"a": alone}, CLASSIFICATION), "slope")
    found_row = fit(found, "slope", target="normal")
    columns = ["value", "ci_low", "ci_high", "n", "n_patients"]
    assert list(found_row[columns]) == pytest.approx(list(expected[columns]))


def test_a_regression_without_a_range_has_lines_and_curves_but_no_bins():
    table = of_targets(40, ["target"]).rename(columns={"prediction.target": "prediction"})
    found = measured({"a": table}, {**REGRESSION, "target_range": None})
    assert (len(found.bins), len(found.fits), len(found.curves) > 0) == (0, 6, True)


@pytest.mark.parametrize(
    ("table", "options"), [(of_times(30), SURVIVAL), (of_targets(30, ["A", "B"]), several(["A", "B"]))]
)
def test_other_tasks_have_tables_with_a_header_only(table, options):
    found = measured({"a": table}, options)
    tables = (found.bins, found.fits, found.curves)
    assert [list(t.columns) for t in tables] == [BIN_COLUMNS, ESTIMATE_COLUMNS, CURVE_COLUMNS]
    assert [len(t) for t in tables] == [0, 0, 0]


def test_equal_seeds_give_equal_tables():
    first, second = (measured({"a": probabilities(80)}, CLASSIFICATION) for _ in range(2))
    for name in ("bins", "fits", "curves"):
        pd.testing.assert_frame_equal(getattr(first, name), getattr(second, name), check_exact=True)
