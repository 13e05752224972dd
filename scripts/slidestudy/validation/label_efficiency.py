"""The headline metric against the number of patients that a model was trained on, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from slidestudy.statistics import MIN_PATIENTS, Array, Estimate, PatientDraws, with_interval
from slidestudy.validation.measuring import Measured
from slidestudy.validation.metrics import MAIN_METRIC, level_views, main_metric, rows_of
from slidestudy.validation.views import PROBABILITY, View

COLUMNS = [
    "cohort", "role", "level", "metric", "fraction", "train_patients", "train_slides", "value", "ci_low", "ci_high",
    "repeats", "repeat_sd", "repeat_low", "repeat_high", "n", "n_patients", "trainings", "failed", "undefined_reason",
    "failures",
]  # fmt: skip
NOT_TRAINED = "no training was possible"
MOST_REASONS = 3
"""Different reasons of failed trainings that a row tells."""


def summarise(
    predictions: pd.DataFrame, shares: pd.DataFrame, roles: Mapping[str, str], settings: dict[str, Any]
) -> pd.DataFrame:
    """The headline metric of every cohort and share, at slide and at patient level.

    A slide that several folds predicted has their mean. The metric is computed for each draw of training patients, and
    its mean over the draws reported; each bootstrap sample of patients is the same for all draws.

    Args:
        predictions: `cohort fraction repeat fold` and the columns of a cohort's predictions, of all folds.
        shares: `fold fraction repeat n_patients n_slides reason` of all trainings.
        roles: Cohort -> `development` or `external`, of all cohorts.
        settings: `task columns bootstrap confidence seed`.

    Returns:
        The columns of COLUMNS. `train_patients` and `train_slides` are means over folds and draws; `repeats` counts
        the draws with a value, `repeat_sd`, `repeat_low` and `repeat_high` are their spread; of `trainings` (folds and
        draws) `failed` were not possible, and `failures` says why. Values are blank where undefined, with the reason.
    """
    rows = []
    for cohort, role in roles.items():
        for fraction, trained in shares.groupby("fraction", sort=True):
            own = predictions[(predictions["cohort"] == cohort) & (predictions["fraction"] == fraction)]
            tables = [over_folds(table) for _, table in own.groupby("repeat", sort=True)]
            common = {"cohort": cohort, "role": role, "fraction": fraction, **_trainings(trained)}
            levels = [level_views(table, settings, cohort) for table in tables]
            for level in ("slide", "patient"):
                point = _point([views[level] for views in levels], settings)
                if point["value"] is None and common["failed"] == common["trainings"]:
                    point["undefined_reason"] = NOT_TRAINED
                rows.append({**common, "level": level, "metric": MAIN_METRIC[settings["task"]], **point})
    return pd.DataFrame(rows, columns=COLUMNS)


def _trainings(trained: pd.DataFrame) -> dict[str, Any]:
    """How a share was trained on: sizes, and which trainings failed."""
    told_of = trained.assign(reason=trained["reason"].fillna("").astype(str))
    failed = told_of[told_of["reason"] != ""]
    told = list(dict.fromkeys(f"fold {fold}: {reason}" for fold, reason in failed[["fold", "reason"]].to_numpy()))
    more = f"; and {len(told) - MOST_REASONS} more" if len(told) > MOST_REASONS else ""
    return {
        "train_patients": float(trained["n_patients"].mean()),
        "train_slides": float(trained["n_slides"].mean()),
        "trainings": len(trained),
        "failed": len(failed),
        "failures": "; ".join(told[:MOST_REASONS]) + more,
    }


def over_folds(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row per slide: the mean of the folds' predictions; of classes that of the highest mean probability.

    A class that a training had no patient of has the probability 0.
    """
    classes = [name for name in predictions if str(name).startswith(PROBABILITY)]
    table = predictions.assign(**{name: predictions[name].fillna(0.0) for name in classes})
    if not table["slide_id"].duplicated().any():
        return table
    numbers = classes or [name for name in table if str(name).split(".")[0] == "prediction"]
    grouped = table.groupby("slide_id", sort=True)
    merged = grouped.first().assign(**{name: grouped[name].mean() for name in numbers})
    if classes:
        merged["prediction"] = merged[classes].idxmax(axis=1).str.removeprefix(PROBABILITY)
    return merged.reset_index()


def _point(repeats: Sequence[Sequence[View]], settings: dict[str, Any]) -> dict[str, Any]:
    """The metric of a cohort and share: mean and spread over the draws of training patients.

    Args:
        repeats: The views of each draw.
        settings: `task bootstrap confidence seed`.
    """
    patients = np.concatenate([rows_of(found)["patient_id"].to_numpy(object) for found in repeats] or [np.empty(0)])
    draws = PatientDraws(patients, settings["bootstrap"], settings["seed"])
    # A draw of another repeat's patients may leave this one without rows.
    with np.errstate(invalid="ignore", divide="ignore"):
        measured = [main_metric(found, draws, settings) for found in repeats]
    found = _mean_of_repeats(measured, settings["confidence"])
    values = np.array([m.estimate.value for m in measured if m.estimate.value is not None])
    several = len(values) > 1
    return {
        **{key: getattr(found, key) for key in ("value", "ci_low", "ci_high", "n", "undefined_reason")},
        "repeats": len(values),
        "repeat_sd": float(values.std(ddof=1)) if several else None,
        "repeat_low": float(values.min()) if several else None,
        "repeat_high": float(values.max()) if several else None,
        "n_patients": max((m.patients for m in measured), default=0),
    }


def _mean_of_repeats(measured: Sequence[Measured], confidence: float) -> Estimate:
    """The mean of the draws that have a value, with the interval of that mean."""
    rows = max((m.estimate.n for m in measured), default=0)
    defined = [m for m in measured if m.estimate.value is not None]
    if not defined:
        reasons = dict.fromkeys(m.estimate.undefined_reason for m in measured)
        return Estimate(None, None, None, rows, "; ".join(reasons) or "no rows")
    value = float(np.mean([m.estimate.value for m in defined]))
    patients = max(m.patients for m in defined)
    if patients < MIN_PATIENTS:
        return Estimate(value, None, None, rows, f"no interval: {patients} patients")
    return with_interval(
        value, _mean_defined([m.replicates for m in defined if m.replicates is not None]), confidence, rows
    )


def _mean_defined(replicates: Sequence[Array]) -> Array:
    """The mean in each bootstrap sample (b,) over the draws that are defined in it."""
    stacked = np.stack(replicates)
    known = np.isfinite(stacked)
    with np.errstate(invalid="ignore"):
        return np.where(known, stacked, 0).sum(0) / known.sum(0)
