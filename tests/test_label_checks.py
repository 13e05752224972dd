"""Labels of every task are found in the tables, typed and checked before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.drafts import Draft, small_draft

GENES = {"task": "multi-regression", "aggregator": "mean"}
RISK = {"task": "survival-cox", "aggregator": "gated-abmil", "target": ["years", "dead"]}


@pytest.fixture
def draft(tmp_path: Path) -> Draft:
    """A study whose patients have classes, two genes and a survival."""
    draft = small_draft(tmp_path)
    draft.patients[0] += "\tsubtype\tgene_a\tgene_b\tyears\tdead"
    further = ["luminal\t0.5\t1.5\t2.5\t1", "basal\t-1\t2\t3\t0", "her2\t0\t\t1\t1", "luminal\t2\t1\t4\t0", "\t\t\t\t"]
    draft.patients[1:] = [f"{row}\t{more}" for row, more in zip(draft.patients[1:], further, strict=True)]
    return draft


def use(draft: Draft, **model: Any) -> Draft:
    """The draft with one more model."""
    draft.config["models"]["new"] = {"encoder": "stain-texture", "folds": 3, **model}
    return draft


def test_classes_are_text_and_may_be_blank(draft: Draft) -> None:
    labels = use(draft, task="multiclass", aggregator="mean", target="subtype").load().labels("new")
    assert labels["target"].fillna("").tolist() == ["luminal", "basal", "her2", "luminal", "luminal", ""]


def test_classes_that_another_model_takes_for_numbers_stay_numbers_for_it(draft: Draft) -> None:
    study = use(draft, task="multiclass", aggregator="mean", target="mucinous").load()
    assert study.labels("mucin")["target"].tolist() == [1, 0, 1, 0, 1, 0]
    assert study.config["models"]["new"]["columns"] == ["target"]


def test_several_targets_are_named_by_wildcards_in_the_order_of_the_tables(draft: Draft) -> None:
    study = use(draft, **GENES, target=["gene_*"]).load()
    assert study.config["models"]["new"]["target"] == ["gene_a", "gene_b"]
    labels = study.labels("new")
    assert list(labels.columns) == ["slide_id", "patient_id", "cohort", "center", "gene_a", "gene_b"]
    assert labels["gene_a"].iloc[:4].tolist() == [0.5, -1, 0, 2]
    assert len(study.labelled("new")) == 5


def test_time_and_event_come_from_the_columns_that_the_study_names(draft: Draft) -> None:
    study = use(draft, **RISK).load()
    assert study.config["models"]["new"]["columns"] == ["time", "event"]
    assert study.labels("new")[["time", "event"]].iloc[0].tolist() == [2.5, 1]
    assert len(study.labelled("new")) == 5


def test_a_regression_without_bounds_takes_any_number(draft: Draft) -> None:
    study = use(draft, task="regression", aggregator="mean", target="gene_a", target_range=None).load()
    assert study.config["models"]["new"]["target_range"] is None
    assert study.labels("new")["target"].min() == -1


def test_covariates_stand_behind_the_labels(draft: Draft) -> None:
    labels = use(draft, **RISK, covariates=["age"]).load().labels("new")
    assert labels.columns.tolist()[-3:] == ["time", "event", "age"]
    assert isinstance(labels, pd.DataFrame)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({**GENES, "target": ["gene_*", "protein_*"]}, "new.target: no table has a column 'protein_*'"),
        ({**GENES, "target": ["gene_a"]}, "new.target: the task multi-regression needs two columns at least"),
        ({**RISK, "target": "years"}, "new.target: the task survival-cox needs two columns"),
        ({**RISK, "target": ["years", "daed"]}, "new.target: no table has a column 'daed'"),
        ({**RISK, "target_range": [0, 1]}, "new.target_range: the task survival-cox has no range"),
        ({**RISK, "aggregator": "ectil"}, "new.task: the aggregator ectil cannot do survival-cox"),
        (
            {"task": "regression", "aggregator": "ectil", "target": "gene_a", "target_range": None},
            "new.task: the aggregator ectil cannot do a regression without bounds",
        ),
        (
            {"task": "multiclass", "aggregator": "mean", "target": ["subtype", "tils"]},
            "new.target: the task multiclass has one label column, not a list",
        ),
        (
            {**RISK, "covariates": ["age", "years"]},
            "new.covariates: years would be both label and covariate",
        ),
    ],
)
def test_a_target_that_does_not_go_with_the_task_is_told(draft: Draft, model: dict[str, Any], said: str) -> None:
    assert f"key models.{said}" in use(draft, **model).message()


@pytest.mark.parametrize(
    ("column", "value", "model", "said"),
    [
        ("dead", "2", RISK, "column dead: 'dead' is '2', which is none of 0, 1"),
        ("years", "-1", RISK, "column years: 'years' is '-1.0', which is below 0"),
        ("gene_a", "high", {**GENES, "target": ["gene_*"]}, "column gene_a: 'gene_a' is 'high', which is not a number"),
    ],
)
def test_a_label_of_the_wrong_kind_is_named_by_line_and_column(
    draft: Draft, column: str, value: str, model: dict[str, Any], said: str
) -> None:
    cells = draft.patients[1].split("\t")
    cells[draft.patients[0].split("\t").index(column)] = value
    draft.patients[1] = "\t".join(cells)
    assert f"patients.tsv, line 2, {said}" in use(draft, **model).message()


@pytest.mark.parametrize(
    ("column", "values", "model", "said"),
    [
        ("dead", ["0"] * 4, RISK, "new.target: no patient of the development cohorts has an event"),
        (
            "subtype",
            ["basal"] * 4,
            {"task": "multiclass", "aggregator": "mean", "target": "subtype"},
            "new.target: 'subtype' has one class only in the development cohorts",
        ),
        (
            "gene_b",
            ["7"] * 4,
            {**GENES, "target": ["gene_*"]},
            "new.target: 'gene_b' has the same value in all slides of the development cohorts",
        ),
    ],
)
def test_labels_that_teach_nothing_are_named(
    draft: Draft, column: str, values: list[str], model: dict[str, Any], said: str
) -> None:
    place = draft.patients[0].split("\t").index(column)
    for row, value in enumerate(values, 1):
        cells = draft.patients[row].split("\t")
        cells[place] = value
        draft.patients[row] = "\t".join(cells)
    assert f"key models.{said}" in use(draft, **model).message()


def test_a_target_named_like_a_column_of_the_predictions_is_refused(draft: Draft) -> None:
    draft.patients[0] = draft.patients[0].replace("gene_b", "threshold")
    said = use(draft, **GENES, target=["gene_a", "threshold"]).message()
    assert "key models.new.target: a target cannot be named threshold" in said
