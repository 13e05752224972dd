"""The second modality: a table of numbers per patient, its columns and their groups."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slidestudy.errors import Problem, StudyError
from slidestudy.labels import expand_columns
from slidestudy.tables import did_you_mean, read_raw

KEY = "patient_id"
MANY = 5
"""Columns that a message names; of more it gives the number."""


@dataclass(frozen=True)
class Modality:
    """A second modality of patients.

    Attributes:
        table: Its numbers, float, indexed by patient_id; NaN where missing.
        names: Its columns, in the order in which a model takes them.
        groups: Group -> its columns, numbered within `names`; empty where all columns are one group.
    """

    table: pd.DataFrame
    names: tuple[str, ...]
    groups: Mapping[str, tuple[int, ...]]

    def card(self) -> dict[str, Any]:
        """What `model.json` says of it: `columns`, and `groups` by name."""
        groups = {name: [self.names[i] for i in columns] for name, columns in self.groups.items()}
        return {"columns": list(self.names), "groups": groups}


def read_modality(
    path: str | os.PathLike[str], columns: Sequence[str] = ("*",), groups: Mapping[str, Sequence[str]] | None = None
) -> Modality:
    """Reads the columns of a modality that patterns choose.

    Args:
        path: A TSV with `patient_id` and numeric columns, one row per patient; a blank cell is missing.
        columns: Patterns (`*`, `?`, `[...]`) of the columns that are used.
        groups: Group -> patterns of its columns, among those used; a column may be in several groups, and each is in
            one. Empty or None: no groups.

    Returns:
        The modality, its columns in the table's order.

    Raises:
        StudyError: With every problem found: no patient_id, a patient twice or blank, a pattern that fits no column, a
            column in no group, a cell that is no number.
    """
    raw = read_raw(path)
    present = [name for name in raw.columns if name != KEY]
    problems = _pattern_problems(path, "columns", columns, present)
    names = _chosen(present, columns)
    indices = {}
    for group, patterns in (groups or {}).items():
        problems += _pattern_problems(path, f"groups.{group}", patterns, names)
        indices[group] = tuple(map(names.index, _chosen(names, patterns)))
    if indices:
        held = {i for chosen in indices.values() for i in chosen}
        idle = [name for i, name in enumerate(names) if i not in held]
        if idle:
            remedy = "put each into a group, or leave it out of modality.columns"
            problems.append(Problem(str(path), f"{_listed(idle)} in no group", remedy))
    return Modality(_numbers(path, raw, names, problems), names, indices)


def read_columns(path: str | os.PathLike[str], names: Sequence[str]) -> Modality:
    """Reads exactly these columns, in this order: those that a trained model takes.

    Raises:
        StudyError: With every problem found, the columns that are missing among them.
    """
    raw = read_raw(path)
    problems = [
        Problem(str(path), f"the column '{name}' is missing, which the model was trained on", "add it, or train anew")
        for name in names
        if name not in raw.columns
    ]
    return Modality(_numbers(path, raw, [name for name in names if name in raw.columns], problems), tuple(names), {})


def modality_values(modality: Modality, patients: Iterable[str]) -> NDArray[np.float32]:
    """The modality's values of patients, float32 (n, n_columns); NaN where missing, as where a patient has no row."""
    found = modality.table.reindex(list(patients))
    return found.to_numpy(np.float32)


def check_modalities(models: Mapping[str, Mapping[str, Any]]) -> None:
    """Reads the modality of every model that has one, so that its problems are seen before anything is computed.

    Args:
        models: The configuration's section `models`, complete.

    Raises:
        StudyError: With the problems of all tables, each once, and the labels that stand among the columns.
    """
    problems: dict[Problem, None] = {}
    for name, model in models.items():
        spec = model.get("modality")
        if not spec:
            continue
        try:
            found = read_modality(spec["table"], spec["columns"], spec["groups"])
        except StudyError as error:
            problems |= dict.fromkeys(error.problems)
            continue
        target = model.get("target") or []
        for label in sorted({*([target] if isinstance(target, str) else target)} & {*found.names}):
            what = f"the column '{label}' is the target of model {name}"
            remedy = "a model must not be told its own label: leave it out of modality.columns"
            problems[Problem(spec["table"], what, remedy)] = None
    if problems:
        raise StudyError.of(problems)


def _chosen(names: Sequence[str], patterns: Sequence[str]) -> tuple[str, ...]:
    """The names that patterns choose, in their own order."""
    wanted = set(expand_columns(patterns, names)[0])
    return tuple(name for name in names if name in wanted)


def _pattern_problems(
    path: str | os.PathLike[str], key: str, patterns: Sequence[str], names: Sequence[str]
) -> list[Problem]:
    """Patterns that no column fits."""
    return [
        Problem(str(path), f"no column fits '{pattern}' of modality.{key}", did_you_mean(pattern, list(names[:MANY])))
        for pattern in expand_columns(patterns, names)[1]
    ]


def _listed(names: Sequence[str]) -> str:
    """A few names in words."""
    more = f" and {len(names) - MANY} more" if len(names) > MANY else ""
    verb = "is" if len(names) == 1 else "are"
    return f"{', '.join(names[:MANY])}{more} {verb}"


def _numbers(
    path: str | os.PathLike[str], raw: pd.DataFrame, names: Sequence[str], problems: list[Problem]
) -> pd.DataFrame:
    """The columns as numbers, by patient.

    Raises:
        StudyError: The problems found before, and those of patients and cells.
    """
    if KEY in raw.columns:
        problems = problems + _patient_problems(path, raw[KEY])
    else:
        problems = [*problems, Problem(str(path), f"the column '{KEY}' is missing", "add it")]
    columns = {name: pd.to_numeric(raw[name], errors="coerce").astype(float) for name in names}
    # "nan" and "inf" are no numbers here: what is missing is blank.
    bad = {name: raw[name].notna() & ~np.isfinite(values) for name, values in columns.items()}
    for name, rows in bad.items():
        for row in np.flatnonzero(rows):
            where = f"{path}, line {row + 2}, column {name}"
            remedy = "give a number, leave it blank, or leave the column out of modality.columns"
            problems.append(Problem(where, f"'{raw[name].iloc[row]}' is not a number", remedy))
    if problems:
        raise StudyError.of(problems)
    return pd.DataFrame(columns, index=raw.index).set_axis(pd.Index(raw[KEY], name=KEY))


def _patient_problems(path: str | os.PathLike[str], patients: pd.Series) -> list[Problem]:
    """Patients that are blank or stand twice."""
    problems = [
        Problem(f"{path}, line {row + 2}, column {KEY}", f"'{KEY}' is blank", "fill it in, or remove the line")
        for row in np.flatnonzero(patients.isna())
    ]
    for patient, rows in patients.groupby(patients).groups.items():
        if len(rows) > 1:
            where = f"{path}, lines {', '.join(str(row + 2) for row in rows)}, column {KEY}"
            problems.append(Problem(where, f"'{patient}' stands more than once", "keep one row of each patient"))
    return problems
