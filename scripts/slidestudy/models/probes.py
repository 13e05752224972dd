"""Probes of slide vectors: a linear model and nearest neighbours, their one parameter chosen on the validation part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

Array = NDArray[np.float64]
Predictor = Callable[[Array], Array]

PENALTIES = tuple(10.0**exponent for exponent in range(-2, 7))
"""Weights of the squared coefficients against the summed loss, on standardised features (our choice)."""
NEIGHBOURS = (1, 2, 3, 5, 8, 13, 21, 34, 55)
"""Numbers of neighbours that are tried (our choice)."""
PROBES = ("linear", "neighbours")
MAX_ITERATIONS = 2000


@dataclass(frozen=True)
class Probe:
    """A fitted probe.

    Attributes:
        kind: `linear` or `neighbours`.
        chosen: The penalty, or the number of neighbours.
        validation_error: Mean squared error on the validation part (for classes the Brier score).
        predict: Vectors (n, dim) -> predictions (n,): the target, or the probability of class 1.
        note: What had to be done otherwise than planned; empty otherwise.
    """

    kind: str
    chosen: float | None
    validation_error: float
    predict: Predictor
    note: str = ""


def fit_probe(
    kind: str,
    train: tuple[Array, Array],
    validation: tuple[Array, Array],
    *,
    task: str,
    target_range: Sequence[float],
) -> Probe:
    """Fits a probe on the training part for each value of its parameter; the validation part chooses among them.

    Features are standardised by the training part. Linear: ridge regression, or logistic regression with an L2
    penalty. Neighbours: the mean target of the k training slides of the highest cosine similarity. What is chosen has
    the least mean squared error on the validation part (of classes: of the probability, the Brier score, which is
    defined with one class too); of equal errors the stronger penalty or the larger k wins.

    Args:
        kind: One of PROBES.
        train: Vectors (n, dim) and targets (n,) of the training part; classes are 0 and 1.
        validation: The same of the validation part.
        task: `regression` or `classification`.
        target_range: Lowest and highest possible target; predictions of a regression are clipped to it.

    Returns:
        The probe. A training part of one class gives its constant, and says so.
    """
    features, target = train
    scaler = StandardScaler().fit(features)
    low, high = target_range if task == "regression" else (0.0, 1.0)
    if task == "classification" and len(np.unique(target)) < 2:
        constant = float(target[0])
        error = float(np.mean((validation[1] - constant) ** 2))
        return Probe(kind, None, error, lambda x: np.full(len(x), constant), "one class in the training part")
    make = {"linear": _linear, "neighbours": _neighbours}[kind]
    known = scaler.transform(features)
    # From the simplest on, so that of equal errors the simplest is kept.
    grid = sorted(PENALTIES if kind == "linear" else [k for k in NEIGHBOURS if k <= len(target)], reverse=True)
    best: tuple[float, float, Predictor] | None = None
    for value in grid:
        predict = make(known, target, value, task)
        error = float(np.mean((np.clip(predict(scaler.transform(validation[0])), low, high) - validation[1]) ** 2))
        if best is None or error < best[0]:
            best = (error, value, predict)
    if best is None:
        raise ValueError("the training part is empty")
    error, chosen, predict = best
    return Probe(kind, chosen, error, lambda x: np.clip(predict(scaler.transform(x)), low, high))


def _linear(features: Array, target: Array, penalty: float, task: str) -> Predictor:
    """Ridge or logistic regression."""
    if task == "regression":
        return Ridge(alpha=penalty).fit(features, target).predict
    model = LogisticRegression(C=1 / penalty, max_iter=MAX_ITERATIONS).fit(features, target.astype(int))
    return lambda x: model.predict_proba(x)[:, 1]


def _neighbours(features: Array, target: Array, count: float, task: str) -> Predictor:
    """The mean target of the nearest slides: of classes, the share of class 1."""
    model = NearestNeighbors(n_neighbors=int(count), metric="cosine", algorithm="brute").fit(features)
    return lambda x: target[model.kneighbors(x, return_distance=False)].mean(axis=1)
