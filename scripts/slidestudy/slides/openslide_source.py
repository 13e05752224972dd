"""Chunks of any format that OpenSlide opens, read through it in large blocks."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import MappingProxyType

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import ImageCms

from slidestudy.errors import Reason, SlideError
from slidestudy.slides.levels import RGB, UNREADABLE, Chunk, Flaw, Level
from slidestudy.slides.retrying import Retries
from slidestudy.slides.tiff_files import absurd_tiles, cut_short
from slidestudy.slides.tiff_pages import ChunkTable

BLOCK = 1024
"""Side of a block, px: OpenSlide's overhead per call is then small beside the decoding."""
PIECE = 256
"""Side of the pieces in which a block that fails is read again, px."""
CACHE_BYTES = 32_000_000
"""Decoded tiles that OpenSlide keeps, for all threads together, bytes."""
COPY_ANEW = "copy the file anew from its source"
UNKNOWN_COMPRESSION = "Unsupported TIFF compression"
"""How OpenSlide says so."""


class UnknownFormatError(Exception):
    """OpenSlide does not know the format, or not its compression."""


def same_shape(full: Level | ChunkTable, level: Level | ChunkTable) -> bool:
    """Whether a level can be a smaller copy of another: of the same proportions, but for rounding."""
    expected = level.width * full.height / full.width
    return abs(level.height - expected) <= max(2, 0.05 * expected)


def on_white(rgba: NDArray[np.uint8]) -> Chunk:
    """Lays transparent pixels (outside the scanned area) onto white.

    Args:
        rgba: uint8 (height, width, 4), straight (not premultiplied) as Pillow gives it.
    """
    alpha = rgba[..., 3]
    if alpha.min() == 255:
        return Chunk(np.ascontiguousarray(rgba[..., :3]))
    pixels = np.empty((*alpha.shape, 3), np.uint8)
    for band in (slice(top, top + BLOCK) for top in range(0, len(alpha), BLOCK)):
        weight = alpha[band, :, None].astype(np.float32) / 255
        pixels[band] = np.round(rgba[band, :, :3] * weight + 255 * (1 - weight))
    return Chunk(pixels, np.where(alpha == 0, np.uint8(Flaw.ABSENT), np.uint8(Flaw.NONE)))


def _properties(handle: openslide.OpenSlide) -> dict[str, str]:
    """What the file says of itself, but for what cannot be read as text."""
    found: dict[str, str] = {}
    for name in handle.properties:
        with suppress(KeyError, UnicodeDecodeError):
            found[name] = handle.properties[name]
    return found


def _icc_profile(handle: openslide.OpenSlide) -> bytes | None:
    """The embedded ICC profile; None where there is none, or Pillow does not understand it."""
    try:
        profile = getattr(handle, "color_profile", None)
    except (OSError, ImageCms.PyCMSError):
        return None
    return profile.tobytes() if profile is not None else None


