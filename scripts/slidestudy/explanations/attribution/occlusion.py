"""Occlusion maps, for encoders without gradients."""

from __future__ import annotations

import numpy as np

from slidestudy.attribution_kinds import OCCLUSION, TARGETS
from slidestudy.explanations.attribution.maps import Grid, Maps, baseline
from slidestudy.explanations.attribution.scorer import TileScorer


def occlusion_maps(scorer: TileScorer, window: float, stride: float) -> Maps:
    """How much each target falls when a square of the patch is blurred away.

    SOURCE: M. Zeiler and R. Fergus, ECCV 2014, section 4.2, with the blurred patch instead of grey. A pixel has the
    mean over the squares that cover it.

    Args:
        scorer: The model and the patches.
        window: Side of the square, as a fraction of the patch's side.
        stride: Distance between squares, likewise.
    """
    tiles = scorer.tiles
    size = tiles.shape[1]
    side = max(1, round(window * size))
    starts = square_starts(size, side, max(1, round(stride * size)))
    blurred, undefined = baseline(tiles), scorer.undefined()
    names = [target for target in TARGETS if target not in undefined]
    shape = (len(tiles), len(starts), len(starts))
    raw = {name: np.zeros(shape, np.float32) for name in names}
    for row, (tile, blank) in enumerate(zip(tiles, blurred, strict=True)):
        changed = np.repeat(tile[None], len(starts) ** 2, axis=0)
        places = [(y, x) for y in starts for x in starts]
        for copy, (y, x) in zip(changed, places, strict=True):
            copy[y : y + side, x : x + side] = blank[y : y + side, x : x + side]
        scores = scorer.score(changed, np.full(len(changed), row))
        for name in names:
            fall = float(scorer.intact[name][row]) - scores[name]
            raw[name][row] = fall.reshape(shape[1:])
    words = f"squares of {side} px every {starts[1] - starts[0] if len(starts) > 1 else size} px"
    return Maps(OCCLUSION, words, raw, undefined, lambda grid: spread_squares(grid, size, side, starts))


def square_starts(size: int, side: int, stride: int) -> list[int]:
    """Where squares begin along one axis, the last one flush with the end."""
    last = max(0, size - side)
    return sorted({*range(0, last + 1, stride), last})


def spread_squares(grid: Grid, size: int, side: int, starts: list[int]) -> Grid:
    """The mean over the squares that cover each pixel; 0 where none does."""
    total, count = np.zeros((size, size)), np.zeros((size, size))
    for i, y in enumerate(starts):
        for j, x in enumerate(starts):
            total[y : y + side, x : x + side] += grid[i, j]
            count[y : y + side, x : x + side] += 1
    return (total / np.maximum(count, 1)).astype(np.float32)
