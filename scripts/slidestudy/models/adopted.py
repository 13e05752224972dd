"""A cohort's predictions from a file that others made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from slidestudy.errors import StudyError
from slidestudy.files import file_digest
from slidestudy.labels import target_columns
from slidestudy.prediction_files import IDS, PREDICTIONS, prediction_columns, read_predictions

FROM_FILE = "file"
"""What stands for the fold where the file names none."""
OPTIONAL = ("prediction_sd", "threshold")
"""Columns that are blank where the file has them not."""


def adopt_predictions(
    path: str | os.PathLike[str],
    settings: Mapping[str, Any],
    labels: pd.DataFrame,
    admitted: pd.DataFrame,
    cohort: str,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Takes over the predictions of a cohort's admitted slides.

    By slide where the file has `slide_id`. By patient otherwise: each of the patient's slides has the patient's
    prediction, so that rows are slides as in any model's table, and the patient's mean is what the file says. Labels
    are the study's. What is left out is printed.

    Args:
        path: The file: see `prediction_files.read_predictions`.
        settings: The model's settings: `name task target columns`.
        labels: `slide_id patient_id cohort center` and the task's columns, of all cohorts.
        admitted: The slides that can be used, `slide_id ...`.
        cohort: The cohort.

    Returns:
        The columns of PREDICTIONS, then those of several targets, classes or times; and what is to be known of the
        file: its name, SHA-256, the key it was joined by, and how many rows and slides were joined.

    Raises:
        StudyError: The file has problems.
    """
    targets = target_columns(dict(settings)) if settings["task"] == "multi-regression" else None
    found, problems = read_predictions(path, settings["task"], targets)
    if problems:
        raise StudyError.of(problems)
    key = next(name for name in IDS if name in found)
    own = labels[(labels["cohort"] == cohort) & labels["slide_id"].isin(admitted["slide_id"])]
    columns = prediction_columns(found, settings["task"], targets)
    joined = own.merge(_made(found, key, columns), on=key, how="inner").sort_values("slide_id", ignore_index=True)
    names = list(dict.fromkeys(["slide_id", "patient_id", "center", "fold", *_said(settings, columns)]))
    table = joined[[*names, *settings["columns"], *OPTIONAL]]
    first = [column for column in PREDICTIONS if column in table]
    table = table[first + [column for column in table if column not in first]]
    blank = int(joined[columns].isna().all(axis=1).sum())
    card = {
        "file": Path(path).name,
        "sha256": file_digest(path),
        "key": key,
        "rows": len(found),
        "rows_elsewhere": int((~found[key].isin(own[key])).sum()),
        "slides": len(own),
        "slides_predicted": len(table) - blank,
    }
    print(_stated(card, cohort, blank))
    return table, card


def _made(found: pd.DataFrame, key: str, columns: list[str]) -> pd.DataFrame:
    """What a file says of each slide or patient, with the columns that it may lack."""
    made = found.reindex(columns=list(dict.fromkeys([key, "fold", *columns, "prediction", *OPTIONAL])))
    return made.assign(fold=made["fold"].astype(object).fillna(FROM_FILE))


def _said(settings: Mapping[str, Any], columns: list[str]) -> list[str]:
    """The columns of a task's predictions; of several classes the class too."""
    return ["prediction", *columns] if settings["task"] == "multiclass" else columns


def _stated(card: Mapping[str, Any], cohort: str, blank: int) -> str:
    """What was joined and what not."""
    return (
        f"{cohort}: {card['slides_predicted']} of {card['slides']} admitted slides are predicted by {card['file']} "
        f"(joined by {card['key']}); {card['rows_elsewhere']} of its {card['rows']} rows are of none of this cohort's "
        f"admitted slides; {blank} joined slides have a blank prediction"
    )
