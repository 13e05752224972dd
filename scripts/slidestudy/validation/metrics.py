"""Metrics of a model on a cohort, each with a patient-clustered bootstrap interval."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from slidestudy import statistics
from slidestudy.statistics import Estimate, Statistic

CONTINUOUS: dict[str, Statistic] = {
    "pearson": statistics.pearson,
    "spearman": statistics.spearman,
    "ccc": statistics.concordance,
    "mse": statistics.mean_squared_error,
    "mae": statistics.mean_absolute_error,
}
BINARY: dict[str, Statistic] = {"auroc": statistics.auroc, "average_precision": statistics.average_precision}
COLUMNS = [
    "cohort", "role", "level", "metric", "threshold", "value", "ci_low", "ci_high", "n", "n_patients", "n_positive",
    "undefined_reason",
]  # fmt: skip
TRUTH_COLUMNS = ["cohort", "comparison", "metric", "value", "ci_low", "ci_high", "n", "undefined_reason"]


def to_patients(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row per patient: the mean of the patient's slides' predictions and targets.

    Args:
        predictions: `patient_id prediction target` and more.
    """
    return predictions.groupby("patient_id", sort=True, as_index=False)[["prediction", "target"]].mean()


def positives(target: pd.Series, cutoff: float, rule: str) -> pd.Series:
    """Which targets count as positive at a cut-off, by the rule `>` or `>=`."""
    # Targets such as 0.3 * 100 are not exactly 30: differences below a millionth are rounding.
    gap = target - cutoff
    return gap > 1e-6 if rule == ">" else gap > -1e-6


def _row(estimate: Estimate, **rest: Any) -> dict[str, Any]:
    """A table row of an estimate."""
    keys = ("value", "ci_low", "ci_high", "undefined_reason")
    return {**rest, **{key: getattr(estimate, key) for key in keys}, "n": estimate.n}


def cohort_metrics(predictions: pd.DataFrame, settings: dict[str, Any], cohort: str, role: str) -> pd.DataFrame:
    """All metrics of a cohort at slide and patient level.

    Args:
        predictions: `slide_id patient_id prediction target`; rows without a target are left out.
        settings: `task cutoffs cutoff_rule bootstrap confidence seed`.
        cohort: Its name.
        role: `development` (test-fold predictions) or `external` (ensemble).

    Returns:
        The columns of COLUMNS; values blank where undefined, with the reason.
    """
    labelled = predictions[predictions["target"].notna() & predictions["prediction"].notna()]
    rows = []
    bootstrap = {"replicates": settings["bootstrap"], "confidence": settings["confidence"], "seed": settings["seed"]}
    for level, table in (("slide", labelled), ("patient", to_patients(labelled))):
        y, p, patients = table["target"], table["prediction"].to_numpy(), table["patient_id"].to_numpy()
        common = {"cohort": cohort, "role": role, "level": level, "n_patients": len(np.unique(patients))}
        if settings["task"] == "regression":
            for name, statistic in CONTINUOUS.items():
                found = statistics.estimate(statistic, y, p, patients, **bootstrap)
                rows.append(_row(found, **common, metric=name, threshold=None, n_positive=None))
        cutoffs = settings["cutoffs"] if settings["task"] == "regression" else [0.5]
        for cutoff in cutoffs:
            label = positives(y, cutoff, settings["cutoff_rule"])
            for name, statistic in BINARY.items():
                found = statistics.estimate(statistic, label, p, patients, **bootstrap)
                threshold = cutoff if settings["task"] == "regression" else None
                rows.append(_row(found, **common, metric=name, threshold=threshold, n_positive=int(label.sum())))
    return pd.DataFrame(rows, columns=COLUMNS)


def compare_with_truth(
    predictions: pd.DataFrame, truth: pd.DataFrame, column: str, settings: dict[str, Any], cohort: str
) -> pd.DataFrame:
    """How close predictions, and the labels they were trained on, come to the generated truth.

    Args:
        predictions: `slide_id patient_id prediction target`.
        truth: `slide_id` and the column of true values.
        column: That column.
        settings: `bootstrap confidence seed`.
        cohort: The cohort's name.

    Returns:
        The columns of TRUTH_COLUMNS.
    """
    table = predictions.merge(truth[["slide_id", column]], on="slide_id", how="inner")
    bootstrap = {"replicates": settings["bootstrap"], "confidence": settings["confidence"], "seed": settings["seed"]}
    rows = []
    for comparison, source in (("prediction", "prediction"), ("label", "target")):
        known = table[table[source].notna() & table[column].notna()]
        for metric in ("pearson", "ccc", "mae"):
            found = statistics.estimate(
                CONTINUOUS[metric], known[column], known[source], known["patient_id"], **bootstrap
            )
            rows.append(_row(found, cohort=cohort, comparison=comparison, metric=metric))
    return pd.DataFrame(rows, columns=TRUTH_COLUMNS)
