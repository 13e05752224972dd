"""Tables of predictions that were made elsewhere: which columns they have, and what is wrong with them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from slidestudy.errors import Problem
from slidestudy.tables import did_you_mean, duplicates, read_raw

PREDICTIONS = ["slide_id", "patient_id", "center", "fold", "prediction", "target", "prediction_sd", "threshold"]
"""Columns of the table of predictions.

`prediction_sd` is the spread over the models, blank of one model. `threshold` is the mean of their frozen decision
thresholds, blank of tasks that have none.
"""
SEVERAL, PROBABILITY, SURVIVAL = "prediction.", "probability.", "survival."
"""Prefixes of the predictions of several targets, of classes, and of no event by a time."""
IDS = ("slide_id", "patient_id")
MOST_LISTED = 20
"""Most cells of a column that are told of one by one."""
SUM_TOLERANCE = 0.01
"""By how much the probabilities of all classes may miss 1: published tables are rounded."""


def read_any(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Reads a table with every cell as text: separated by commas if its name ends in `.csv`, by tabs otherwise.

    Raises:
        StudyError: It cannot be read, with every reason.
    """
    return read_raw(path, "," if Path(path).suffix.lower() == ".csv" else "\t")


def capped(problems: Sequence[Problem], where: str) -> list[Problem]:
    """The first MOST_LISTED of the problems of a column, and how many more there are."""
    more = len(problems) - MOST_LISTED
    told = [Problem(where, f"has {more} more cells like these", "mend them likewise")] if more > 0 else []
    return [*problems[:MOST_LISTED], *told]


def numbers(
    table: pd.DataFrame,
    column: str,
    path: str | os.PathLike[str],
    wrong: Callable[[float], str] = lambda value: "",
    remedy: str = "give a number, or leave it blank where it is unknown",
) -> tuple[pd.Series, list[Problem]]:
    """A column of text as numbers; blank cells are NaN.

    Args:
        table: As `read_any` gives it, or some of its rows; row i stands on line i + 2.
        column: The column.
        path: Its file, for the messages.
        wrong: What is wrong with a number, empty if nothing.
        remedy: How to mend such a cell.

    Returns:
        The numbers, NaN where there is none, and the problems of cells.
    """
    values, problems = dict.fromkeys(table.index, np.nan), []
    for row, text in table[column].items():
        if text is None:
            continue
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        what = "is no number" if not math.isfinite(value) else wrong(value)
        if what:
            problems.append(
                Problem(f"{path}, line {row + 2}, column {column}", f"'{column}' is '{text}', which {what}", remedy)
            )
        else:
            values[row] = value
    return pd.Series(values, dtype=float), capped(problems, f"{path}, column {column}")


def between(low: float, high: float) -> Callable[[float], str]:
    """Says of a number that it lies outside a range."""
    return lambda value: "" if low <= value <= high else f"is not between {low:g} and {high:g}"


def prediction_columns(table: pd.DataFrame, task: str, targets: Sequence[str] | None = None) -> list[str]:
    """The columns that hold the predictions of a task, those that are needed and those that may be there.

    Args:
        table: The table.
        task: The task.
        targets: Of several numbers their names; None takes those that the table has.
    """
    names = [str(name) for name in table]
    if task == "multiclass":
        return [name for name in names if name.startswith(PROBABILITY)]
    if task == "multi-regression":
        found = [name.removeprefix(SEVERAL) for name in names if name.startswith(SEVERAL)]
        return [SEVERAL + target for target in (found if targets is None else targets)]
    curves = [name for name in names if name.startswith(SURVIVAL)] if task.startswith("survival") else []
    return ["prediction", *curves]


def _missing(table: pd.DataFrame, path: str | os.PathLike[str], task: str, columns: Sequence[str]) -> list[Problem]:
    """Columns that a task needs and the table has not."""
    present = [str(name) for name in table]
    problems = [
        Problem(str(path), f"the column '{name}' is missing", did_you_mean(name, present))
        for name in columns
        if name not in present
    ]
    if task == "multiclass" and len(columns) < 2:
        what = f"there are {len(columns)} columns '{PROBABILITY}<class>'; of several classes two are needed at least"
        problems.append(Problem(str(path), what, f"give each class a column; {did_you_mean(PROBABILITY, present)}"))
    if task == "multi-regression" and len(columns) < 2:
        what = f"there are {len(columns)} columns '{SEVERAL}<target>'; two are needed at least"
        problems.append(Problem(str(path), what, f"give each target one; {did_you_mean(SEVERAL, present)}"))
    if task == "survival-discrete" and len(columns) < 2:
        what = f"there is no column '{SURVIVAL}<time>', the probability of no event by then"
        problems.append(Problem(str(path), what, "add them, or use task: survival-cox"))
    for name in columns:
        if name.startswith(SURVIVAL) and not _is_time(name.removeprefix(SURVIVAL)):
            problems.append(Problem(f"{path}, column {name}", "its name gives no time", f"as in {SURVIVAL}5"))
    return problems


