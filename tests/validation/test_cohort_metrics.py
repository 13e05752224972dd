"""Metrics of a cohort: what each row counts, where a value is undefined, and the published figures of ECTIL."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from slidestudy.binary_statistics import DECISIONS
from slidestudy.validation.measuring import BINARY, CONTINUOUS, DELONG, NO_THRESHOLD, PROBABILITIES
from slidestudy.validation.metrics import COLUMNS, cohort_metrics
from slidestudy.validation.views import positives, views

REGRESSION = {
    "task": "regression",
    "target": "tils",
    "cutoffs": [10, 30],
    "cutoff_rule": ">",
    "bootstrap": 200,
    "confidence": 0.95,
    "seed": 1,
}
CLASSIFICATION = {**REGRESSION, "task": "classification", "target": "mucinous"}


def table(targets, predictions, patients=None) -> pd.DataFrame:
    """Predictions of a cohort, one slide per patient unless patients are given."""
    n = len(targets)
    patients = [f"p{i}" for i in range(n)] if patients is None else patients
    columns = {"slide_id": [f"s{i}" for i in range(n)], "patient_id": patients, "fold": "ensemble"}
    return pd.DataFrame({**columns, "prediction": np.asarray(predictions, float), "target": np.asarray(targets, float)})


def noisy(n: int = 60, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    targets = rng.uniform(0, 80, n).round()
    return table(targets, targets + rng.normal(0, 15, n))


def row(found: pd.DataFrame, metric: str, threshold: float | None = None, level: str = "slide") -> pd.Series:
    chosen = found[(found["metric"] == metric) & (found["level"] == level)]
    chosen = chosen[chosen["threshold"].isna()] if threshold is None else chosen[chosen["threshold"] == threshold]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_every_metric_has_a_row_at_slide_and_patient_level():
    found = cohort_metrics(noisy(), REGRESSION, "north", "external")
    assert list(found.columns) == COLUMNS
    wanted = [(m, None) for m in CONTINUOUS] + [(m, c) for c in (10, 30) for m in [*BINARY, DELONG, *DECISIONS]]
    assert len(found) == 2 * len(wanted)
    for level in ("slide", "patient"):
        for metric, cutoff in wanted:
            assert row(found, metric, cutoff, level)["cohort"] == "north"
    assert set(found["role"]) == {"external"}
    assert found[found["metric"].isin(list(CONTINUOUS))]["n_positive"].isna().all()


def test_a_classifier_has_no_continuous_metrics_and_no_cutoffs():
    predictions = table([0, 1] * 10, np.linspace(0, 1, 20))
    found = cohort_metrics(predictions, CLASSIFICATION, "north", "development")
    assert set(found["metric"]) == {*BINARY, DELONG, *PROBABILITIES}
    assert found["threshold"].isna().all()
    assert row(found, "auroc")["n_positive"] == 10


def decided(found: pd.DataFrame, level: str = "slide") -> pd.DataFrame:
    """The rows of decisions, by metric."""
    return found[found["metric"].isin(list(DECISIONS)) & (found["level"] == level)].set_index("metric")


def test_a_classification_is_decided_by_each_slides_own_frozen_threshold():
    predictions = table([0, 1, 1, 0, 1, 0], [0.2, 0.3, 0.7, 0.6, 0.4, 0.1]).assign(
        threshold=[0.3, 0.3, 0.65, 0.65, 0.65, 0.3]
    )
    found = decided(cohort_metrics(predictions, CLASSIFICATION, "c", "development"))
    # From the threshold on it is positive: 0 1 1 0 0 0 against 0 1 1 0 1 0.
    expected = {"sensitivity": 2 / 3, "specificity": 1, "ppv": 1, "npv": 3 / 4, "f1": 0.8, "accuracy": 5 / 6}
    for metric, value in {**expected, "balanced_accuracy": 5 / 6}.items():
        assert found.loc[metric, "value"] == pytest.approx(value)
    assert found["threshold"].tolist() == pytest.approx([0.475] * len(DECISIONS))
    assert set(found["n_positive"]) == {3}


def test_a_patient_is_decided_by_the_means_of_predictions_and_thresholds():
    predictions = table([1, 1, 0, 0, 1], [0.2, 0.6, 0.5, 0.1, 0.9], ["a", "a", "b", "c", "d"])
    found = decided(cohort_metrics(predictions.assign(threshold=0.4), CLASSIFICATION, "c", "external"), "patient")
    # Patient a is at exactly 0.4 and so positive; b is a false positive.
    assert found["value"].round(6).to_dict() == {
        "sensitivity": 1, "specificity": 0.5, "ppv": 0.666667, "npv": 1, "f1": 0.8,
        "balanced_accuracy": 0.75, "accuracy": 0.75,
    }  # fmt: skip
    assert set(found["n"]) == {4}


def test_slides_without_a_threshold_are_not_decided():
    predictions = table([0, 1, 1, 0], [0.2, 0.3, 0.7, 0.6])
    some = decided(
        cohort_metrics(predictions.assign(threshold=[np.nan, 0.5, 0.5, 0.5]), CLASSIFICATION, "c", "external")
    )
    assert set(some["n"]) == {3}
    assert some.loc["sensitivity", "value"] == pytest.approx(0.5)
    none = cohort_metrics(predictions.assign(threshold=np.nan), CLASSIFICATION, "c", "external")
    assert decided(none)["value"].isna().all()
    assert set(decided(none)["undefined_reason"]) == {NO_THRESHOLD}
    assert row(none, "auroc")["n"] == 4


def test_what_a_decision_cannot_tell_is_blank_with_its_reason():
    predictions = table([1, 1, 1], [0.1, 0.2, 0.3]).assign(threshold=0.5)
    found = decided(cohort_metrics(predictions, CLASSIFICATION, "c", "external"))
    reasons = found["undefined_reason"].to_dict()
    assert reasons["specificity"] == "no negatives"
    assert reasons["ppv"] == "none predicted positive"
    assert reasons["balanced_accuracy"] == "one class only"
    assert found.loc["specificity", ["value", "ci_low"]].isna().all()
    assert found.loc[["sensitivity", "accuracy"], "value"].tolist() == [0, 0]


@pytest.mark.parametrize(("rule", "counts"), [(">", (1, 2)), (">=", (3, 4))])
def test_a_regression_is_decided_by_the_cutoff_of_its_label(rule, counts):
    """Positive labels, and those predicted positive, by each rule."""
    predictions = table([10, 30, 30, 50], [30.0, 31, 30, 90])
    found = cohort_metrics(predictions, {**REGRESSION, "cutoffs": [30], "cutoff_rule": rule}, "c", "external")
    positive, called = counts
    assert row(found, "sensitivity", 30)["n_positive"] == positive
    assert row(found, "sensitivity", 30)["value"] == 1
    assert row(found, "ppv", 30)["value"] == pytest.approx(positive / called)


def test_bca_intervals_are_other_intervals_of_the_same_values():
    plain, corrected = (
        cohort_metrics(noisy(), {**REGRESSION, "interval": kind}, "c", "external") for kind in ("percentile", "bca")
    )
    pd.testing.assert_series_equal(plain["value"], corrected["value"])
    pd.testing.assert_frame_equal(plain, cohort_metrics(noisy(), REGRESSION, "c", "external"))
    for metric in ("pearson", "ccc", "mse"):
        ends = [row(found, metric)[["ci_low", "ci_high"]].astype(float).tolist() for found in (plain, corrected)]
        assert ends[0] != pytest.approx(ends[1], rel=1e-3)
    shown = [row(found, DELONG, 30)["ci_low"] for found in (plain, corrected)]
    assert shown[0] == shown[1]


def test_delongs_interval_is_beside_the_bootstraps_for_the_same_area():
    found = cohort_metrics(noisy(), REGRESSION, "c", "external")
    area, analytic = row(found, "auroc", 30), row(found, DELONG, 30)
    assert analytic["value"] == pytest.approx(area["value"])
    assert analytic["ci_low"] < area["value"] < analytic["ci_high"]
    assert abs(analytic["ci_low"] - area["ci_low"]) < 0.05


def test_the_rules_differ_at_exactly_the_cutoff():
    predictions = table([10, 30, 30, 30, 50, 70], [1, 2, 3, 4, 5, 6])
    counts = {
        rule: row(cohort_metrics(predictions, {**REGRESSION, "cutoff_rule": rule}, "c", "external"), "auroc", 30)
        for rule in (">", ">=")
    }
    assert counts[">"]["n_positive"] == 2
    assert counts[">="]["n_positive"] == 5


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.7])
def test_a_fraction_times_a_hundred_counts_as_the_round_number(fraction):
    target = pd.Series([fraction * 100])
    assert not positives(target, round(fraction * 100), ">").item()
    assert positives(target, round(fraction * 100), ">=").item()


def test_a_cutoff_with_one_class_is_undefined_with_its_reason():
    found = cohort_metrics(table([11, 12, 20, 29], [1, 3, 2, 4]), REGRESSION, "c", "external")
    for metric in BINARY:
        for cutoff, count in ((10, 4), (30, 0)):
            undefined = row(found, metric, cutoff)
            assert pd.isna(undefined["value"])
            assert pd.isna(undefined["ci_low"])
            assert undefined["undefined_reason"] == "one class only"
            assert undefined["n_positive"] == count
    assert row(found, "pearson")["undefined_reason"] == ""


def test_slides_without_a_label_are_left_out():
    predictions = noisy(20)
    predictions.loc[:4, "target"] = np.nan
    found = cohort_metrics(predictions, REGRESSION, "c", "external")
    pd.testing.assert_frame_equal(found, cohort_metrics(predictions[5:], REGRESSION, "c", "external"))
    assert set(found["n"]) == {15}


@pytest.mark.parametrize("settings_", [REGRESSION, CLASSIFICATION])
def test_a_cohort_without_labels_has_rows_that_say_so(settings_):
    predictions = noisy(5).assign(target=np.nan)
    found = cohort_metrics(predictions, settings_, "c", "external")
    assert found["value"].isna().all()
    assert set(found["undefined_reason"]) == {"no rows"}
    assert set(found["n"]) == set(found["n_patients"]) == {0}


def test_a_patients_slides_are_averaged_at_patient_level():
    predictions = table([10, 20, 60, 60], [0, 40, 50, 70], ["a", "a", "b", "c"])
    assert views(predictions, REGRESSION)[0].per_patient().table.to_dict("records") == [
        {"patient_id": "a", "truth": 15.0, "prediction": 20.0},
        {"patient_id": "b", "truth": 60.0, "prediction": 50.0},
        {"patient_id": "c", "truth": 60.0, "prediction": 70.0},
    ]
    found = cohort_metrics(predictions, REGRESSION, "c", "external")
    assert row(found, "mae")["value"] == pytest.approx((10 + 20 + 10 + 10) / 4)
    assert row(found, "mae", level="patient")["value"] == pytest.approx((5 + 10 + 10) / 3)
    assert (row(found, "mae")["n"], row(found, "mae", level="patient")["n"]) == (4, 3)
    assert row(found, "mae")["n_patients"] == row(found, "mae", level="patient")["n_patients"] == 3


def test_with_one_slide_per_patient_both_levels_agree():
    found = cohort_metrics(noisy(), REGRESSION, "c", "external")
    for metric in CONTINUOUS:
        slide, patient = row(found, metric), row(found, metric, level="patient")
        assert slide["value"] == pytest.approx(patient["value"])


def test_a_perfect_predictor_reaches_every_limit():
    targets = noisy()["target"]
    found = cohort_metrics(table(targets, targets), REGRESSION, "c", "external")
    for metric, limit in {"pearson": 1, "spearman": 1, "ccc": 1, "mse": 0, "mae": 0}.items():
        perfect = row(found, metric)
        assert [perfect["value"], perfect["ci_low"], perfect["ci_high"]] == pytest.approx([limit] * 3, abs=1e-9)
    for metric in BINARY:
        assert row(found, metric, 30)["value"] == pytest.approx(1)


def test_an_inverted_predictor_reaches_the_other_limits():
    targets = noisy()["target"]
    found = cohort_metrics(table(targets, 80 - targets), REGRESSION, "c", "external")
    for metric in ("pearson", "spearman"):
        assert row(found, metric)["value"] == pytest.approx(-1)
    assert row(found, "auroc", 30)["value"] == pytest.approx(0, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(25, 80))
def test_intervals_contain_their_value(seed, n):
    found = cohort_metrics(noisy(n, seed), REGRESSION, "c", "external")
    given_ = found[found["ci_low"].notna()]
    assert len(given_) >= 2 * len(CONTINUOUS)
    assert (given_["ci_low"] <= given_["ci_high"]).all()
    # The bootstrap of a concordance or an AUROC near 1 is skewed, never by as much as its own width.
    width = given_["ci_high"] - given_["ci_low"]
    assert (given_["ci_low"] - width <= given_["value"]).all()
    assert (given_["value"] <= given_["ci_high"] + width).all()
    central = given_[given_["metric"].isin(["pearson", "mae", "mse"])]
    assert central["value"].between(central["ci_low"], central["ci_high"]).all()


def test_a_wider_confidence_gives_a_wider_interval():
    widths = []
    for confidence in (0.5, 0.95):
        found = row(cohort_metrics(noisy(), {**REGRESSION, "confidence": confidence}, "c", "external"), "pearson")
        widths.append(found["ci_high"] - found["ci_low"])
    assert widths[0] < widths[1] / 1.5


def test_a_seed_gives_the_same_intervals():
    first, second = (cohort_metrics(noisy(), REGRESSION, "c", "external") for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    other = cohort_metrics(noisy(), {**REGRESSION, "seed": 2}, "c", "external")
    assert first["value"].equals(other["value"])
    assert not first["ci_low"].equals(other["ci_low"])


def test_scores_of_slides_are_compared_with_labels_of_the_same_slides():
    """Values against scikit-learn on the rows as they stand."""
    predictions = noisy(50, 3)
    found = cohort_metrics(predictions, REGRESSION, "c", "external")
    label = predictions["target"] > 30
    assert row(found, "auroc", 30)["value"] == pytest.approx(sk.roc_auc_score(label, predictions["prediction"]))
    expected = sk.average_precision_score(label, predictions["prediction"])
    assert row(found, "average_precision", 30)["value"] == pytest.approx(expected)


@pytest.mark.shared
def test_the_published_ectil_predictions_give_the_published_figures(shared):
    files = sorted((shared / "ectil_tcga").glob("slide-level-output_test_fold_*.csv"))
    published = pd.concat([pd.read_csv(file) for file in files], ignore_index=True)
    patients = published["h5_paths"].str.extract(r"(TCGA-\w\w-\w{4})")[0].tolist()
    predictions = table(100 * published["targets"], 100 * published["preds"], patients)
    found = cohort_metrics(predictions, {**REGRESSION, "cutoffs": [10, 30, 50, 75]}, "tcga", "development")
    expected = {"pearson": 0.6127115, "spearman": 0.6304756, "ccc": 0.5526924, "mse": 238.204346}
    for metric, value in expected.items():
        assert row(found, metric)["value"] == pytest.approx(value, rel=1e-6)
    for cutoff, auroc, precision in [
        (10, 0.8230075, 0.8330420),
        (30, 0.8424481, 0.5706637),
        (50, 0.8209427, 0.3063093),
        (75, 0.8876081, 0.1785689),
    ]:
        assert row(found, "auroc", cutoff)["value"] == pytest.approx(auroc, rel=1e-6)
        assert row(found, "average_precision", cutoff)["value"] == pytest.approx(precision, rel=1e-6)
    assert row(found, "pearson")[["n", "n_patients"]].tolist() == [356, 342]
    inclusive = cohort_metrics(predictions, {**REGRESSION, "cutoff_rule": ">="}, "tcga", "development")
    # So many slides sit at exactly the cut-off.
    for cutoff, count in ((10, 42), (30, 26)):
        difference = row(inclusive, "auroc", cutoff)["n_positive"] - row(found, "auroc", cutoff)["n_positive"]
        assert difference == count
