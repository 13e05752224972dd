"""What a heatmap shows at each place, and in which colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from slidestudy.statistics import Array

CELL = 8
"""Side of a tile in a heatmap, px."""
BOUNDED = ("classification", "multiclass")
"""Tasks whose tile scores are probabilities."""
TAIL = 1.0
"""Share of the tiles beyond each end of the colours of unbounded scores, per cent."""
LEAST_RATIO = 2.0
MOST_RATIO = 100.0
"""Least and greatest attention at the upper end of the colours, in multiples of uniform attention."""


@dataclass(frozen=True)
class Scale:
    """From numbers to colours.

    Attributes:
        name: `score` or `attention`.
        words: What the numbers are, for the colour bar.
        low: The number at the lower end, and of all that is below.
        high: The number at the upper end.
        colours: Name of a perceptually uniform colour map that people of any colour vision can read.
        logarithmic: Whether equal ratios are equally far apart.
    """

    name: str
    words: str
    low: float
    high: float
    colours: str
    logarithmic: bool = False

    def positions(self, values: Array) -> Array:
        """Places between the ends, 0 to 1; NaN stays."""
        low, high = self.low, self.high
        if self.logarithmic:
            values, low, high = np.log(np.maximum(values, low)), np.log(low), np.log(high)
        return np.clip((values - low) / (high - low), 0, 1)

    def paint(self, values: Array) -> NDArray[np.uint8]:
        """Colours (..., 4), transparent where a value is NaN."""
        places = self.positions(values)
        known = np.isfinite(places)
        painted = colormaps[self.colours](np.where(known, places, 0.0), bytes=True)
        painted[~known] = 0
        return np.asarray(painted, np.uint8)


def score_scale(scores: Sequence[Array], settings: Mapping[str, Any]) -> Scale:
    """The scale of tile scores, the same for all slides of a cohort.

    Probabilities, and scores of a target with a range, go from 0 to 1; others from the 1st to the 99th percentile of
    the tiles that are drawn.

    Args:
        scores: Of each slide (n_tiles,).
        settings: `task target_range`.
    """
    if settings["task"] in BOUNDED:
        return Scale("score", "tile score (probability)", 0.0, 1.0, "viridis")
    if settings["task"] == "regression" and settings.get("target_range"):
        low, high = settings["target_range"]
        return Scale("score", f"tile score (0: {low:g}, 1: {high:g})", 0.0, 1.0, "viridis")
    every = np.concatenate([np.asarray(values, float) for values in scores])
    low, high = np.percentile(every, [TAIL, 100 - TAIL]) if every.size else (0.0, 1.0)
    high = high if high > low else low + 1
    return Scale("score", "tile score (model's own unit)", float(low), float(high), "viridis")


def relative_attention(attention: NDArray[np.floating]) -> Array:
    """Attention in multiples of uniform attention: 1 is what each of n tiles had if all had the same.

    So slides of different numbers of tiles can be compared (attention itself sums to 1 over a slide).
    """
    return np.asarray(attention, float) * len(attention)


def attention_scale(attentions: Sequence[Array]) -> Scale | None:
    """The scale of attention, logarithmic, uniform attention in the middle; None where no slide has any.

    Args:
        attentions: Of each slide `relative_attention` (n_tiles,), NaN where undefined.
    """
    every = np.concatenate([np.asarray(values, float) for values in attentions]) if attentions else np.zeros(0)
    known = every[np.isfinite(every)]
    if not known.size:
        return None
    ratios = np.abs(np.log(np.maximum(known, 1 / MOST_RATIO)))
    ratio = min(MOST_RATIO, max(LEAST_RATIO, float(np.exp(np.percentile(ratios, 100 - TAIL)))))
    words = "attention x tiles (1: uniform; log)"
    return Scale("attention", words, 1 / ratio, ratio, "cividis", logarithmic=True)


def raster(values: Array, coords: NDArray[np.integer], extent: float, size: tuple[int, int]) -> Array:
    """Puts tiles' values onto a grid whose pixels are 1 / CELL of a tile.

    Where tiles overlap a pixel has the mean of their values.

    Args:
        values: (n_tiles,).
        coords: Level-0 x and y of the tiles' corners (n_tiles, 2).
        extent: Side of a tile, level-0 px.
        size: The slide's width and height, level-0 px.

    Returns:
        (ceil(height / step), ceil(width / step)) with step = extent / CELL; NaN where there is no tile.
    """
    width, height = (int(np.ceil(side / extent * CELL)) for side in size)
    sums, counts = np.zeros((height, width)), np.zeros((height, width))
    for (x, y), value in zip(np.floor(coords / extent * CELL + 0.5).astype(int), values, strict=True):
        window = slice(max(0, y), max(0, y + CELL)), slice(max(0, x), max(0, x + CELL))
        sums[window] += value
        counts[window] += 1
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def halved(values: Array) -> Array:
    """A grid at half the resolution: the mean of the known of each 2 x 2 pixels."""
    rows, columns = values.shape
    padded = np.pad(values, ((0, rows % 2), (0, columns % 2)), constant_values=np.nan)
    blocks = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2)
    known = np.isfinite(blocks)
    counts = known.sum((1, 3))
    sums = np.where(known, blocks, 0).sum((1, 3))
    return np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
