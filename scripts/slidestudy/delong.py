"""DeLong's interval of an AUROC and test of two, clustered by patient."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, ndtr, ndtri
from scipy.stats import rankdata

from slidestudy.statistics import MIN_PATIENTS, Estimate

Array = NDArray[np.float64]
ROUNDING = 1e-12
"""Differences below it are none."""


def placements(truth: Array, prediction: Array) -> Array:
    """The share of the other class's rows that each row is ranked rightly against, ties counted half, (n,).

    The structural components of DeLong et al. (1988, Biometrics 44:837), by mid-ranks in O(n log n) as of Sun and Xu
    (2014, IEEE Signal Process Lett 21:1389): rank among all less rank within the own class.

    Args:
        truth: 1 or 0 (n,), both there.
        prediction: (n,).
    """
    positive = truth == 1
    ranks, found = rankdata(prediction), np.empty(len(truth))
    found[positive] = (ranks[positive] - rankdata(prediction[positive])) / (~positive).sum()
    found[~positive] = 1 - (ranks[~positive] - rankdata(prediction[~positive])) / positive.sum()
    return found


def auroc_covariance(truth: Array, predictions: Array, patients: NDArray[np.intp]) -> tuple[Array, Array]:
    """AUROCs of several predictions of the same rows and their covariance, where a patient's rows may hang together.

    Obuchowski (1997, Biometrics 53:567): sums of the structural components over each patient's rows take the place of
    the components. With one row for each patient it is the covariance of DeLong et al. (1988).

    Args:
        truth: 1 or 0 (n,).
        predictions: Of k scores (k, n).
        patients: Number of each row's patient (n,), from 0.

    Returns:
        The AUROCs (k,), and their covariance (k, k); NaN with fewer than two patients of a class.
    """
    positive = truth == 1
    found = np.stack([placements(truth, prediction) for prediction in predictions])
    areas = found[:, positive].mean(1)
    deviation, sums, there = found - areas[:, None], [], []
    for rows in (positive, ~positive):
        own = [np.bincount(patients[rows], score[rows], patients.max() + 1) for score in deviation]
        sums.append(np.stack(own) / rows.sum())
        there.append(len(np.unique(patients[rows])))
    count = len(np.unique(patients))
    if min(there) < 2:
        return areas, np.full((len(areas), len(areas)), np.nan)
    covariance = sum(k / (k - 1) * part @ part.T for k, part in zip(there, sums, strict=True))
    both = sums[0] @ sums[1].T
    return areas, covariance + count / (count - 1) * (both + both.T)


def auroc_variance(truth: Array, prediction: Array, patients: NDArray[np.intp]) -> tuple[float, float]:
    """The AUROC and its variance, as `auroc_covariance` gives it of one prediction (n,)."""
    areas, covariance = auroc_covariance(truth, prediction[None], patients)
    return float(areas[0]), float(covariance[0, 0])


def delong_p(truth: ArrayLike, first: ArrayLike, second: ArrayLike, patients: ArrayLike) -> float | None:
    """The two-sided p-value of DeLong's test for two correlated ROC curves (1988, equation 7), clustered by patient.

    Args:
        truth: 1 or 0 (n,).
        first: One prediction (n,).
        second: The other one of the same rows (n,).
        patients: Patient of each row (n,).

    Returns:
        The p-value, of a normal distribution; 1 where both rank all rows alike, None where the variance is unknown.
    """
    y, scores = np.asarray(truth, float), np.stack([np.asarray(first, float), np.asarray(second, float)])
    known, numbers = np.unique(np.asarray(patients), return_inverse=True)
    if len(known) < MIN_PATIENTS or np.ptp(y) == 0:
        return None
    areas, covariance = auroc_covariance(y, scores, numbers)
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    # Scores that rank all rows alike differ by rounding only; two perfect ones have no variance either.
    if np.isfinite(variance) and variance <= ROUNDING:
        return 1.0 if abs(areas[0] - areas[1]) <= ROUNDING else None
    return float(2 * ndtr(-abs(areas[0] - areas[1]) / np.sqrt(variance))) if np.isfinite(variance) else None


def delong(truth: ArrayLike, prediction: ArrayLike, patients: ArrayLike, confidence: float) -> Estimate:
    """An AUROC with its DeLong interval, normal on the logit scale and so within 0 and 1.

    Args:
        truth: 1 or 0 (n,).
        prediction: (n,).
        patients: Patient of each row (n,).
        confidence: Coverage of the interval.

    Returns:
        The estimate; blank ends with the reason where the variance is unknown, or the AUROC is 0 or 1.
    """
    y, p = np.asarray(truth, float), np.asarray(prediction, float)
    if len(y) == 0:
        return Estimate(None, None, None, 0, "no rows")
    if np.ptp(y) == 0:
        return Estimate(None, None, None, len(y), "one class only" if len(y) > 1 else "fewer than two rows")
    known, numbers = np.unique(np.asarray(patients), return_inverse=True)
    area, variance = auroc_variance(y, p, numbers)
    reason = ""
    if len(known) < MIN_PATIENTS:
        reason = f"no interval: {len(known)} patients"
    elif area in (0.0, 1.0):
        reason = f"no interval: the AUROC is {area:g}"
    elif not np.isfinite(variance):
        reason = "no interval: fewer than two patients of a class"
    if reason:
        return Estimate(area, None, None, len(y), reason)
    reach = ndtri((1 + confidence) / 2) * np.sqrt(max(variance, 0.0)) / (area * (1 - area))
    low, high = expit(logit(area) + np.array([-reach, reach]))
    return Estimate(area, float(low), float(high), len(y))
