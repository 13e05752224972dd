"""Paired differences of metrics between encoders: the same slides, the same bootstrap draws of patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slidestudy import statistics
from slidestudy.delong import delong_p
from slidestudy.difference_statistics import difference_of_draws, holm
from slidestudy.statistics import Statistic
from slidestudy.validation.measuring import BINARY, CONTINUOUS
from slidestudy.validation.views import positives, views

DIFFERENCES = [
    "candidate", "reference", "probe", "cohort", "role", "level", "metric", "better", "difference", "ci_low", "ci_high",
    "p", "p_delong", "p_holm", "n", "n_patients", "undefined_reason",
]  # fmt: skip
LOWER_IS_BETTER = ("mse", "mae", "brier")


def metrics_of(task: str) -> dict[str, Statistic]:
    """The metrics in which encoders are compared."""
    return CONTINUOUS if task == "regression" else BINARY


def paired_difference(
    statistic: Statistic,
    truth: NDArray[np.float64],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    patients: NDArray[Any],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """The difference of a metric between two predictions, with its interval and p-value.

    Both are measured on the same draws of patients.

    Args:
        statistic: A weighted statistic.
        truth: Targets (n,).
        first: Predictions of the candidate (n,).
        second: Predictions of the reference (n,).
        patients: Patient of each row (n,).
        settings: `bootstrap confidence seed`.

    Returns:
        `difference ci_low ci_high p n n_patients undefined_reason`; blank where undefined, with the reason.
    """
    count = len(np.unique(patients))
    row: dict[str, Any] = dict.fromkeys(("difference", "ci_low", "ci_high", "p"))
    row |= {"n": len(truth), "n_patients": count, "undefined_reason": ""}
    bootstrap = {"replicates": settings["bootstrap"], "confidence": settings["confidence"], "seed": settings["seed"]}
    for prediction in (first, second):
        alone = statistics.estimate(statistic, truth, prediction, patients, **{**bootstrap, "replicates": 1})
        if alone.value is None:
            return {**row, "undefined_reason": alone.undefined_reason}

    def difference(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return statistic(truth, first, weights) - statistic(truth, second, weights)

    value = float(difference(np.ones((1, len(truth))))[0])
    draws = difference(statistics.cluster_weights(patients, settings["bootstrap"], settings["seed"]))
    return {**row, **difference_of_draws(value, draws, len(truth), count, settings["confidence"])}


def _truth(target: pd.Series, task: str) -> NDArray[np.float64]:
    """Targets; a patient's class is 1 where more than half of the slides have it, as in `cohort_metrics`."""
    return (target if task == "regression" else positives(target, 0.5, ">")).to_numpy(float)


def compare_with_reference(
    predictions: pd.DataFrame, candidates: Sequence[str], roles: Mapping[str, str], settings: Mapping[str, Any]
) -> pd.DataFrame:
    """Every candidate against the first one, which is the reference since it was named first and for no result.

    Args:
        predictions: `candidate probe cohort slide_id patient_id prediction target`.
        candidates: In the configuration's order.
        roles: Cohort -> role.
        settings: `task bootstrap confidence seed`.

    Returns:
        The columns of DIFFERENCES. P-values are corrected over the candidates and cohorts of a probe, level and metric.
    """
    reference, rows = candidates[0], []
    by_part = {key: part.sort_values("slide_id") for key, part in predictions.groupby(["candidate", "probe", "cohort"])}
    for probe in predictions["probe"].unique():
        for candidate in candidates[1:]:
            for cohort, role in roles.items():
                pair = [by_part.get((name, probe, cohort)) for name in (candidate, reference)]
                if pair[0] is None or pair[1] is None:
                    continue
                slides = [views(table, settings)[0] for table in pair if table is not None]
                levels = {"slide": slides, "patient": [view.per_patient() for view in slides]}
                for level, found_views in levels.items():
                    first, second = (view.table for view in found_views)
                    for metric, statistic in metrics_of(settings["task"]).items():
                        common = {"candidate": candidate, "reference": reference, "probe": probe, "cohort": cohort}
                        better = "lower" if metric in LOWER_IS_BETTER else "higher"
                        truth, patients = _truth(first["truth"], settings["task"]), first["patient_id"].to_numpy()
                        own, other = (table["prediction"].to_numpy(float) for table in (first, second))
                        found = paired_difference(statistic, truth, own, other, patients, settings)
                        found["p_delong"] = delong_p(truth, own, other, patients) if metric == "auroc" else None
                        rows.append(
                            {**common, "role": role, "level": level, "metric": metric, "better": better, **found}
                        )
    table = pd.DataFrame(rows, columns=[name for name in DIFFERENCES if name != "p_holm"])
    table["p_holm"] = pd.Series(dtype=object)
    for _, part in table.groupby(["probe", "level", "metric"], sort=False):
        table.loc[part.index, "p_holm"] = holm([None if pd.isna(p) else float(p) for p in part["p"]])
    return table[DIFFERENCES]
