"""Damaging files on purpose."""

from __future__ import annotations

from pathlib import Path

import tifffile


def spoil_tile(path: Path, tile: int) -> Path:
    """Overwrites one compressed tile of a TIFF's first page; the file keeps its length."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        offset, length = page.dataoffsets[tile], page.databytecounts[tile]
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(bytes(length))
    return path
