"""Metrics of a model on a cohort, each with a patient-clustered bootstrap interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from slidestudy import statistics
from slidestudy.statistics import Estimate, PatientDraws
from slidestudy.validation.measuring import (
    CONTINUOUS,
    PERCENTILE,
    Measured,
    estimate_row,
    measure_classes,
    measure_view,
)
from slidestudy.validation.views import View, by_level, of_several_labels

SUMMARIES = {
    "multiclass": {"auroc": "auroc_macro", "average_precision": "average_precision_macro"},
    "multi-regression": {
        "pearson": "pearson_mean",
        "spearman": "spearman_mean",
        "explained_variance": "explained_variance_mean",
    },
}
"""Task -> metric of each target -> its mean over the targets."""
MAIN_METRIC = {
    "regression": "pearson",
    "classification": "auroc",
    "multiclass": "auroc_macro",
    "multi-regression": "pearson_mean",
    "survival-cox": "c_index",
    "survival-discrete": "c_index",
}
"""Task -> its headline metric, in the row without a target and a threshold."""
COLUMNS = [
    "cohort", "role", "level", "metric", "target", "threshold", "value", "ci_low", "ci_high", "n", "n_patients",
    "n_positive", "n_targets", "undefined_reason",
]  # fmt: skip
MOST_LISTED = 20
"""Most patients that the log names."""
TRUTH_COLUMNS = ["cohort", "comparison", "metric", "value", "ci_low", "ci_high", "n", "undefined_reason"]


def cohort_metrics(predictions: pd.DataFrame, settings: dict[str, Any], cohort: str, role: str) -> pd.DataFrame:
    """All metrics of a cohort at slide and patient level.

    Args:
        predictions: As `models.cohort.predict_cohort` gives them; rows without a label are left out.
        settings: `task columns cutoffs cutoff_rule bootstrap confidence interval seed`.
        cohort: Its name.
        role: `development` (test-fold predictions) or `external` (ensemble).

    Returns:
        The columns of COLUMNS; values blank where undefined, with the reason.
    """
    rows = [
        {"cohort": cohort, "role": role, "level": level, **measured.row()}
        for level, found in level_views(predictions, settings, cohort).items()
        for measured in measure_level(found, settings)
    ]
    counts = dict.fromkeys(("n_positive", "n_targets"), "Int64")
    return pd.DataFrame(rows, columns=COLUMNS).astype(counts)


def level_views(predictions: pd.DataFrame, settings: dict[str, Any], cohort: str) -> dict[str, list[View]]:
    """The views of a cohort's slides and of its patients, by level.

    Args:
        predictions: As `models.cohort.predict_cohort` gives them.
        settings: `task columns`.
        cohort: Its name, for the log.
    """
    ambiguous = of_several_labels(predictions, settings)
    if ambiguous:
        more = f" and {len(ambiguous) - MOST_LISTED} more" if len(ambiguous) > MOST_LISTED else ""
        names = ", ".join(ambiguous[:MOST_LISTED]) + more
        print(f"{cohort}: left out at patient level, as their slides have different labels: {names}")
    return by_level(predictions, settings)


def rows_of(found: Sequence[View]) -> pd.DataFrame:
    """The rows of all views together, each once: `slide_id` (at slide level) and `patient_id`."""
    names = ["slide_id", "patient_id"] if all("slide_id" in view.table for view in found) else ["patient_id"]
    return pd.concat([view.table[names] for view in found]).drop_duplicates() if found else pd.DataFrame(columns=names)


def draws_of(found: Sequence[View], settings: Mapping[str, Any]) -> PatientDraws:
    """The draws of the patients of a level.

    Args:
        found: Its views.
        settings: `bootstrap seed`.
    """
    return PatientDraws(rows_of(found)["patient_id"].to_numpy(object), settings["bootstrap"], settings["seed"])


def main_metric(found: Sequence[View], draws: PatientDraws, settings: dict[str, Any]) -> Measured:
    """The headline metric alone, as `cohort_metrics` has it where the draws are the same.

    Args:
        found: The views of a level.
        draws: Draws of patients, all of the views' among them.
        settings: `task confidence`.
    """
    name, rows = MAIN_METRIC[settings["task"]], rows_of(found)
    of_target = next((m for m, mean in SUMMARIES.get(settings["task"], {}).items() if mean == name), name)
    # Its draws are what is asked for; a jackknife of each target would go unused.
    alone = {**settings, "cutoffs": [], "interval": PERCENTILE}
    each = [m for v in found for m in measure_view(v, draws, alone, of_target)]
    if of_target == name:
        return each[0]
    return _mean(each, name, (len(rows), rows["patient_id"].nunique()), settings)


def measure_level(found: Sequence[View], settings: dict[str, Any]) -> list[Measured]:
    """The metrics of all targets on the same draws of patients, the summaries first.

    Args:
        found: The views of a level.
        settings: `task cutoffs cutoff_rule bootstrap confidence interval seed`.
    """
    rows, draws = rows_of(found), draws_of(found, settings)
    each = [measured for view in found for measured in measure_view(view, draws, settings)]
    size = (len(rows), rows["patient_id"].nunique())
    summaries = [
        _mean([m for m in each if m.metric == metric and m.threshold is None], name, size, settings)
        for metric, name in SUMMARIES.get(settings["task"], {}).items()
    ]
    if settings["task"] == "multiclass":
        overall, *decided = measure_classes(found, draws, settings)
        summaries.insert(1, overall)
        each += decided
    return summaries + each


def _mean(each: Sequence[Measured], name: str, size: tuple[int, int], settings: dict[str, Any]) -> Measured:
    """The mean of a metric over the targets for which it is defined, always with a percentile interval.

    Args:
        each: The metric of each target.
        name: The mean's name.
        size: Rows and patients of all targets together.
        settings: `confidence`.
    """
    rows, patients = size
    defined = [m for m in each if m.estimate.value is not None]
    if not defined:
        reasons = {m.estimate.undefined_reason for m in each}
        reason = reasons.pop() if len(reasons) == 1 else "undefined for every target" if each else "no rows"
        return Measured(name, Estimate(None, None, None, rows, reason), patients, targets=0)
    value = float(np.mean([m.estimate.value for m in defined]))
    if patients < statistics.MIN_PATIENTS:
        estimate = Estimate(value, None, None, rows, f"no interval: {patients} patients")
        return Measured(name, estimate, patients, targets=len(defined))
    replicates = np.stack([m.replicates for m in defined if m.replicates is not None])
    known = np.isfinite(replicates)
    with np.errstate(invalid="ignore"):
        # A target that is undefined in a sample is left out of that sample's mean.
        means = np.where(known, replicates, 0).sum(0) / known.sum(0)
    # Drawing patients twice moves every target a little the same way, and a mean over hundreds would show little else:
    # the samples are moved back to the value that they are about. All these metrics are at most 1.
    about = np.minimum(means - np.nanmean(means) + value, 1.0)
    estimate = statistics.with_interval(value, about, settings["confidence"], rows)
    return Measured(name, estimate, patients, targets=len(defined), replicates=about)


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
            rows.append(estimate_row(found, cohort=cohort, comparison=comparison, metric=metric))
    return pd.DataFrame(rows, columns=TRUTH_COLUMNS)
