"""Metrics of classes, of several targets and of survival, against scikit-learn, scipy and training's own C."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sk
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
from slidestudy.censoring_statistics import case_weights, integrated_brier, unos_c
from slidestudy.models.survival import concordance_index
from slidestudy.tables import load_table, write_table
from slidestudy.validation.measuring import CONTINUOUS
from slidestudy.validation.metrics import COLUMNS, MAIN_METRIC, SUMMARIES, cohort_metrics

GENES = ("A", "B", "C")


def measured(table: pd.DataFrame, options: dict) -> pd.DataFrame:
    return cohort_metrics(table, options, "north", "external")


def row(found: pd.DataFrame, metric: str, target: str = "", level: str = "slide", threshold=None) -> pd.Series:
    chosen = found[(found["metric"] == metric) & (found["level"] == level) & (found["target"] == target)]
    chosen = chosen[chosen["threshold"].isna()] if threshold is None else chosen[chosen["threshold"] == threshold]
    assert len(chosen) == 1
    return chosen.iloc[0]


EXAMPLES = {
    "regression": (ids(20).assign(prediction=np.arange(20.0), target=np.arange(20.0) % 7), settings("regression")),
    "classification": (ids(20).assign(prediction=np.arange(20.0), target=[0.0, 1] * 10), settings("classification")),
    "multiclass": (of_classes(30), MULTICLASS),
    "multi-regression": (of_targets(30, GENES), several(GENES)),
    "survival-cox": (of_times(30), SURVIVAL),
    "survival-discrete": (of_times(30), {**SURVIVAL, "task": "survival-discrete"}),
}


@pytest.mark.parametrize("task", MAIN_METRIC)
def test_every_task_has_its_headline_metric_once_for_each_level(task):
    found = measured(*EXAMPLES[task])
    assert list(found.columns) == COLUMNS
    for level in ("slide", "patient"):
        headline = row(found, MAIN_METRIC[task], level=level)
        assert headline["ci_low"] <= headline["value"] <= headline["ci_high"]


@pytest.mark.parametrize("task", MAIN_METRIC)
def test_without_labels_every_row_says_so(task):
    table, options = EXAMPLES[task]
    blank = table.assign(**dict.fromkeys(options["columns"], np.nan))
    for part in (blank, table[:0]):
        found = measured(part, options)
        assert found["value"].isna().all()
        assert set(found["undefined_reason"]) == {"no rows"}
        assert set(found["n"]) == {0}


@pytest.mark.parametrize("task", MAIN_METRIC)
def test_a_table_that_was_written_is_read_back_alike(task, tmp_path):
    found = measured(*EXAMPLES[task])
    write_table(tmp_path / "m.tsv", found)
    again = load_table(tmp_path / "m.tsv")
    assert again["target"].tolist() == found["target"].tolist()
    assert again["value"].tolist() == found["value"].tolist()


def test_classes_are_measured_as_scikit_learn_does():
    table = of_classes(80)
    found = measured(table, MULTICLASS)
    probabilities = table[[f"probability.{name}" for name in CLASSES]].to_numpy()
    macro = sk.roc_auc_score(table["target"], probabilities, multi_class="ovr", average="macro", labels=list(CLASSES))
    assert row(found, "auroc_macro")["value"] == pytest.approx(macro)
    assert row(found, "balanced_accuracy")["value"] == pytest.approx(
        sk.balanced_accuracy_score(table["target"], table["prediction"])
    )
    each = [sk.average_precision_score(table["target"] == c, table[f"probability.{c}"]) for c in CLASSES]
    assert row(found, "average_precision_macro")["value"] == pytest.approx(np.mean(each))
    for name, value in zip(CLASSES, each, strict=True):
        assert row(found, "average_precision", name)["value"] == pytest.approx(value)
        assert row(found, "auroc", name)["n_positive"] == (table["target"] == name).sum()
    assert row(found, "auroc_macro")["n_targets"] == 3


def test_each_class_is_decided_by_the_most_probable_one_and_its_probabilities_are_judged():
    table = of_classes(80)
    found = measured(table, MULTICLASS)
    for name in CLASSES:
        truth, said = table["target"] == name, table["prediction"] == name
        assert row(found, "sensitivity", name)["value"] == pytest.approx(sk.recall_score(truth, said))
        assert row(found, "specificity", name)["value"] == pytest.approx(sk.recall_score(~truth, ~said))
        assert row(found, "ppv", name)["value"] == pytest.approx(sk.precision_score(truth, said))
        assert row(found, "f1", name)["value"] == pytest.approx(sk.f1_score(truth, said))
        assert row(found, "f1", name)["n_positive"] == truth.sum()
        brier = sk.brier_score_loss(truth, table[f"probability.{name}"])
        assert row(found, "brier", name)["value"] == pytest.approx(brier)


def test_balanced_accuracy_over_weights_is_that_of_repeated_rows():
    rng = np.random.default_rng(1)
    truth, predicted = rng.integers(0, 3, 30).astype(float), rng.integers(0, 4, 30).astype(float)
    weights = rng.integers(0, 3, (5, 30)).astype(float)
    for value, drawn in zip(statistics.balanced_accuracy(truth, predicted, weights), weights, strict=True):
        again = np.repeat(np.arange(30), drawn.astype(int))
        y, p = truth[again], predicted[again]
        assert value == pytest.approx(np.mean([np.mean(p[y == c] == c) for c in np.unique(y)]))
    assert np.isnan(statistics.balanced_accuracy(np.zeros(4), np.zeros(4), np.ones((1, 4))))[0]


def test_a_class_that_is_not_there_is_left_out_of_the_mean_and_counted():
    table = of_classes(60)
    table = table[table["target"] != "normal"]
    found = measured(table, MULTICLASS)
    assert row(found, "auroc", "normal")["undefined_reason"] == "one class only"
    macro, there = row(found, "auroc_macro"), [row(found, "auroc", c)["value"] for c in ("adenoma", "carcinoma")]
    assert (macro["n_targets"], macro["value"]) == (2, pytest.approx(np.mean(there)))


def test_a_class_that_the_model_does_not_know_is_always_missed():
    table = of_classes(60).replace({"target": {"normal": "lymphoma"}})
    found = measured(table, MULTICLASS)
    recalls = [(table.loc[table["target"] == c, "prediction"] == c).mean() for c in ("adenoma", "carcinoma")]
    assert row(found, "balanced_accuracy")["value"] == pytest.approx(np.mean([*recalls, 0]))
    assert row(found, "auroc", "normal")["undefined_reason"] == "one class only"


def test_a_patients_class_is_that_of_the_highest_mean_probability(capsys):
    table = of_classes(60, per_patient=2)
    table.loc[0, "target"] = next(c for c in CLASSES if c != table.loc[1, "target"])
    found = measured(table, MULTICLASS)
    clear = table[table["patient_id"] != "s-p000"]
    means = clear.groupby("patient_id")[[f"probability.{c}" for c in CLASSES]].mean()
    truth = clear.groupby("patient_id")["target"].first()
    predicted = [CLASSES[k] for k in means.to_numpy().argmax(1)]
    per_patient = row(found, "balanced_accuracy", level="patient")
    assert per_patient["value"] == pytest.approx(sk.balanced_accuracy_score(truth, predicted))
    assert (per_patient["n"], row(found, "balanced_accuracy")["n"]) == (29, 60)
    assert "north: left out at patient level, as their slides have different labels: s-p000" in capsys.readouterr().out


def test_every_target_has_the_metrics_of_a_regression_and_the_means_are_over_targets():
    table = of_targets(50, GENES)
    found = measured(table, several(GENES))
    for gene in GENES:
        alone = table.rename(columns={gene: "target", f"prediction.{gene}": "prediction"})
        expected = measured(alone, settings("regression"))
        for metric in CONTINUOUS:
            for level in ("slide", "patient"):
                keys = ["value", "ci_low", "ci_high", "n", "n_patients"]
                of_gene, single = row(found, metric, gene, level), row(expected, metric, level=level)
                assert of_gene[keys].tolist() == pytest.approx(single[keys].tolist())
    for metric, reference in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        values = [reference(table[g], table[f"prediction.{g}"]).statistic for g in GENES]
        assert row(found, f"{metric}_mean")["value"] == pytest.approx(np.mean(values))
    explained = [sk.explained_variance_score(table[g], table[f"prediction.{g}"]) for g in GENES]
    assert row(found, "explained_variance_mean")["value"] == pytest.approx(np.mean(explained))


def test_targets_that_are_missing_or_constant_are_left_out_of_the_means():
    table = of_targets(40, GENES)
    table.loc[:9, "A"] = np.nan
    table["C"] = 2.0
    found = measured(table, several(GENES))
    assert row(found, "pearson", "C")["undefined_reason"] == "constant target"
    mean = row(found, "pearson_mean")
    assert mean["value"] == pytest.approx(np.mean([row(found, "pearson", g)["value"] for g in "AB"]))
    assert (mean["n_targets"], mean["n"], row(found, "pearson", "A")["n"]) == (2, 40, 30)


def test_a_mean_is_bootstrapped_on_the_same_patients_for_all_targets():
    """Targets that are copies of one another have a mean that is as uncertain as each of them."""
    one = of_targets(60, ["A"])
    copies = one.assign(
        **{name: one[f"{prefix}A"] for g in "BCD" for prefix, name in (("", g), ("prediction.", f"prediction.{g}"))}
    )
    found = measured(copies, several(list("ABCD"), bootstrap=500))
    single, mean = row(found, "pearson", "A"), row(found, "pearson_mean")
    assert mean["ci_high"] - mean["ci_low"] == pytest.approx(single["ci_high"] - single["ci_low"])


def test_an_interval_of_a_mean_over_many_targets_contains_its_value():
    genes = [f"G{i}" for i in range(150)]
    found = measured(of_targets(30, genes), several(genes, bootstrap=200))
    for name in SUMMARIES["multi-regression"].values():
        mean = row(found, name)
        assert mean["ci_low"] < mean["value"] < mean["ci_high"] <= 1


def test_survival_is_measured_by_the_c_of_training_and_by_auroc_at_times():
    table = of_times(60)
    found = measured(table, {**SURVIVAL, "cutoffs": [20]})
    columns = [table[name].to_numpy() for name in ("time", "event", "prediction")]
    index = row(found, "c_index")
    assert index["value"] == pytest.approx(concordance_index(*columns))
    assert (index["n"], index["n_positive"]) == (60, table["event"].sum())
    known = table[(table["time"] >= 20) | (table["event"] == 1)]
    by_then = (known["time"] <= 20) & (known["event"] == 1)
    at = row(found, "auroc", threshold=20)
    followed = case_weights(table["time"].to_numpy(), table["event"].to_numpy(), 20)[known.index]
    weighted = sk.roc_auc_score(by_then, known["prediction"], sample_weight=followed)
    assert at["value"] == pytest.approx(weighted)
    assert at["value"] != pytest.approx(sk.roc_auc_score(by_then, known["prediction"]))
    uno = row(found, "c_index_uno", threshold=20)
    expected = unos_c(table["event"], 20)(table["time"].to_numpy(), table["prediction"].to_numpy(), np.ones((1, 60)))
    assert uno["value"] == pytest.approx(expected[0])
    assert (uno["n"], uno["n_positive"]) == (60, table["event"].sum())
    assert (at["n"], at["n_positive"]) == (len(known), by_then.sum())
    assert at["n"] < 60


def test_survival_curves_have_an_integrated_brier_score():
    table = of_times(60, per_patient=2)
    curves = {f"survival.{t}": np.exp(-np.exp(table["prediction"]) * t / 30) for t in (8, 20, 500)}
    options = {**SURVIVAL, "task": "survival-discrete"}
    found = measured(table.assign(**curves), options)
    # The last time is beyond the follow-up.
    score = row(found, "integrated_brier", threshold=20)
    survival = np.column_stack(list(curves.values()))
    columns = [table[name].to_numpy() for name in ("time", "prediction")]
    expected = integrated_brier(table["event"], survival, [8, 20, 500])(*columns, np.ones((1, 60)))[0]
    assert score["value"] == pytest.approx(expected)
    assert 0 < score["ci_low"] < score["value"] < score["ci_high"] < 0.5
    assert row(found, "integrated_brier", level="patient", threshold=20)["n"] == 30
    one = measured(table.assign(**{"survival.8": curves["survival.8"]}), options)
    assert "fewer than two times" in row(one, "integrated_brier", threshold=8)["undefined_reason"]
    assert "integrated_brier" not in set(measured(table, options)["metric"])


def test_a_patients_risk_is_the_mean_of_the_slides():
    table = of_times(60, per_patient=2)
    found = measured(table, SURVIVAL)
    patients = table.groupby("patient_id")[["time", "event", "prediction"]].mean()
    expected = concordance_index(*[patients[name].to_numpy() for name in patients])
    assert row(found, "c_index", level="patient")["value"] == pytest.approx(expected)
    assert row(found, "c_index", level="patient")["n"] == 30


def test_survival_without_an_event_is_undefined_with_its_reason():
    found = measured(of_times(10).assign(event=0.0), {**SURVIVAL, "cutoffs": [0]})
    assert row(found, "c_index")["undefined_reason"] == "no event before another patient's time"
    assert row(found, "auroc", threshold=0)["undefined_reason"] == "one class only"


def test_bootstrap_samples_are_those_of_whole_patients():
    """Every slide twice, under the same patient, leaves value and interval of the C-index as they are."""
    table = of_times(40)
    doubled = pd.concat([table, table.assign(slide_id=table["slide_id"] + "b")], ignore_index=True)
    once, twice = (row(measured(part, SURVIVAL), "c_index") for part in (table, doubled))
    for key in ("value", "ci_low", "ci_high", "n_patients"):
        assert once[key] == pytest.approx(twice[key])
