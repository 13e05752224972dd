"""Reads which heatmaps a model has."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from slidestudy.report.tables import read_table

HEATMAPS = (
    "slide_id", "patient_id", "why", "prediction", "label", "prediction_sd", "error", "tiles", "score_low",
    "score_high", "attention_low", "attention_high", "undefined_reason",
)  # fmt: skip


def read_heatmaps(folder: Path, model: str, cohorts: list[str]) -> dict[str, pd.DataFrame]:
    """Cohort -> the slides with heatmaps, columns HEATMAPS, of the cohorts that have some.

    Args:
        folder: The results folder.
        model: The model.
        cohorts: The study's cohorts.

    Raises:
        StudyError: A table is damaged.
    """
    found = {cohort: read_table(folder / "heatmaps" / model / cohort / "heatmaps.tsv", HEATMAPS) for cohort in cohorts}
    return {cohort: table for cohort, table in found.items() if len(table)}
