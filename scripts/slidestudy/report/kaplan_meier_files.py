"""Reads the Kaplan-Meier estimates and log-rank tests of a model's survival analysis."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from slidestudy.report.feature_files import read_figure
from slidestudy.report.tables import read_table
from slidestudy.yaml_files import load_yaml

SURVIVAL = (
    "endpoint", "cohort", "role", "score", "split", "group", "time", "survival", "ci_low", "ci_high", "at_risk", "n",
    "n_events", "median_survival", "median_low", "median_high", "undefined_reason", "median_undefined_reason",
)  # fmt: skip
TESTS = (
    "endpoint", "cohort", "role", "score", "split", "strata", "groups", "statistic", "df", "p", "trend_p", "n",
    "n_events", "n_at_cutoff", "n_dropped", "undefined_reason",
)  # fmt: skip


@dataclass(frozen=True)
class KaplanMeierFiles:
    """What there is of one model; tables without rows and blank figures where there is nothing.

    Attributes:
        survival: Survival of each group at the configured times, columns SURVIVAL.
        tests: Log-rank tests, columns TESTS.
        figure: SVG text of the curves by cut-offs.
        median_figure: SVG text of the curves by the median.
        units: Endpoint -> unit of time, where known.
        confidence: Coverage of the intervals, where known.
    """

    survival: pd.DataFrame
    tests: pd.DataFrame
    figure: str
    median_figure: str
    units: dict[str, str]
    confidence: float | None


def read_kaplan_meier(folder: Path, settings: Path) -> KaplanMeierFiles:
    """Reads the files of one model.

    Args:
        folder: `validation/<model>`.
        settings: `settings/survival.<model>.yaml`.

    Raises:
        StudyError: A table is damaged.
    """
    known = load_yaml(settings) if settings.is_file() else {}
    return KaplanMeierFiles(
        survival=read_table(folder / "kaplan_meier.tsv", SURVIVAL),
        tests=read_table(folder / "logrank.tsv", TESTS),
        figure=read_figure(folder / "kaplan_meier.svg"),
        median_figure=read_figure(folder / "kaplan_meier_median.svg"),
        units={name: endpoint["unit"] for name, endpoint in known.get("endpoints", {}).items()},
        confidence=known.get("confidence"),
    )
