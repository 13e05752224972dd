"""Over what the parts are balanced, task by task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slidestudy.labels import CLASSES, is_survival

STRATA = 4
"""Quantile groups of a continuous target over which parts are balanced (our choice)."""


def discrete_labels(labels: pd.DataFrame, task: str, columns: Sequence[str]) -> pd.Series | None:
    """The class, or whether the event happened; None for continuous targets."""
    if task in CLASSES:
        return labels[columns[0]]
    return labels[columns[1]].astype(int) if is_survival(task) else None


def _quantile_groups(values: pd.Series, folds: int) -> pd.Series:
    """The quantile group of every value, by rank: equal values may fall into two groups."""
    count = max(1, min(STRATA, len(values) // folds))
    return pd.qcut(values.rank(method="first"), count, labels=False)


def first_component(table: pd.DataFrame) -> NDArray[np.float64]:
    """The first principal component of several targets' standardised ranks; a missing one counts as average.

    Args:
        table: (n_slides, n_targets).

    Returns:
        One value per slide.
    """
    ranks = table.rank()
    scaled = ((ranks - ranks.mean()) / ranks.std(ddof=0).replace(0, 1)).fillna(0).to_numpy()
    direction = np.linalg.svd(scaled, full_matrices=False)[2][0]
    # The sign of a component is arbitrary, and its last digits are noise.
    return np.round(scaled @ direction * (1 if direction.sum() >= 0 else -1), 9)


def label_strata(labels: pd.DataFrame, task: str, columns: Sequence[str], folds: int) -> NDArray[np.int64]:
    """The stratum of every slide.

    Classification: the class. Regression: the quantile group of the target. Survival: the event and the quantile
    group of time among those with the same. Several targets: the quantile group of their first principal component.

    Args:
        labels: The labelled slides.
        task: The model's task.
        columns: The columns of the labels; of survival the time and the event.
        folds: Strata have at least about as many slides; classes too small to reach any fold are one stratum.

    Returns:
        Numbers from 0, (n_slides,).
    """
    if task in CLASSES:
        codes, _ = pd.factorize(labels[columns[0]], sort=True)
    elif is_survival(task):
        time, event = columns
        groups = labels[time].groupby(labels[event]).transform(lambda times: _quantile_groups(times, folds))
        codes = (labels[event].astype(int) * STRATA + groups.astype(int)).to_numpy()
    else:
        several = task == "multi-regression"
        values = pd.Series(first_component(labels[list(columns)])) if several else labels[columns[0]]
        return _quantile_groups(values, folds).to_numpy(np.int64)
    return codes.astype(np.int64) if np.bincount(codes).max() >= folds else np.zeros(len(codes), np.int64)
