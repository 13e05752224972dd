"""Tiles of different slides that are almost the same: a slide scanned twice, or one that stands in two cohorts."""

from __future__ import annotations

import dask
import numpy as np
import pandas as pd
from dask.delayed import delayed
from numpy.typing import NDArray

from slidestudy.features.cohorts import DrawnTiles, merge_all
from slidestudy.features.robustness import unit_vectors

BLOCK = 1024
"""Tiles whose similarities to as many others are held at once."""
LISTED = 10
"""Most pairs of tiles that are listed of a pair of slides; all are counted."""
DECIMALS = 6
"""Decimals of a similarity: float32 products are not more exact."""

ENDS = ("slide_id", "patient_id", "cohort", "x", "y")
COLUMNS = [*(f"{name}_a" for name in ENDS), *(f"{name}_b" for name in ENDS), "same_patient", "similarity", "n_pairs"]


def near_duplicates(drawn: DrawnTiles, cosine: float) -> pd.DataFrame:
    """Pairs of drawn tiles of different slides with a cosine similarity above a limit.

    Tiles that were not drawn are not compared: a slide that stands in the study twice shows itself if some of its
    tiles were drawn both times.

    Args:
        drawn: The drawn tiles.
        cosine: The limit, 0 to 1.

    Returns:
        One row per pair of tiles, at most ten of each pair of slides, most similar first; `n_pairs` counts all
        pairs of tiles of the two slides, x and y are in level-0 px, `same_patient` is yes or no.
    """
    slide = pd.factorize(drawn.tiles["cohort"] + "/" + drawn.tiles["slide_id"])[0].astype(np.int64)
    unit = unit_vectors(drawn.features)
    starts = range(0, len(unit), BLOCK)
    blocks = [delayed((start, unit[start : start + BLOCK], slide[start : start + BLOCK])) for start in starts]
    parts = [delayed(_compare)(a, b, cosine) for i, a in enumerate(blocks) for b in blocks[i:]]
    pairs: pd.DataFrame = dask.compute(merge_all(parts, _merge))[0]
    ends = {f"{name}_{end}": drawn.tiles[name].to_numpy()[pairs[end]] for end in ("a", "b") for name in ENDS}
    table = pd.DataFrame(ends)
    table["same_patient"] = np.where(table["patient_id_a"] == table["patient_id_b"], "yes", "no")
    table["similarity"], table["n_pairs"] = pairs["similarity"], pairs["n_pairs"]
    return table[COLUMNS]


Block = tuple[int, NDArray[np.float32], NDArray[np.int64]]
"""First row, unit vectors and slides of some tiles."""


def _compare(one: Block, other: Block, cosine: float) -> pd.DataFrame:
    """The similar pairs between two blocks of tiles: `a b slide_a slide_b similarity n_pairs`."""
    (start_a, unit_a, slide_a), (start_b, unit_b, slide_b) = one, other
    similarity = np.round(unit_a @ unit_b.T, DECIMALS)
    found = (similarity > cosine) & (slide_a[:, None] != slide_b[None])
    if start_a == start_b:
        found = np.triu(found)
    a, b = np.nonzero(found)
    pairs = pd.DataFrame(
        {
            "a": a + start_a,
            "b": b + start_b,
            "slide_a": slide_a[a],
            "slide_b": slide_b[b],
            "similarity": similarity[a, b],
        }
    )
    pairs["n_pairs"] = pairs.groupby(["slide_a", "slide_b"])["a"].transform("size").astype(np.int64)
    return _best(pairs)


def _merge(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """The pairs of several comparisons: counts added up, the most similar kept."""
    counts = pd.concat([part.groupby(["slide_a", "slide_b"])["n_pairs"].first() for part in parts])
    total = counts.groupby(level=["slide_a", "slide_b"]).sum().rename("n_pairs").reset_index()
    return _best(pd.concat(parts).drop(columns="n_pairs").merge(total, on=["slide_a", "slide_b"]))


def _best(pairs: pd.DataFrame) -> pd.DataFrame:
    """The most similar pairs of each pair of slides, in order."""
    ordered = pairs.sort_values(
        ["slide_a", "slide_b", "similarity", "a", "b"], ascending=[True, True, False, True, True]
    )
    return ordered.groupby(["slide_a", "slide_b"]).head(LISTED).reset_index(drop=True)
