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
UNIT_CHUNK_BYTES = 32_000_000
"""Chunks that a unit may touch, bytes: few tiles may lie on many chunks."""
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
    x0, x1 = max(0, corner[0]), min(level.width, corner[0] + width)
    y0, y1 = max(0, corner[1]), min(level.height, corner[1] + height)
    if x0 >= x1 or y0 >= y1:
        return []
    first_column, last_column = x0 // level.chunk_width, (x1 - 1) // level.chunk_width
    first_row, last_row = y0 // level.chunk_height, (y1 - 1) // level.chunk_height
    columns = range(first_column, last_column + 1)
    return [row * level.columns + column for row in range(first_row, last_row + 1) for column in columns]


def plan(level: Level, windows: Windows, out_bytes: int = 0) -> Iterator[Group]:
    """Plans the reading of windows.

    Windows are read row by row. Between two rows only the chunks that both touch are held. Where these would be
    larger than ROW_BYTES, the level is read in upright strips one after the other, and the chunks on the border of
    two strips are decoded twice.

    Args:
        level: The windows' level.
        windows: The windows, in any order.
        out_bytes: Bytes of a tile that is made of a window; matters where it is enlarged.
    """
    corners = windows.corners
    if not len(corners):
        return
    most = max(1, UNIT_BYTES // max(out_bytes, windows.width * windows.height * 3))
    left, right = int(corners[:, 0].min()), int(corners[:, 0].max()) + windows.width
    row_bytes = (right - left) * level.chunk_height * 3 * _rows_shared(level, windows)
    strips = max(1, -(-row_bytes // ROW_BYTES))
    strip = np.minimum((corners[:, 0] - left) * strips // max(1, right - left), strips - 1)
    order = np.lexsort((corners[:, 0], corners[:, 1], strip))
    for members in np.split(order, np.flatnonzero(np.diff(strip[order])) + 1):
        yield _group(level, windows, members.tolist(), most)


def _rows_shared(level: Level, windows: Windows) -> int:
    """Rows of chunks that a row of windows may share with the next, at most."""
    steps = np.diff(np.unique(windows.corners[:, 1]))
    overlap = windows.height - int(steps.min()) if len(steps) else 0
    return 1 + max(0, -(-overlap // level.chunk_height))


def _group(level: Level, windows: Windows, members: Sequence[int], most: int) -> Group:
    """Cuts windows into units and says which unit decodes which chunk."""
    owner: dict[int, int] = {}
    uses: Counter[int] = Counter()
    units: list[Unit] = []
    for rows, needs in _packs(level, windows, members, most):
        number = len(units)
        wanted = dict.fromkeys(chunk for need in needs for chunk in need)
        decode = [chunk for chunk in wanted if chunk not in owner]
        after = sorted({owner[chunk] for chunk in wanted if chunk in owner})
        owner.update(dict.fromkeys(decode, number))
        uses.update(wanted.keys())
        units.append(Unit(rows, needs, decode, after))
    return Group(units, uses)


def _packs(
    level: Level, windows: Windows, members: Sequence[int], most: int
) -> Iterator[tuple[list[int], list[list[int]]]]:
    """Cuts windows into lots of a limited size: their positions, and the chunks of each."""
    positions = windows.corners.tolist()
    rows: list[int] = []
    needs: list[list[int]] = []
    touched: set[int] = set()
    for row in members:
        need = chunks_of(level, tuple(positions[row]), windows.width, windows.height)
        grown = touched | set(need)
        if rows and (len(rows) == most or len(grown) * level.chunk_bytes > UNIT_CHUNK_BYTES):
            yield rows, needs
            rows, needs, grown = [], [], set(need)
        rows.append(row)
        needs.append(need)
        touched = grown
    if rows:
        yield rows, needs
