"""The structure of a TIFF: which compressed chunks make up each level, and how one is decoded."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray

from slidestudy.errors import Reason
from slidestudy.slides.levels import RGB
from slidestudy.slides.retrying import failed_reading

# Damaged files are told of in the inspection record, not by the library's warnings.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

MAX_CHUNK_BYTES = 64_000_000
"""Chunks that are larger when decoded, as in files of one strip, are not read chunk by chunk."""
ADOBE_MARKER = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
"""A JPEG marker, but for its last byte, which says whether the colours are transformed."""
JPEG = {tifffile.COMPRESSION.JPEG}
REDUCES = {"444", "420", "Gray"}
"""JPEGs whose blocks come out as their means when decoded at an eighth: colours stored whole, or halved both ways."""
UNSURE = {tifffile.COMPRESSION.OJPEG, tifffile.COMPRESSION.APERIO_JP2000_YCBC}
"""Compressions whose colours tifffile leaves to the caller."""
CODESTREAM = b"\xff\x4f\xff\x51"
"""How a JPEG 2000 codestream begins."""
BOXES_BYTES = 4096
"""It may be wrapped in a JP2 file, whose boxes come before it."""
JPEG2000 = {tifffile.COMPRESSION.JPEG2000, tifffile.COMPRESSION.APERIO_JP2000_RGB}


@dataclass(frozen=True)
class ChunkTable:
    """Where the chunks of one page lie in the file, and how one is decoded.

    Attributes:
        width: Width of the page, px.
        height: Height of the page, px.
        chunk_width: Width of a chunk, px.
        chunk_height: Height of a chunk, px.
        offsets: Offset of each chunk, bytes, int64 (planes, n).
        counts: Length of each chunk, bytes, int64 (planes, n); 0 where the scanner left it out.
        decode: (bytes of a chunk, its number, reduction) -> uint8 (height, width, 3), or one plane (height, width, 1).
            Raises an exception of any kind where the bytes are damaged.
        reduces: Whether it can decode at an eighth of the size.
    """

    width: int
    height: int
    chunk_width: int
    chunk_height: int
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    decode: Callable[[bytes, int, int], RGB]
    reduces: bool


class NotReadableError(Exception):
    """A file that cannot be read in a certain way; the text says why.

    Args:
        what: What is in the way.
        reason: The ledger's code where there is no other way.
        damaged: Whether the file is so damaged that read in another way it would show wrong pixels.
    """

    def __init__(self, what: str, reason: Reason = Reason.UNREADABLE, damaged: bool = False) -> None:
        super().__init__(what)
        self.reason = reason
        self.damaged = damaged


def open_tiff(path: str | os.PathLike[str]) -> tifffile.TiffFile:
    """Opens a TIFF.

    Raises:
        NotReadableError: It is none, or its directories are damaged.
        OSError: It cannot be read.
    """
    try:
        # Files that an OME-TIFF may name beside itself are left alone.
        return tifffile.TiffFile(Path(path), _multifile=False)
    except Exception as error:
        if failed_reading(error):
            raise
        # On damaged directories tifffile fails in many ways: struct.error, TypeError, MemoryError ...
        raise NotReadableError(f"not a readable TIFF ({error})") from None


def chunk_table(page: Any) -> ChunkTable:
    """The chunks of a page (a `tifffile.TiffPage`).

    Raises:
        NotReadableError: Its pixels are not 8-bit RGB, or not cut into chunks that can be decoded one by one.
        OSError: The file cannot be read.
    """
    try:
        return _chunk_table(page)
    except NotReadableError:
        raise
    except Exception as error:
        if failed_reading(error):
            raise
        raise NotReadableError(f"its directory is damaged ({error})") from None


def _chunk_table(page: Any) -> ChunkTable:
    _check_pixels(page)
    if page.compression in UNSURE or page.photometric not in (
        tifffile.PHOTOMETRIC.RGB,
        tifffile.PHOTOMETRIC.YCBCR,
    ):
        raise NotReadableError(f"compression {page.compression.name} of {page.photometric.name} pixels")
    if page.photometric == tifffile.PHOTOMETRIC.YCBCR and page.compression not in JPEG:
        raise NotReadableError(f"compression {page.compression.name} of YCBCR pixels")
    width, height = int(page.imagewidth), int(page.imagelength)
    if page.is_tiled:
        chunk_width, chunk_height = int(page.tilewidth), int(page.tilelength)
    else:
        chunk_width, chunk_height = width, min(height, int(page.rowsperstrip))
    if min(width, height, chunk_width, chunk_height) <= 0 or chunk_width * chunk_height * 3 > MAX_CHUNK_BYTES:
        raise NotReadableError(f"chunks of {chunk_width} x {chunk_height} px")
    planes = 3 if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE else 1
    expected = -(-width // chunk_width) * -(-height // chunk_height)
    offsets, counts = (np.asarray(values, np.int64) for values in (page.dataoffsets, page.databytecounts))
    if offsets.size != planes * expected or counts.size != offsets.size or (offsets < 0).any() or (counts < 0).any():
        what = f"its directory is damaged ({offsets.size} chunks where {planes * expected} are needed)"
        raise NotReadableError(what, damaged=offsets.size < planes * expected)
    grid = _Grid(width, height, chunk_width, chunk_height, planes)
    jpeg = page.compression in JPEG
    shape = offsets.reshape(planes, expected), counts.reshape(planes, expected)
    decode = _jpeg_decoder(page, grid) if jpeg else _any_decoder(page, grid)
    reduces = jpeg and chunk_width % 16 == 0 and chunk_height % 16 == 0
    return ChunkTable(width, height, chunk_width, chunk_height, *shape, decode, reduces)


def _check_pixels(page: Any) -> None:
    """Refuses pixels that are not 8-bit RGB."""
    if page.dtype is None:
        raise NotReadableError("its directory is damaged (pixels of no known type)")
    if page.samplesperpixel == 3 and page.bitspersample == 8 and page.dtype == np.uint8 and page.imagedepth == 1:
        return
    what = f"{page.samplesperpixel} channel{'s' if page.samplesperpixel != 1 else ''} of {page.dtype}"
    what = f"its pixels are {what}, those of bright-field slides 3 channels of uint8"
    # RGB with transparency is bright field, but not of the usual kind.
    transparent = page.samplesperpixel == 4 and page.dtype == np.uint8 and page.photometric == tifffile.PHOTOMETRIC.RGB
    raise NotReadableError(what, Reason.UNREADABLE if transparent else Reason.NOT_BRIGHTFIELD)


@dataclass(frozen=True)
class _Grid:
    """How a page is cut."""

    width: int
    height: int
    chunk_width: int
    chunk_height: int
    planes: int

    def inside(self, index: int) -> tuple[int, int]:
        """Width and height of the part of a chunk that lies inside the page; some writers store no more."""
        columns, rows = -(-self.width // self.chunk_width), -(-self.height // self.chunk_height)
        row, column = divmod(index % (columns * rows), columns)
        left, top = column * self.chunk_width, row * self.chunk_height
        return min(self.chunk_width, self.width - left), min(self.chunk_height, self.height - top)


def _jpeg_decoder(page: Any, grid: _Grid) -> Callable[[bytes, int, int], RGB]:
    """JPEG through libjpeg-turbo, told to fail on damaged data where other decoders fill with grey in silence."""
    tables = bytes(page.jpegtables)[:-2] if page.jpegtables else b"\xff\xd8"
    # Without a marker the decoder would guess by the components' names whether colours are transformed.
    transform = b"\x01" if page.photometric == tifffile.PHOTOMETRIC.YCBCR else b"\x00"
    header = tables[:2] + ADOBE_MARKER + transform + tables[2:]
    colours, samples = ("RGB", 3) if grid.planes == 1 else ("GRAY", 1)
    full = grid.chunk_width, grid.chunk_height

    def decode(data: bytes, index: int, reduction: int) -> RGB:
        if data[:2] != b"\xff\xd8":
            raise ValueError("no JPEG")
        complete, inside = header + data[2:], grid.inside(index)
        held = full
        if inside != full or reduction > 1:
            rows, columns, _, sampling = simplejpeg.decode_jpeg_header(complete)
            if (columns, rows) == inside:
                held = inside
            if reduction > 1 and sampling not in REDUCES:
                return _block_means(decode(data, index, 1), reduction)
        width, height = (-(-side // reduction) for side in held)
        # The buffer also bounds what a damaged header can ask for.
        buffer = np.empty((height, width, samples), np.uint8)
        found = simplejpeg.decode_jpeg(
            complete, colours, min_width=width, min_height=height, min_factor=reduction, buffer=buffer, strict=True
        )
        if found.shape[:2] != (height, width):
            raise ValueError(f"{found.shape[1]} x {found.shape[0]} px where {width} x {height} are needed")
        return found

    return decode


def _block_means(pixels: RGB, reduction: int) -> RGB:
    """Pixels reduced by a factor, where the last row and column of blocks may be incomplete."""
    height, width = (-(-side // reduction) for side in pixels.shape[:2])
    below, beside = height * reduction - pixels.shape[0], width * reduction - pixels.shape[1]
    padded = np.pad(pixels, ((0, below), (0, beside), (0, 0)), mode="edge")
    means = cv2.resize(padded, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(means, np.uint8).reshape(height, width, pixels.shape[2])


def _any_decoder(page: Any, grid: _Grid) -> Callable[[bytes, int, int], RGB]:
    """Any other compression, through tifffile and imagecodecs."""
    jpeg2000 = page.compression in JPEG2000
    # Both are made now, while the file is open.
    decoder, tables = page.decode, page.jpegtables

    def decode(data: bytes, index: int, reduction: int) -> RGB:
        width, height = grid.inside(index)
        if jpeg2000:
            _check_jpeg2000(data, (width, grid.chunk_width), (height, grid.chunk_height))
        array, _, _ = decoder(data, index, jpegtables=tables)
        if array is None:
            raise ValueError("no data")
        chunk = np.asarray(array[0], np.uint8)
        if chunk.shape[0] < height or chunk.shape[1] < width:
            raise ValueError("too few pixels")
        return chunk

    return decode


def _check_jpeg2000(data: bytes, widths: tuple[int, int], heights: tuple[int, int]) -> None:
    """Refuses a codestream of another size, for which the decoder would allocate whatever it asks for."""
    start = max(0, data[:BOXES_BYTES].find(CODESTREAM))
    size = data[start + 8 : start + 24]
    if data[start : start + 4] != CODESTREAM or len(size) < 16:
        raise ValueError("no JPEG 2000 codestream")
    right, bottom, left, top = struct.unpack(">4I", size)
    if right - left not in widths or bottom - top not in heights:
        raise ValueError(f"{right - left} x {bottom - top} px where {widths[1]} x {heights[1]} are needed")
    if data[-2:] != b"\xff\xd9":
        raise ValueError("the codestream is cut short")
