"""The validation of one model over all cohorts of a study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from slidestudy.errors import StudyError
from slidestudy.validation.metrics import TRUTH_COLUMNS, cohort_metrics, compare_with_truth

COMPARABLE = ("regression", "classification")
"""Tasks whose prediction a generated truth can be compared with."""


def validate(
    predictions: Mapping[str, pd.DataFrame],
    roles: Mapping[str, str],
    settings: dict[str, Any],
    truth: pd.DataFrame | None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Metrics of all cohorts, and of generated slides the comparison with their truth.

    Args:
        predictions: Cohort -> predictions.
        roles: Cohort -> `development` or `external`.
        settings: The model's validation settings.
        truth: The table of true values, or None.

    Returns:
        The metrics, and the comparison (no rows where there is no truth).

    Raises:
        StudyError: The truth has not the column that the configuration names, or the task has no single number to
            compare with it.
    """
    metrics = pd.concat([cohort_metrics(t, settings, name, roles[name]) for name, t in predictions.items()])
    column = settings["truth_column"]
    if truth is None or column is None:
        return metrics.reset_index(drop=True), pd.DataFrame(columns=TRUTH_COLUMNS)
    if settings["task"] not in COMPARABLE:
        what = f"the prediction of task {settings['task']} is no single number that could be compared with the truth"
        raise StudyError(what, "truth.columns", "take the model out")
    for needed in ("slide_id", column):
        if needed not in truth.columns:
            raise StudyError(f"the truth table has no column '{needed}'", "truth.columns", "correct the config")
    compared = [compare_with_truth(t, truth, column, settings, name) for name, t in predictions.items()]
    return metrics.reset_index(drop=True), pd.concat(compared, ignore_index=True)
