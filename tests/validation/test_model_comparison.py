"""Models against their rivals: on common slides and draws, corrected, with DeLong's test, and mirror-symmetric."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.validation.made_predictions import (
    CLASSES,
    MULTICLASS,
    SURVIVAL,
    ids,
    of_classes,
    of_targets,
    of_times,
    settings,
    several,
)

from slidestudy import statistics
from slidestudy.delong import delong_p
from slidestudy.validation.metrics import cohort_metrics
from slidestudy.validation.model_comparison import COMPARED, COMPARISON, compare_models, predictions_by_model
from slidestudy.validation.paired_differences import holm, paired_difference

ROLES = {"north": "development", "south": "external"}
REGRESSION = settings("regression", cutoffs=[0.5])
CLASSIFICATION = settings("classification")


def regression(n: int = 60, noise: float = 0.5, seed: int = 0, per_patient: int = 2) -> pd.DataFrame:
    truth = np.random.default_rng(9).normal(size=n)
    predicted = truth + np.random.default_rng(seed).normal(0, noise, n)
    return ids(n, per_patient).assign(prediction=predicted, target=truth, prediction_sd=0.1)


def classification(n: int = 60, strength: float = 1.5, seed: int = 0) -> pd.DataFrame:
    truth = (np.random.default_rng(9).uniform(size=n) < 0.5).astype(float)
    score = 1 / (1 + np.exp(-strength * (truth - 0.5) - np.random.default_rng(seed).normal(size=n)))
    return ids(n).assign(prediction=score, target=truth, threshold=0.5)


def compare(own: pd.DataFrame, options: dict[str, Any], **rivals: pd.DataFrame) -> pd.DataFrame:
    """The own model against its rivals, with the same tables in both cohorts."""
    tables = {"own": own, **rivals}
    predictions = {name: dict.fromkeys(ROLES, table) for name, table in tables.items()}
    return compare_models(predictions, ROLES, {**options, "model": "own", "rivals": list(rivals)})


def row(table: pd.DataFrame, metric: str, **wanted: Any) -> dict[str, Any]:
    wanted = {"cohort": "south", "level": "slide", **wanted}
    keep = np.logical_and.reduce([table[name] == value for name, value in wanted.items()])
    (found,) = table[keep & (table["metric"] == metric)].to_dict("records")
    return {str(key): value for key, value in found.items()}


def test_differences_are_those_of_the_paired_bootstrap_and_values_those_of_the_metrics():
    own, rival = regression(seed=1), regression(seed=2, noise=1.5)
    table = compare(own, REGRESSION, rival=rival)
    assert list(table) == COMPARISON
    found = row(table, "pearson")
    args = own["target"].to_numpy(), own["prediction"].to_numpy(), rival["prediction"].to_numpy()
    expected = paired_difference(statistics.pearson, *args, own["patient_id"].to_numpy(), REGRESSION)
    assert {key: found[key] for key in expected} == pytest.approx(expected)
    metrics = cohort_metrics(rival, {**REGRESSION, "interval": "percentile"}, "south", "external")
    at = metrics[(metrics["metric"] == "pearson") & (metrics["level"] == "slide")]
    assert found["rival_value"] == at["value"].item()
    assert found["ci_low"] > 0
    assert (row(table, "mse")["better"], row(table, "auroc")["better"]) == ("lower", "higher")


def test_a_rival_sees_the_same_comparison_the_other_way_round():
    own, rival = regression(seed=1), regression(seed=2, noise=1.5)
    one = compare(own, REGRESSION, rival=rival)
    other = compare_models(
        {"own": dict.fromkeys(ROLES, own), "rival": dict.fromkeys(ROLES, rival)},
        ROLES,
        {**REGRESSION, "model": "rival", "rivals": ["own"]},
    )
    assert one["difference"].tolist() == pytest.approx((-other["difference"]).tolist())
    assert one["p"].tolist() == other["p"].tolist()
    assert one["p_delong"].tolist() == pytest.approx(other["p_delong"].tolist(), nan_ok=True)


def test_delongs_test_is_of_auroc_only_and_by_patient():
    own, rival = classification(seed=1), classification(seed=2, strength=0.3)
    own["patient_id"] = rival["patient_id"] = np.repeat([f"p{i:02}" for i in range(20)], 3)
    table = compare(own, CLASSIFICATION, rival=rival)
    found = row(table, "auroc")
    scores = own["prediction"], rival["prediction"]
    assert found["p_delong"] == delong_p(own["target"], *scores, own["patient_id"])
    assert found["p_delong"] != pytest.approx(delong_p(own["target"], *scores, own["slide_id"]), rel=0.01)
    assert table.loc[table["metric"] != "auroc", "p_delong"].isna().all()
    cuts = compare(regression(seed=1), REGRESSION, rival=regression(seed=2, noise=1.5))
    assert row(cuts, "auroc", threshold=0.5)["p_delong"] < 0.05


def test_only_slides_that_both_predicted_count_and_the_others_are_counted():
    own, rival = regression(seed=1, per_patient=1), regression(seed=2, per_patient=1)
    own.loc[:4, "target"] = rival.loc[:4, "target"] = np.nan
    # Six slides are the own model's only, three the rival's only; five have no label.
    table = compare(own[:-3], REGRESSION, rival=rival.drop(index=range(10, 16)))
    for level in ("slide", "patient"):
        found = row(table, "pearson", level=level)
        assert (found["n"], found["n_left_out"]) == (60 - 5 - 9, 9)


def test_another_order_of_the_rows_changes_nothing():
    own, rival = regression(seed=1), regression(seed=2)
    shuffled = rival.sample(frac=1, random_state=1)
    assert compare(own, REGRESSION, rival=shuffled).equals(compare(own, REGRESSION, rival=rival))


def test_p_values_are_corrected_over_rivals_and_cohorts():
    table = compare(
        regression(seed=1), REGRESSION, a=regression(seed=2, noise=0.6), b=regression(seed=3), c=regression(seed=4)
    )
    for (level, metric, threshold), part in table.groupby(["level", "metric", "threshold"], dropna=False):
        assert len(part) == 6, (level, metric, threshold)
        assert part["p_holm"].tolist() == pytest.approx(holm(part["p"].tolist()))
        if metric == "auroc":
            assert part["p_delong_holm"].tolist() == pytest.approx(holm(part["p_delong"].tolist()))


def test_equal_models_differ_by_nothing():
    table = compare(classification(), CLASSIFICATION, twin=classification())
    assert (table[["difference", "ci_low", "ci_high"]] == 0).all(axis=None)
    assert (table["p"] == 1).all()
    assert (table.loc[table["metric"] == "auroc", "p_delong"] == 1).all()


def test_decisions_are_compared_on_slides_with_both_thresholds():
    own, rival = classification(seed=1), classification(seed=2)
    own.loc[:5, "threshold"] = np.nan
    rival.loc[50:, "threshold"] = np.nan
    table = compare(own, CLASSIFICATION, rival=rival)
    assert row(table, "balanced_accuracy")["n"] == 44
    assert row(table, "auroc")["n"] == 60
    assert row(table, "balanced_accuracy")["difference"] is not None


def classes(seed: int) -> pd.DataFrame:
    return of_classes(80, seed)


MADE = {
    "multiclass": (MULTICLASS, of_classes(80, 1)),
    "multi-regression": (several(["a", "b", "c"]), of_targets(80, ["a", "b", "c"], 1)),
    "survival-cox": ({**SURVIVAL, "cutoffs": [20]}, of_times(80, 1)),
}


@pytest.mark.parametrize("task", MADE)
def test_every_task_compares_its_metrics_with_a_worse_model(task: str):
    options, own = MADE[task]
    worse, rng = own.copy(), np.random.default_rng(5)
    for name in own.columns:
        if name.startswith(("prediction", "probability.")) and name != "prediction_sd" and own[name].dtype == float:
            worse[name] = own[name].to_numpy()[rng.permutation(len(own))]
    table = compare(own, options, worse=worse)
    assert set(table["metric"]) == set(COMPARED[task])
    assert (table["undefined_reason"] == "").all()
    main = row(table, COMPARED[task][0])
    assert main["ci_low"] > 0
    assert main["p"] < 0.05
    assert table["p_delong"].isna().all()


def test_models_of_different_classes_cannot_be_compared_and_say_so():
    own = of_classes(80, 1)
    rival = of_classes(80, 1).drop(columns=[f"probability.{CLASSES[0]}"])
    table = compare(own, MULTICLASS, rival=rival)
    assert set(table["undefined_reason"]) == {"the models know different classes"}
    assert table[["difference", "p"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("own", "rival", "reason"),
    [
        (regression(), regression().assign(slide_id=lambda t: "x" + t["slide_id"]), "no slide with a label"),
        (regression(), regression()[:0], "no slide with a label"),
        (regression(), regression().assign(prediction=1.0), "constant prediction"),
        (regression(4), regression(4, seed=1), "no interval: 2 patients"),
    ],
)
def test_what_cannot_be_compared_is_blank_and_says_why(own: pd.DataFrame, rival: pd.DataFrame, reason: str):
    found = row(compare(own, REGRESSION, rival=rival), "pearson")
    assert reason in found["undefined_reason"]
    assert pd.isna(found["p"])
    assert pd.isna(found["ci_low"])


def test_tables_are_grouped_by_model_and_their_number_is_checked():
    tables = [pd.DataFrame({"at": [i]}) for i in range(4)]
    found = predictions_by_model(tables, ["a", "b"], ["north", "south"])
    assert found["b"]["north"]["at"].item() == 2
    with pytest.raises(ValueError, match="3 tables for 2 models"):
        predictions_by_model(tables[:3], ["a", "b"], ["north", "south"])
