"""A map of tiles in the plane: UMAP of their principal components, and its figure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from slidestudy.files import atomic_path

NEIGHBOURS = 15
"""Neighbours that UMAP keeps together, its default."""
MIN_TILES = 5
"""Fewest tiles of which a map is drawn."""
VECTOR_POINTS = 5000
"""Points above which a figure holds them as a picture: each would cost a hundred bytes."""
DECIMALS = 4

# A fixed salt and no date make equal figures equal files; text stays text.
STYLE: Any = {"svg.hashsalt": "slidestudy", "svg.fonttype": "none", "font.size": 9}
# Okabe and Ito's colours (2008), safe for the colour-blind, without the yellow that fades on white.
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"]
MARKERS = ["o", "^", "s", "D", "v"]
GREYS = ["#bbbbbb", "#808080"]
"""Of tiles whose group is not known, and of the smaller groups where there are many."""
UNKNOWN = "not known"
SIDE, LEGEND_ROW, LEGEND_COLUMNS = 3.6, 0.17, 2
"""Side of a panel and height of a legend's row, in inches; groups side by side in a legend."""
TITLES = {"cohort": "cohort", "center": "centre", "biology": "biology"}


def map_of(points: NDArray[np.floating[Any]], seed: int) -> tuple[NDArray[np.float64] | None, str]:
    """Positions of tiles in the plane, by UMAP (McInnes, Healy and Melville 2018, arXiv:1802.03426).

    One thread and a seed make it the same each time; it starts from the first two principal components.

    Args:
        points: Principal components of tiles, (n, n_components).
        seed: Seed.

    Returns:
        Positions (n, 2), without a unit, or None and the reason why there is no map.
    """
    if len(points) < MIN_TILES:
        return None, f"{len(points)} tiles, {MIN_TILES} are needed for a map"
    if points.shape[1] < 2 or not np.ptp(points, axis=0).any():
        return None, "the tiles do not differ in two dimensions"
    # Imported here, since it compiles for seconds.
    from umap import UMAP

    neighbours = min(NEIGHBOURS, len(points) - 1)
    mapper = UMAP(n_components=2, n_neighbors=neighbours, init="pca", random_state=seed, n_jobs=1)
    return np.round(mapper.fit_transform(points.astype(np.float32)).astype(np.float64), DECIMALS), ""


def draw_map(table: pd.DataFrame, path: str | os.PathLike[str], why: str = "") -> None:
    """Draws the map once per grouping: by cohort, by centre, and by class where one is known.

    Args:
        table: `map_x map_y cohort center biology` of each tile.
        path: The SVG file.
        why: Why there is no map; shown instead of one.
    """
    panels = [name for name in TITLES if (table[name] != "").any()]
    groups = {name: _groups(table[name]) for name in panels}
    rows = 0 if why else max(-(-len(looks) // LEGEND_COLUMNS) for _, looks in groups.values())
    top, left, between, below = 0.35, 0.3, 0.4, 0.35 + LEGEND_ROW * rows
    width, height = left + len(panels) * (SIDE + between), top + SIDE + below
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        for number, name in enumerate(panels):
            corner = (left + number * (SIDE + between)) / width
            axis = figure.add_axes((corner, below / height, SIDE / width, SIDE / height))
            axis.set(xticks=[], yticks=[], title=f"Tiles by {TITLES[name]}", xlabel="UMAP 1", ylabel="UMAP 2")
            if why:
                axis.text(0.5, 0.5, f"no map:\n{why}", ha="center", va="center", transform=axis.transAxes)
            else:
                _points(axis, table, *groups[name])
        with atomic_path(path) as partial:
            figure.savefig(partial, format="svg", metadata={"Date": None}, dpi=200)


Look = tuple[str, str, str]
"""A group's name, colour and marker."""


def _groups(labels: pd.Series) -> tuple[pd.Series, list[Look]]:
    """The group of each tile and the groups' looks: colours come again with another marker.

    Where there are more groups than looks, the smallest are drawn as one.
    """
    counts = labels[labels != ""].value_counts()
    kept = sorted(counts.index)
    most = len(COLOURS) * len(MARKERS)
    named = labels.copy()
    if len(kept) > most:
        kept = sorted(sorted(kept, key=lambda name: -counts[name])[:most])
        named = labels.where(labels.isin([*kept, ""]), f"{len(counts) - most} smaller groups")
    named = named.where(named != "", UNKNOWN)
    looks = [(g, COLOURS[i % len(COLOURS)], MARKERS[i // len(COLOURS)]) for i, g in enumerate(kept)]
    rest = sorted(set(named) - set(kept))
    return named, looks + [(g, grey, "o") for g, grey in zip(rest, GREYS, strict=False)]


def _points(axis: Axes, table: pd.DataFrame, groups: pd.Series, looks: Sequence[Look]) -> None:
    """One panel: the groups' points are drawn mixed, in up to twenty layers, so that none hides another."""
    order = np.random.default_rng(0).permutation(len(table))
    for layer, rows in enumerate(np.array_split(order, max(1, min(20, len(order) // 50)))):
        for label, colour, marker in looks:
            chosen = table.iloc[rows[(groups.iloc[rows] == label).to_numpy()]]
            axis.scatter(
                chosen["map_x"], chosen["map_y"], s=9, c=colour, marker=marker, alpha=0.7, linewidths=0,
                zorder=layer + 1, rasterized=len(table) > VECTOR_POINTS,
            )  # fmt: skip
    handles = [
        axis.scatter([], [], s=30, c=colour, marker=marker, linewidths=0, label=label)
        for label, colour, marker in looks
    ]
    offset = 0.2 / SIDE
    axis.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, -offset), ncols=LEGEND_COLUMNS, frameon=False,
        fontsize=8, borderpad=0, labelspacing=0.4,
    )  # fmt: skip
