"""Reading ahead: batches are full, come in one order, and whatever ends the reading reaches who consumes it."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator

import numpy as np
import numpy.typing as npt
import pytest

from slidestudy.features import reading_ahead
from slidestudy.features.normalisation import Outcome
from slidestudy.features.reading_ahead import AHEAD, ReadAhead, TileBatch, tile_batches
from slidestudy.geometry import TileGrid
from slidestudy.slides.stream import Batch

GRID = TileGrid(800, 600, 0.5, 10, 0.5)
COORDS = GRID.coords()
"""4,800 tiles of 10 px."""


class FakeSlide:
    """A slide whose tiles hold their own number; read in lots of uneven sizes, each lot backwards."""

    slide_id = "s1"
    size = (800, 600)

    def __init__(self, unreadable: tuple[int, ...] = (), absent: tuple[int, ...] = ()) -> None:
        self.unreadable, self.absent = unreadable, absent
        self.asked: list[int] = []
        self.closed = 0

    def tiles(self, coords: npt.NDArray[np.int32], extent: float, size: int, threads: int = 1) -> Iterator[Batch]:
        self.asked.append(len(coords))
        number = (coords[:, 1] // 10) * 80 + coords[:, 0] // 10
        try:
            for lot in np.array_split(np.arange(len(coords)), max(1, len(coords) // 7)):
                rows = lot[::-1].copy()
                pixels = np.stack([number[rows] // 256, number[rows] % 256, number[rows] * 0], axis=1).astype(np.uint8)
                tiles = np.broadcast_to(pixels[:, None, None], (len(rows), size, size, 3)).copy()
                readable = ~np.isin(number[rows], self.unreadable)
                absent = np.where(np.isin(number[rows], self.absent), 0.5, 0).astype(np.float32)
                yield Batch(rows, tiles, readable, absent)
        finally:
            self.closed += 1


def numbers(batch: TileBatch) -> list[int]:
    """The numbers that the tiles of a batch hold."""
    return (batch.tiles[:, 3, 4, 0].astype(int) * 256 + batch.tiles[:, 3, 4, 1]).tolist()


def batches_of(slide: FakeSlide, count: int = 4800, batch_size: int = 64, **options: object) -> list[TileBatch]:
    fractions = np.ones(count, np.float32)
    return list(tile_batches(slide, COORDS[:count], fractions, GRID, batch_size=batch_size, **options))  # type: ignore[arg-type]


# Batches


@pytest.mark.parametrize(("count", "batch_size"), [(4800, 64), (4800, 1000), (100, 1), (5, 64), (64, 64), (65, 64)])
def test_all_batches_are_full_but_the_last(count: int, batch_size: int) -> None:
    sizes = [len(batch.rows) for batch in batches_of(FakeSlide(), count, batch_size)]
    assert sum(sizes) == count
    assert set(sizes[:-2]) <= {batch_size}
    assert all(size <= batch_size for size in sizes)


def test_every_tile_comes_once_with_its_row() -> None:
    batches = batches_of(FakeSlide())
    rows = [row for batch in batches for row in batch.rows.tolist()]
    assert sorted(rows) == list(range(4800))
    assert [number for batch in batches for number in numbers(batch)] == rows


def test_unreadable_tiles_and_tissue_that_was_left_out_come_as_unreadable() -> None:
    slide = FakeSlide(unreadable=(0, 7, 4799), absent=(12,))
    batches = batches_of(slide)
    assert sorted(row for batch in batches for row in batch.unreadable.tolist()) == [0, 7, 12, 4799]
    assert sum(len(batch.rows) for batch in batches) == 4796
    assert {len(batch.rows) for batch in batches[:-1]} == {64}


def test_a_slide_that_cannot_be_read_at_all_gives_no_tile() -> None:
    batches = batches_of(FakeSlide(unreadable=tuple(range(30))), 30)
    assert [len(batch.rows) for batch in batches] == [0]
    assert sorted(batches[0].unreadable.tolist()) == list(range(30))


def test_a_large_slide_is_read_shard_by_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_ahead, "SHARD_TILES", 1000)
    slide = FakeSlide()
    batches = batches_of(slide)
    assert slide.asked == [1000] * 4 + [800]
    rows = [row for batch in batches for row in batch.rows.tolist()]
    assert [row // 1000 for row in rows] == sorted(row // 1000 for row in rows)
    assert {len(batch.rows) for batch in batches[:-1]} == {64}, "batches go on across shards"
    assert [number for batch in batches for number in numbers(batch)] == rows


class Inverting:
    """A normaliser that inverts tiles and notes in which thread."""

    def __init__(self) -> None:
        self.threads: set[str] = set()

    def apply(self, tiles: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        self.threads.add(threading.current_thread().name)
        return 255 - tiles, np.where(tiles[:, 0, 0, 1] % 2, Outcome.FLAGGED, Outcome.NORMALISED).astype(np.uint8)


@pytest.mark.parametrize("threads", [1, 3])
def test_tiles_are_normalised_with_their_rows_and_outcomes(threads: int) -> None:
    normaliser = Inverting()
    batches = batches_of(FakeSlide(unreadable=(3,)), 130, threads=threads, normaliser=normaliser)
    assert [len(batch.rows) for batch in batches] == [64, 64, 1]
    for batch in batches:
        assert batch.outcome is not None
        np.testing.assert_array_equal(255 - batch.tiles[:, 0, 0, 1], batch.rows % 256)
        np.testing.assert_array_equal(batch.outcome == Outcome.FLAGGED, batch.rows % 2 == 1)
    assert threading.main_thread().name not in normaliser.threads


# Reading ahead


def counting(count: int, seen: list[str], started: threading.Semaphore | None = None) -> Generator[int, None, None]:
    try:
        for i in range(count):
            if started is not None:
                started.release()
            yield i
    finally:
        seen.append(threading.current_thread().name)


def test_items_come_in_order_from_another_thread_which_ends() -> None:
    seen: list[str] = []
    with ReadAhead(counting(50, seen)) as ahead:
        assert list(ahead) == list(range(50))
    assert seen == ["reading-ahead"]
    assert "reading-ahead" not in [thread.name for thread in threading.enumerate()]
    assert ahead.waited_s >= 0


def test_items_are_made_while_the_consumer_is_busy_and_only_so_many() -> None:
    started = threading.Semaphore(0)
    with ReadAhead(counting(50, [], started)) as ahead:
        items = iter(ahead)
        assert next(items) == 0
        # One has been taken, AHEAD wait in the queue, and one waits to get in.
        for _ in range(AHEAD + 2):
            assert started.acquire(timeout=10)
        assert not started.acquire(timeout=0.2)


def test_an_error_of_the_reading_reaches_the_consumer_after_what_came_before() -> None:
    def failing() -> Generator[int, None, None]:
        yield 1
        yield 2
        raise OSError(5, "the disk is gone")

    found = []
    with pytest.raises(OSError, match="the disk is gone"), ReadAhead(failing()) as ahead:
        found.extend(iter(ahead))
    assert "reading-ahead" not in [thread.name for thread in threading.enumerate()]
    with ReadAhead(failing()) as ahead:
        items = iter(ahead)
        assert [next(items), next(items)] == [1, 2]


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_an_interrupted_consumer_ends_the_reading(taken: int) -> None:
    seen: list[str] = []

    def consume() -> None:
        with ReadAhead(counting(10_000, seen)) as ahead:
            items = iter(ahead)
            for _ in range(taken):
                next(items)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert seen == ["reading-ahead"], "the generator was closed, in its own thread"
    assert "reading-ahead" not in [thread.name for thread in threading.enumerate()]


def test_interrupting_closes_the_slides_own_generator() -> None:
    slide = FakeSlide()
    with ReadAhead(tile_batches(slide, COORDS, np.ones(4800, np.float32), GRID, batch_size=16)) as ahead:
        next(iter(ahead))
    assert slide.closed == 1
