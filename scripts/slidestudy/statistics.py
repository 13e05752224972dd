"""Weighted statistics that run over all bootstrap replicates at once, and patient-clustered intervals.

Every statistic takes integer weights of shape (replicates, n): how often each row was drawn. The point
estimate is the same function with all weights 1, so an interval and its estimate cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slidestudy.bca import bca_ends

Array = NDArray[np.float64]
Statistic = Callable[[Array, Array, Array], Array]
"""A function of truth (n,), prediction (n,) and weights (b, n) that returns (b,); NaN where undefined."""

MIN_PATIENTS = 3
"""Fewest patients with which an interval is given."""


@dataclass(frozen=True)
class Estimate:
    """A statistic with its bootstrap interval.

    Attributes:
        value: The estimate, or None where undefined.
        ci_low: Lower end of the interval, or None.
        ci_high: Upper end, or None.
        n: Rows used.
        undefined_reason: Why the value, or its interval, is missing; empty otherwise.
    """

    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    undefined_reason: str = ""


def moments(y: Array, p: Array, w: Array) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Weight sums, means, and variances and covariance with n - 1, each (b,)."""
    n = w.sum(1)
    mean_y, mean_p = w @ y / n, w @ p / n
    with np.errstate(invalid="ignore", divide="ignore"):
        var_y = np.maximum(w @ y**2 - n * mean_y**2, 0) / (n - 1)
        var_p = np.maximum(w @ p**2 - n * mean_p**2, 0) / (n - 1)
        cov = (w @ (y * p) - n * mean_y * mean_p) / (n - 1)
    return n, mean_y, mean_p, var_y, var_p, cov


def centred(values: Array) -> tuple[Array, float]:
    """Values moved to mean 0, so that sums of squares keep their precision, and the mean."""
    mean = float(values.mean()) if len(values) else 0.0
    return values - mean, mean


def is_flat(variance: Array, scale: Array) -> NDArray[np.bool_]:
    """Whether a variance is zero but for rounding."""
    return variance <= 1e-12 * max(float(np.mean(scale**2)), 1e-300)


def pearson(y: Array, p: Array, w: Array) -> Array:
    """Pearson correlation; undefined where either side is constant."""
    y, p = centred(y)[0], centred(p)[0]
    _, _, _, var_y, var_p, cov = moments(y, p, w)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = cov / np.sqrt(var_y * var_p)
    return np.where(is_flat(var_y, y) | is_flat(var_p, p), np.nan, np.clip(r, -1, 1))


def _ranks(values: Array, drawn: Array) -> Array:
    """Weighted mid-ranks (n, b) about their mean: the mean rank that a row's copies have in each replicate.

    Args:
        values: (n,).
        drawn: Weights, rows first (n, b).
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    weights = drawn[order]
    new = np.r_[True, ordered[1:] != ordered[:-1]]
    if tied := not new.all():
        weights = np.add.reduceat(weights, np.flatnonzero(new), axis=0)
    ranks = np.cumsum(weights, axis=0)
    total = ranks[-1] / 2
    weights /= 2
    ranks -= weights
    ranks -= total
    placed = np.empty_like(drawn)
    placed[order] = ranks[np.cumsum(new) - 1] if tied else ranks
    return placed


def spearman(y: Array, p: Array, w: Array) -> Array:
    """Spearman correlation: Pearson correlation of mid-ranks."""
    if len(y) == 0:
        return np.full(len(w), np.nan)
    drawn = np.ascontiguousarray(w.T)
    ry, rp = _ranks(y, drawn), _ranks(p, drawn)
    var_y, var_p, cov = (np.einsum("nb,nb,nb->b", drawn, *pair) for pair in ((ry, ry), (rp, rp), (ry, rp)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((var_y > 0) & (var_p > 0), np.clip(cov / np.sqrt(var_y * var_p), -1, 1), np.nan)


def mean_squared_error(y: Array, p: Array, w: Array) -> Array:
    """Mean squared error, in the square of the target's unit."""
    return w @ (y - p) ** 2 / w.sum(1)


