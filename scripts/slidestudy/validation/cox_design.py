"""The columns of a Cox model: numbers in the unit of their hazard ratio, and a column for each level of a category."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Column:
    """A column of a model's design.

    Attributes:
        term: The score or covariate.
        source: The column of the patients' rows that it comes from.
        level: The level of a category that it stands for; blank for a number.
        reference: The level that this one is compared with; blank for a number.
        per: How much of a number the hazard ratio is for, in the number's own unit; None for a level.
        scale: `unit`, `sd` (`per` is the standard deviation of the patients) or `level`.
    """

    term: str
    source: str
    level: str = ""
    reference: str = ""
    per: float | None = None
    scale: str = "unit"

    def values(self, rows: pd.DataFrame) -> Array:
        """The column (n,)."""
        if self.scale == "level":
            return (rows[self.source] == self.level).to_numpy(float)
        assert self.per is not None
        return rows[self.source].to_numpy(float) / self.per


@dataclass(frozen=True)
class Design:
    """What a model is made of in a cohort.

    Attributes:
        columns: Its columns.
        left_out: Terms that the cohort tells nothing of, and why.
        warnings: What else a reader must know.
    """

    columns: tuple[Column, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    def matrix(self, rows: pd.DataFrame) -> Array:
        """The values of the columns, (n, k).

        Args:
            rows: Patients without a blank in any of the columns.
        """
        return np.column_stack([column.values(rows) for column in self.columns] or [np.zeros((len(rows), 0))])

    def positions(self) -> dict[str, list[int]]:
        """Term -> the places of its columns."""
        found: dict[str, list[int]] = {}
        for place, column in enumerate(self.columns):
            found.setdefault(column.term, []).append(place)
        return found

    def __add__(self, other: Design) -> Design:
        return Design(
            self.columns + other.columns,
            self.left_out + other.left_out,
            tuple(dict.fromkeys(self.warnings + other.warnings)),
        )


def design_of(rows: pd.DataFrame, terms: Mapping[str, Mapping[str, Any]], prefix: str = "") -> Design:
    """Makes the design of some terms from what is known of the patients.

    Args:
        rows: The patients that are analysed; blanks count for nothing.
        terms: Score or covariate -> `per` (a number or `sd`; 1 where absent) or `reference`.
        prefix: What stands before a term's name in the column of `rows`.
    """
    design = Design(())
    for term, options in terms.items():
        values = rows[prefix + term].dropna()
        if values.nunique() < 2:
            kind = "level" if "reference" in options else "value"
            design += Design((), ((term, f"{'one' if len(values) else 'no'} {kind} in this cohort"),))
        elif "reference" in options:
            design += _category(term, prefix + term, values, str(options["reference"]))
        else:
            per = options.get("per", 1)
            spread = float(values.astype(float).std(ddof=1)) if per == "sd" else float(per)
            scale = "sd" if per == "sd" else "unit"
            design += Design((Column(term, prefix + term, per=spread, scale=scale),))
    return design


def _category(term: str, source: str, values: pd.Series, reference: str) -> Design:
    """A column for each level but the reference; the commonest level stands in for one that the cohort has not."""
    levels, warnings = sorted(values.unique()), list[str]()
    if reference not in levels:
        absent, counts = reference, values.value_counts()
        reference = min(levels, key=lambda level: (-counts[level], level))
        warnings.append(f"no patient has the reference level {absent} of {term}: compared with {reference}")
    columns = [Column(term, source, level, reference, scale="level") for level in levels if level != reference]
    return Design(tuple(columns), (), tuple(warnings))
