"""The labels of predictions from outside a study: what is asked for, where they stand, and whether they agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from slidestudy.errors import Problem
from slidestudy.label_checks import TAKEN
from slidestudy.labels import is_labelled, label_columns
from slidestudy.prediction_files import SEVERAL, between, capped, numbers, prediction_columns
from slidestudy.tables import did_you_mean

LABELS = {"regression": 1, "classification": 1, "multiclass": 1, "survival-cox": 2}
"""Task -> how many label columns it has."""


@dataclass(frozen=True)
class Outside:
    """What is to be validated.

    Attributes:
        predictions: The file of predictions: `prediction_files.read_predictions`, with `patient_id`, and optionally
            `cohort` and labels of its own (`target`, of survival `time` and `event`, of several numbers their names).
        patients: The file of patients: `patient_id` and labels.
        task: The task.
        targets: The label columns of the patients; empty for those of the task's own names.
        span: Lowest and highest possible label of a regression, or None.
        development: Cohorts whose predictions are cross-validated; the others are external.
    """

    predictions: Path
    patients: Path
    task: str
    targets: tuple[str, ...] = ()
    span: tuple[float, float] | None = None
    development: tuple[str, ...] = ()

    @property
    def several(self) -> tuple[str, ...] | None:
        """The targets of a model of several numbers, where they are named."""
        return self.targets or None if self.task == "multi-regression" else None


@dataclass(frozen=True)
class Labels:
    """The labels of a table of predictions.

    Attributes:
        table: A row for each prediction, the columns as in a model's table.
        sources: Column of the table -> column of the patients.
        once: The row of each patient that counts.
        notes: What the user should know.
    """

    table: pd.DataFrame
    sources: dict[str, str]
    once: pd.Index
    notes: list[str]


def join_labels(predictions: pd.DataFrame, patients: pd.DataFrame, request: Outside) -> tuple[Labels, list[Problem]]:
    """The labels of predictions: their own, or those of their patients.

    Args:
        predictions: Every column but that of the predictions as text, `patient_id` among them.
        patients: Every cell as text, `patient_id` among the columns.
        request: What is asked for.

    Returns:
        The labels, and all problems; with problems the labels must not be used.
    """
    columns = columns_of(predictions, request)
    sources = dict(zip(columns, request.targets or columns, strict=True))
    problems = absent_labels(predictions, patients, sources, request)
    mine = {name: name for name in columns if name in predictions}
    own, found = read_labels(predictions, mine, request.predictions, request)
    problems += found
    named = {column: source for column, source in sources.items() if source in patients}
    theirs, found = read_labels(patients, named, request.patients, request)
    problems += found
    once, found, notes = each_once(patients, theirs, request.patients)
    problems += found
    by_patient = theirs.loc[once].set_axis(patients.loc[once, "patient_id"])
    table, found = merge_labels(predictions, own, by_patient, columns, request)
    problems += found
    if not problems and not is_labelled(table, request.task, columns).any():
        remedy = f"look at {', '.join(sources.values())} of {request.patients.name}, and at the ids of patients"
        problems.append(Problem(str(request.predictions), "no row has a label", remedy))
    return Labels(table, sources, once, notes), problems


def request_problems(request: Outside) -> list[Problem]:
    """Options that do not go together."""
    wanted, given = LABELS.get(request.task), len(request.targets)
    problems = []
    if wanted is not None and given not in (0, wanted):
        what = f"the task {request.task} has {wanted} label column{'s' if wanted > 1 else ''}, not {given}"
        remedy = "give --target twice: the column of times, then that of events" if wanted > 1 else "give one"
        problems.append(Problem("--target", what, remedy))
    if request.task == "multi-regression" and given == 1:
        problems.append(Problem("--target", "the task multi-regression needs two columns at least", "repeat --target"))
    if request.span is not None and request.task != "regression":
        problems.append(Problem("--range", f"the task {request.task} has no range", "leave it out"))
    elif request.span is not None and request.span[0] >= request.span[1]:
        problems.append(Problem("--range", f"{list(request.span)} is not a range", "give the lowest, then the highest"))
    return problems


def columns_of(predictions: pd.DataFrame, request: Outside) -> list[str]:
    """The label columns by the names that a model's table has."""
    if request.task != "multi-regression":
        return label_columns(request.task)
    named = prediction_columns(predictions, request.task, request.several)
    return [name.removeprefix(SEVERAL) for name in named]


