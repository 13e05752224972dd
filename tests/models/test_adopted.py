"""Predictions from a file as a model's table: joined by slide or patient, with the study's labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from slidestudy.errors import StudyError
from slidestudy.models.adopted import adopt_predictions
from slidestudy.prediction_files import PREDICTIONS
from slidestudy.validation.metrics import cohort_metrics
from slidestudy.validation.views import classes_of
from tests.validation.made_predictions import settings as validation_settings

SETTINGS: dict[str, Any] = {"name": "reader", "task": "regression", "target": "tils", "columns": ["target"]}
LABELS = pd.DataFrame({
    "slide_id": ["a1", "a2", "b1", "c1", "z1"],
    "patient_id": ["a", "a", "b", "c", "z"],
    "cohort": ["north"] * 4 + ["south"],
    "center": ["k", "k", "l", None, "m"],
    "target": [10.0, 20.0, np.nan, 30.0, 40.0],
})  # fmt: skip
ADMITTED = LABELS[["slide_id", "patient_id", "cohort"]]


def adopt(folder: Path, table: dict[str, list[Any]], admitted: pd.DataFrame = ADMITTED, **settings: Any) -> Any:
    path = folder / "theirs.tsv"
    pd.DataFrame(table).to_csv(path, sep="\t", index=False)
    return adopt_predictions(path, {**SETTINGS, **settings}, LABELS, admitted, "north")


def test_slides_are_joined_by_slide_with_the_studys_labels(tmp_path: Path, capsys: Any) -> None:
    rows = {
        "slide_id": ["c1", "a2", "z1", "x1", "b1"],
        "prediction": [3, 2, 9, 8, None],
        "fold": ["1", "0", "0", "0", "1"],
    }
    table, card = adopt(tmp_path, rows)
    assert list(table.columns) == PREDICTIONS
    assert table["slide_id"].tolist() == ["a2", "b1", "c1"]
    assert table["prediction"].tolist()[::2] == [2, 3]
    assert table["target"].tolist()[::2] == [20, 30]
    assert table["fold"].tolist() == ["0", "1", "1"]
    assert table[["prediction_sd", "threshold"]].isna().all(axis=None)
    counts = {key: card[key] for key in ("key", "rows", "rows_elsewhere", "slides", "slides_predicted")}
    assert counts == {"key": "slide_id", "rows": 5, "rows_elsewhere": 2, "slides": 4, "slides_predicted": 2}
    said = capsys.readouterr().out
    assert "north: 2 of 4 admitted slides are predicted by theirs.tsv" in said
    assert "1 joined slides have a blank prediction" in said


def test_all_slides_of_a_patient_have_the_patients_prediction(tmp_path: Path) -> None:
    rows = {"patient_id": ["a", "b"], "prediction": [7, 8], "threshold": [0.5, 0.6], "prediction_sd": [1, 2]}
    table, card = adopt(tmp_path, rows)
    assert table[["slide_id", "prediction", "threshold"]].to_numpy().tolist() == [
        ["a1", 7, 0.5], ["a2", 7, 0.5], ["b1", 8, 0.6],
    ]  # fmt: skip
    assert set(table["fold"]) == {"file"}
    assert card["key"] == "patient_id"


def test_slides_that_the_study_excluded_are_left_out(tmp_path: Path) -> None:
    rows = {"patient_id": ["a", "c"], "prediction": [7, 8]}
    table, card = adopt(tmp_path, rows, admitted=ADMITTED[1:3])
    assert table["slide_id"].tolist() == ["a2"]
    assert (card["slides"], card["slides_predicted"], card["rows_elsewhere"]) == (2, 1, 1)


def test_a_cohort_without_predictions_is_a_table_without_rows_that_can_be_measured(tmp_path: Path) -> None:
    table, card = adopt(tmp_path, {"slide_id": ["z1"], "prediction": [7]})
    assert (list(table.columns), len(table), card["slides_predicted"]) == (PREDICTIONS, 0, 0)
    found = cohort_metrics(table, validation_settings("regression"), "north", "external")
    assert found["value"].isna().all()


def test_classes_and_several_targets_have_the_columns_of_their_task(tmp_path: Path) -> None:
    rows = {"slide_id": ["a1", "c1"], "probability.x": [0.2, 0.9], "probability.y": [0.8, 0.1]}
    table, _ = adopt(tmp_path, rows, task="multiclass")
    assert table["prediction"].tolist() == ["y", "x"]
    assert classes_of(table) == ["x", "y"]
    rows = {"slide_id": ["a1", "c1"], "prediction.g": [1, 2], "prediction.h": [3, None], "prediction.i": [0, 0]}
    labels = LABELS.assign(g=1.0, h=2.0)
    path = tmp_path / "genes.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    several = {**SETTINGS, "task": "multi-regression", "target": ["g", "h"], "columns": ["g", "h"]}
    table, card = adopt_predictions(path, several, labels, ADMITTED, "north")
    assert {"prediction.g", "prediction.h", "g", "h"} <= set(table.columns)
    assert "prediction.i" not in table
    assert "prediction" not in table
    assert card["slides_predicted"] == 2


def test_a_file_that_was_spoilt_since_the_study_began_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="which is no number"):
        adopt(tmp_path, {"slide_id": ["a1"], "prediction": ["many"]})
