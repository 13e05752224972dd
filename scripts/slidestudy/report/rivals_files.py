"""Reads how a model compares with the other models of its target."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from slidestudy.report.tables import read_table

COMPARISON = (
    "rival", "cohort", "level", "metric", "threshold", "better", "difference", "ci_low", "ci_high", "p_holm",
    "p_delong_holm", "value", "rival_value", "n", "n_left_out", "undefined_reason",
)  # fmt: skip


def read_comparison_of_models(folder: Path, rivals: list[str]) -> pd.DataFrame:
    """Reads the comparison of one model; no rows where it has no rival.

    Args:
        folder: `validation/<model>`.
        rivals: The rivals that the study has now; a table of an earlier configuration may name others.

    Returns:
        The columns COMPARISON.

    Raises:
        StudyError: The table is damaged.
    """
    table = read_table(folder / "comparison.tsv", COMPARISON)
    return table[table["rival"].isin(rivals)]
