"""Weighted lines, straight and logistic, fitted to all bootstrap samples at once, in the manner of `statistics`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from slidestudy.statistics import Array

BLOCK = 256
"""Samples that are fitted at once, which bounds the memory."""
MOST_STEPS = 60
LONGEST_STEP = 2.0
"""Longest Newton step, in logits at predictions that are scaled to SD 1."""
EDGE = 1e-6
"""Probabilities nearer than this to 0 or 1 count as that far from them: their logit would be infinite."""


def straight_line(y: Array, x: Array, w: Array) -> tuple[Array, Array]:
    """Least squares of y on x.

    Args:
        y: (n,).
        x: (n,).
        w: Weights (b, n).

    Returns:
        Intercept and slope, each (b,); NaN where x is constant.
    """
    centre = float(x.mean()) if len(x) else 0.0
    moved = x - centre
    total = w.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_x, mean_y = w @ moved / total, w @ y / total
        spread = w @ moved**2 / total - mean_x**2
        together = w @ (moved * y) / total - mean_x * mean_y
        flat = ~(spread > 1e-12 * max(float(np.mean(moved**2)) if len(x) else 0.0, 1e-300))
        slope = np.where(flat, np.nan, together / spread)
    return mean_y - slope * (mean_x + centre), slope


def logits(probability: Array) -> Array:
    """Logit of probabilities, kept EDGE away from 0 and 1."""
    return logit(np.clip(probability, EDGE, 1 - EDGE))


def logistic_line(y: Array, x: Array, w: Array) -> tuple[Array, Array]:
    """Logistic regression of y on x by Newton's method (Cox 1958, Biometrika 45:562, where x is a logit).

    Args:
        y: 0 or 1, (n,).
        x: (n,).
        w: Weights (b, n).

    Returns:
        Intercept and slope, each (b,); NaN where one class lies beyond the other, so that no slope is the best.
    """
    centre, scale = (float(x.mean()), float(x.std()) or 1.0) if len(x) else (0.0, 1.0)
    scaled = (x - centre) / scale
    parts = [_fit(y, scaled, w[at : at + BLOCK]) for at in range(0, len(w), BLOCK)]
    found = np.concatenate(parts) if parts else np.empty((0, 2))
    slope = found[:, 1] / scale
    return found[:, 0] - slope * centre, slope


def _overlaps(y: Array, x: Array, w: Array) -> NDArray[np.bool_]:
    """Whether some of each class lie on both sides of some of the other, (b,)."""
    ones, zeros = (w > 0) & (y == 1), (w > 0) & (y == 0)
    with np.errstate(invalid="ignore"):
        ends = [
            (np.where(rows, x, np.inf).min(1, initial=np.inf), np.where(rows, x, -np.inf).max(1, initial=-np.inf))
            for rows in (ones, zeros)
        ]
    (low_one, high_one), (low_zero, high_zero) = ends
    return (high_zero > low_one) & (high_one > low_zero)


def _fit(y: Array, x: Array, w: Array) -> Array:
    """Intercept and slope of each sample, (b, 2); NaN where the classes are apart or Newton's method does not end."""
    found, step = np.zeros((len(w), 2)), np.full((len(w), 2), np.inf)
    known = _overlaps(y, x, w)
    w = np.where(known[:, None], w, 1.0)
    for _ in range(MOST_STEPS):
        p = expit(found[:, :1] + found[:, 1:] * x)
        rest, curve = w * (y - p), w * p * (1 - p)
        slopes = np.stack([rest.sum(1), rest @ x], axis=1)
        h00, h01, h11 = curve.sum(1), curve @ x, curve @ x**2
        with np.errstate(invalid="ignore", divide="ignore"):
            inverse = np.array([[h11, -h01], [-h01, h00]]) / (h00 * h11 - h01**2)
            step = np.einsum("ijb,bj->bi", inverse, slopes)
            length = np.abs(step).max(1, keepdims=True)
            step *= np.minimum(1.0, LONGEST_STEP / np.maximum(length, 1e-300))
        found = found + step
        if (np.abs(step[known]) < 1e-9).all():
            break
    ended = known & (np.abs(step) < 1e-6).all(1)
    return np.where(ended[:, None], found, np.nan)


def logistic_shift(y: Array, x: Array, w: Array) -> Array:
    """The intercept of a logistic regression whose slope on x is 1: calibration in the large where x is a logit.

    Args:
        y: 0 or 1, (n,).
        x: (n,).
        w: Weights (b, n).

    Returns:
        (b,); NaN with one class only.
    """
    parts = [_shift(y, x, w[at : at + BLOCK]) for at in range(0, len(w), BLOCK)]
    return np.concatenate(parts) if parts else np.empty(0)


def _shift(y: Array, x: Array, w: Array) -> Array:
    total, ones = w.sum(1), w @ y
    found, step = np.zeros(len(w)), np.full(len(w), np.inf)
    known = (ones > 0) & (ones < total)
    for _ in range(MOST_STEPS):
        p = expit(found[:, None] + x)
        with np.errstate(invalid="ignore", divide="ignore"):
            step = np.clip((w * (y - p)).sum(1) / (w * p * (1 - p)).sum(1), -LONGEST_STEP, LONGEST_STEP)
        found = found + step
        if (np.abs(step[known]) < 1e-9).all():
            break
    return np.where(known & (np.abs(step) < 1e-6), found, np.nan)
