"""Reads what the validation says of a model's calibration, its agreement with the labels and its pooled metrics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from slidestudy.report.feature_files import read_figure
from slidestudy.report.tables import read_table

STATISTICS = (
    "cohort", "role", "level", "target", "statistic", "value", "ci_low", "ci_high", "n", "n_patients",
    "undefined_reason",
)  # fmt: skip
POOLED = (
    "level", "metric", "threshold", "effect", "cohort", "value", "ci_low", "ci_high", "n_cohorts", "n", "n_patients",
    "q", "p", "i2", "tau2", "predicted_low", "predicted_high", "undefined_reason",
)  # fmt: skip


@dataclass(frozen=True)
class AgreementFiles:
    """What there is of one model; tables without rows and blank figures where there is nothing.

    Attributes:
        fits: Slopes and intercepts of the calibration, columns STATISTICS.
        agreement: Mean differences and limits of agreement, columns STATISTICS.
        pooled: Metrics pooled over the external cohorts, columns POOLED.
        calibration_figure: SVG text.
        agreement_figure: SVG text.
        forest_figure: SVG text.
    """

    fits: pd.DataFrame
    agreement: pd.DataFrame
    pooled: pd.DataFrame
    calibration_figure: str
    agreement_figure: str
    forest_figure: str


def read_agreement(folder: Path) -> AgreementFiles:
    """Reads the files of one model.

    Args:
        folder: `validation/<model>`.

    Raises:
        StudyError: A table is damaged.
    """
    return AgreementFiles(
        fits=read_table(folder / "calibration_fit.tsv", STATISTICS),
        agreement=read_table(folder / "agreement.tsv", STATISTICS),
        pooled=read_table(folder / "pooled.tsv", POOLED),
        calibration_figure=read_figure(folder / "calibration.svg"),
        agreement_figure=read_figure(folder / "bland_altman.svg"),
        forest_figure=read_figure(folder / "forest.svg"),
    )
