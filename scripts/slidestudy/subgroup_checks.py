"""Checks of the columns by which a validation is split into groups; returns all problems."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pandas as pd

from slidestudy.errors import Problem
from slidestudy.grouping import INSPECTED, as_number
from slidestudy.labels import NOT_LABELS
from slidestudy.tables import did_you_mean

MOST_NUMBERS = 12
"""Most different numbers of a column that are groups each."""
NO_GROUPS = NOT_LABELS - {"center"}
"""Columns that make no groups: names and files of slides and patients, and the cohort, which is measured by itself."""
NAMES = ("center", *INSPECTED)
"""Columns that are names even if these look like numbers."""


def subgroup_problems(
    subgroups: Mapping[str, Any], slides: pd.DataFrame, patients: pd.DataFrame, source: str
) -> list[Problem]:
    """All that is wrong with the columns of groups.

    Args:
        subgroups: Column -> `edges smallest`.
        slides: The slides' table, of the studied cohorts.
        patients: The patients' table, of the same.
        source: The configuration's file, for the messages.
    """
    problems = []
    for column, options in subgroups.items():
        where = f"{source}, key validation.subgroups.{column}"
        found = _place_problems(column, slides, patients, where)
        edges = options["edges"]
        if any(high <= low for low, high in pairwise(edges)):
            what = f"{list(edges)} do not increase"
            found.append(Problem(f"{where}.edges", what, "give each once, the lowest first"))
        if not found:
            tables = [table[column] for table in (slides, patients) if column in table.columns]
            found = _value_problems(column, tables[0], edges, where) if tables else _no_edges(column, edges, where)
        problems += found
    return problems


def _place_problems(column: str, slides: pd.DataFrame, patients: pd.DataFrame, where: str) -> list[Problem]:
    """A column that makes no groups, or that stands in no table or in both."""
    if column in NO_GROUPS:
        words = "each cohort is measured by itself" if column == "cohort" else f"'{column}' makes no groups"
        return [Problem(where, words, "take it out")]
    in_slides, in_patients = column in slides.columns, column in patients.columns
    if in_slides and in_patients:
        return [Problem(where, f"the column '{column}' stands in both tables", "keep it in one of them")]
    if in_slides or in_patients or column in INSPECTED:
        return []
    known = sorted((set(patients.columns) | set(slides.columns) | set(INSPECTED)) - NO_GROUPS)
    return [Problem(where, f"no table has a column '{column}'", did_you_mean(column, known))]


def _value_problems(column: str, values: pd.Series, edges: list[float], where: str) -> list[Problem]:
    """Edges of text, or too many different numbers without edges."""
    if column in NAMES:
        return _no_edges(column, edges, where)
    known = values.dropna()
    text = [value for value in known if as_number(value) is None]
    if edges and text:
        what = f"'{column}' has edges, but holds text such as '{text[0]}'"
        return [Problem(f"{where}.edges", what, "take the edges out, or leave such cells blank")]
    different = known.map(as_number).nunique()
    if not edges and not text and different > MOST_NUMBERS:
        what = f"'{column}' holds {different} different numbers"
        return [Problem(where, what, "give the edges between groups, e.g. {edges: [50, 65]}")]
    return []


def _no_edges(column: str, edges: list[float], where: str) -> list[Problem]:
    """Edges of a column of names."""
    if not edges:
        return []
    return [Problem(f"{where}.edges", f"'{column}' holds names, which have no edges", "take the edges out")]
