"""Weighted statistics of times to an event, in the manner of `statistics`: times as truth, risks as prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slidestudy.statistics import Array, Statistic

BLOCK = 512
"""Events whose pairs are counted at once, which bounds the memory."""


def harrells_c(event: ArrayLike, strata: ArrayLike | None = None) -> Statistic:
    """Harrell's C (Harrell et al. 1982, JAMA 247:2543): of pairs whose order is known, the share ranked rightly.

    The earlier event should have the higher risk; pairs of equal risk count half. A pair is known if the earlier time
    is an event's, where an event precedes a censoring at the same time: as in `models.survival.concordance_index`.

    Args:
        event: 1 for an event, 0 for a censoring, (n,).
        strata: Groups (n,); only pairs of one group count. All count where absent.

    Returns:
        A statistic of time (n,), risk (n,) and weights (b, n); NaN without a known pair.
    """
    happened = np.asarray(event, float) == 1
    groups = None if strata is None else np.asarray(strata)

    def statistic(time: Array, risk: Array, w: Array) -> Array:
        return ranked_share(time, happened, risk, w, groups=groups)

    return statistic


def ranked_share(
    time: Array,
    happened: NDArray[np.bool_],
    risk: Array,
    w: Array,
    factor: Array | None = None,
    groups: NDArray[Any] | None = None,
) -> Array:
    """The share of the known pairs that is ranked rightly; pairs of equal risk count half.

    Args:
        time: (n,).
        happened: Whether the time is an event's (n,).
        risk: (n,).
        w: Weights (b, n).
        factor: How much the pairs count whose earlier event is each row's (b, n); all alike where absent.
        groups: Only pairs of one group count (n,); all count where absent.

    Returns:
        (b,), NaN without a known pair.
    """
    pairs, won = np.zeros(len(w)), np.zeros(len(w))
    events, first = np.flatnonzero(happened), w if factor is None else w * factor
    for at in range(0, len(events), BLOCK):
        rows = events[at : at + BLOCK]
        known = _known_pairs(time, happened, rows)
        if groups is not None:
            known = known * (groups[rows, None] == groups)
        right = known * ((risk[rows, None] > risk) + 0.5 * (risk[rows, None] == risk))
        pairs += ((w @ known.T) * first[:, rows]).sum(1)
        won += ((w @ right.T) * first[:, rows]).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pairs > 0, won / pairs, np.nan)


def _known_pairs(time: Array, happened: NDArray[np.bool_], rows: NDArray[np.intp]) -> Array:
    """Whether the events of some rows are known to precede each row, 1 or 0, (n_rows, n)."""
    own = time[rows, None]
    return ((own < time) | ((own == time) & ~happened)).astype(float)


def why_nothing_is_ranked(time: Array, risk: Array) -> str:
    """The reason why Harrell's C has no value."""
    return "fewer than two rows" if len(time) < 2 else "no event before another patient's time"


def event_by(time: ArrayLike, event: ArrayLike, cutoff: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Who has had the event by a time, and of whom that is known.

    A time censored at exactly the cut-off counts as without the event; one censored before is unknown.

    Args:
        time: (n,).
        event: 1 for an event, 0 for a censoring, (n,).
        cutoff: The time, in the unit of `time`.

    Returns:
        Whether the event came by then, and whether the status then is known, each (n,).
    """
    times, happened = np.asarray(time, float), np.asarray(event, float) == 1
    by_then = happened & (times <= cutoff)
    return by_then, by_then | (times >= cutoff)
