"""Models of the same target against each other: the same slides, the same bootstrap draws of patients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from slidestudy.delong import delong_p
from slidestudy.statistics import Estimate
from slidestudy.validation.measuring import PERCENTILE, Measured
from slidestudy.validation.metrics import draws_of, main_metric, measure_level, rows_of
from slidestudy.validation.paired_differences import LOWER_IS_BETTER, difference_of_draws, holm
from slidestudy.validation.views import View, by_level, cuts, views

COMPARED: dict[str, tuple[str, ...]] = {
    "regression": ("pearson", "spearman", "ccc", "mse", "mae", "auroc"),
    "classification": ("auroc", "average_precision", "brier", "balanced_accuracy"),
    "multiclass": ("auroc_macro", "balanced_accuracy"),
    "multi-regression": ("pearson_mean",),
    "survival-cox": ("c_index", "c_index_uno", "auroc"),
    "survival-discrete": ("c_index", "c_index_uno", "auroc"),
}
"""Task -> the metrics in which models are compared."""
COMPARISON = [
    "model", "rival", "cohort", "role", "level", "metric", "threshold", "better", "difference", "ci_low", "ci_high",
    "p", "p_delong", "p_holm", "p_delong_holm", "value", "rival_value", "n", "n_patients", "n_left_out",
    "undefined_reason",
]  # fmt: skip
CORRECTED = {"p": "p_holm", "p_delong": "p_delong_holm"}
Key = tuple[str, float | None]
"""A metric and its threshold."""


def compare_models(
    predictions: Mapping[str, Mapping[str, pd.DataFrame]], roles: Mapping[str, str], settings: Mapping[str, Any]
) -> pd.DataFrame:
    """A model against each of its rivals, on the slides that both predicted and that have a label.

    Args:
        predictions: The model, then its rivals -> cohort -> predictions, as `models.cohort.predict_cohort` gives them.
        roles: Cohort -> `development` or `external`.
        settings: Of the model: `model rivals task columns cutoffs cutoff_rule bootstrap confidence seed`.

    Returns:
        The columns of COMPARISON; differences are the model's value less the rival's. P-values are corrected over the
        rivals and cohorts of a level, metric and threshold.
    """
    settings, own = {**settings, "interval": PERCENTILE}, settings["model"]
    rows = [
        {"model": own, "rival": rival, "cohort": cohort, "role": role, **row}
        for rival in settings["rivals"]
        for cohort, role in roles.items()
        for row in _compare(predictions[own][cohort], predictions[rival][cohort], settings)
    ]
    table = pd.DataFrame(rows, columns=[name for name in COMPARISON if name not in CORRECTED.values()])
    table["threshold"] = table["threshold"].astype(float)
    for name, corrected in CORRECTED.items():
        table[corrected] = pd.Series(dtype=object)
        for _, part in table.groupby(["level", "metric", "threshold"], sort=False, dropna=False):
            table.loc[part.index, corrected] = holm([None if pd.isna(p) else float(p) for p in part[name]])
    return table[COMPARISON]


def predictions_by_model(
    tables: Sequence[pd.DataFrame], models: Sequence[str], cohorts: Sequence[str]
) -> dict[str, dict[str, pd.DataFrame]]:
    """Groups the rule's input, which lists all cohorts of the first model, then of the second, and so on."""
    if len(tables) != len(models) * len(cohorts):
        raise ValueError(f"{len(tables)} tables for {len(models)} models and {len(cohorts)} cohorts")
    found = iter(tables)
    return {model: {cohort: next(found) for cohort in cohorts} for model in models}


