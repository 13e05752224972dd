"""Labels as models take them: the columns of a task, and which slides are labelled."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pandas as pd

CLASSES = ("classification", "multiclass")
"""Tasks whose labels are classes."""
SURVIVAL = ("time", "event")
"""The label columns of a survival task."""
NOT_LABELS = {"slide_id", "patient_id", "path", "mpp", "roi", "mask", "cohort", "center"}
"""Columns of a study's tables that are no labels."""


def is_survival(task: str) -> bool:
    """Whether labels are a time and an event."""
    return task.startswith("survival")


def label_columns(task: str, columns: Sequence[str] | None = None) -> list[str]:
    """The columns of the labels table that a task learns from; None for those of the task."""
    return list(columns or (SURVIVAL if is_survival(task) else ("target",)))


def is_labelled(labels: pd.DataFrame, task: str, columns: Sequence[str]) -> pd.Series:
    """Slides that a task can learn from; of several targets, one is enough."""
    known = labels[list(columns)].notna()
    return known.any(axis=1) if task == "multi-regression" else known.all(axis=1)


def target_columns(model: dict[str, Any]) -> list[str]:
    """The columns of a study's tables that a model's labels come from; none of published weights without labels."""
    target = model.get("target")
    return [target] if isinstance(target, str) else list(target or [])


def target_text(model: dict[str, Any], most: int = 3) -> str:
    """A model's target in words: its column, or the first of several and how many there are."""
    names = target_columns(model)
    if len(names) <= most:
        return ", ".join(names) or "no label"
    return f"{len(names)} columns: {', '.join(names[:most])}, ..."


def expand_columns(patterns: Sequence[str], present: Sequence[str]) -> tuple[list[str], list[str]]:
    """The columns that patterns name, in the order of the patterns and then of the columns.

    Args:
        patterns: Names with the wildcards `*`, `?` and `[...]`; behind a `!` they take columns out again.
        present: The columns that there are.

    Returns:
        The columns, and the patterns that no column fits.
    """
    wanted, unmatched = dict[str, None](), []
    for pattern in patterns:
        taken_out = pattern.startswith("!")
        plain = pattern.removeprefix("!")
        # A name may have the brackets of a pattern, and is then itself.
        found = [name for name in present if name == plain or fnmatchcase(name, plain)]
        if not found:
            unmatched.append(pattern)
        for name in found:
            if taken_out:
                wanted.pop(name, None)
            else:
                wanted[name] = None
    return list(wanted), unmatched


def class_name(value: Any) -> str | None:
    """A class as text; whole numbers without the decimals that a column with blanks gives them."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
