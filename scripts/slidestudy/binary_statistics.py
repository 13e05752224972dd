"""Weighted statistics of probabilities and of decisions of yes or no, in the manner of `statistics`."""

from __future__ import annotations

import numpy as np

from slidestudy.statistics import Array, Statistic

BINS = 10
"""Bins of equal width over which the calibration error is summed."""


def expected_calibration_error(y: Array, p: Array, w: Array) -> Array:
    """Expected calibration error (Naeini et al. 2015, AAAI; Guo et al. 2017, arXiv 1706.04599, equation 3).

    The gap between mean label and mean probability in bins [0, 0.1), ..., [0.9, 1], weighted by their rows. It cannot
    be negative: it lies above 0 of a perfectly calibrated model too, the more so the fewer rows there are.

    Args:
        y: 0 or 1 (n,).
        p: Probabilities of 1 (n,).
        w: Weights (b, n).
    """
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    gaps = (bins[:, None] == np.arange(BINS)) * (y - p)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.abs(w @ gaps).sum(1) / w.sum(1)


def _counts(y: Array, p: Array, w: Array) -> tuple[Array, Array, Array, Array]:
    """True and false positives, false and true negatives, each (b,)."""
    cells = np.column_stack([y * p, (1 - y) * p, y * (1 - p), (1 - y) * (1 - p)])
    right, wrong, missed, passed = (w @ cells).T
    return right, wrong, missed, passed


def _share(part: Array, whole: Array) -> Array:
    """A share; NaN of nothing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, part / whole, np.nan)


def sensitivity(y: Array, p: Array, w: Array) -> Array:
    """Share of the positives that are predicted positive. Here and below `y` and `p` are 0 or 1."""
    right, _, missed, _ = _counts(y, p, w)
    return _share(right, right + missed)


def specificity(y: Array, p: Array, w: Array) -> Array:
    """Share of the negatives that are predicted negative."""
    _, wrong, _, passed = _counts(y, p, w)
    return _share(passed, passed + wrong)


def positive_predictive_value(y: Array, p: Array, w: Array) -> Array:
    """Share of those predicted positive that are positive, at the cohort's own prevalence."""
    right, wrong, _, _ = _counts(y, p, w)
    return _share(right, right + wrong)


def negative_predictive_value(y: Array, p: Array, w: Array) -> Array:
    """Share of those predicted negative that are negative, at the cohort's own prevalence."""
    _, _, missed, passed = _counts(y, p, w)
    return _share(passed, passed + missed)


def f1(y: Array, p: Array, w: Array) -> Array:
    """Harmonic mean of sensitivity and positive predictive value: 2 TP / (2 TP + FP + FN)."""
    right, wrong, missed, _ = _counts(y, p, w)
    return _share(2 * right, 2 * right + wrong + missed)


def mean_of_shares(y: Array, p: Array, w: Array) -> Array:
    """Balanced accuracy: the mean of sensitivity and specificity; undefined with one class only."""
    return (sensitivity(y, p, w) + specificity(y, p, w)) / 2


def accuracy(y: Array, p: Array, w: Array) -> Array:
    """Share that is predicted rightly."""
    right, wrong, missed, passed = _counts(y, p, w)
    return _share(right + passed, right + wrong + missed + passed)


DECISIONS: dict[str, tuple[Statistic, str]] = {
    "sensitivity": (sensitivity, "no positives"),
    "specificity": (specificity, "no negatives"),
    "ppv": (positive_predictive_value, "none predicted positive"),
    "npv": (negative_predictive_value, "none predicted negative"),
    "f1": (f1, "no positives and none predicted positive"),
    "balanced_accuracy": (mean_of_shares, "one class only"),
    "accuracy": (accuracy, "no rows"),
}
"""Metric of a decision -> its statistic, and the reason why it has no value."""
