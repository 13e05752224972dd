"""Metrics of a model on a cohort, each with a patient-clustered bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slidestudy import statistics
from slidestudy.statistics import Estimate, PatientDraws, Statistic
from slidestudy.survival_statistics import harrells_c, why_nothing_is_ranked
from slidestudy.validation.views import View, cuts, of_several_labels, views

CONTINUOUS: dict[str, Statistic] = {
    "pearson": statistics.pearson,
    "spearman": statistics.spearman,
    "ccc": statistics.concordance,
    "mse": statistics.mean_squared_error,
    "mae": statistics.mean_absolute_error,
    "explained_variance": statistics.explained_variance,
}
BINARY: dict[str, Statistic] = {"auroc": statistics.auroc, "average_precision": statistics.average_precision}
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


@dataclass(frozen=True)
class Measured:
    """A metric on the rows of a level.

    Attributes:
        metric: Its name.
        estimate: Its value and interval.
        patients: Patients of the rows, each once.
        target: The target or class; empty for the model's only one, and for a summary.
        threshold: The cut-off, where there is one.
        positive: Rows of class 1, or events, where that means something.
        targets: Targets or classes of a mean.
        replicates: The value in each bootstrap sample (b,).
    """

    metric: str
    estimate: Estimate
    patients: int
    target: str = ""
    threshold: float | None = None
    positive: int | None = None
    targets: int | None = None
    replicates: NDArray[np.float64] | None = None

    def row(self) -> dict[str, Any]:
        """The row of a table."""
        own = {"metric": self.metric, "target": self.target, "threshold": self.threshold, "n_patients": self.patients}
        return {**_row(self.estimate), **own, "n_positive": self.positive, "n_targets": self.targets}


def _row(estimate: Estimate, **rest: Any) -> dict[str, Any]:
    """A table row of an estimate."""
    keys = ("value", "ci_low", "ci_high", "undefined_reason")
    return {**rest, **{key: getattr(estimate, key) for key in keys}, "n": estimate.n}


def cohort_metrics(predictions: pd.DataFrame, settings: dict[str, Any], cohort: str, role: str) -> pd.DataFrame:
    """All metrics of a cohort at slide and patient level.

    Args:
        predictions: As `models.cohort.predict_cohort` gives them; rows without a label are left out.
        settings: `task columns cutoffs cutoff_rule bootstrap confidence seed`.
        cohort: Its name.
        role: `development` (test-fold predictions) or `external` (ensemble).

    Returns:
        The columns of COLUMNS; values blank where undefined, with the reason.
    """
    rows = [
        {"cohort": cohort, "role": role, "level": level, **measured.row()}
        for level, found in level_views(predictions, settings, cohort).items()
        for measured in _measure_level(found, settings)
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
    clear = predictions[~predictions["patient_id"].isin(ambiguous)]
    return {"slide": views(predictions, settings), "patient": [v.per_patient() for v in views(clear, settings)]}


def rows_of(found: Sequence[View]) -> pd.DataFrame:
    """The rows of all views together, each once: `slide_id` (at slide level) and `patient_id`."""
    names = ["slide_id", "patient_id"] if all("slide_id" in view.table for view in found) else ["patient_id"]
    return pd.concat([view.table[names] for view in found]).drop_duplicates() if found else pd.DataFrame(columns=names)


def main_metric(found: Sequence[View], draws: PatientDraws, settings: dict[str, Any]) -> Measured:
    """The headline metric alone, as `cohort_metrics` has it where the draws are the same.

    Args:
        found: The views of a level.
        draws: Draws of patients, all of the views' among them.
        settings: `task confidence`.
    """
    name, rows = MAIN_METRIC[settings["task"]], rows_of(found)
    of_target = next((m for m, mean in SUMMARIES.get(settings["task"], {}).items() if mean == name), name)
    each = [m for v in found for m in _measure_view(v, draws, {**settings, "cutoffs": []}, of_target)]
    if of_target == name:
        return each[0]
    return _mean(each, name, (len(rows), rows["patient_id"].nunique()), settings)


def _measure_level(found: Sequence[View], settings: dict[str, Any]) -> list[Measured]:
    """The metrics of all targets on the same draws of patients, the summaries first."""
    rows = rows_of(found)
    draws = PatientDraws(rows["patient_id"].to_numpy(object), settings["bootstrap"], settings["seed"])
    each = [measured for view in found for measured in _measure_view(view, draws, settings)]
    size = (len(rows), rows["patient_id"].nunique())
    summaries = [
        _mean([m for m in each if m.metric == metric and m.threshold is None], name, size, settings)
        for metric, name in SUMMARIES.get(settings["task"], {}).items()
    ]
    if settings["task"] == "multiclass":
        summaries.insert(1, _balanced_accuracy(found, draws, settings))
    return summaries + each


def _measure_view(view: View, draws: PatientDraws, settings: dict[str, Any], only: str | None = None) -> list[Measured]:
    """The metrics of one target, or only the one named."""
    table, confidence = view.table, settings["confidence"]
    truth, predicted, patients = (table[name].to_numpy() for name in ("truth", "prediction", "patient_id"))
    weights, count = draws.weights(patients), len(np.unique(patients))
    found = []
    if view.kind == "survival":
        event = table["event"].to_numpy(float)
        c, replicates = statistics.measure(
            harrells_c(event), truth, predicted, patients, weights, confidence, why_nothing_is_ranked
        )
        found.append(Measured("c_index", c, count, view.target, positive=int(event.sum()), replicates=replicates))
    if view.kind == "continuous":
        for name, statistic in CONTINUOUS.items() if only is None else [(only, CONTINUOUS[only])]:
            estimate, replicates = statistics.measure(statistic, truth, predicted, patients, weights, confidence)
            found.append(Measured(name, estimate, count, view.target, replicates=replicates))
    for cut in cuts(view, settings):
        known = cut.table["patient_id"].to_numpy()
        score, at, positive = cut.table["prediction"], draws.weights(known), int(cut.positive.sum())
        for name in [only] if only else ["auroc"] if view.kind == "survival" else BINARY:
            estimate, replicates = statistics.measure(BINARY[name], cut.positive, score, known, at, confidence)
            size = len(np.unique(known))
            keys: dict[str, Any] = {"threshold": cut.threshold, "positive": positive, "replicates": replicates}
            found.append(Measured(name, estimate, size, view.target, **keys))
    return found


def _mean(each: Sequence[Measured], name: str, size: tuple[int, int], settings: dict[str, Any]) -> Measured:
    """The mean of a metric over the targets for which it is defined.

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


def _balanced_accuracy(found: Sequence[View], draws: PatientDraws, settings: dict[str, Any]) -> Measured:
    """Balanced accuracy of the most probable class, from the views of all classes, whose rows are the same."""
    if not found:
        return Measured("balanced_accuracy", Estimate(None, None, None, 0, "no rows"), 0)
    truths = np.column_stack([view.table["truth"] for view in found])
    predicted = np.column_stack([view.table["prediction"] for view in found]).argmax(1) if len(truths) else []
    # Classes that the model does not know are one more class, which it always misses.
    truth = np.where(truths.any(1), truths.argmax(1), truths.shape[1])
    patients = found[0].table["patient_id"].to_numpy()
    estimate, replicates = statistics.measure(
        statistics.balanced_accuracy,
        truth,
        predicted,
        patients,
        draws,
        settings["confidence"],
        lambda *_: "one class only",
    )
    return Measured("balanced_accuracy", estimate, len(np.unique(patients)), replicates=replicates)


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
