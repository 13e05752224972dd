"""Which chunk is decoded when, so that each is decoded once and few are held at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slidestudy.slides.levels import Level

UNIT_BYTES = 6_000_000
"""Decoded tiles of a unit, bytes: large enough to outweigh the scheduling, small enough to hold one per thread."""
ROW_BYTES = 128_000_000
"""Chunks of one row that may be held while the next row of tiles is read, bytes."""


@dataclass(frozen=True)
class Windows:
    """Equal windows of one level.

    Attributes:
        level: Position of the level in the source.
        corners: Left and top edges, px of the level, int (n, 2).
        width: Their width, px of the level.
        height: Their height, px of the level.
    """

    level: int
    corners: NDArray[np.int64]
    width: int
    height: int


@dataclass(frozen=True)
class Unit:
    """Windows that are read together.

    Attributes:
        rows: Positions of the windows in the list that was asked for.
        needs: Chunks of each window.
        decode: Chunks that no earlier unit of the group decodes.
        after: Earlier units of the group that decode the other chunks needed.
    """

    rows: list[int]
    needs: list[list[int]]
    decode: list[int]
    after: list[int]


@dataclass(frozen=True)
class Group:
    """Units that share chunks.

    Attributes:
        units: In the order in which they are read.
        uses: Chunk -> number of units that need it.
    """

    units: list[Unit]
    uses: Counter[int]


def chunks_of(level: Level, corner: tuple[int, int], width: int, height: int) -> list[int]:
    """The chunks that a window touches; none for the parts outside the level."""
    x, y = corner
    first_column, first_row = max(0, x // level.chunk_width), max(0, y // level.chunk_height)
    last_column = min(level.columns - 1, (x + width - 1) // level.chunk_width)
    last_row = min(level.rows - 1, (y + height - 1) // level.chunk_height)
    columns = range(first_column, last_column + 1)
    return [row * level.columns + column for row in range(first_row, last_row + 1) for column in columns]


def plan(level: Level, windows: Windows) -> Iterator[Group]:
    """Plans the reading of windows.

    Windows are read row by row. Between two rows only the chunks that both touch are held. Where a row of those
    would be larger than ROW_BYTES, the level is read in upright strips one after the other, and the chunks on the
    border of two strips are decoded twice.

    Args:
        level: The windows' level.
        windows: The windows, in any order.
    """
    corners = windows.corners
    if not len(corners):
        return
    window_bytes = windows.width * windows.height * 3
    size = max(1, UNIT_BYTES // window_bytes)
    left, right = int(corners[:, 0].min()), int(corners[:, 0].max()) + windows.width
    row_bytes = (right - left) * level.chunk_height * 3
    strips = max(1, -(-row_bytes // ROW_BYTES))
    strip = np.minimum((corners[:, 0] - left) * strips // max(1, right - left), strips - 1)
    order = np.lexsort((corners[:, 0], corners[:, 1], strip))
    for members in np.split(order, np.flatnonzero(np.diff(strip[order])) + 1):
        yield _group(level, windows, members.tolist(), size)


def _group(level: Level, windows: Windows, members: Sequence[int], size: int) -> Group:
    """Cuts windows into units and says which unit decodes which chunk."""
    owner: dict[int, int] = {}
    uses: Counter[int] = Counter()
    units: list[Unit] = []
    positions = windows.corners.tolist()
    for number, start in enumerate(range(0, len(members), size)):
        rows = list(members[start : start + size])
        needs = [chunks_of(level, tuple(positions[row]), windows.width, windows.height) for row in rows]
        wanted = dict.fromkeys(chunk for need in needs for chunk in need)
        decode = [chunk for chunk in wanted if chunk not in owner]
        after = sorted({owner[chunk] for chunk in wanted if chunk in owner})
        owner.update(dict.fromkeys(decode, number))
        uses.update(wanted.keys())
        units.append(Unit(rows, needs, decode, after))
    return Group(units, uses)
