"""Reading parts that somebody else dealt: a long table of our own columns, or the columns of ECTIL's folds.csv."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pandas as pd

from slidestudy.errors import Problem, StudyError

NAMES = {"train": "train", "val": "validation", "validation": "validation", "test": "test", "none": "none"}
"""A part's name in a table -> the part; `none` leaves a patient or slide out of a fold."""
WIDE = re.compile(r"(train|val|validation|test)_fold_(\d+)")
"""A column of ECTIL's folds.csv (https://github.com/NKI-AI/ectil): 1 where the patient stands in that part."""
KEYS = {"slide_id": "slide_id", "patient_id": "patient_id", "T-number": "patient_id"}
"""A table's column of ids -> ours, the first that a table has counts; ECTIL calls a patient a T-number."""


def read_split_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Reads a table of parts, separated by tabs, commas or semicolons.

    Args:
        path: Its columns are `patient_id` or `slide_id`, `fold` and `part` (train, validation or val, test, none); or
            `patient_id`, `slide_id` or `T-number` and `train_fold_0 val_fold_0 test_fold_0 ...` of 0 and 1.

    Returns:
        `slide_id` (or `patient_id` where the table has none), `fold`, `part`, one row per id and fold, sorted; and the
        column `patient_id` where the table has both.

    Raises:
        StudyError: With all problems: columns that are missing, cells that do not fit, ids in two parts of a fold,
            folds that do not count from 0.
    """
    where, table = str(path), _read_text(path)
    key = next((name for name in KEYS if name in table), None)
    if key is None:
        raise StudyError("no column names the patient or slide", where, f"add one of {', '.join(KEYS)}")
    wide = [name for name in table if WIDE.fullmatch(name)]
    if not wide and not {"fold", "part"} <= set(table):
        remedy = "give columns `fold` and `part`, or `train_fold_0 val_fold_0 test_fold_0 ...`"
        raise StudyError("no columns say the fold and the part", where, remedy)
    ids = [key, *(["patient_id"] if key == "slide_id" and "patient_id" in table else [])]
    long, problems = _melt(table, ids, wide, where) if wide else _convert(table[[*ids, "fold", "part"]], where)
    long = long.rename(columns={key: KEYS[key]}).drop_duplicates(ignore_index=True)
    problems += _twice(long, KEYS[key], where)
    folds = sorted(set(long["fold"]))
    if not problems and folds != list(range(len(folds))):
        problems.append(Problem(where, f"its folds are {', '.join(map(str, folds))}", "count folds 0, 1, 2, ..."))
    if problems:
        raise StudyError.of(problems)
    return long.sort_values(["fold", KEYS[key]], ignore_index=True)


def _read_text(path: str | os.PathLike[str]) -> pd.DataFrame:
    """All cells as text without blanks at their ends."""
    where = str(path)
    try:
        header = Path(path).read_text(encoding="utf-8-sig").split("\n", 1)[0]
        separator = next((mark for mark in "\t;" if mark in header), ",")
        # The header is read as a row: pandas would rename the second of two equal columns.
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig", header=None)
    except FileNotFoundError:
        raise StudyError("the table of parts does not exist", where, "correct splits.table") from None
    except (OSError, ValueError) as error:
        raise StudyError(f"not a readable table ({error})", where, "save it as tab-separated text in UTF-8") from None
    table = table.apply(lambda column: column.str.strip())
    table, table.columns = table.iloc[1:].reset_index(drop=True), table.iloc[0].rename(None)
    if table.empty:
        raise StudyError("the table has no row", where, "give it one row per patient or slide")
    if repeated := sorted(set(table.columns[table.columns.duplicated()])):
        raise StudyError(f"columns stand twice: {', '.join(repeated)}", where, "keep one of each")
    return table


def _convert(table: pd.DataFrame, where: str) -> tuple[pd.DataFrame, list[Problem]]:
    """Our own form, with what is wrong in it."""
    problems = []
    part = table["part"].str.lower().map(NAMES)
    whole = table["fold"].str.fullmatch(r"\d+")
    for row, (fold, name, ident) in enumerate(zip(table["fold"], table["part"], table.iloc[:, 0], strict=True)):
        line = f"{where}, line {row + 2}"
        if not ident:
            problems.append(Problem(line, "the id is blank", "fill it in, or remove the line"))
        if not whole.iloc[row]:
            problems.append(Problem(line, f"the fold is '{fold}'", "give a whole number from 0"))
        if not isinstance(part.iloc[row], str):
            problems.append(Problem(line, f"the part is '{name}'", f"give one of {', '.join(NAMES)}"))
    fold_numbers = pd.to_numeric(table["fold"].where(whole, "0")).astype(int)
    return table.assign(fold=fold_numbers, part=part), problems


def _melt(table: pd.DataFrame, ids: list[str], wide: list[str], where: str) -> tuple[pd.DataFrame, list[Problem]]:
    """ECTIL's form made long, with what is wrong in it."""
    problems = [
        Problem(f"{where}, line {row + 2}, column {name}", f"the cell is '{table[name].iloc[row]}'", "give 0 or 1")
        for name in wide
        for row in table.index[~table[name].isin(["0", "1", "0.0", "1.0"])]
    ]
    long = table.melt(id_vars=ids, value_vars=wide, var_name="column")
    long = long[long["value"].isin(["1", "1.0"])].drop(columns="value")
    found = long.pop("column").str.extract(WIDE)
    return long.assign(fold=found[1].astype(int), part=found[0].map(NAMES)), problems


def _twice(long: pd.DataFrame, key: str, where: str) -> list[Problem]:
    """Ids that the table puts into two parts of a fold."""
    places = long[["fold", key, "part"]].dropna().drop_duplicates()
    several = places[places.duplicated(["fold", key], keep=False)]
    return [
        Problem(where, f"{ident} stands in {' and '.join(sorted(parts))} of fold {fold}", "give it one part per fold")
        for (fold, ident), parts in several.groupby(["fold", key])["part"]
    ]
