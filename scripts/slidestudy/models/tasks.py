"""The tasks by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from slidestudy.errors import StudyError
from slidestudy.models.survival import CoxSurvival, DiscreteSurvival, time_cuts
from slidestudy.models.targets import (
    Classification,
    Multiclass,
    Regression,
    Task,
    UnboundedRegression,
    class_name,
)

TASKS = ("regression", "classification", "multiclass", "multi-regression", "survival-cox", "survival-discrete")


def fit_task(settings: Mapping[str, Any], train: pd.DataFrame) -> Task:
    """The task of a model, with what it learns from the training part's labels.

    Args:
        settings: `task`, `target_range` (null: a regression without bounds), `columns` (the label columns in
            `labels`; default `target`, of survival `time event`) and `time_bins` (survival-discrete; default 4).
        train: The training slides' rows of the labels.

    Raises:
        StudyError: The labels do not go with the task, or the task is unknown.
    """
    name = settings["task"]
    columns = tuple(settings.get("columns") or (("time", "event") if name.startswith("survival") else ("target",)))
    if name == "regression" and settings.get("target_range") is not None:
        low, high = map(float, settings["target_range"])
        return Regression(columns, (low, high))
    if name in ("regression", "multi-regression"):
        return _fit_moments(columns, train)
    if name == "classification":
        return Classification(columns)
    if name == "multiclass":
        return Multiclass(columns, tuple(sorted(set(train[columns[0]].map(class_name).dropna()))))
    if name == "survival-cox":
        return CoxSurvival(columns)
    if name == "survival-discrete":
        return DiscreteSurvival(columns, time_cuts(train, columns, int(settings.get("time_bins", 4))))
    raise StudyError(f"unknown task '{name}'", "model", f"known are: {', '.join(TASKS)}")


def _fit_moments(columns: tuple[str, ...], train: pd.DataFrame) -> UnboundedRegression:
    values = train[list(columns)].astype(float)
    deviations = values.std(ddof=0).to_numpy()
    safe = np.where(np.isfinite(deviations) & (deviations > 0), deviations, 1.0)
    means = np.nan_to_num(values.mean().to_numpy())
    return UnboundedRegression(columns, tuple(means.tolist()), tuple(safe.tolist()))


def task_of(card: Mapping[str, Any]) -> Task:
    """The task that a `model.json` describes under `task_card` (see `Task.card`)."""
    kinds = (Regression, UnboundedRegression, Classification, Multiclass, CoxSurvival, DiscreteSurvival)
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in card.items() if key != "name"}
    return {kind.name: kind for kind in kinds}[card["name"]](**values)
