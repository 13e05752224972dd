"""Chunks of a TIFF, decoded straight from the compressed bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from slidestudy.slides.levels import ABSENT, RGB, UNREADABLE, Chunk, Level
from slidestudy.slides.retrying import Retries
from slidestudy.slides.tiff_pages import ChunkTable

REDUCTION = 8
"""JPEG is also decoded at an eighth: that is the mean of each block of 8 x 8 px, to within rounding and, where the
colours are stored at half the size, their interpolation. At a half and a quarter it is not a mean, nor where the
colours are halved one way only."""
GAP_BYTES = 65_536
"""Chunks that lie nearer than this in the file are read at once."""
RUN_BYTES = 4_000_000
"""Largest read of several chunks, bytes."""
COMPRESSED_EXTRA = 1_000_000
"""Compressed chunks may be larger than decoded ones by this much, bytes; longer ones are a damaged directory's."""


class TiffSource:
    """A TIFF whose levels are cut into chunks that are decoded one by one.

    Args:
        path: The file.
        vendor: The format's name.
        tables: The chunk table of each level, finest first.
        downsamples: Level-0 pixels per pixel of each level.
        properties: What the file says of itself.
        icc_profile: The embedded ICC profile, or None.
        retries: How often failed reads are tried again.

    Raises:
        OSError: The file cannot be opened.
    """

    kind = "chunks"

    def __init__(
        self,
        path: str | os.PathLike[str],
        vendor: str,
        tables: Sequence[ChunkTable],
        downsamples: Sequence[float],
        properties: Mapping[str, str],
        icc_profile: bytes | None,
        retries: Retries,
    ) -> None:
        self.vendor = vendor
        self.properties: Mapping[str, str] = properties
        self.icc_profile = icc_profile
        self.tables, self._retries = list(tables), retries
        self.levels: Sequence[Level] = [
            Level(t.width, t.height, d, t.chunk_width, t.chunk_height) for t, d in zip(tables, downsamples, strict=True)
        ]
        # Pages whose chunks divide evenly, so that chunks of the reduced level meet where the full ones do.
        self._reducible = [i for i, t in enumerate(tables) if t.reduces]
        self.reduced: Sequence[Level] = [_reduce(self.levels[i]) for i in self._reducible]
        self.reductions: Mapping[int, int] = {full: len(tables) + i for i, full in enumerate(self._reducible)}
        self._file = self._retries.call(lambda: os.open(Path(path), os.O_RDONLY))
        self._size = os.fstat(self._file).st_size

    def close(self) -> None:
        """Closes the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def beyond_end(self) -> tuple[int, int]:
        """How many chunks of all levels lie beyond the file's end, and how many there are."""
        ends = [np.where(t.counts > 0, t.offsets + t.counts, 0) for t in self.tables]
        return sum(int((e > self._size).sum()) for e in ends), sum(e.size for e in ends)

    def chunks(self, level: int, indices: Sequence[int]) -> Iterator[Chunk]:
        """Reads chunks of a level and decodes each as it is asked for; the reduced levels follow the full ones."""
        full = level if level < len(self.levels) else self._reducible[level - len(self.levels)]
        table, reduction = self.tables[full], 1 if level < len(self.levels) else REDUCTION
        planes = [self._read(table, plane, indices) for plane in range(len(table.offsets))]
        for i, index in enumerate(indices):
            yield self._decode(table, index, [plane[i] for plane in planes], reduction)

    def _read(self, table: ChunkTable, plane: int, indices: Sequence[int]) -> list[bytes | None]:
        """The compressed bytes of chunks; None where they cannot be read, empty where there are none."""
        offsets, counts = table.offsets[plane, indices].tolist(), table.counts[plane, indices].tolist()
        found: list[bytes | None] = [None] * len(indices)
        run: list[int] = []
        longest = table.chunk_width * table.chunk_height * 3 + COMPRESSED_EXTRA
        for i in sorted(range(len(indices)), key=offsets.__getitem__):
            if counts[i] > longest:
                continue
            if run and (
                offsets[i] - (offsets[run[-1]] + counts[run[-1]]) > GAP_BYTES
                or offsets[i] + counts[i] - offsets[run[0]] > RUN_BYTES
            ):
                self._read_run(run, offsets, counts, found)
                run = []
            run.append(i)
        if run:
            self._read_run(run, offsets, counts, found)
        return found

    def _read_run(self, run: list[int], offsets: list[int], counts: list[int], found: list[bytes | None]) -> None:
        """Reads neighbouring chunks at once."""
        start, stop = offsets[run[0]], min(self._size, max(offsets[i] + counts[i] for i in run))
        try:
            data = self._retries.read_at(self._file, start, max(0, stop - start))
        except OSError:
            return
        for i in run:
            part = data[offsets[i] - start : offsets[i] - start + counts[i]]
            # A chunk that ends beyond the file is damaged, whatever its decoder would make of it.
            found[i] = part if len(part) == counts[i] else None

    def _decode(self, table: ChunkTable, index: int, planes: list[bytes | None], reduction: int) -> Chunk:
        per_plane = table.offsets.shape[1]
        decoded: list[RGB] = []
        for plane, data in enumerate(planes):
            if data is None:
                return UNREADABLE
            if not data:
                return ABSENT
            try:
                decoded.append(table.decode(data, plane * per_plane + index, reduction))
            except Exception:
                # Each codec has its own errors, and none of them may cost more than this chunk.
                return UNREADABLE
        if len(decoded) == 1:
            return Chunk(decoded[0])
        return Chunk(np.ascontiguousarray(np.concatenate(decoded, axis=2)))


def _reduce(level: Level) -> Level:
    """A level at an eighth of its size."""
    width, height = -(-level.width // REDUCTION), -(-level.height // REDUCTION)
    chunk = level.chunk_width // REDUCTION, level.chunk_height // REDUCTION
    return Level(width, height, level.downsample * REDUCTION, *chunk)
