"""How far tiles lie from the nearest development tiles of other patients."""

from __future__ import annotations

import dask
import numpy as np
from dask.delayed import delayed
from numpy.typing import NDArray

Single = NDArray[np.float32]
Array = NDArray[np.float64]

BLOCK_VALUES = 2**23
"""Distances that a task holds at once."""


def nearest_distances(
    tiles: Single, patients: NDArray[np.int64], reference: Single, owners: NDArray[np.int64]
) -> Array:
    """Distance of each tile to the nearest reference tile of another patient.

    The distance to the nearest neighbour among training samples tells what lies outside of their distribution (Sun et
    al. 2022, arXiv:2204.06507, there of unit vectors and the k-th neighbour).

    Args:
        tiles: (n, k).
        patients: Patient of each, as a number, (n,).
        reference: (m, k).
        owners: Patient of each, as a number, (m,).

    Returns:
        (n,); infinite where no other patient has a reference tile.
    """
    squares = (reference.astype(np.float64) ** 2).sum(1, keepdims=True)
    # The tile's own square is the same for all neighbours, so |r|^2 - 2 t r, here one product, finds the nearest.
    expanded = delayed(np.concatenate([-2 * reference, squares.astype(np.float32)], axis=1))
    held, owned = delayed(reference), delayed(owners)
    rows = max(1, BLOCK_VALUES // max(1, len(reference)))
    parts = [
        delayed(_nearest)(tiles[start : start + rows], patients[start : start + rows], held, expanded, owned)
        for start in range(0, len(tiles), rows)
    ]
    return np.concatenate(dask.compute(*parts)) if parts else np.zeros(0)


def _nearest(
    tiles: Single, patients: NDArray[np.int64], reference: Single, expanded: Single, owners: NDArray[np.int64]
) -> Array:
    """The distances of some tiles."""
    order = np.concatenate([tiles, np.ones((len(tiles), 1), np.float32)], axis=1) @ expanded.T
    for patient in np.unique(patients):
        order[np.ix_(patients == patient, owners == patient)] = np.inf
    nearest = order.argmin(1)
    own = owners[nearest] == patients
    # Anew in double precision: the expanded square loses digits where two tiles are close.
    gaps = tiles.astype(np.float64) - reference[nearest].astype(np.float64)
    return np.where(own, np.inf, np.sqrt((gaps**2).sum(1)))
