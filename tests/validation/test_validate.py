"""The validation of a model over all cohorts, and its comparison with a generated truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from slidestudy.errors import StudyError
from slidestudy.validation.metrics import TRUTH_COLUMNS, cohort_metrics
from slidestudy.validation.study import validate

SETTINGS = {
    "task": "regression",
    "target": "tils",
    "cutoffs": [30],
    "cutoff_rule": ">",
    "bootstrap": 100,
    "confidence": 0.95,
    "seed": 1,
    "truth_column": None,
}
ROLES = {"north": "development", "south": "external"}


def predictions(cohort: str, n: int = 30) -> pd.DataFrame:
    rng = np.random.default_rng(len(cohort))
    target = rng.uniform(0, 80, n)
    return pd.DataFrame({
        "slide_id": [f"{cohort}-{i}" for i in range(n)], "patient_id": [f"{cohort}-p{i // 2}" for i in range(n)],
        "prediction": target + rng.normal(0, 9, n), "target": target,
    })  # fmt: skip


COHORTS = {name: predictions(name) for name in ROLES}


def test_the_metrics_are_those_of_each_cohort_with_its_role():
    metrics, truth = validate(COHORTS, ROLES, SETTINGS, None)
    for name, role in ROLES.items():
        part = metrics[metrics["cohort"] == name].reset_index(drop=True)
        pd.testing.assert_frame_equal(part, cohort_metrics(COHORTS[name], SETTINGS, name, role), check_dtype=False)
    assert list(metrics.index) == list(range(len(metrics)))
    assert (list(truth.columns), len(truth)) == (TRUTH_COLUMNS, 0)


def test_predictions_and_labels_are_both_compared_with_the_truth():
    slides = pd.concat(COHORTS.values())
    truth = pd.DataFrame({"slide_id": slides["slide_id"], "true_tils": slides["prediction"] + 2})
    # One slide has no truth and one no label.
    cohorts = {"north": COHORTS["north"].copy()}
    cohorts["north"].loc[3, "target"] = np.nan
    _, compared = validate(cohorts, ROLES, {**SETTINGS, "truth_column": "true_tils"}, truth[1:])
    found = compared.set_index(["comparison", "metric"])
    assert found.loc[("prediction", "mae"), "value"] == pytest.approx(2)
    assert found.loc[("prediction", "pearson"), "value"] == pytest.approx(1)
    assert found.loc[("prediction", "mae"), "n"] == 29
    assert found.loc[("label", "mae"), "n"] == 28
    expected = (COHORTS["north"]["prediction"] + 2 - COHORTS["north"]["target"]).drop([0, 3]).abs().mean()
    assert found.loc[("label", "mae"), "value"] == pytest.approx(expected)


@pytest.mark.parametrize("missing", ["true_tils", "slide_id"])
def test_a_truth_table_without_a_needed_column_is_refused(missing):
    truth = pd.DataFrame({"slide_id": ["north-0"], "true_tils": [1.0]}).drop(columns=missing)
    with pytest.raises(StudyError, match=f"the truth table has no column '{missing}'"):
        validate(COHORTS, ROLES, {**SETTINGS, "truth_column": "true_tils"}, truth)


def test_a_truth_that_holds_none_of_the_slides_is_undefined_not_an_error():
    truth = pd.DataFrame({"slide_id": ["elsewhere"], "true_tils": [1.0]})
    _, compared = validate(COHORTS, ROLES, {**SETTINGS, "truth_column": "true_tils"}, truth)
    assert compared["value"].isna().all()
    assert set(compared["undefined_reason"]) == {"no rows"}


def test_a_truth_cannot_be_compared_with_classes_or_risks():
    truth = pd.DataFrame({"slide_id": ["north-0"], "true_tils": [1.0]})
    settings = {**SETTINGS, "task": "survival-cox", "cutoffs": [], "truth_column": "true_tils"}
    cohorts = {"north": COHORTS["north"].assign(time=1.0, event=1.0)}
    with pytest.raises(StudyError, match="task survival-cox is no single number"):
        validate(cohorts, ROLES, settings, truth)