def mean_absolute_error(y: Array, p: Array, w: Array) -> Array:
    """Mean absolute error, in the target's unit."""
    return w @ np.abs(y - p) / w.sum(1)


def explained_variance(y: Array, p: Array, w: Array) -> Array:
    """1 - Var(y - p) / Var(y); undefined for a constant truth."""
    cy, ce = centred(y)[0], centred(y - p)[0]
    _, _, _, var_y, var_e, _ = moments(cy, ce, w)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(is_flat(var_y, cy), np.nan, 1 - var_e / var_y)


def _tie_groups(p: Array, y: Array, w: Array) -> tuple[Array, Array]:
    """Weights of positives and negatives per distinct prediction, highest first, each (b, groups)."""
    order = np.argsort(-p, kind="stable")
    ordered = p[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    positive = np.add.reduceat(w[:, order] * (y[order] > 0), starts, axis=1)
    negative = np.add.reduceat(w[:, order] * (y[order] <= 0), starts, axis=1)
    return positive, negative


def auroc(y: Array, p: Array, w: Array) -> Array:
    """Area under the ROC curve, ties counted half; undefined with one class only. `y` is 0 or 1."""
    if len(y) == 0:
        return np.full(len(w), np.nan)
    positive, negative = _tie_groups(p, y, w)
    negatives_below = negative.sum(1, keepdims=True) - np.cumsum(negative, axis=1)
    wins = (positive * (negatives_below + negative / 2)).sum(1)
    pairs = positive.sum(1) * negative.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pairs > 0, wins / pairs, np.nan)


def average_precision(y: Array, p: Array, w: Array) -> Array:
    """Average precision: precision at each distinct score, weighted by the gain in recall. `y` is 0 or 1."""
    if len(y) == 0:
        return np.full(len(w), np.nan)
    positive, negative = _tie_groups(p, y, w)
    hits, seen = np.cumsum(positive, axis=1), np.cumsum(positive + negative, axis=1)
    total = positive.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(seen > 0, hits / seen, 0)
        defined = (total > 0) & (negative.sum(1) > 0)
        return np.where(defined, (positive * precision).sum(1) / total, np.nan)


def balanced_accuracy(y: Array, p: Array, w: Array) -> Array:
    """Mean over the classes that are there of the share of rows predicted rightly; undefined with one class only.

    `y` and `p` are numbers of classes.
    """
    own = (y[:, None] == np.unique(y)).astype(float)
    total, right = w @ own, w @ (own * (y == p)[:, None])
    there = total > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = np.where(there, right / total, 0).sum(1) / there.sum(1)
    return np.where(there.sum(1) > 1, recall, np.nan)


class PatientDraws:
    """Bootstrap samples of whole patients, drawn once and the same for all that is measured with them."""

    def __init__(self, patients: ArrayLike, replicates: int, seed: int) -> None:
        """Draws.

        Args:
            patients: The patients to draw from; each counts once, however often it stands there.
            replicates: Bootstrap samples b.
            seed: Seed of the draw.
        """
        self._patients = np.unique(np.asarray(patients))
        count = len(self._patients)
        draws: NDArray[np.int64] = np.zeros((replicates, 0), np.int64)
        if count:
            draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), replicates)
        # Rows first: the statistics sort and sum rows, and read this layout fastest.
        self._draws = np.ascontiguousarray(draws.T, dtype=float)

    def weights(self, patients: ArrayLike) -> Array:
        """How often each row's patient was drawn, (b, n).

        Args:
            patients: Patient of each row (n,), all of those drawn from.
        """
        return self._draws[np.searchsorted(self._patients, np.asarray(patients))].T


def cluster_weights(clusters: ArrayLike, replicates: int, seed: int) -> Array:
    """Bootstrap weights that draw whole patients with replacement.

    Args:
        clusters: Patient of each row, shape (n,).
        replicates: Number of bootstrap samples b.
        seed: Seed of the draw.

    Returns:
        Weights (b, n): how often the row's patient was drawn.
    """
    return PatientDraws(clusters, replicates, seed).weights(clusters)


