"""Reads what the comparisons and summaries of encoders left; whatever a study has not got is simply empty."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from slidestudy.report.tables import read_record, read_table

COMPARED = (
    "candidate", "probe", "cohort", "role", "level", "metric", "threshold", "value", "ci_low", "ci_high", "n",
    "n_patients", "undefined_reason",
)  # fmt: skip
DIFFERENCES = (
    "candidate", "reference", "probe", "cohort", "level", "metric", "difference", "ci_low", "ci_high", "p_holm",
    "undefined_reason",
)  # fmt: skip
ROBUSTNESS = ("index", "ci_low", "ci_high", "same_class", "same_center", "at_random", "n", "undefined_reason")
SHIFT = ("cohort_a", "cohort_b", "median", "percentile_90", "share_shifted", "undefined_reason")
DUPLICATES = ("slide_id_a", "slide_id_b", "similarity", "n_pairs")


@dataclass(frozen=True)
class ComparisonFiles:
    """What there is of one comparison of encoders.

    Attributes:
        metrics: Columns COMPARED.
        differences: Columns DIFFERENCES.
        robustness: `candidate scope classes` and the columns ROBUSTNESS.
        figure: SVG text; blank where there is none.
        record: Its provenance.
    """

    metrics: pd.DataFrame
    differences: pd.DataFrame
    robustness: pd.DataFrame
    figure: str
    record: dict[str, Any]


@dataclass(frozen=True)
class SummaryFiles:
    """What there is of the summary of one encoder's features.

    Attributes:
        shift: Columns SHIFT.
        duplicates: Columns DUPLICATES.
        robustness: `subset neighbours` and the columns ROBUSTNESS.
        figure: SVG text of the map; blank where there is none.
        record: Its provenance.
    """

    shift: pd.DataFrame
    duplicates: pd.DataFrame
    robustness: pd.DataFrame
    figure: str
    record: dict[str, Any]


def read_figure(path: Path) -> str:
    """An SVG file's text; blank where there is none."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def read_comparison(home: Path) -> ComparisonFiles:
    """Reads what there is of a comparison."""
    return ComparisonFiles(
        metrics=read_table(home / "metrics.tsv", COMPARED),
        differences=read_table(home / "differences.tsv", DIFFERENCES),
        robustness=read_table(home / "robustness.tsv", ("candidate", "scope", "classes", *ROBUSTNESS)),
        figure=read_figure(home / "figure.svg"),
        record=read_record(home / "comparison.json"),
    )


def read_summary(home: Path) -> SummaryFiles:
    """Reads what there is of the summary of an encoder's features."""
    return SummaryFiles(
        shift=read_table(home / "shift.tsv", SHIFT),
        duplicates=read_table(home / "duplicates.tsv", DUPLICATES),
        robustness=read_table(home / "robustness.tsv", ("subset", "neighbours", *ROBUSTNESS)),
        figure=read_figure(home / "map.svg"),
        record=read_record(home / "summary.json"),
    )
