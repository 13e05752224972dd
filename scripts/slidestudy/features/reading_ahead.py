"""Full batches of a slide's tiles, read and normalised in a thread of their own while the network runs."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from slidestudy.features.normalisation import Normaliser
from slidestudy.features.store import SHARD_TILES
from slidestudy.geometry import TileGrid
from slidestudy.slides.reader import SlideReader

T = TypeVar("T")
AHEAD = 2
"""Batches that wait to be encoded, at most; one more is being filled."""
ABSENT_TOLERANCE = 0.05
"""Overlap of absent area and tissue, as a fraction of the tile, that is passed over: masks are coarser than tiles."""


@dataclass(frozen=True)
class TileBatch:
    """Tiles that are encoded together, and those found unreadable meanwhile.

    Attributes:
        rows: Rows of the tiles, int (n,).
        tiles: uint8 (n, size, size, 3).
        outcome: What became of their colours, uint8 (n,) of `normalisation.Outcome`; None without a normaliser.
        unreadable: Rows of tiles that cannot be read, int (m,).
    """

    rows: NDArray[np.intp]
    tiles: NDArray[np.uint8]
    outcome: NDArray[np.uint8] | None
    unreadable: NDArray[np.intp]


class ReadAhead(Generic[T]):
    """Runs a generator in a thread of its own, a few items ahead of who consumes them.

    A context manager: on leaving, whatever the reason, the generator is closed in its thread and the thread ends.
    An error of the generator is raised to the consumer after the items that came before it.

    Args:
        items: The generator.
        ahead: Items that wait, at most.
    """

    def __init__(self, items: Generator[T, None, None], ahead: int = AHEAD) -> None:
        self.waited_s = 0.0
        """Seconds for which the consumer has waited so far."""
        self._items = items
        self._queue: queue.Queue[T | _End] = queue.Queue(ahead)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reading-ahead", daemon=True)

    def __enter__(self) -> ReadAhead[T]:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        while self._thread.is_alive():
            # The thread may wait for room in the queue.
            if not self._queue.empty():
                self._queue.get_nowait()
            self._thread.join(0.01)

    def __iter__(self) -> Iterator[T]:
        while True:
            start = time.perf_counter()
            item = self._queue.get()
            self.waited_s += time.perf_counter() - start
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item

    def _run(self) -> None:
        end = _End()
        try:
            with closing(self._items):
                for item in self._items:
                    self._queue.put(item)
                    if self._stop.is_set():
                        return
        except BaseException as error:
            end = _End(error)
        self._queue.put(end)


@dataclass(frozen=True)
class _End:
    """The end of the items, and why, if it was an error."""

    error: BaseException | None = None


def tile_batches(
    slide: SlideReader,
    coords: NDArray[np.int32],
    fractions: NDArray[np.float32],
    grid: TileGrid,
    *,
    batch_size: int,
    threads: int = 1,
    normaliser: Normaliser | None = None,
) -> Generator[TileBatch, None, None]:
    """Reads tiles into batches that are full except for the last; the same ones for any number of threads.

    A tile whose area left out by the scanner is so large that some of its tissue must lie there counts as
    unreadable: what would be encoded is white.

    Args:
        slide: The open slide.
        coords: Left and top edges, level-0 px, (n, 2).
        fractions: Their tissue fractions, (n,).
        grid: The slide's tile grid.
        batch_size: Tiles per batch.
        threads: Threads that decode, and that normalise.
        normaliser: Stain normaliser.

    Yields:
        Batches; each row comes once, as a tile or as unreadable. Rows of one shard of the store come before the next.
    """
    filled = _filled(slide, coords, fractions, grid, batch_size, threads)
    with ThreadPoolExecutor(threads) as pool, closing(filled):
        for batch in filled:
            if normaliser is None:
                yield batch
            elif len(batch.rows):
                parts = list(pool.map(normaliser.apply, np.array_split(batch.tiles, min(threads, len(batch.rows)))))
                tiles, outcome = (np.concatenate(part) for part in zip(*parts, strict=True))
                yield replace(batch, tiles=tiles, outcome=outcome)
            else:
                yield replace(batch, outcome=np.zeros(0, np.uint8))


def _filled(
    slide: SlideReader,
    coords: NDArray[np.int32],
    fractions: NDArray[np.float32],
    grid: TileGrid,
    batch_size: int,
    threads: int,
) -> Generator[TileBatch, None, None]:
    """The batches before normalisation."""
    filling = _Filling(min(batch_size, len(coords)), grid.size)
    # Shard by shard: on a wide slide the reader goes by upright strips, and all shards would be open at once.
    for start in range(0, len(coords), SHARD_TILES):
        part = slice(start, start + SHARD_TILES)
        for read in slide.tiles(coords[part], grid.extent, grid.size, threads):
            usable = read.readable & (read.absent + fractions[part][read.rows] <= 1 + ABSENT_TOLERANCE)
            rows = read.rows + start
            filling.unreadable.append(rows[~usable])
            yield from filling.add(rows[usable], read.tiles[usable] if not usable.all() else read.tiles)
    yield filling.take()


class _Filling:
    """A batch that is being filled."""

    def __init__(self, batch_size: int, side: int) -> None:
        self._size, self._side = batch_size, side
        self._begin()

    def _begin(self) -> None:
        self._rows = np.empty(self._size, np.intp)
        self._tiles = np.empty((self._size, self._side, self._side, 3), np.uint8)
        self._count = 0
        self.unreadable: list[NDArray[np.intp]] = [np.empty(0, np.intp)]

    def add(self, rows: NDArray[np.intp], tiles: NDArray[np.uint8]) -> Iterator[TileBatch]:
        """Takes tiles; yields each batch that they fill."""
        at = 0
        while at < len(rows):
            taken = min(self._size - self._count, len(rows) - at)
            target = slice(self._count, self._count + taken)
            self._rows[target], self._tiles[target] = rows[at : at + taken], tiles[at : at + taken]
            at, self._count = at + taken, self._count + taken
            if self._count == self._size:
                yield self.take()

    def take(self) -> TileBatch:
        """Hands out what there is, and begins anew."""
        rows, tiles = self._rows[: self._count], self._tiles[: self._count]
        batch = TileBatch(rows, tiles, None, np.concatenate(self.unreadable))
        self._begin()
        return batch
