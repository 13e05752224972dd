"""Differences of a metric on the same bootstrap draws: interval, p-value, and the correction for several of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slidestudy import statistics


def difference_of_draws(
    value: float, draws: NDArray[np.float64], n: int, n_patients: int, confidence: float
) -> dict[str, Any]:
    """The interval and the p-value of a difference.

    The p-value inverts the percentile interval: twice the smaller share of draws, one added to counts, in which the
    difference is at most, or at least, zero.

    Args:
        value: The difference.
        draws: The difference in each bootstrap sample (b,); NaN where undefined.
        n: Rows.
        n_patients: Patients of the rows.
        confidence: Coverage of the interval.

    Returns:
        `difference ci_low ci_high p undefined_reason`; blank where undefined, with the reason.
    """
    row: dict[str, Any] = {"difference": value, "ci_low": None, "ci_high": None, "p": None}
    if n_patients < statistics.MIN_PATIENTS:
        return {**row, "undefined_reason": f"no interval: {n_patients} patients"}
    found = statistics.with_interval(value, draws, confidence, n)
    row |= {"ci_low": found.ci_low, "ci_high": found.ci_high, "undefined_reason": found.undefined_reason}
    if found.ci_low is not None:
        defined = draws[np.isfinite(draws)]
        tail = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
        row["p"] = min(1.0, 2 * (tail + 1) / (len(defined) + 1))
    return row


def holm(p: Sequence[float | None]) -> list[float | None]:
    """P-values corrected for their number by Holm's method (1979, Scand J Statist 6:65); None stays None."""
    known = sorted((value, index) for index, value in enumerate(p) if value is not None)
    corrected: list[float | None] = [None] * len(p)
    largest = 0.0
    for rank, (value, index) in enumerate(known):
        largest = max(largest, min(1.0, value * (len(known) - rank)))
        corrected[index] = largest
    return corrected