def common_rows(
    first: pd.DataFrame, second: pd.DataFrame, settings: Mapping[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The labelled slides that two models predicted, of each its predictions, in the same order.

    A classification's frozen threshold is blank in both where it is in one, so that they decide on the same slides.
    """
    known = [set(rows_of(views(table, settings))["slide_id"]) for table in (first, second)]
    common = known[0] & known[1]
    own, other = (t[t["slide_id"].isin(common)].sort_values("slide_id", ignore_index=True) for t in (first, second))
    if "threshold" in own and "threshold" in other:
        known_to_both = own["threshold"].notna() & other["threshold"].notna()
        own, other = (t.assign(threshold=t["threshold"].where(known_to_both)) for t in (own, other))
    return own, other


def _compare(first: pd.DataFrame, second: pd.DataFrame, settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of a cohort: both levels, all metrics."""
    whole = [by_level(table, settings) for table in (first, second)]
    common = [by_level(table, settings) for table in common_rows(first, second, settings)]
    for level, own in common[0].items():
        other = common[1][level]
        names = "slide_id" if level == "slide" else "patient_id"
        every = {name for views_of in whole for name in rows_of(views_of[level])[names]}
        left_out = len(every) - rows_of(own)[names].nunique()
        tests = _delong_tests(own, other, settings)
        measured = [_measure(found, settings) for found in (own, other)]
        why = _why_incomparable(own, other)
        for key, mine in measured[0].items():
            row = _difference(mine, measured[1].get(key), why, settings["confidence"])
            # A classification's thresholds are each model's own.
            threshold = None if settings["task"] == "classification" else mine.threshold
            better = "lower" if mine.metric in LOWER_IS_BETTER else "higher"
            keys = {"level": level, "metric": mine.metric, "threshold": threshold, "better": better}
            p = tests.get(threshold) if mine.metric == "auroc" else None
            yield {**keys, **row, "p_delong": p, "n_left_out": left_out}


def _measure(found: Sequence[View], settings: dict[str, Any]) -> dict[Key, Measured]:
    """The metrics of a level that are compared, with their draws."""
    wanted = COMPARED[settings["task"]]
    if len(wanted) == 1:
        measured = [main_metric(found, draws_of(found, settings), settings)]
    else:
        measured = [m for m in measure_level(found, settings) if m.metric in wanted]
    # Of several classes the metrics over all of them, not each class's.
    measured = [m for m in measured if settings["task"] != "multiclass" or not m.target]
    return {(m.metric, None if settings["task"] == "classification" else m.threshold): m for m in measured}


def _why_incomparable(own: Sequence[View], other: Sequence[View]) -> str:
    """Why two models have nothing in common; blank where they have."""
    if rows_of(own).empty or rows_of(other).empty:
        return "no slide with a label has predictions of both"
    same = [view.target for view in own] == [view.target for view in other]
    return "" if same else "the models know different classes"


def _difference(mine: Measured, theirs: Measured | None, why: str, confidence: float) -> dict[str, Any]:
    """The difference of a metric; blank where undefined, with the reason."""
    nothing = Estimate(None, None, None, mine.estimate.n, "undefined for the rival")
    estimates = [mine.estimate, nothing if theirs is None else theirs.estimate]
    row: dict[str, Any] = {"n": mine.estimate.n, "n_patients": mine.patients, "undefined_reason": why}
    row |= {"value": estimates[0].value, "rival_value": estimates[1].value}
    if why:
        return row
    undefined = [estimate.undefined_reason for estimate in estimates if estimate.value is None]
    if undefined or theirs is None or mine.replicates is None or theirs.replicates is None:
        return {**row, "undefined_reason": undefined[0]}
    value = float(row["value"] - row["rival_value"])
    found = difference_of_draws(value, mine.replicates - theirs.replicates, row["n"], mine.patients, confidence)
    return {**row, **found}


def _delong_tests(own: Sequence[View], other: Sequence[View], settings: Mapping[str, Any]) -> dict[float | None, float]:
    """Threshold -> p-value of DeLong's test; none of several targets or classes, or where times are censored."""
    if settings["task"] not in ("regression", "classification"):
        return {}
    found = {}
    for mine, theirs in zip(cuts(own[0], settings), cuts(other[0], settings), strict=True):
        p = delong_p(
            mine.positive, mine.table["prediction"], theirs.table["prediction"], mine.table["patient_id"].to_numpy()
        )
        if p is not None:
            found[mine.threshold] = p
    return found
