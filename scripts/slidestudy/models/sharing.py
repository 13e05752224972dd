"""One reading of features for several trainings: slides are read once, and each training sees its choice of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from slidestudy.models.loading import GIGABYTE, Source, StoreSource, feature_bytes
from slidestudy.models.optimisation import DEFAULTS


class SharedSource:
    """Slides that several trainings use.

    Slides are kept in float16 as they are first read, if all of them fit the budget together; else each training
    reads what it needs. A loader keeps the very tensors that are kept here unless it widens them.

    Args:
        source: All slides of the trainings.
        budget: Bytes that features may take, those of the loaders included.
    """

    def __init__(self, source: Source, budget: int) -> None:
        self.source, self.budget = source, budget
        self.fits = feature_bytes(source) <= budget
        self._rows = {slide: row for row, slide in enumerate(source.slide_ids)}
        self._kept: dict[int, torch.Tensor] = {}

    def read(self, row: int) -> torch.Tensor:
        """The features of a slide, float16 (n_tiles, dim)."""
        if not self.fits:
            return self.source.read(row)
        if row not in self._kept:
            self._kept[row] = self.source.read(row)
        return self._kept[row]

    def choose(self, slides: Iterable[str]) -> Choice:
        """Some of the slides as a source, in the order given."""
        return Choice(self, [self._rows[slide] for slide in slides])

    def loader_gb(self, sources: Iterable[Source]) -> float:
        """The budget of a training's loaders, GB.

        Args:
            sources: The training's parts.

        Returns:
            What is left beside the slides that are kept here, but enough to keep the training's: those are the same
            tensors. Less than that is left only where a loader would not widen them (twice the bytes) anyway.
        """
        if not self.fits:
            return self.budget / GIGABYTE
        own = sum(feature_bytes(source) for source in sources)
        return max(own, self.budget - feature_bytes(self.source)) / GIGABYTE


class Choice:
    """Some slides of a shared source.

    Args:
        shared: The source.
        rows: The slides' places in it.
    """

    def __init__(self, shared: SharedSource, rows: list[int]) -> None:
        self._shared, self._rows = shared, rows
        self.slide_ids = tuple(shared.source.slide_ids[row] for row in rows)
        self.lengths = tuple(shared.source.lengths[row] for row in rows)
        self.dim, self.recipe = shared.source.dim, shared.source.recipe

    def read(self, index: int) -> torch.Tensor:
        """The features of one slide."""
        return self._shared.read(self._rows[index])


def share_stores(paths: Mapping[str, Path], training: Mapping[str, Any]) -> SharedSource:
    """The stores of slides as a source that trainings share, within the memory of one.

    Args:
        paths: Slide -> store.
        training: The recipe, with or without `memory_gb`.

    Raises:
        StudyError: The stores differ in recipe, or one is damaged.
    """
    memory = {**DEFAULTS, **training}["memory_gb"]
    return SharedSource(StoreSource(dict(paths)), int(memory * GIGABYTE))
