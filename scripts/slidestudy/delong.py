"""DeLong's interval of an AUROC, clustered by patient."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, ndtri
from scipy.stats import rankdata

from slidestudy.statistics import MIN_PATIENTS, Estimate

Array = NDArray[np.float64]


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


def auroc_variance(truth: Array, prediction: Array, patients: NDArray[np.intp]) -> tuple[float, float]:
    """The AUROC and its variance, where the rows of a patient may hang together.

    Obuchowski (1997, Biometrics 53:567): sums of the structural components over each patient's rows take the place of
    the components. With one row for each patient it is DeLong's variance.

    Args:
        truth: 1 or 0 (n,).
        prediction: (n,).
        patients: Number of each row's patient (n,), from 0.

    Returns:
        The AUROC, and its variance; NaN with fewer than two patients of a class.
    """
    positive = truth == 1
    found = placements(truth, prediction)
    area = float(found[positive].mean())
    deviation, sums, there = found - area, [], []
    for rows in (positive, ~positive):
        sums.append(np.bincount(patients[rows], deviation[rows], patients.max() + 1) / rows.sum())
        there.append(len(np.unique(patients[rows])))
    count = len(np.unique(patients))
    if min(there) < 2:
        return area, float("nan")
    own = sum(k / (k - 1) * float((part**2).sum()) for k, part in zip(there, sums, strict=True))
    return area, own + 2 * count / (count - 1) * float((sums[0] * sums[1]).sum())


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
