"""Reading pixels of a slide at a wanted resolution, whatever its format.

Pixels are those that OpenSlide gives: as stored, without applying an ICC profile (its digest is in the inspection
record), and white where the scanner left out an area or the slide ends. At level 0 they are identical. At lower
levels a window is moved to whole pixels of the level, by at most half of one, where OpenSlide interpolates.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from slidestudy.errors import Reason, SlideError
from slidestudy.slides.levels import RGB, Chunk, Level
from slidestudy.slides.opening import open_source
from slidestudy.slides.openslide_source import COPY_ANEW
from slidestudy.slides.plan import Windows, chunks_of
from slidestudy.slides.retrying import Retries
from slidestudy.slides.stream import Batch, resize, stitch, stream

__all__ = ["RGB", "Batch", "Overview", "Slide", "SlideReader", "resize"]

KEPT_BYTES = 48_000_000
"""Decoded chunks kept for single reads, bytes: the next one is often beside the last."""
FINE_ENOUGH = 1.001
"""A level counts as fine enough up to this ratio: downsamples are seldom whole numbers."""
OVERVIEW_BLOCK = 64
"""Side of the blocks of an overview whose readability is told apart, px."""
OVERVIEW_WINDOW = 2048
"""Largest side of what a block is read from, px of the level."""


@dataclass(frozen=True)
class Overview:
    """A whole slide at a low resolution.

    Attributes:
        picture: uint8 (height, width, 3); white where not readable.
        readable: bool (height, width), False in blocks of which a part cannot be decoded.
    """

    picture: RGB
    readable: NDArray[np.bool_]


class SlideReader(Protocol):
    """What the other stages need of an open slide. Coordinates are level-0 pixels."""

    slide_id: str

    @property
    def size(self) -> tuple[int, int]:
        """Width and height at level 0, px."""

    def read_square(self, x: int, y: int, extent: float, size: int) -> RGB:
        """Reads one square of `extent` level-0 px as (size, size, 3)."""

    def read_overview(self, downsample: float) -> Overview:
        """Reads the whole slide at a downsample."""

    def tiles(self, coords: NDArray[np.int32], extent: float, size: int, threads: int = 1) -> Iterator[Batch]:
        """Reads many squares of one extent, (size, size, 3) each."""


class Slide:
    """An open slide, a `SlideReader`.

    Args:
        path: The slide's file.
        slide_id: Its id, for messages; the path where empty.
        retries: How often failed reads are tried again.

    Raises:
        SlideError: `unreadable` where it cannot be opened, `truncated` where the file ends too early for that,
            `not_brightfield` where its pixels are no 8-bit RGB.
    """

    def __init__(self, path: str | os.PathLike[str], slide_id: str = "", retries: Retries | None = None) -> None:
        self.path = os.fspath(path)
        self.slide_id = slide_id or self.path
        self._source, self.indirect = open_source(self.path, self.slide_id, retries or Retries())
        self._levels: list[Level] = [*self._source.levels, *self._source.reduced]
        self._kept: OrderedDict[tuple[int, int], Chunk] = OrderedDict()
        self._lock = threading.Lock()

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._source.close()
        self._kept.clear()

    @property
    def kind(self) -> str:
        """How it is read: `chunks` decoded directly, through `openslide`, or as a whole `picture`."""
        return self._source.kind

    @property
    def size(self) -> tuple[int, int]:
        """Width and height at level 0, px."""
        return self.level_sizes[0]

    @property
    def level_sizes(self) -> list[tuple[int, int]]:
        """Width and height of every level of the file, px."""
        return [(level.width, level.height) for level in self._source.levels]

    @property
    def downsamples(self) -> list[float]:
        """Level-0 pixels per pixel of every level of the file."""
        return [level.downsample for level in self._source.levels]

    @property
    def properties(self) -> Mapping[str, str]:
        """What the file says of itself, under OpenSlide's names."""
        return self._source.properties

    @property
    def vendor(self) -> str:
        """The format's vendor or name."""
        return self._source.vendor

    @property
    def icc_profile(self) -> bytes | None:
        """The embedded ICC profile, or None."""
        return self._source.icc_profile

    def beyond_end(self) -> tuple[int, int]:
        """How many of the file's chunks lie beyond its end, and how many there are; 0, 0 where that is not known."""
        return self._source.beyond_end()

    def level_for(self, downsample: float) -> int:
        """The coarsest level of the file that is at least as fine as a downsample (level-0 px per wanted px)."""
        fine_enough = [i for i, d in enumerate(self.downsamples) if d <= downsample * FINE_ENOUGH]
        return fine_enough[-1] if fine_enough else 0

    def _cheapest(self, downsample: float) -> int:
        """The level of the file, or its reduced one where that is fine enough too."""
        level = self.level_for(downsample)
        reduced = self._source.reductions.get(level)
        if reduced is not None and self._levels[reduced].downsample <= downsample * FINE_ENOUGH:
            return reduced
        return level

    def read(self, x: int, y: int, level: int, width: int, height: int) -> RGB:
        """Reads a region of a level.

        Args:
            x: Left edge, level-0 px.
            y: Top edge, level-0 px.
            level: The pyramid level.
            width: Width in the level's pixels.
            height: Height in the level's pixels.

        Returns:
            uint8 (height, width, 3).

        Raises:
            SlideError: `truncated` where the region cannot be decoded. The slide can still be used elsewhere.
        """
        scale = self._levels[level].downsample
        corner = round(x / scale), round(y / scale)
        needs = chunks_of(self._levels[level], corner, width, height)
        out = np.empty((height, width, 3), np.uint8)
        if not stitch(self._levels[level], corner, self._chunks(level, needs), out):
            what = f"the region at {x}, {y} of level {level} cannot be decoded"
            raise SlideError(Reason.TRUNCATED, what, self.slide_id, COPY_ANEW)
        return out

    def _chunks(self, level: int, indices: list[int]) -> dict[int, Chunk]:
        """Decoded chunks, the last ones from memory."""
        with self._lock:
            found = {i: self._kept[level, i] for i in indices if (level, i) in self._kept}
        missing = [i for i in indices if i not in found]
        fresh = dict(zip(missing, self._source.chunks(level, missing), strict=True)) if missing else {}
        with self._lock:
            for index in indices:
                self._kept[level, index] = found.get(index) or fresh[index]
                self._kept.move_to_end((level, index))
            held = sum(self._levels[key[0]].chunk_bytes for key in self._kept)
            while held > KEPT_BYTES and len(self._kept) > 1:
                (number, _), _ = self._kept.popitem(last=False)
                held -= self._levels[number].chunk_bytes
        return found | fresh

    def read_square(self, x: int, y: int, extent: float, size: int) -> RGB:
        """Reads a square region at a wanted output size.

        Args:
            x: Left edge, level-0 px.
            y: Top edge, level-0 px.
            extent: Side in level-0 px.
            size: Side of the result, px.

        Returns:
            uint8 (size, size, 3).

        Raises:
            SlideError: `truncated` where the region cannot be decoded.
        """
        windows = self._squares(np.array([[x, y]]), extent, size)
        level, corner = self._levels[windows.level], (int(windows.corners[0, 0]), int(windows.corners[0, 1]))
        needs = chunks_of(level, corner, windows.width, windows.height)
        out = np.empty((windows.height, windows.width, 3), np.uint8)
        if not stitch(level, corner, self._chunks(windows.level, needs), out):
            what = f"the square at {x}, {y} cannot be decoded"
            raise SlideError(Reason.TRUNCATED, what, self.slide_id, COPY_ANEW)
        return resize(out, size, size)

    def _squares(self, coords: NDArray[np.number], extent: float, size: int) -> Windows:
        """Squares as windows of the level that they are best read at."""
        number = self._cheapest(extent / size)
        level = self._levels[number]
        side = max(1, round(extent / level.downsample))
        corners = np.floor(coords / level.downsample + 0.5).astype(np.int64)
        # Rounding may push a square that ends with the slide one pixel beyond the level.
        limit = np.array([level.width - side, level.height - side])
        ends = (coords + extent) / level.downsample
        corners = np.where((corners == limit + 1) & (ends <= limit + side + 0.5), limit, corners)
        return Windows(number, corners, side, side)

    def tiles(self, coords: NDArray[np.int32], extent: float, size: int, threads: int = 1) -> Iterator[Batch]:
        """Reads many squares of one extent, each chunk of the file once and with bounded memory.

        Args:
            coords: Left and top edges, level-0 px, (n, 2), in any order.
            extent: Side in level-0 px.
            size: Side of the result, px.
            threads: Threads that decode.

        Yields:
            Batches of tiles (size, size, 3) with their positions in `coords`; each comes once. What cannot be decoded
            is flagged, not raised.
        """
        return stream(self._source, self._squares(coords, extent, size), (size, size), threads)

    def read_overview(self, downsample: float, threads: int = 1) -> Overview:
        """Reads the whole slide at a downsample, with bounded memory.

        Args:
            downsample: Level-0 px per px of the result; at least 1.
            threads: Threads that decode.

        Returns:
            The picture, (ceil(height / downsample), ceil(width / downsample), 3), and where it can be trusted.
        """
        width, height = (max(1, int(np.ceil(side / downsample))) for side in self.size)
        # Smaller blocks where each would be read from very many pixels.
        source_px = downsample / self._levels[self._cheapest(downsample)].downsample
        block = max(1, min(OVERVIEW_BLOCK, int(OVERVIEW_WINDOW / source_px)))
        columns, rows = -(-width // block), -(-height // block)
        y, x = np.divmod(np.arange(rows * columns), columns)
        picture = np.full((rows * block, columns * block, 3), 255, np.uint8)
        readable = np.ones(picture.shape[:2], bool)
        coords = np.stack([x, y], axis=1) * (block * downsample)
        for batch in stream(self._source, self._squares(coords, block * downsample, block), (block, block), threads):
            for row, tile, good in zip(batch.rows.tolist(), batch.tiles, batch.readable.tolist(), strict=True):
                top, left = y[row] * block, x[row] * block
                target = slice(top, top + block), slice(left, left + block)
                if good:
                    picture[target] = tile
                else:
                    readable[target] = False
        return Overview(np.ascontiguousarray(picture[:height, :width]), readable[:height, :width])
