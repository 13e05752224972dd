"""Bags: the tiles of a slide as a model sees them, read from feature stores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from slidestudy.features.store import read_features

CHUNK_TILES = 512
"""Tiles that are summed at a time in float32, a chunk that caches hold; chunks are added up in float64."""


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


def feature_moments(slides: Iterable[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each feature over the tiles of slides, every slide weighing the same.

    Computed slide by slide, so that a cohort larger than memory can be summarised too, and about the mean of the first
    tiles, so that a small spread about a large mean keeps its digits.

    Args:
        slides: The features of the training part's slides, each (n_tiles, dim).

    Returns:
        Mean and SD, float32 (dim,); the SD of a constant feature is 1.

    Raises:
        ValueError: There is no slide.
    """
    count, mean, square = 0, torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    about = torch.zeros(1)
    for features in slides:
        if not count:
            about = features[:CHUNK_TILES].float().mean(0)
        count += 1
        for chunk in features.split(CHUNK_TILES):
            wide = chunk.float() - about
            mean = mean + wide.sum(0).double() / len(features)
            square = square + wide.square_().sum(0).double() / len(features)
    if not count:
        raise ValueError("no slides to take moments of")
    mean, square = mean / count, square / count
    deviation = (square - mean**2).clamp(min=0).sqrt()
    mean = mean + about
    # float16 steps are about 1e-3 of a value: a smaller spread is rounding.
    deviation[deviation <= 1e-3 * mean.abs() + 1e-7] = 1.0
    return mean.float(), deviation.float()
