"""Dealing whole groups into parts of given shares, balanced over strata."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slidestudy.errors import StudyError

ORDERS = 1000
"""Groups placed, over all orders tried: few groups, which may be as uneven as centres, are tried in several orders."""


def deal_parts(
    groups: pd.Series,
    strata: NDArray[np.int64],
    shares: Mapping[str, float],
    rng: np.random.Generator,
) -> NDArray[np.object_]:
    """Deals groups into parts at random, each to the part that is furthest from its share of the group's strata.

    The sum over parts and strata of (slides - goal)^2 / goal is kept small, greedily, in a random order of groups. The
    method is our own: scikit-learn's splitters either keep groups whole or hold to shares, and stratify.

    Args:
        groups: The group of every slide.
        strata: The stratum of every slide.
        shares: Part -> fraction of the slides, above 0 and 1 in sum.
        rng: Source of the orders.

    Returns:
        The part of every slide.

    Raises:
        StudyError: Fewer groups than parts.
    """
    codes, names = pd.factorize(groups, sort=True)
    if len(names) < len(shares):
        what = f"{len(names)} groups of slides cannot be dealt into {len(shares)} parts"
        raise StudyError(what, "make_splits", "group by patient, hold out fewer, or add patients")
    # Strata, and the slides as a whole: both are to be balanced.
    counts = np.zeros((len(names), strata.max() + 2))
    np.add.at(counts, (codes, strata), 1)
    counts[:, -1] = counts.sum(axis=1)
    counts = counts[:, counts.any(axis=0)]
    goal = np.outer(list(shares.values()), counts.sum(axis=0))
    best: tuple[float, NDArray[np.int64]] | None = None
    for _ in range(max(1, ORDERS // len(names))):
        chosen = _place(counts, goal, rng.permutation(len(names)))
        have = np.stack([counts[chosen == part].sum(axis=0) for part in range(len(shares))])
        distance = float(((have - goal) ** 2 / goal).sum())
        if best is None or distance < best[0]:
            best = (distance, chosen)
    assert best is not None
    return np.array(list(shares), dtype=object)[best[1][codes]]


def _place(counts: NDArray[np.float64], goal: NDArray[np.float64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The part of every group, placed in an order; no part stays empty."""
    have = np.zeros_like(goal)
    chosen = np.zeros(len(counts), np.int64)
    for place, group in enumerate(order):
        cost = ((counts[group] ** 2 + 2 * counts[group] * (have - goal)) / goal).sum(axis=1)
        empty = have[:, -1] == 0
        if len(order) - place <= empty.sum():
            cost[~empty] = np.inf
        chosen[group] = np.argmin(cost)
        have[chosen[group]] += counts[group]
    return chosen