class OpenSlideSource:
    """A slide that OpenSlide opens.

    Args:
        path: The file.
        slide_id: The slide's id, for messages.
        retries: How often failed reads are tried again.

    Raises:
        UnknownFormatError: OpenSlide does not know the format.
        SlideError: `unreadable`, or `truncated` where the file ends too early.
    """

    kind = "openslide"
    levels: Sequence[Level]
    reduced: Sequence[Level] = ()
    reductions: Mapping[int, int] = MappingProxyType({})

    def __init__(self, path: str | os.PathLike[str], slide_id: str, retries: Retries) -> None:
        self.path, self.slide_id, self._retries = os.fspath(path), slide_id, retries
        self._lock = threading.Lock()
        self._idle: list[openslide.OpenSlide] = []
        self._closed = False
        self._cache = openslide.OpenSlideCache(CACHE_BYTES)
        try:
            with self._handle() as handle:
                self.properties: Mapping[str, str] = _properties(handle)
                self.vendor = self.properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")
                self.icc_profile = _icc_profile(handle)
                levels = [
                    Level(w, h, float(d), BLOCK, BLOCK)
                    for (w, h), d in zip(handle.level_dimensions, handle.level_downsamples, strict=True)
                ]
        except openslide.OpenSlideError as error:
            raise SlideError(Reason.UNREADABLE, f"cannot be opened ({error})", slide_id, COPY_ANEW) from None
        # A plain TIFF's label or macro picture that is marked as a smaller copy is taken for a level.
        plain = self.vendor == "generic-tiff"
        self._numbers = [i for i, level in enumerate(levels) if not plain or same_shape(levels[0], level)]
        self.levels = [levels[i] for i in self._numbers]

    @contextmanager
    def _handle(self) -> Iterator[openslide.OpenSlide]:
        """A handle for this thread alone; one that fails is closed, since its first error spoils it."""
        with self._lock:
            handle = self._idle.pop() if self._idle else None
        if handle is None:
            handle = self._retries.call(self._open)
        try:
            yield handle
        except BaseException:
            handle.close()
            raise
        with self._lock:
            if not self._closed:
                self._idle.append(handle)
                return
        handle.close()

    def _open(self) -> openslide.OpenSlide:
        # This also fails where the file may not be read, which OpenSlide takes for an unknown format.
        absurd = absurd_tiles(self.path)
        if absurd:
            raise SlideError(Reason.UNREADABLE, absurd, self.slide_id, COPY_ANEW)
        try:
            handle = openslide.OpenSlide(self.path)
            handle.set_cache(self._cache)
            return handle
        except openslide.OpenSlideUnsupportedFormatError:
            what, unknown = "OpenSlide does not know this format", True
        except openslide.OpenSlideError as error:
            what, unknown = f"cannot be opened ({error})", UNKNOWN_COMPRESSION in str(error)
        cut = cut_short(self.path)
        if cut:
            raise SlideError(Reason.TRUNCATED, cut, self.slide_id, COPY_ANEW)
        if unknown:
            raise UnknownFormatError(what)
        raise SlideError(Reason.UNREADABLE, what, self.slide_id, COPY_ANEW)

    def close(self) -> None:
        """Closes all handles."""
        with self._lock:
            handles, self._idle, self._closed = self._idle, [], True
        for handle in handles:
            handle.close()

    def beyond_end(self) -> tuple[int, int]:
        """Not known: OpenSlide does not say where its chunks lie."""
        return 0, 0

    def chunks(self, level: int, indices: Sequence[int]) -> Iterator[Chunk]:
        """Reads blocks of a level, each as it is asked for."""
        for index in indices:
            yield self._chunk(self.levels[level], level, index)

    def _chunk(self, level: Level, number: int, index: int) -> Chunk:
        left, top = level.origin(index)
        width, height = min(BLOCK, level.width - left), min(BLOCK, level.height - top)
        whole = self.region(number, left, top, width, height)
        if whole is not None:
            return whole
        # Only the pieces that cannot be decoded are lost.
        pixels, flaws = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)
        for y in range(0, height, PIECE):
            for x in range(0, width, PIECE):
                w, h = min(PIECE, width - x), min(PIECE, height - y)
                piece = self.region(number, left + x, top + y, w, h) or UNREADABLE
                flaws[y : y + h, x : x + w] = piece.flaws
                if piece.pixels is not None:
                    pixels[y : y + h, x : x + w] = piece.pixels
        return Chunk(pixels, flaws)

    def region(self, number: int, x: int, y: int, width: int, height: int) -> Chunk | None:
        """A region in pixels of a level; None where it cannot be decoded."""
        scale = self.levels[number].downsample
        corner = round(x * scale), round(y * scale)
        try:
            with self._handle() as handle:
                rgba: RGB = np.asarray(handle.read_region(corner, self._numbers[number], (width, height)))
        except (openslide.OpenSlideError, SlideError, UnknownFormatError, OSError):
            return None
        return on_white(rgba)
