"""Agreement between repeated answers to the same questions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def ordinal_alpha(ratings: Array, weights: Array) -> Array:
    """Krippendorff's alpha for ordinal values, on weighted units.

    SOURCE: K. Krippendorff, Computing Krippendorff's alpha-reliability (2011), sections D and "ordinal". Units with
    fewer than two values are not paired and enter nothing.

    Args:
        ratings: Value of every repeat and unit (r, n), NaN where there is none.
        weights: How often each unit was drawn (b, n).

    Returns:
        Alpha (b,): 1 where all repeats agree, 0 for chance; NaN where all values are equal or nothing can be paired.
    """
    values = np.unique(ratings[np.isfinite(ratings)])
    if ratings.size == 0 or len(values) == 0:
        return np.full(len(weights), np.nan)
    # Values of each unit, counted: (n, v).
    counts = (ratings[:, :, None] == values).sum(0).astype(float)
    paired = counts.sum(1)
    usable = paired >= 2
    counts, paired, drawn = counts[usable], paired[usable], weights[:, usable]
    own = counts[:, :, None] * (counts[:, None, :] - np.eye(len(values)))
    coincidences = np.tensordot(drawn, own / (paired - 1)[:, None, None], axes=(1, 0))
    margins = coincidences.sum(2)
    distances = _ordinal_distances(margins)
    observed = (coincidences * distances).sum((1, 2))
    expected = (margins[:, :, None] * margins[:, None, :] * distances).sum((1, 2))
    total = margins.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected > 0, 1 - (total - 1) * observed / expected, np.nan)


def _ordinal_distances(margins: Array) -> Array:
    """Squared ordinal distances (b, v, v): the values that lie between two, the two themselves counted half."""
    before = np.cumsum(margins, axis=1)
    middle = before - margins / 2
    return (middle[:, :, None] - middle[:, None, :]) ** 2
