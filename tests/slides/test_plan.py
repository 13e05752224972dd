"""The plan of what is decoded when: every window read once, every chunk decoded once, little held."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.slides import plan as planning
from slidestudy.slides.levels import Level
from slidestudy.slides.plan import Group, Windows, chunks_of, plan

levels = st.builds(
    Level,
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    downsample=st.just(1.0),
    chunk_width=st.integers(1, 90),
    chunk_height=st.integers(1, 90),
)
places = st.lists(st.tuples(st.integers(-150, 500), st.integers(-150, 500)), max_size=60)
sides = st.integers(1, 120)


def windows(corners: list[tuple[int, int]], width: int, height: int) -> Windows:
    return Windows(0, np.array(corners, np.int64).reshape(-1, 2), width, height)


@settings(deadline=None)
@given(levels, st.integers(-150, 500), st.integers(-150, 500), sides, sides)
def test_the_chunks_of_a_window_are_those_that_share_a_pixel_with_it(
    level: Level, x: int, y: int, width: int, height: int
) -> None:
    expected = []
    for index in range(level.columns * level.rows):
        left, top = level.origin(index)
        right, bottom = min(left + level.chunk_width, level.width), min(top + level.chunk_height, level.height)
        if left < x + width and x < right and top < y + height and y < bottom:
            expected.append(index)
    assert chunks_of(level, (x, y), width, height) == expected


def test_a_window_beside_the_level_touches_none_although_the_last_chunk_reaches_under_it() -> None:
    level = Level(100, 100, 1.0, 256, 256)
    assert chunks_of(level, (110, 0), 20, 20) == chunks_of(level, (0, 110), 20, 20) == []
    assert chunks_of(level, (90, 90), 20, 20) == [0]


def check(level: Level, asked: Windows, groups: list[Group]) -> None:
    """What holds for every plan."""
    rows = [row for group in groups for unit in group.units for row in unit.rows]
    assert sorted(rows) == list(range(len(asked.corners)))
    for group in groups:
        owner: dict[int, int] = {}
        uses: Counter[int] = Counter()
        for number, unit in enumerate(group.units):
            assert unit.needs == [
                chunks_of(level, tuple(asked.corners[row]), asked.width, asked.height) for row in unit.rows
            ]
            wanted = {chunk for need in unit.needs for chunk in need}
            assert not owner.keys() & set(unit.decode), "a chunk is decoded twice"
            assert len(unit.decode) == len(set(unit.decode))
            # Whatever it does not decode itself comes from the earlier units that it waits for.
            assert set(unit.after) == {owner[chunk] for chunk in wanted - set(unit.decode)}
            owner.update(dict.fromkeys(unit.decode, number))
            uses.update(wanted)
        assert group.uses == uses


@settings(deadline=None)
@given(levels, places, sides, sides)
def test_every_window_is_read_once_and_every_chunk_decoded_once(
    level: Level, corners: list[tuple[int, int]], width: int, height: int
) -> None:
    asked = windows(corners, width, height)
    groups = list(plan(level, asked))
    check(level, asked, groups)
    assert len(groups) == bool(corners), "a small level needs no strips"


@settings(deadline=None)
@given(levels, places, sides, sides, st.integers(1, 20_000), st.integers(1, 60_000), st.integers(1, 60_000))
def test_strips_and_small_units_read_every_window_once_too(
    level: Level,
    corners: list[tuple[int, int]],
    width: int,
    height: int,
    row_bytes: int,
    unit_bytes: int,
    chunk_bytes: int,
) -> None:
    asked = windows(corners, width, height)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "ROW_BYTES", row_bytes)
        patch.setattr(planning, "UNIT_BYTES", unit_bytes)
        patch.setattr(planning, "UNIT_CHUNK_BYTES", chunk_bytes)
        groups = list(plan(level, asked))
    check(level, asked, groups)
    for unit in (unit for group in groups for unit in group.units):
        assert len(unit.rows) == 1 or len(unit.rows) * width * height * 3 <= unit_bytes
        touched = {chunk for need in unit.needs for chunk in need}
        assert len(unit.rows) == 1 or len(touched) * level.chunk_bytes <= chunk_bytes


def test_windows_are_read_row_by_row_whatever_their_order() -> None:
    level = Level(1000, 1000, 1.0, 100, 100)
    grid = [(x, y) for y in range(0, 1000, 100) for x in range(0, 1000, 100)]
    order = np.random.default_rng(0).permutation(len(grid))
    asked = windows([grid[i] for i in order], 100, 100)
    (group,) = plan(level, asked)
    read = [tuple(asked.corners[row]) for unit in group.units for row in unit.rows]
    assert read == grid


def test_a_row_wider_than_the_limit_is_cut_into_strips_and_only_border_chunks_are_decoded_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    level = Level(1000, 300, 1.0, 50, 50)
    asked = windows([(x, y) for y in range(0, 300, 60) for x in range(0, 960, 60)], 60, 60)
    monkeypatch.setattr(planning, "ROW_BYTES", 1000 * 50 * 3 // 4)
    groups = list(plan(level, asked))
    check(level, asked, groups)
    assert len(groups) > 1
    decoded = Counter(chunk for group in groups for unit in group.units for chunk in unit.decode)
    columns = [{chunk % level.columns for chunk in group.uses} for group in groups]
    borders = set().union(*(a & b for i, a in enumerate(columns) for b in columns[i + 1 :]))
    assert len(borders) <= len(groups) - 1, "strips share more than a column"
    assert {chunk % level.columns for chunk, times in decoded.items() if times > 1} <= borders
    assert max(decoded.values()) <= 2


def test_enlarged_tiles_are_counted_at_their_own_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "UNIT_BYTES", 10 * 10 * 10 * 3)
    asked = windows([(10 * i, 0) for i in range(40)], 10, 10)
    level = Level(400, 10, 1.0, 100, 10)
    sizes = [[len(u.rows) for g in plan(level, asked, out) for u in g.units] for out in (0, 10 * 10 * 3, 20 * 20 * 3)]
    assert sizes == [[10] * 4, [10] * 4, [2] * 20]


def test_overlapping_rows_count_all_the_chunks_that_they_share(monkeypatch: pytest.MonkeyPatch) -> None:
    level = Level(1000, 1000, 1.0, 50, 50)
    beside = windows([(x, y) for y in range(0, 800, 200) for x in range(0, 1000, 200)], 200, 200)
    over = windows([(x, y) for y in range(0, 800, 50) for x in range(0, 1000, 200)], 200, 200)
    monkeypatch.setattr(planning, "ROW_BYTES", 1000 * 50 * 3)
    # Windows that step by 50 px keep 3 further rows of chunks, and a fourth where they lie askew.
    assert (len(list(plan(level, beside))), len(list(plan(level, over)))) == (1, 4)


def test_no_window_needs_no_plan() -> None:
    assert list(plan(Level(10, 10, 1.0, 5, 5), windows([], 5, 5))) == []
