"""Weighted statistics of the agreement of a number with its label, in the manner of `statistics`."""

from __future__ import annotations

import numpy as np

from slidestudy.statistics import Array, centred, is_flat, moments


def concordance(y: Array, p: Array, w: Array) -> Array:
    """Lin's concordance correlation coefficient with n - 1 variances (Lin 1989, Biometrics 45:255)."""
    return _agreement(y, p, w, corrected=False)


def intraclass_correlation(y: Array, p: Array, w: Array) -> Array:
    """Intraclass correlation ICC(A,1): two-way, absolute agreement, single rater; label and prediction are the raters.

    McGraw and Wong (1996, Psychol Methods 1:30), case 2; ICC(2,1) of Shrout and Fleiss (1979, Psychol Bull 86:420).
    With two raters the mean squares are MSR = Var(y + p) / 2, MSE = Var(y - p) / 2, MSC = n (gap of means)^2 / 2, and
    (MSR - MSE) / (MSR + MSE + 2 (MSC - MSE) / n) is Lin's coefficient with Var(y - p) / n less in the denominator.
    """
    return _agreement(y, p, w, corrected=True)


def _agreement(y: Array, p: Array, w: Array, corrected: bool) -> Array:
    """2 Cov / (Var y + Var p + gap^2), the denominator less Var(y - p) / n where corrected."""
    cy, my = centred(y)
    cp, mp = centred(p)
    n, mean_y, mean_p, var_y, var_p, cov = moments(cy, cp, w)
    gap = (mean_y + my) - (mean_p + mp)
    with np.errstate(invalid="ignore", divide="ignore"):
        less = (var_y + var_p - 2 * cov) / n if corrected else 0.0
        found = 2 * cov / (var_y + var_p + gap**2 - less)
    return np.where(is_flat(var_y, cy) | (n < 2), np.nan, found)


def determination(y: Array, p: Array, w: Array) -> Array:
    """Coefficient of determination 1 - SS_res / SS_tot, negative where the mean label would do better.

    Undefined for a constant truth.
    """
    cy = centred(y)[0]
    n, _, _, var_y, _, _ = moments(cy, cy, w)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(is_flat(var_y, cy), np.nan, 1 - (w @ (y - p) ** 2) / (var_y * (n - 1)))
