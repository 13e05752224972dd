"""Weighted statistics of times to an event that make up for censoring, in the manner of `survival_statistics`.

Rows whose status is known count by the inverse probability that they were not yet censored (IPCW). That probability
is the Kaplan-Meier estimate of the cohort itself, in each bootstrap sample its own. It holds if censoring does not
depend on the risk. Events precede censorings at the same time, so the probability is that just before the time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slidestudy.statistics import Array, Statistic, auroc
from slidestudy.survival_statistics import event_by, ranked_share

Flags = NDArray[np.bool_]


def uncensored_before(time: Array, happened: Flags, w: Array, at: Array) -> Array:
    """Probability of not being censored before given times, by Kaplan and Meier.

    Args:
        time: (n,).
        happened: Whether the time is an event's (n,).
        w: Weights (b, n).
        at: Times (m,).

    Returns:
        (b, m).
    """
    order = np.argsort(time, kind="stable")
    times, starts = np.unique(time[order], return_index=True)
    total = np.add.reduceat(w[:, order], starts, axis=1)
    events = np.add.reduceat(w[:, order] * happened[order], starts, axis=1)
    at_risk = np.cumsum(total[:, ::-1], axis=1)[:, ::-1] - events
    with np.errstate(invalid="ignore", divide="ignore"):
        stays = np.where(at_risk > 0, 1 - (total - events) / at_risk, 1.0)
    curve = np.cumprod(np.column_stack([np.ones(len(w)), stays]), axis=1)
    return curve[:, np.searchsorted(times, at, side="left")]


def _inverse(probability: Array) -> Array:
    """1 / probability, 0 where that is 0: there no drawn row is left."""
    return np.divide(1.0, probability, out=np.zeros_like(probability), where=probability > 0)


def unos_c(event: ArrayLike, until: float | None = None) -> Statistic:
    """Uno's C (Uno et al. 2011, Stat Med 30:1105): Harrell's pairs, weighted by 1 / G(earlier time)^2.

    With G the probability of not being censored before. Pairs count whose earlier time is at most `until`.

    Args:
        event: 1 for an event, 0 for a censoring, (n,).
        until: The time tau; None for the last event.

    Returns:
        A statistic of time (n,), risk (n,) and weights (b, n); NaN without a known pair.
    """
    happened = np.asarray(event, float) == 1

    def statistic(time: Array, risk: Array, w: Array) -> Array:
        counts = happened if until is None else happened & (time <= until)
        factor = _inverse(uncensored_before(time, happened, w, time)) ** 2 * counts
        return ranked_share(time, happened, risk, w, factor)

    return statistic


def auroc_by(event: ArrayLike, cutoff: float) -> Statistic:
    """Cumulative/dynamic AUROC at a time (Uno et al. 2007, J Am Stat Assoc 102:527).

    Of those with the event by then, weighted by 1 / G(their time), against those without, whose weights are the same
    and cancel. Who is censored at exactly the cut-off is without.

    Args:
        event: 1 for an event, 0 for a censoring, (n,).
        cutoff: The time.

    Returns:
        A statistic of time (n,), risk (n,) and weights (b, n); NaN with one class only.
    """
    happened = np.asarray(event, float) == 1

    def statistic(time: Array, risk: Array, w: Array) -> Array:
        by_then, known = event_by(time, happened, cutoff)
        factor = np.where(by_then, _inverse(uncensored_before(time, happened, w, time)), 1.0)
        return auroc(by_then[known].astype(float), risk[known], (w * factor)[:, known])

    return statistic


def case_weights(time: Array, event: Array, cutoff: float) -> Array:
    """The weights of `auroc_by` on the rows as they stand, (n,); 0 where the status at the cut-off is unknown."""
    by_then, known = event_by(time, event, cutoff)
    factor = _inverse(uncensored_before(time, np.asarray(event) == 1, np.ones((1, len(time))), time))[0]
    return np.where(known, np.where(by_then, factor, 1.0), 0.0)


def usable_times(time: Array, times: Sequence[float]) -> list[int]:
    """Which times of survival curves lie within a cohort's follow-up."""
    return [k for k, at in enumerate(times) if len(time) and at <= time.max()]


def integrated_brier(event: ArrayLike, survival: Array, times: Sequence[float]) -> Statistic:
    """Integrated Brier score of survival curves (Graf et al. 1999, Stat Med 18:2529), weighted for censoring.

    At each time the mean of (0 - S)^2 / G(own time) of those with the event by then and (1 - S)^2 / G(time) of those
    without; by the trapezoid rule over the times, divided by their range. 0 is perfect, 0.25 what S = 0.5 gives.

    Args:
        event: 1 for an event, 0 for a censoring, (n,).
        survival: Probability of no event by each time (n, m).
        times: Rising (m,); those beyond the last follow-up are left out.

    Returns:
        A statistic of time (n,), any prediction (n,) and weights (b, n); NaN with fewer than two times.
    """
    happened, every = np.asarray(event, float) == 1, np.asarray(times, float)

    def statistic(time: Array, _: Array, w: Array) -> Array:
        used = usable_times(time, times)
        if len(used) < 2:
            return np.full(len(w), np.nan)
        own = _inverse(uncensored_before(time, happened, w, time))
        then = _inverse(uncensored_before(time, happened, w, every))
        scores = []
        for k in used:
            by_then, known = event_by(time, happened, times[k])
            missed = (w * own) @ (by_then * survival[:, k] ** 2)
            passed = then[:, k] * (w @ ((known & ~by_then) * (1 - survival[:, k]) ** 2))
            scores.append((missed + passed) / w.sum(1))
        return np.trapezoid(np.stack(scores), every[used], axis=0) / np.ptp(every[used])

    return statistic