def estimate(
    statistic: Statistic,
    truth: ArrayLike,
    prediction: ArrayLike,
    clusters: ArrayLike,
    *,
    replicates: int,
    confidence: float,
    seed: int,
) -> Estimate:
    """A statistic with its patient-clustered percentile bootstrap interval.

    Args:
        statistic: One of the weighted statistics of this module.
        truth: Targets (n,).
        prediction: Predictions (n,).
        clusters: Patient of each row (n,).
        replicates: Bootstrap samples.
        confidence: Coverage of the interval, e.g. 0.95.
        seed: Seed of the bootstrap.

    Returns:
        The estimate; undefined with the reason rather than 0 or NaN.
    """
    return measure(statistic, truth, prediction, clusters, PatientDraws(clusters, replicates, seed), confidence)[0]


def measure(
    statistic: Statistic,
    truth: ArrayLike,
    prediction: ArrayLike,
    patients: ArrayLike,
    draws: PatientDraws | Array,
    confidence: float,
    why: Callable[[Array, Array], str] | None = None,
    left_out: Array | None = None,
) -> tuple[Estimate, Array]:
    """A statistic on given draws, so that several are measured on the same ones.

    Args:
        statistic: A weighted statistic.
        truth: Targets (n,).
        prediction: Predictions (n,).
        patients: Patient of each row (n,).
        draws: The draws, or their weights (b, n).
        confidence: Coverage of the interval.
        why: The reason for an undefined value, from truth and prediction; `why_undefined` where absent.
        left_out: Weights of the jackknife (`bca.leave_one_out`), for a BCa interval; None for a percentile interval.

    Returns:
        The estimate, and its value in each replicate (b,), NaN where undefined.
    """
    y, p = np.asarray(truth, float), np.asarray(prediction, float)
    if y.shape != p.shape or y.ndim != 1:
        raise ValueError(f"truth and prediction must be vectors of one length, not {y.shape} and {p.shape}")
    weights = draws.weights(patients) if isinstance(draws, PatientDraws) else draws
    nothing = np.full(len(weights), np.nan)
    if len(y) == 0:
        return Estimate(None, None, None, 0, "no rows"), nothing
    value = float(statistic(y, p, np.ones((1, len(y))))[0])
    if not np.isfinite(value):
        return Estimate(None, None, None, len(y), (why or why_undefined)(y, p)), nothing
    found = statistic(y, p, weights)
    count = len(np.unique(np.asarray(patients)))
    if count < MIN_PATIENTS:
        return Estimate(value, None, None, len(y), f"no interval: {count} patients"), found
    jackknife = None if left_out is None else statistic(y, p, left_out)
    return with_interval(value, found, confidence, len(y), jackknife), found


def with_interval(value: float, draws: Array, confidence: float, n: int, jackknife: Array | None = None) -> Estimate:
    """An estimate with the percentile interval of its bootstrap draws (b,), or its BCa interval.

    Draws in which the statistic is undefined are left out; with more than half of them there is no interval.

    Args:
        value: The estimate.
        draws: Its draws (b,).
        confidence: Coverage of the interval.
        n: Rows used.
        jackknife: The statistic without each patient (n_patients,), for a BCa interval.
    """
    defined = draws[np.isfinite(draws)]
    if len(defined) < len(draws) / 2:
        return Estimate(value, None, None, n, "no interval: undefined in most bootstrap samples")
    if jackknife is not None:
        ends = bca_ends(value, defined, jackknife, confidence)
        return Estimate(value, None, None, n, ends) if isinstance(ends, str) else Estimate(value, *ends, n)
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Estimate(value, float(low), float(high), n)


def why_undefined(y: Array, p: Array) -> str:
    """The reason why a statistic of truth and prediction has no value."""
    if len(y) < 2:
        return "fewer than two rows"
    if np.ptp(y) == 0:
        return "one class only" if set(np.unique(y)) <= {0.0, 1.0} else "constant target"
    if np.ptp(p) == 0:
        return "constant prediction"
    return "undefined"
