"""Reads a model's survival analyses: Cox models and their tests, and the Kaplan-Meier estimates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from slidestudy.report.feature_files import read_figure
from slidestudy.report.kaplan_meier_files import KaplanMeierFiles, read_kaplan_meier
from slidestudy.report.tables import read_table

COX = (
    "endpoint", "cohort", "role", "score", "analysis", "term", "level", "reference", "per", "scale", "hazard_ratio",
    "ci_low", "ci_high", "p", "n", "n_events", "n_dropped", "standard_errors", "strata", "missing", "imputations",
    "warning", "undefined_reason",
)  # fmt: skip
TESTS = (
    "endpoint", "cohort", "role", "score", "analysis", "test", "term", "statistic", "df", "p", "ci_low", "ci_high", "n",
    "n_events", "undefined_reason",
)  # fmt: skip


@dataclass(frozen=True)
class SurvivalFiles:
    """What there is of one model; tables without rows and blank figures where there is nothing.

    Attributes:
        cox: Hazard ratios, columns COX.
        tests: Tests of the Cox models and their concordance, columns TESTS.
        figure: SVG text of the hazard ratios.
        kaplan_meier: Kaplan-Meier estimates and log-rank tests.
    """

    cox: pd.DataFrame
    tests: pd.DataFrame
    figure: str
    kaplan_meier: KaplanMeierFiles


def read_survival(folder: Path, settings: Path) -> SurvivalFiles:
    """Reads the files of one model.

    Args:
        folder: `validation/<model>`.
        settings: `settings/survival.<model>.yaml`.

    Raises:
        StudyError: A table is damaged.
    """
    return SurvivalFiles(
        cox=read_table(folder / "cox.tsv", COX),
        tests=read_table(folder / "cox_tests.tsv", TESTS),
        figure=read_figure(folder / "hazard_ratios.svg"),
        kaplan_meier=read_kaplan_meier(folder, settings),
    )
