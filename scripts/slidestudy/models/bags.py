"""Bags: the tiles of a slide as a model sees them, read from feature stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dask.array as da
import numpy as np
import torch
from numpy.typing import NDArray

from slidestudy.features.store import read_features


@dataclass(frozen=True)
class Bag:
    """The tiles of one slide.

    Attributes:
        slide_id: The slide.
        features: float16 tensor (n_tiles, dim).
        coords: int32 (n_tiles, 2), level-0 px.
        tissue_fraction: float32 (n_tiles,).
    """

    slide_id: str
    features: torch.Tensor
    coords: NDArray[np.int32]
    tissue_fraction: NDArray[np.float32]


def read_bag(path: Path, slide_id: str, recipe: str) -> Bag:
    """Reads a slide's bag; the store must have the recipe."""
    store = read_features(path, recipe)
    return Bag(slide_id, torch.from_numpy(store.features), store.coords, store.tissue_fraction)


def feature_moments(bags: Sequence[Bag]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each feature over the tiles of bags, every slide weighing the same.

    Computed slide by slide (dask), so that a cohort larger than memory can be summarised too.

    Args:
        bags: The training part's bags.

    Returns:
        Mean and SD, float32 (dim,); the SD of a constant feature is 1.
    """
    arrays = [da.from_array(bag.features.numpy(), chunks=(4096, -1)).astype(np.float64) for bag in bags]
    means = da.stack([a.mean(axis=0) for a in arrays])
    squares = da.stack([(a**2).mean(axis=0) for a in arrays])
    mean, square = da.compute(means.mean(axis=0), squares.mean(axis=0), scheduler="synchronous")
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    # float16 steps are about 1e-3 of a value: a smaller spread is rounding.
    deviation[deviation <= 1e-3 * np.abs(mean) + 1e-7] = 1.0
    return torch.tensor(mean, dtype=torch.float32), torch.tensor(deviation, dtype=torch.float32)