def _is_time(text: str) -> bool:
    """Whether a text is a time."""
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def read_predictions(
    path: str | os.PathLike[str], task: str, targets: Sequence[str] | None = None
) -> tuple[pd.DataFrame, list[Problem]]:
    """Reads predictions that were made elsewhere.

    Args:
        path: TSV, or CSV by its suffix. `slide_id` or `patient_id` or both; the columns of the task: `prediction`,
            `probability.<class>` of several classes, `prediction.<target>` of several numbers, `survival.<time>`
            beside a risk; and optionally `fold threshold prediction_sd`. A blank prediction is one that is missing.
        task: The task.
        targets: See `prediction_columns`.

    Returns:
        The table with every cell of ids and of columns not named here as text, the others as numbers, of several
        classes with the most probable one as `prediction`; and its problems, each with line and column. With
        problems the table must not be used.

    Raises:
        StudyError: It cannot be read at all.
    """
    table = read_any(path)
    columns = prediction_columns(table, task, targets)
    missing, problems = _missing(table, path, task, columns), _id_problems(table, path)
    if missing:
        return table, problems + missing
    shares = task in ("classification", "multiclass")
    for name in [*columns, *(name for name in ("threshold", "prediction_sd") if name in table)]:
        limited = (shares and name != "prediction_sd") or name.startswith(SURVIVAL)
        remedy = "give a probability from 0 to 1: Brier score, calibration and thresholds need it" if limited else ""
        keys = (between(0, 1), remedy) if limited else ()
        table[name], found = numbers(table, name, path, *keys)
        problems += found
    if not problems and task == "multiclass":
        problems = _sum_problems(table[columns].to_numpy(float), path)
        table["prediction"] = most_probable(table, columns)
    if not problems and len(columns) > 2 and task.startswith("survival"):
        problems = _rise_problems(table, columns[1:], path)
    return table, problems


def _id_problems(table: pd.DataFrame, path: str | os.PathLike[str]) -> list[Problem]:
    """Missing, blank and repeated ids; the slides' must be unique, the patients' where there are no slides."""
    ids = [name for name in IDS if name in table]
    if not ids:
        remedy = f"add it, or a column 'slide_id'; {did_you_mean('patient_id', list(table))}"
        return [Problem(str(path), "the column 'patient_id' is missing", remedy)]
    blank = [
        Problem(f"{path}, line {row + 2}, column {name}", f"'{name}' is blank", "say whose prediction it is")
        for name in ids
        for row in np.flatnonzero(table[name].isna())
    ]
    found = duplicates(table, path, ids[:1])
    if ids[0] == "patient_id":
        remedy = "add a column slide_id if a patient has several slides, or keep one row per patient"
        found = [Problem(problem.where, problem.what, remedy) for problem in found]
    return blank + found


def most_probable(table: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """The class of the highest probability, None where they are blank.

    Args:
        table: A table with the columns.
        columns: `probability.<class>`.
    """
    names = np.array([name.removeprefix(PROBABILITY) for name in columns], dtype=object)
    values = table[list(columns)].to_numpy(float)
    known = ~np.isnan(values).any(1)
    chosen = np.full(len(table), None, dtype=object)
    chosen[known] = names[values[known].argmax(1)]
    return pd.Series(chosen, index=table.index, dtype=object)


def _sum_problems(values: np.ndarray, path: str | os.PathLike[str]) -> list[Problem]:
    """Rows whose probabilities (n, k) do not add up to 1, or of which only some are blank."""
    sums, problems = values.sum(1), []
    for row in np.flatnonzero(~np.isnan(values).all(1) & ~(np.abs(sums - 1) <= SUM_TOLERANCE)):
        what = f"the probabilities add up to {sums[row]:g}"
        what = "some of the probabilities are blank" if np.isnan(sums[row]) else what
        problems.append(Problem(f"{path}, line {row + 2}", what, "give all classes, which add up to 1"))
    return capped(problems, str(path))


def _rise_problems(table: pd.DataFrame, columns: Sequence[str], path: str | os.PathLike[str]) -> list[Problem]:
    """Rows whose probability of no event, `survival.<time>`, rises with time."""
    ordered = sorted(columns, key=lambda name: float(name.removeprefix(SURVIVAL)))
    rises = (np.diff(table[ordered].to_numpy(float), axis=1) > 1e-6).any(1)
    remedy = "give survival, not the risk of an event"
    what = "the probability of no event rises with time"
    return capped([Problem(f"{path}, line {row + 2}", what, remedy) for row in np.flatnonzero(rises)], str(path))