def absent_labels(
    predictions: pd.DataFrame, patients: pd.DataFrame, sources: dict[str, str], request: Outside
) -> list[Problem]:
    """Labels that stand in neither table, or not in the column that was named."""
    problems = []
    for column, source in sources.items():
        if source in patients or (column in predictions and not request.targets):
            continue
        hint = did_you_mean(source, [str(name) for name in patients if name != "patient_id"])
        remedy = hint if request.targets else f"name it by --target; {hint}"
        problems.append(Problem(str(request.patients), f"the column '{source}' is missing", remedy))
    if request.task == "multi-regression" and (taken := sorted(TAKEN.intersection(sources))):
        what = f"a target cannot be named {', '.join(taken)}, as a column of the predictions is"
        problems.append(Problem(str(request.predictions), what, "rename it"))
    return problems


def read_labels(
    table: pd.DataFrame, sources: dict[str, str], path: Path, request: Outside
) -> tuple[pd.DataFrame, list[Problem]]:
    """The labels of a table by their names in a model's table, typed, with the problems of cells."""
    found, problems = pd.DataFrame(index=table.index), []
    for column, source in sources.items():
        if request.task == "multiclass":
            found[column] = table[source]
            continue
        found[column], cells = numbers(table, source, path, *_limits(column, request))
        problems += cells
    return found, problems


def _limits(column: str, request: Outside) -> tuple[Callable[[float], str], str]:
    """What is wrong with a number as a label, empty if nothing, and the remedy."""
    if request.task == "classification" or column == "event":
        return lambda value: "" if value in (0, 1) else "is neither 0 nor 1", "give 1 or 0, or leave it blank"
    if column == "time":
        return lambda value: "is negative" if value < 0 else "", "give the time since the start of follow-up"
    if request.span is not None:
        return between(*request.span), "correct it, or give the range that labels can have by --range"
    return lambda value: "", "give a number, or leave it blank where it is unknown"


def each_once(patients: pd.DataFrame, labels: pd.DataFrame, path: Path) -> tuple[pd.Index, list[Problem], list[str]]:
    """The first row of each patient, the patients whose rows have different labels, and how many stand repeatedly."""
    problems, repeated = [], 0
    text = labels.astype(object).where(labels.notna(), None)
    for patient, rows in patients.dropna(subset="patient_id").groupby("patient_id", sort=False).groups.items():
        if len(rows) < 2:
            continue
        repeated += 1
        if len({tuple(values) for values in text.loc[rows].itertuples(index=False)}) > 1:
            where = f"{path}, lines {', '.join(str(row + 2) for row in rows)}, column patient_id"
            what = f"'{patient}' stands more than once, with different labels"
            problems.append(Problem(where, what, "keep the row that is right"))
    once = patients.dropna(subset="patient_id").drop_duplicates("patient_id").index
    notes = [f"{repeated} patients stand more than once in {path.name}, with the same labels: the first row counts"]
    return once, capped(problems, str(path)), notes if repeated and not problems else []


def merge_labels(
    predictions: pd.DataFrame,
    own: pd.DataFrame,
    theirs: pd.DataFrame,
    columns: Sequence[str],
    request: Outside,
) -> tuple[pd.DataFrame, list[Problem]]:
    """The labels of the predictions, their own or their patients', and rows in which both stand and differ."""
    found, problems = pd.DataFrame(index=predictions.index), []
    for column in columns:
        mine = own[column] if column in own else pd.Series(None, predictions.index, dtype=object)
        patients = predictions["patient_id"].map(theirs[column] if column in theirs else pd.Series(dtype=object))
        for row in predictions.index[mine.notna() & patients.notna()]:
            if not _same(mine[row], patients[row]):
                what = f"'{column}' is {mine[row]}, {request.patients.name} says {patients[row]} of the patient"
                where = f"{request.predictions}, line {row + 2}, column {column}"
                problems.append(Problem(where, what, "correct one of them, or leave the column out"))
        found[column] = mine.where(mine.notna(), patients)
        if request.task != "multiclass":
            found[column] = pd.to_numeric(found[column])
    return found, capped(problems, str(request.predictions))


def _same(one: Any, other: Any) -> bool:
    """Whether two labels are the same, numbers but for rounding."""
    return one == other if isinstance(one, str) or isinstance(other, str) else bool(np.isclose(one, other, atol=0))
