"""Signs in a TIFF's directories that a copy of it was cut short."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import tifffile


def missing_directory(stream: BinaryIO) -> int | None:
    """Finds a directory that a TIFF names but does not hold whole, as in a copy that was cut short.

    Args:
        stream: The file, at any position.

    Returns:
        The directory's offset in bytes; None where none is missing, or the file is no TIFF.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    header = stream.read(16)
    order: Literal["little", "big"] = "little" if header[:2] == b"II" else "big"
    if header[:4] in (b"II*\0", b"MM\0*") and len(header) >= 8:
        count_bytes, entry_bytes, offset_bytes, at = 2, 12, 4, 4
    elif header[:8] in (b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0") and len(header) == 16:
        count_bytes, entry_bytes, offset_bytes, at = 8, 20, 8, 8
    else:
        return None
    offset = int.from_bytes(header[at : at + offset_bytes], order)
    seen: set[int] = set()
    # The directories are a chain that ends in a zero; one that leads back to itself has none missing.
    while offset and offset not in seen:
        seen.add(offset)
        if offset + count_bytes > size:
            return offset
        stream.seek(offset)
        after = offset + count_bytes + int.from_bytes(stream.read(count_bytes), order) * entry_bytes
        if after + offset_bytes > size:
            return offset
        stream.seek(after)
        offset = int.from_bytes(stream.read(offset_bytes), order)
    return None


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
