"""How faithful maps are to the model: what happens when the pixels that they point at come or go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from slidestudy.explanations.attribution.maps import Grid, Maps, baseline
from slidestudy.explanations.attribution.scorer import Tiles, TileScorer

Values = NDArray[np.float64]
SIDES = (0.1, 0.4)
"""Sides of the squares that infidelity takes away, as fractions of the patch's side: from a few nuclei to a region."""


@dataclass(frozen=True)
class Row:
    """One measure of one map of one patch.

    Attributes:
        patch: The patch.
        target: What the map is of.
        measure: One of `summary.MEASURES`.
        value: Its value; NaN where undefined.
        random: That of the random map of the same patch.
    """

    patch: int
    target: str
    measure: str
    value: float
    random: float


def measure_maps(scorer: TileScorer, maps: Maps, patches: NDArray[np.int64], settings: Mapping[str, int]) -> list[Row]:
    """Insertion, deletion and infidelity of every map of some patches, and of random maps of the same grid.

    Args:
        scorer: The model and the patches.
        maps: The maps.
        patches: The patches that are measured.
        settings: `steps perturbations seed`.
    """
    rows: list[Row] = []
    for patch in patches.tolist():
        # A stream for each patch: what is drawn for it does not hang on which others are measured.
        rng = np.random.default_rng([settings["seed"], patch])
        tile = scorer.tiles[patch]
        blank = baseline(tile[None])[0]
        cells = next(iter(maps.raw.values())).shape[1:]
        noise = maps.spread(rng.standard_normal(cells).astype(np.float32))
        shuffled = rng.permutation(cells[0] * cells[1])
        squares = random_squares(tile.shape[0], settings["perturbations"], rng)
        falls = _falls(scorer, patch, tile, blank, squares)
        chance = _curves(scorer, patch, tile, blank, noise, settings["steps"])
        for target, raw in maps.raw.items():
            grid = raw[patch]
            found = _curves(scorer, patch, tile, blank, maps.spread(grid), settings["steps"])
            for measure in ("insertion", "deletion"):
                rows.append(Row(patch, target, measure, found[measure][target], chance[measure][target]))
            lost = maps.spread(grid.ravel()[shuffled].reshape(cells))
            pair = [infidelity(_sums(one, squares), falls[target]) for one in (maps.spread(grid), lost)]
            rows.append(Row(patch, target, "infidelity", *pair))
    return rows


def _curves(
    scorer: TileScorer, patch: int, tile: NDArray[np.uint8], blank: NDArray[np.uint8], grid: Grid, steps: int
) -> dict[str, dict[str, float]]:
    """Measure -> target -> area under the curve of the target over the share of pixels that came or went."""
    changed = np.concatenate([insertion_tiles(tile, blank, grid, steps), insertion_tiles(blank, tile, grid, steps)])
    scores = scorer.score(changed, np.full(len(changed), patch))
    return {
        measure: {target: mean_height(values[half]) for target, values in scores.items()}
        for measure, half in (("insertion", slice(None, steps + 1)), ("deletion", slice(steps + 1, None)))
    }


def insertion_tiles(tile: NDArray[np.uint8], blank: NDArray[np.uint8], grid: Grid, steps: int) -> Tiles:
    """The blank patch, into which the patch comes pixel by pixel from the highest of a map, (steps + 1, ...).

    Deletion is the same with both changed about.

    SOURCE: V. Petsiuk et al., RISE, BMVC 2018, section 4.2.
    """
    ranks = np.empty(grid.size, np.int64)
    ranks[np.argsort(-grid, axis=None, kind="stable")] = np.arange(grid.size)
    shares = np.linspace(0, 1, steps + 1) * grid.size
    there = ranks.reshape(grid.shape)[None] < shares[:, None, None]
    return np.where(there[..., None], tile, blank)


def mean_height(values: Values) -> float:
    """Area under a curve over 0 to 1, its points equally spaced (trapezoidal rule)."""
    return float(np.trapezoid(values, dx=1 / (len(values) - 1)))


def random_squares(size: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Squares within a patch: y, x and side (count, 3), px."""
    sides = rng.integers(max(1, round(SIDES[0] * size)), max(2, round(SIDES[1] * size)), count, endpoint=True)
    corners = np.floor(rng.uniform(size=(count, 2)) * (size - sides + 1)[:, None]).astype(np.int64)
    return np.column_stack([corners, sides])


def _falls(
    scorer: TileScorer, patch: int, tile: NDArray[np.uint8], blank: NDArray[np.uint8], squares: NDArray[np.int64]
) -> dict[str, Values]:
    """Target -> how much it falls when each square is blurred away."""
    changed = np.repeat(tile[None], len(squares), axis=0)
    for copy, (y, x, side) in zip(changed, squares, strict=True):
        copy[y : y + side, x : x + side] = blank[y : y + side, x : x + side]
    scores = scorer.score(changed, np.full(len(changed), patch))
    return {target: float(scorer.intact[target][patch]) - values for target, values in scores.items()}


def _sums(grid: Grid, squares: NDArray[np.int64]) -> Values:
    """The sum of a map over each square."""
    table = cv2.integral(grid.astype(np.float64))
    y, x, side = squares.T
    found: Values = table[y + side, x + side] - table[y, x + side] - table[y + side, x] + table[y, x]
    return found


def infidelity(sums: Values, falls: Values) -> float:
    """Mean squared error of what a map says of the falls, by that of a map that says nothing: 0 is right, 1 useless.

    Maps have no unit of their own: each is scaled by the factor, not below 0, that fits best, as in the paper's
    appendix; the division by the mean square of the falls, which makes patches comparable, is ours.

    SOURCE: C.-K. Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, definition 2.1 with
    square perturbations (section 3.1).

    Args:
        sums: The map's sum over each square (m,).
        falls: How much the target falls without it (m,).

    Returns:
        From 0 to 1; NaN where no square changes the target.
    """
    moved = float(falls @ falls)
    if moved == 0:
        return float("nan")
    said = float(sums @ sums)
    agreed = max(0.0, float(sums @ falls))
    return 1.0 if said == 0 else max(0.0, 1 - agreed * agreed / (said * moved))
