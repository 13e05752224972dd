"""The structure of a TIFF: which compressed chunks make up each level, and how one is decoded."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray

from slidestudy.errors import Reason
from slidestudy.slides.levels import RGB

# Damaged files are told of in the inspection record, not by the library's warnings.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

MAX_CHUNK_BYTES = 64_000_000
"""Chunks that are larger when decoded, as in files of one strip, are not read chunk by chunk."""
ADOBE_MARKER = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
"""A JPEG marker, but for its last byte, which says whether the colours are transformed."""
JPEG = {tifffile.COMPRESSION.JPEG}
UNSURE = {tifffile.COMPRESSION.OJPEG, tifffile.COMPRESSION.APERIO_JP2000_YCBC}
"""Compressions whose colours tifffile leaves to the caller."""
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
        decode: (bytes of a chunk, its number, reduction) -> uint8 (height, width, 3), or one plane (height, width).
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
    """

    def __init__(self, what: str, reason: Reason = Reason.UNREADABLE) -> None:
        super().__init__(what)
        self.reason = reason


def open_tiff(path: str | os.PathLike[str]) -> tifffile.TiffFile:
    """Opens a TIFF.

    Raises:
        NotReadableError: It is none, or its directories are damaged.
    """
    try:
        return tifffile.TiffFile(Path(path))
    except Exception as error:
        # On damaged directories tifffile fails in many ways: struct.error, TypeError, MemoryError ...
        raise NotReadableError(f"not a readable TIFF ({error})") from None


def chunk_table(page: Any) -> ChunkTable:
    """The chunks of a page (a `tifffile.TiffPage`).

    Raises:
        NotReadableError: Its pixels are not 8-bit RGB, or not cut into chunks that can be decoded one by one.
    """
    try:
        return _chunk_table(page)
    except NotReadableError:
        raise
    except Exception as error:
        raise NotReadableError(f"its directory is damaged ({error})") from None


def _chunk_table(page: Any) -> ChunkTable:
    if page.samplesperpixel != 3 or page.bitspersample != 8 or page.dtype != np.uint8 or page.imagedepth != 1:
        what = f"{page.samplesperpixel} channel{'s' if page.samplesperpixel != 1 else ''} of {page.dtype}"
        what = f"its pixels are {what}, those of bright-field slides 3 channels of uint8"
        raise NotReadableError(what, Reason.NOT_BRIGHTFIELD)
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
        raise NotReadableError(f"{offsets.size} chunks where {planes * expected} are needed")
    jpeg = page.compression in JPEG and planes == 1
    shape = offsets.reshape(planes, expected), counts.reshape(planes, expected)
    decode = _jpeg_decoder(page) if jpeg else _any_decoder(page)
    reduces = jpeg and chunk_width % 16 == 0 and chunk_height % 16 == 0
    return ChunkTable(width, height, chunk_width, chunk_height, *shape, decode, reduces)


def _jpeg_decoder(page: Any) -> Callable[[bytes, int, int], RGB]:
    """JPEG through libjpeg-turbo, told to fail on damaged data where other decoders fill with grey in silence."""
    tables = bytes(page.jpegtables)[:-2] if page.jpegtables else b"\xff\xd8"
    # Without a marker the decoder would guess by the components' names whether colours are transformed.
    transform = b"\x01" if page.photometric == tifffile.PHOTOMETRIC.YCBCR else b"\x00"
    header = tables[:2] + ADOBE_MARKER + transform + tables[2:]
    width = int(page.tilewidth if page.is_tiled else page.imagewidth)
    height = int(page.tilelength if page.is_tiled else min(page.rowsperstrip, page.imagelength))
    tiled = bool(page.is_tiled)

    def decode(data: bytes, index: int, reduction: int) -> RGB:
        if data[:2] != b"\xff\xd8":
            raise ValueError("no JPEG")
        w, h = -(-width // reduction), -(-height // reduction)
        # The buffer also bounds what a damaged header can ask for.
        buffer = np.empty((h, w, 3), np.uint8)
        found = simplejpeg.decode_jpeg(
            header + data[2:], "RGB", min_width=w, min_height=h, min_factor=reduction, buffer=buffer, strict=True
        )
        if found.shape[1] != w or (found.shape[0] != h and tiled):
            raise ValueError(f"{found.shape[1]} x {found.shape[0]} px where {w} x {h} are needed")
        return found

    return decode


def _any_decoder(page: Any) -> Callable[[bytes, int, int], RGB]:
    """Any other compression, through tifffile and imagecodecs."""
    jpeg2000 = page.compression in JPEG2000

    def decode(data: bytes, index: int, reduction: int) -> RGB:
        if jpeg2000:
            _check_jpeg2000(data, int(page.tilewidth), int(page.tilelength))
        array, _, shape = page.decode(data, index, jpegtables=page.jpegtables, _fullsize=True)
        if array is None:
            raise ValueError("no data")
        chunk = np.asarray(array[0], np.uint8)
        if chunk.shape[0] < shape[1] or chunk.shape[1] < shape[2]:
            raise ValueError("too few pixels")
        return chunk

    return decode


def _check_jpeg2000(data: bytes, width: int, height: int) -> None:
    """Refuses a codestream of another size, for which the decoder would allocate whatever it asks for."""
    if data[:4] != b"\xff\x4f\xff\x51" or len(data) < 24:
        raise ValueError("no JPEG 2000 codestream")
    right, bottom, left, top = struct.unpack(">4I", data[8:24])
    if (right - left, bottom - top) != (width, height):
        raise ValueError(f"{right - left} x {bottom - top} px where {width} x {height} are needed")
    if data[-2:] != b"\xff\xd9":
        raise ValueError("the codestream is cut short")
