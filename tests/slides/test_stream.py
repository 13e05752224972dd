"""Reading many windows at once: the right pixels, each chunk decoded once, few held, and no thread left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slidestudy.slides import plan as planning
from slidestudy.slides.levels import Chunk, Flaw, Level
from slidestudy.slides.plan import Windows, chunks_of
from slidestudy.slides.stream import blank, place, resize, stitch, stream
from tests.slides.builders import RGB, FakeSource, collect, grid, window_of

IMAGE: RGB = np.random.default_rng(0).integers(0, 255, (70, 90, 3), dtype=np.uint8)
CHUNKS = st.tuples(st.integers(5, 100), st.integers(5, 80))
PLACES = st.lists(st.tuples(st.integers(-40, 110), st.integers(-40, 90)), max_size=30)
STUCK_S = 60


def windows(corners: Any, width: int, height: int, level: int = 0) -> Windows:
    return Windows(level, np.array(corners, np.int64).reshape(-1, 2), width, height)


def finishes(work: Callable[[], object]) -> object:
    """Does work on another thread, so that what hangs fails the test instead of stopping it."""
    found: list[object] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            failed.append(error)

    before = threading.active_count()
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(STUCK_S)
    assert not thread.is_alive(), "it hangs"
    assert threading.active_count() == before, "threads are left behind"
    if failed:
        raise failed[0]
    return found[0]


# Pixels


@settings(deadline=None)
@given(CHUNKS, st.integers(-40, 110), st.integers(-40, 90), st.integers(1, 40), st.integers(1, 40))
def test_a_window_is_put_together_from_its_chunks_and_white_outside(
    chunk: tuple[int, int], x: int, y: int, width: int, height: int
) -> None:
    source = FakeSource([IMAGE], chunk)
    level, out = source.levels[0], np.zeros((height, width, 3), np.uint8)
    needs = chunks_of(level, (x, y), width, height)
    assert stitch(level, (x, y), dict(zip(needs, source.chunks(0, needs), strict=True)), out)
    np.testing.assert_array_equal(out, window_of(IMAGE, x, y, width, height))


@settings(deadline=None)
@given(st.integers(-60, 110), st.integers(-60, 90), st.integers(1, 60), st.integers(1, 60))
def test_the_pixels_outside_a_level_are_counted(x: int, y: int, width: int, height: int) -> None:
    out = np.zeros((height, width, 3), np.uint8)
    outside = blank(Level(90, 70, 1.0, 20, 20), (x, y), out)
    inside = [(a, b) for a in range(x, x + width) for b in range(y, y + height) if 0 <= a < 90 and 0 <= b < 70]
    assert outside == width * height - len(inside)
    assert (out == 255).all() == (outside > 0)


def test_a_chunks_flaws_count_only_where_the_window_touches_them() -> None:
    level, flaws = Level(100, 100, 1.0, 50, 50), np.zeros((50, 50), np.uint8)
    flaws[:10, :10] = Flaw.UNREADABLE
    flaws[40:] = Flaw.ABSENT
    chunk, out = Chunk(np.zeros((50, 50, 3), np.uint8), flaws), np.zeros((20, 20, 3), np.uint8)
    assert place(level, (15, 15), 0, chunk, out) == (True, 0)
    assert place(level, (9, 9), 0, chunk, out) == (False, 0)
    assert place(level, (10, 9), 0, chunk, out) == (True, 0)
    assert place(level, (15, 25), 0, chunk, out) == (True, 5 * 20)
    assert place(level, (40, 40), 0, chunk, out) == (True, 10 * 10)


# Many windows


@settings(deadline=None, max_examples=60)
@given(CHUNKS, PLACES, st.integers(1, 50), st.integers(1, 50), st.integers(1, 4))
@example((20, 20), [(0, 0)] * 5, 20, 20, 4)
@example((20, 20), [(95, 5), (5, 75)], 10, 10, 2)
def test_every_window_comes_once_with_its_pixels_and_each_chunk_is_decoded_once(
    chunk: tuple[int, int], corners: list[tuple[int, int]], width: int, height: int, threads: int
) -> None:
    source = FakeSource([IMAGE], chunk)
    asked = windows(corners, width, height)
    tiles, readable, absent = collect(stream(source, asked, (width, height), threads), len(corners))
    assert readable.all()
    for (x, y), tile, fraction in zip(corners, tiles, absent, strict=True):
        np.testing.assert_array_equal(tile, window_of(IMAGE, x, y, width, height))
        inside = max(0, min(x + width, 90) - max(x, 0)) * max(0, min(y + height, 70) - max(y, 0))
        assert fraction == pytest.approx(1 - inside / (width * height), abs=1e-6)
    needed = {c for corner in corners for c in chunks_of(source.levels[0], corner, width, height)}
    assert source.decoded == dict.fromkeys(((0, c) for c in needed), 1)


@settings(deadline=None, max_examples=60)
@given(CHUNKS, PLACES, st.integers(1, 4), st.integers(1, 3000), st.integers(1, 20_000), st.integers(1, 30_000))
def test_strips_and_small_units_give_the_same_tiles(
    chunk: tuple[int, int], corners: list[tuple[int, int]], threads: int, row: int, unit: int, touched: int
) -> None:
    asked = windows(corners, 24, 17)
    whole = collect(stream(FakeSource([IMAGE], chunk), asked, (12, 9)), len(corners))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("ROW_BYTES", row), ("UNIT_BYTES", unit), ("UNIT_CHUNK_BYTES", touched)):
            patch.setattr(planning, name, value)
        parts = collect(stream(FakeSource([IMAGE], chunk), asked, (12, 9), threads), len(corners))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)


@settings(deadline=None, max_examples=60)
@given(PLACES, st.integers(1, 4), st.dictionaries(st.integers(0, 19), st.sampled_from([Flaw.ABSENT, Flaw.UNREADABLE])))
def test_flawed_chunks_are_flagged_in_the_tiles_that_touch_them_and_nowhere_else(
    corners: list[tuple[int, int]], threads: int, flawed: dict[int, Flaw]
) -> None:
    source = FakeSource([IMAGE], (20, 20), {(0, chunk): flaw for chunk, flaw in flawed.items()})
    assert source.levels[0].columns * source.levels[0].rows == 20
    shown, flaw_of = IMAGE.copy(), np.zeros(IMAGE.shape[:2], np.uint8)
    for chunk, flaw in flawed.items():
        x, y = source.levels[0].origin(chunk)
        shown[y : y + 20, x : x + 20], flaw_of[y : y + 20, x : x + 20] = 255, flaw
    tiles, readable, absent = collect(stream(source, windows(corners, 30, 15), (30, 15), threads), len(corners))
    padded = np.full((300, 300), Flaw.ABSENT, np.uint8)
    padded[100:170, 100:190] = flaw_of
    for i, (x, y) in enumerate(corners):
        below = padded[100 + y : 115 + y, 100 + x : 130 + x]
        assert readable[i] == (Flaw.UNREADABLE not in below)
        if readable[i]:
            np.testing.assert_array_equal(tiles[i], window_of(shown, x, y, 30, 15))
            assert absent[i] == pytest.approx((below == Flaw.ABSENT).mean(), abs=1e-6)
        else:
            assert not tiles[i].any()
            assert absent[i] == 0


def test_windows_of_a_smaller_level_are_read_from_it() -> None:
    source = FakeSource([IMAGE, IMAGE[::2, ::2]], (16, 16))
    tiles, _, _ = collect(stream(source, windows([(3, 4)], 20, 10, level=1), (20, 10)), 1)
    np.testing.assert_array_equal(tiles[0], IMAGE[::2, ::2][4:14, 3:23])
    assert {level for level, _ in source.decoded} == {1}


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_shrunk_windows_are_area_means(factor: int) -> None:
    asked = windows([(1, 2), (20, 5)], 12 * factor, 10 * factor)
    tiles, _, _ = collect(stream(FakeSource([IMAGE], (16, 16)), asked, (12, 10), 2), 2)
    for (x, y), tile in zip(asked.corners.tolist(), tiles, strict=True):
        exact = window_of(IMAGE, x, y, 12 * factor, 10 * factor).reshape(10, factor, 12, factor, 3).mean((1, 3))
        assert np.abs(tile - exact).max() <= 0.5 + 1e-9


# Memory


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_chunks_that_no_other_unit_needs_are_let_go_at_once(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    image: RGB = np.zeros((640, 640, 3), np.uint8)
    monkeypatch.setattr(planning, "UNIT_BYTES", 4 * 64 * 64 * 3)
    source = FakeSource([image], (32, 32))
    corners = grid((640, 640), 64)
    assert len(list(stream(source, windows(corners, 64, 64), (64, 64), threads))) == 25
    assert sum(source.decoded.values()) == 400
    assert source.most_held <= 2 * threads
    assert source.held == 0


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("step", [48, 24])
def test_chunks_held_between_rows_stay_bounded(threads: int, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    image: RGB = np.zeros((960, 960, 3), np.uint8)
    for name, value in (("UNIT_BYTES", 2 * 48 * 48 * 3), ("UNIT_CHUNK_BYTES", 12 * 32 * 32 * 3)):
        monkeypatch.setattr(planning, name, value)
    source = FakeSource([image], (32, 32))
    corners = [(x, y) for y in range(0, 960 - 47, step) for x in range(0, 960 - 47, step)]
    for _ in stream(source, windows(corners, 48, 48), (48, 48), threads):
        pass
    rows = 1 if step == 48 else 2
    assert max(source.decoded.values()) == 1
    # 30 chunks in a row, and those of the units at work.
    assert source.most_held <= 30 * rows + threads * 12
    assert source.held == 0


def test_a_wide_level_is_read_in_strips_that_hold_less(monkeypatch: pytest.MonkeyPatch) -> None:
    image: RGB = np.random.default_rng(1).integers(0, 255, (160, 3200, 3), dtype=np.uint8)
    corners = [(x, y) for y in range(0, 160 - 47, 48) for x in range(0, 3200 - 47, 48)]
    monkeypatch.setattr(planning, "UNIT_BYTES", 2 * 48 * 48 * 3)
    found = {}
    for strips, row_bytes in ((1, 10**9), (8, 3200 * 32 * 3 // 8)):
        monkeypatch.setattr(planning, "ROW_BYTES", row_bytes)
        source = FakeSource([image], (32, 32))
        tiles, _, _ = collect(stream(source, windows(corners, 48, 48), (48, 48), 2), len(corners))
        found[strips] = source, tiles
    np.testing.assert_array_equal(found[1][1], found[8][1])
    whole, parts = found[1][0], found[8][0]
    assert max(whole.decoded.values()) == 1
    assert whole.most_held >= 90, "there is a row to be cut"
    assert parts.most_held <= 100 / 8 + 2 * 12
    twice = {chunk % 100 for (_, chunk), times in parts.decoded.items() if times > 1}
    assert max(parts.decoded.values()) == 2
    assert 0 < len(twice) <= 7, "only the chunks on the borders of strips are decoded twice"


def test_windows_scattered_over_large_chunks_are_read_in_small_units() -> None:
    image: RGB = np.zeros((4000, 4000, 3), np.uint8)
    source = FakeSource([image], (1000, 1000))
    corners = [(1000 * i + 200, 1000 * j + 7 * i + 200) for i in range(4) for j in range(4)]
    for _ in stream(source, windows(corners, 8, 8), (8, 8), 2):
        pass
    assert sum(source.decoded.values()) == 16
    assert source.most_held <= 4


# Stopping and failing


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("taken", [0, 1, 5])
def test_a_consumer_that_stops_early_leaves_no_thread(
    threads: int, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "UNIT_BYTES", 1)
    source = FakeSource([IMAGE], (7, 7))
    corners = grid((90, 70), 10)

    def work() -> None:
        batches = stream(source, windows(corners, 10, 10), (10, 10), threads)
        for _ in range(taken):
            next(batches)
        batches.close()  # type: ignore[attr-defined]

    finishes(work)
    assert sum(source.decoded.values()) < 130, "it was stopped before the end"


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("failing", [0, 1, 30, 129])
def test_an_error_of_the_source_reaches_the_consumer_and_hangs_nothing(
    threads: int, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "UNIT_BYTES", 1)

    def fail(level: int, index: int) -> None:
        if index == failing:
            raise MemoryError("no more")

    source = FakeSource([IMAGE], (7, 7), fail=fail)
    corners = grid((90, 70), 10)
    with pytest.raises(MemoryError, match="no more"):
        finishes(lambda: list(stream(source, windows(corners, 10, 10), (10, 10), threads)))


@pytest.mark.parametrize("threads", [1, 3])
def test_a_source_that_gives_too_few_chunks_is_an_error(threads: int) -> None:
    class Short(FakeSource):
        def chunks(self, level: int, indices: Any) -> Any:
            return list(super().chunks(level, indices))[:-1]

    with pytest.raises(ValueError, match="shorter"):
        finishes(lambda: list(stream(Short([IMAGE], (20, 20)), windows([(0, 0)], 30, 30), (30, 30), threads)))


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_the_result_does_not_depend_on_the_threads(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "UNIT_BYTES", 2000)
    corners = np.random.default_rng(2).integers(-20, 90, (100, 2))
    asked = windows(corners, 25, 25)
    alone = collect(stream(FakeSource([IMAGE], (16, 16)), asked, (10, 10), 1), 100)
    together = collect(stream(FakeSource([IMAGE], (16, 16)), asked, (10, 10), threads), 100)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


# Resizing


def test_resizing_to_the_same_size_changes_nothing() -> None:
    assert resize(IMAGE, 90, 70) is IMAGE


@settings(deadline=None)
@given(st.integers(1, 89), st.integers(1, 69))
def test_shrinking_keeps_the_mean(width: int, height: int) -> None:
    smooth: npt.NDArray[np.uint8] = np.asarray(cv2.resize(IMAGE[:7, :9], (90, 70)), np.uint8)
    assert np.abs(resize(smooth, width, height).mean((0, 1)) - smooth.mean((0, 1))).max() < 1


def test_enlarging_is_bilinear() -> None:
    row: RGB = np.repeat(np.array([[[0], [100]]], np.uint8), 3, axis=2)
    assert resize(np.repeat(row, 2, axis=0), 4, 4)[0, :, 0].tolist() == [0, 25, 75, 100]
