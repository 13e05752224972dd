"""Limits of agreement: by hand, under shifts and scales, and with several slides of a patient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tests.validation.made_predictions import MULTICLASS, ids, of_classes, of_targets, settings, several

from slidestudy.validation.agreement import agree
from slidestudy.validation.cohort_levels import ESTIMATE_COLUMNS, cohort_levels

REGRESSION = settings("regression", bootstrap=400)


def measured(table: pd.DataFrame, options: dict[str, Any] = REGRESSION, level: str = "slide") -> pd.DataFrame:
    found = agree(cohort_levels({"a": table}, {"a": "external"}, options), options)
    return found[found["level"] == level].set_index("statistic")


def noisy(n: int = 60, bias: float = 5.0, per_patient: int = 1, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 80, n)
    return ids(n, per_patient).assign(target=truth, prediction=truth + bias + rng.normal(0, 6, n))


def test_mean_difference_and_limits_are_those_of_the_differences():
    table = noisy()
    gap = table["prediction"] - table["target"]
    found = measured(table)["value"]
    assert found["mean_difference"] == pytest.approx(gap.mean())
    assert found["lower_limit"] == pytest.approx(gap.mean() - 1.96 * gap.std(ddof=1))
    assert found["upper_limit"] == pytest.approx(gap.mean() + 1.96 * gap.std(ddof=1))
    means = (table["prediction"] + table["target"]) / 2
    assert found["proportional_bias"] == pytest.approx(stats.linregress(means, gap).slope)


def test_intervals_are_near_those_of_bland_and_altman_where_slides_are_independent():
    table = noisy(400)
    gap = table["prediction"] - table["target"]
    found = measured(table, {**REGRESSION, "bootstrap": 2000})
    # Standard errors s / sqrt(n) of the mean, and of a limit 1.71 times that if the differences are normal (1999,
    # section 2.1.1); these are nearly so.
    tails = 1.96**2 * (stats.kurtosis(gap, fisher=False) - 1) / 4
    for name, side in (("mean_difference", 0), ("upper_limit", 1), ("lower_limit", -1)):
        factor = (1 + side * 1.96 * stats.skew(gap) + side**2 * tails) ** 0.5
        assert factor == pytest.approx(1.71 if side else 1, rel=0.15)
        width = found.loc[name, "ci_high"] - found.loc[name, "ci_low"]
        assert width == pytest.approx(2 * 1.96 * factor * gap.std(ddof=1) / 20, rel=0.07)


def test_a_shift_moves_mean_and_limits_alike_and_leaves_the_bias():
    before, after = measured(noisy()), measured(noisy().assign(prediction=lambda t: t["prediction"] + 10))
    for name in ("mean_difference", "lower_limit", "upper_limit"):
        assert after.loc[name, "value"] == pytest.approx(before.loc[name, "value"] + 10)
    assert after.loc["proportional_bias", "value"] == pytest.approx(before.loc["proportional_bias", "value"])


def test_predictions_of_twice_the_label_have_a_proportional_bias():
    table = noisy().assign(prediction=lambda t: 2 * t["target"])
    # The difference is y and the mean is 1.5 y.
    assert measured(table).loc["proportional_bias", "value"] == pytest.approx(2 / 3)


def test_slides_of_one_patient_count_together():
    table = noisy(30)
    doubled = pd.concat([table, table], ignore_index=True).assign(slide_id=ids(60)["slide_id"])
    alone, paired = measured(table), measured(doubled)
    row = ["value", "ci_low", "ci_high"]
    assert list(paired.loc["mean_difference", row]) == pytest.approx(list(alone.loc["mean_difference", row]))
    assert (paired.loc["mean_difference", "n"], paired.loc["mean_difference", "n_patients"]) == (60, 30)
    assert measured(doubled, level="patient").loc["mean_difference", "n"] == 30


def test_each_target_is_that_of_a_model_of_its_own():
    table = of_targets(40, ["A", "B"])
    found = agree(cohort_levels({"a": table}, {"a": "external"}, several(["A", "B"])), several(["A", "B"]))
    alone = measured(table.assign(prediction=table["prediction.B"], target=table["B"]), settings("regression"))
    rows = found.query("level == 'slide' and target == 'B'").set_index("statistic")
    pd.testing.assert_frame_equal(rows.drop(columns="target"), alone.drop(columns="target"), check_dtype=False)


def test_what_is_undefined_is_blank_with_its_reason():
    one = measured(noisy(1))
    assert one.loc["mean_difference", "undefined_reason"] == "no interval: 1 patients"
    assert one.loc["lower_limit", ["value", "undefined_reason"]].tolist()[1] == "fewer than two rows"
    flat = measured(noisy(5).assign(prediction=3.0, target=1.0))
    assert flat.loc["proportional_bias", "undefined_reason"] == "the mean of prediction and label is constant"
    assert flat.loc["upper_limit", "value"] == pytest.approx(2)
    assert set(measured(noisy(5).assign(target=np.nan))["undefined_reason"]) == {"no rows"}


def test_classes_have_no_limits():
    found = agree(cohort_levels({"a": of_classes(20)}, {"a": "external"}, MULTICLASS), MULTICLASS)
    assert (list(found.columns), len(found)) == (ESTIMATE_COLUMNS, 0)
