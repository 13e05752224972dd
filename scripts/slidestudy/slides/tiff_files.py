"""Signs in a TIFF's directories that a copy of it was cut short."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import tifffile

TILE_WIDTH, TILE_LENGTH = 322, 323
"""Tags of a directory."""
NUMBER_BYTES = {1: 1, 3: 2, 4: 4, 16: 8}
"""Lengths of the types of unsigned numbers."""
MAX_TILE_SIDE = 4096
"""No scanner writes larger tiles, px: decoded, one would need 67 MB."""
MAX_DIRECTORY_BYTES = 2**20
"""Longer directories are not looked through to their end."""


@dataclass(frozen=True)
class _Layout:
    """How a TIFF or BigTIFF is laid out: byte order, and lengths in bytes."""

    order: Literal["little", "big"]
    count: int
    entry: int
    offset: int

    def number(self, data: bytes) -> int:
        return int.from_bytes(data, self.order)


@dataclass(frozen=True)
class _Directory:
    """A directory of a TIFF.

    Attributes:
        offset: Where it stands, bytes.
        whole: Whether the file holds all of it.
        entries: Its entries, as many as the file holds.
    """

    offset: int
    whole: bool
    entries: bytes


def _directories(stream: BinaryIO) -> Iterator[tuple[_Layout, _Directory]]:
    """The chain of directories; ends with one that is not whole, and gives none where the file is no TIFF."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    header = stream.read(16)
    order: Literal["little", "big"] = "little" if header[:2] == b"II" else "big"
    if header[:4] in (b"II*\0", b"MM\0*") and len(header) >= 8:
        layout, at = _Layout(order, 2, 12, 4), 4
    elif header[:8] in (b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0") and len(header) == 16:
        layout, at = _Layout(order, 8, 20, 8), 8
    else:
        return
    offset = layout.number(header[at : at + layout.offset])
    seen: set[int] = set()
    # The directories are a chain that ends in a zero; one that leads back to itself has none missing.
    while offset and offset not in seen:
        seen.add(offset)
        if offset + layout.count > size:
            yield layout, _Directory(offset, False, b"")
            return
        stream.seek(offset)
        length = layout.number(stream.read(layout.count)) * layout.entry
        entries = stream.read(min(length, MAX_DIRECTORY_BYTES))
        after = offset + layout.count + length
        whole = after + layout.offset <= size
        yield layout, _Directory(offset, whole, entries)
        if not whole:
            return
        stream.seek(after)
        offset = layout.number(stream.read(layout.offset))


def missing_directory(stream: BinaryIO) -> int | None:
    """Finds a directory that a TIFF names but does not hold whole, as in a copy that was cut short.

    Args:
        stream: The file, at any position.

    Returns:
        The directory's offset in bytes; None where none is missing, or the file is no TIFF.
    """
    return next((directory.offset for _, directory in _directories(stream) if not directory.whole), None)


def absurd_tiles(path: str | os.PathLike[str]) -> str:
    """Tiles so large that OpenSlide would abort the whole process for want of memory, in words; empty without such."""
    with Path(path).open("rb") as stream:
        for layout, directory in _directories(stream):
            sides = {TILE_WIDTH: 0, TILE_LENGTH: 0}
            for at in range(0, len(directory.entries) - layout.entry + 1, layout.entry):
                entry = directory.entries[at : at + layout.entry]
                tag, kind = layout.number(entry[:2]), layout.number(entry[2:4])
                if tag in sides:
                    value = entry[-layout.offset :]
                    sides[tag] = layout.number(value[: NUMBER_BYTES.get(kind, layout.offset)])
            if max(sides.values()) > MAX_TILE_SIDE:
                width, height = sides.values()
                return f"its directory is damaged (tiles of {width} x {height} px)"
    return ""


def cut_short(path: str | os.PathLike[str]) -> str:
    """How a file that cannot be opened was cut short; empty where that is not what ails it."""
    try:
        size = Path(path).stat().st_size
        with Path(path).open("rb") as stream:
            directory = missing_directory(stream)
    except OSError:
        return ""
    if size == 0:
        return "the file is empty"
    if directory is None:
        return _too_short(path, size)
    place = "before" if directory >= size else "within"
    return f"the file ends at byte {size}, {place} its directory at byte {directory}"


def _too_short(path: str | os.PathLike[str], size: int) -> str:
    """How many chunks of a TIFF lie beyond its end, in words; empty where none does, or it is no TIFF."""
    try:
        with tifffile.TiffFile(Path(path)) as tiff:
            ends = [np.add(page.dataoffsets, page.databytecounts) for page in tiff.pages]
    except Exception:
        # tifffile fails in many ways on what is damaged otherwise, which is for others to tell.
        return ""
    return too_short(sum(int((end > size).sum()) for end in ends), sum(end.size for end in ends))


def too_short(beyond: int, chunks: int) -> str:
    """That a file ends before some of its chunks, in words; empty where none lies beyond."""
    if not beyond:
        return ""
    return f"the file is too short: {beyond} of {chunks} of its image tiles lie beyond its end"
