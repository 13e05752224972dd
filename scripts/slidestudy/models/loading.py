"""Slides into packs: features are read once and kept while they fit the budget, else read again ahead of their use.

All that is random is drawn from the seed, the epoch and the slide, never from the order in which things happen: a
training that reads from memory, one that streams and one that was killed and resumed draw the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
import zarr

from slidestudy.errors import StudyError
from slidestudy.features.store import common_recipe, read_arrays
from slidestudy.models.bags import Bag, read_bag
from slidestudy.models.packing import PackedBags, pack

AHEAD = 2
"""Packs that are made ahead of the one in use."""
GIGABYTE = 2**30
In = TypeVar("In")
Out = TypeVar("Out")


class Source(Protocol):
    """Where the features of some slides come from.

    Attributes:
        slide_ids: The slides.
        lengths: Tiles of each.
        dim: Length of a feature vector.
        recipe: The recipe of their features.
    """

    slide_ids: tuple[str, ...]
    lengths: tuple[int, ...]
    dim: int
    recipe: str

    def read(self, index: int) -> torch.Tensor:
        """The features of one slide, float16 (n_tiles, dim)."""


class BagSource:
    """Slides whose bags are in memory.

    Args:
        bags: The bags.
        recipe: The recipe of their features.
    """

    def __init__(self, bags: Sequence[Bag], recipe: str = "") -> None:
        self._bags = bags
        self.slide_ids = tuple(bag.slide_id for bag in bags)
        self.lengths = tuple(len(bag.features) for bag in bags)
        self.dim = bags[0].features.shape[1] if bags else 0
        self.recipe = recipe

    def read(self, index: int) -> torch.Tensor:
        """The features of one slide."""
        return self._bags[index].features


class StoreSource:
    """Slides in feature stores, of which only the readable tiles count.

    Args:
        paths: The store of each slide, by slide id.

    Raises:
        StudyError: The stores differ in recipe, or one is damaged.
    """

    def __init__(self, paths: dict[str, Path]) -> None:
        self.recipe = common_recipe(paths.values())
        self._paths = list(paths.values())
        self.slide_ids = tuple(paths)
        self.lengths = tuple(int(read_arrays(path, ("readable",))["readable"].sum()) for path in self._paths)
        self.dim = zarr.open_array(self._paths[0] / "features", mode="r").shape[1]

    def read(self, index: int) -> torch.Tensor:
        """The features of one slide, their checksum verified."""
        return read_bag(self._paths[index], self.slide_ids[index], self.recipe).features


@dataclass(frozen=True)
class Pack:
    """Slides of one batch that go through the model together.

    Attributes:
        bags: Their tiles.
        rows: Their places in the part, int64 (n_slides,).
        closes: Whether it is the last pack of its batch.
    """

    bags: PackedBags
    rows: torch.Tensor
    closes: bool


@dataclass(frozen=True)
class Draw:
    """Which tiles of a slide are taken.

    Attributes:
        most: Tiles of a larger slide that are drawn; None takes all.
        seed: Seed of the training.
        epoch: The epoch, each of which draws anew.
    """

    most: int | None = None
    seed: int = 0
    epoch: int = 0

    def length(self, tiles: int) -> int:
        """Tiles that are taken of a slide with so many."""
        return tiles if self.most is None else min(tiles, self.most)

    def take(self, features: torch.Tensor, slide: int) -> torch.Tensor:
        """The tiles of a slide that are taken, in their order, without replacement."""
        if self.most is None or len(features) <= self.most:
            return features
        chosen = torch.randperm(len(features), generator=generator_of(self.seed, self.epoch, slide))[: self.most]
        return features[chosen.sort().values]


def generator_of(*keys: int) -> torch.Generator:
    """A generator whose draws depend on all the keys and on nothing else."""
    return torch.Generator().manual_seed(seed_of(*keys))


def seed_of(*keys: int) -> int:
    """A seed of 63 bits that depends on all the keys (numpy's SeedSequence)."""
    return int(np.random.SeedSequence([abs(key) for key in keys]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def plan_packs(batches: Iterable[Sequence[int]], lengths: Sequence[int], most: int) -> Iterator[tuple[list[int], bool]]:
    """Cuts batches of slides into packs of at most so many tiles; a slide is never cut.

    Args:
        batches: Slides of each batch.
        lengths: Tiles of each slide.
        most: Tiles of a pack; a larger slide is a pack of its own.

    Yields:
        The slides of a pack, and whether it closes its batch.
    """
    for batch in batches:
        held: list[int] = []
        tiles = 0
        for slide in batch:
            if held and tiles + lengths[slide] > most:
                yield held, False
                held, tiles = [], 0
            held.append(slide)
            tiles += lengths[slide]
        yield held, True


def ahead(items: Iterable[In], work: Callable[[In], Out], depth: int = AHEAD) -> Iterator[Out]:
    """Maps items in a thread of its own, a few ahead of who takes the results; an error comes in its place."""
    with ThreadPoolExecutor(1, thread_name_prefix="reading-ahead") as pool:
        waiting: deque[Future[Out]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def feature_bytes(source: Source) -> int:
    """Bytes of all features of a source, in float16."""
    return 2 * source.dim * sum(source.lengths)


def streaming_bytes(source: Source, pack_tiles: int) -> int:
    """Bytes that streaming takes: packs that wait, are in use and are made, and a slide as its store is decoded."""
    largest = max(source.lengths, default=0)
    return 2 * source.dim * ((AHEAD + 2) * max(pack_tiles, largest) + 2 * largest)


def share_budget(budget: int, sources: Mapping[str, Source], pack_tiles: int) -> dict[str, int]:
    """The bytes of each of several sources that are loaded in turn: what streaming takes, the rest by their size."""
    total = {name: feature_bytes(source) for name, source in sources.items()}
    if sum(total.values()) <= budget:
        return {name: budget * size // max(1, sum(total.values())) for name, size in total.items()}
    # They are not streamed at the same time, but what waits is freed late: each has its own.
    least = {name: min(total[name], streaming_bytes(source, pack_tiles)) for name, source in sources.items()}
    rest = {name: total[name] - least[name] for name in sources}
    free = max(0, budget - sum(least.values()))
    return {name: least[name] + free * rest[name] // max(1, sum(rest.values())) for name in sources}


class Loader:
    """Packs of a part's slides.

    Slides are kept as they are first read until the budget is used up; the others are read anew each time. Where
    all fit twice over they are kept in float32 (`widen`), which saves converting them in each epoch.

    Args:
        source: The slides.
        budget: Bytes that features may take, what is read ahead included.
        pack_tiles: Most tiles of a pack, unless one slide has more.
        covariates: float32 (n_slides, n_covariates), or None.
        widen: Whether float32 may be kept; the values are the same.

    Raises:
        StudyError: The budget does not even hold what is read ahead.
    """

    def __init__(
        self,
        source: Source,
        budget: int,
        pack_tiles: int,
        covariates: torch.Tensor | None = None,
        widen: bool = False,
    ) -> None:
        self.source, self.pack_tiles, self.covariates = source, pack_tiles, covariates
        total = feature_bytes(source)
        self.widened = widen and 2 * total <= budget
        self.fits = total <= budget
        self._room = budget if self.fits else budget - streaming_bytes(source, pack_tiles)
        if self._room < 0:
            most = max(source.lengths)
            what = f"{budget / GIGABYTE:.2g} GB do not hold the packs that are read ahead (a slide has {most} tiles)"
            raise StudyError(what, "training.memory_gb", "raise it, or lower training.pack_tiles")
        self._kept: dict[int, torch.Tensor] = {}

    @property
    def kept_bytes(self) -> int:
        """Bytes of the features that are kept."""
        return sum(features.nbytes for features in self._kept.values())

    def read(self, slide: int) -> torch.Tensor:
        """The features of a slide (n_tiles, dim), kept where there is room."""
        if slide in self._kept:
            return self._kept[slide]
        features = self.source.read(slide)
        if self.widened:
            features = features.float()
        if features.nbytes <= self._room:
            self._room -= features.nbytes
            self._kept[slide] = features
        return features

    def slides(self) -> Iterator[torch.Tensor]:
        """The features of each slide in turn."""
        yield from ahead(range(len(self.source.lengths)), self.read)

    def packs(self, batches: Iterable[Sequence[int]], draw: Draw | None = None) -> Iterator[Pack]:
        """Packs of batches of slides, read ahead where not all are kept.

        Args:
            batches: Slides of each batch.
            draw: Which tiles are taken; all where None.
        """
        taken = draw or Draw()
        lengths = [taken.length(n) for n in self.source.lengths]

        def make(planned: tuple[list[int], bool]) -> Pack:
            slides, closes = planned
            rows = torch.tensor(slides)
            covariates = None if self.covariates is None else self.covariates[rows]
            return Pack(pack([taken.take(self.read(s), s) for s in slides], covariates), rows, closes)

        plan = plan_packs(batches, lengths, self.pack_tiles)
        # From memory a pack is no work worth a thread, which would compete with the arithmetic.
        yield from map(make, plan) if len(self._kept) == len(lengths) else ahead(plan, make)
