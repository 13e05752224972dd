"""Bias-corrected and accelerated bootstrap intervals (BCa; Efron 1987, J Am Stat Assoc 82:171) over patients."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
ROUNDING = 1e-12
"""Relative difference below which a draw counts as equal to the value."""


def leave_one_out(patients: ArrayLike) -> Array:
    """Weights of the jackknife of whole patients: each patient is left out once, with all rows.

    Args:
        patients: Patient of each row (n,).

    Returns:
        1, or 0 for the rows that are left out, (n_patients, n).
    """
    place = np.unique(np.asarray(patients), return_inverse=True)[1]
    weights = np.ones((place.max() + 1 if len(place) else 0, len(place)))
    weights[place, np.arange(len(place))] = 0
    return weights


def bca_ends(value: float, draws: Array, left_out: Array, confidence: float) -> tuple[float, float] | str:
    """The ends of a BCa interval, or why there are none.

    The quantiles of the draws are moved by the bias correction z0, the normal quantile of the share of draws below the
    value (equal ones count half), and by the acceleration a = sum u^3 / (6 (sum u^2)^1.5) of the jackknife's
    u = mean - value without a patient (Efron and Tibshirani 1993, An Introduction to the Bootstrap, equations 14.9 to
    14.15). Where all draws equal the value, as of an AUROC of 1, z0 and a are 0 and both ends are the value.

    Args:
        value: The estimate.
        draws: Its defined bootstrap draws (b,).
        left_out: The statistic without each patient (n_patients,); undefined ones are left out.
        confidence: Coverage of the interval.
    """
    jackknife = left_out[np.isfinite(left_out)]
    if len(jackknife) < 3:
        return "no interval: undefined without single patients"
    gap = draws - value
    equal = np.abs(gap) <= ROUNDING * max(1.0, abs(value))
    share = float(np.mean((gap < 0) & ~equal) + np.mean(equal) / 2)
    if share in (0.0, 1.0):
        return "no interval: all bootstrap samples lie on one side of the value"
    u = jackknife.mean() - jackknife
    spread = float((u**2).sum())
    flat = spread <= (ROUNDING * max(1.0, abs(value))) ** 2 * len(u)
    acceleration = 0.0 if flat else float((u**3).sum()) / (6 * spread**1.5)
    normal, tail = NormalDist(), (1 - confidence) / 2
    correction = normal.inv_cdf(share)
    moved = [correction + normal.inv_cdf(level) for level in (tail, 1 - tail)]
    levels = sorted(normal.cdf(correction + z / (1 - acceleration * z)) for z in moved)
    low, high = np.quantile(draws, levels)
    return float(low), float(high)
