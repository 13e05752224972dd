"""Groups of slides by a column of a study's tables: their names, and the order in which they are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from slidestudy.labels import class_name

UNKNOWN = "unknown"
"""The group of the slides whose value is blank."""
INSPECTED = ("scanner", "vendor")
"""Columns that the slides' inspection records have, where no table has them."""


def as_number(value: Any) -> float | None:
    """A cell as a number, None where it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def edge_names(edges: Sequence[float]) -> list[str]:
    """The groups between edges, e.g. `< 50`, `50 to < 65`, `>= 65`."""
    between = [f"{low:g} to < {high:g}" for low, high in pairwise(edges)]
    return [f"< {edges[0]:g}", *between, f">= {edges[-1]:g}"]


def group_names(values: pd.Series, edges: Sequence[float]) -> pd.Series:
    """The group of each value; a value at an edge is in the group above it.

    Args:
        values: Text or numbers, blank where unknown.
        edges: Rising; none where each value is a group.
    """
    if not edges:
        named = values.map(class_name)
        return named.where(named.notna(), UNKNOWN).astype(object)
    names, numbers = edge_names(edges), values.map(as_number)
    found = [UNKNOWN if pd.isna(n) else names[int(np.searchsorted(edges, n, side="right"))] for n in numbers]
    return pd.Series(found, index=values.index, dtype=object)


def in_order(groups: Iterable[str], edges: Sequence[float]) -> list[str]:
    """Groups in the order in which they are shown: as the edges rise, numbers by size, else by name; unknown last."""
    present = set(groups)
    known = present - {UNKNOWN}
    if edges:
        ordered = [name for name in edge_names(edges) if name in known]
    elif all(as_number(name) is not None for name in known):
        ordered = sorted(known, key=lambda name: (float(name), name))
    else:
        ordered = sorted(known)
    return ordered + [UNKNOWN] * (UNKNOWN in present)


def inspected_columns(subgroups: Mapping[str, Any], *tables: pd.DataFrame) -> list[str]:
    """The columns of groups that no table has and that come from the inspection records."""
    present = {name for table in tables for name in table.columns}
    return [name for name in subgroups if name in INSPECTED and name not in present]
