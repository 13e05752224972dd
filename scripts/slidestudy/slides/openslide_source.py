"""Chunks of any format that OpenSlide opens, read through it in large blocks."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import openslide
from numpy.typing import NDArray

from slidestudy.errors import Reason, SlideError
from slidestudy.slides.levels import RGB, UNREADABLE, Chunk, Flaw, Level
from slidestudy.slides.retrying import Retries
from slidestudy.slides.tiff_files import cut_short

BLOCK = 1024
"""Side of a block, px: OpenSlide's overhead per call is then small beside the decoding."""
PIECE = 256
"""Side of the pieces in which a block that fails is read again, px."""
CACHE_BYTES = 32_000_000
"""Decoded tiles that OpenSlide keeps, for all threads together, bytes."""
COPY_ANEW = "copy the file anew from its source"


class UnknownFormatError(Exception):
    """OpenSlide does not know the format."""


def on_white(rgba: NDArray[np.uint8]) -> Chunk:
    """Lays transparent pixels (outside the scanned area) onto white.

    Args:
        rgba: uint8 (height, width, 4), straight (not premultiplied) as Pillow gives it.
    """
    alpha = rgba[..., 3]
    if alpha.min() == 255:
        return Chunk(np.ascontiguousarray(rgba[..., :3]))
    weight = alpha[..., None].astype(np.float32) / 255
    blended = np.round(rgba[..., :3] * weight + 255 * (1 - weight)).astype(np.uint8)
    return Chunk(np.ascontiguousarray(blended), np.where(alpha == 0, np.uint8(Flaw.ABSENT), np.uint8(Flaw.NONE)))


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
        self._local = threading.local()
        self._handles: list[openslide.OpenSlide] = []
        self._cache = openslide.OpenSlideCache(CACHE_BYTES)
        handle = self._handle()
        self.properties: Mapping[str, str] = dict(handle.properties)
        self.vendor = self.properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")
        profile = getattr(handle, "color_profile", None)
        self.icc_profile = profile.tobytes() if profile is not None else None
        self.levels = [
            Level(w, h, float(d), BLOCK, BLOCK)
            for (w, h), d in zip(handle.level_dimensions, handle.level_downsamples, strict=True)
        ]

    def _handle(self) -> openslide.OpenSlide:
        """This thread's handle, since a handle is spoilt by its first error."""
        if not hasattr(self._local, "handle"):
            self._local.handle = self._retries.call(self._open)
            self._handles.append(self._local.handle)
        return self._local.handle

    def _open(self) -> openslide.OpenSlide:
        try:
            # OpenSlide takes a file that it may not read for one of unknown format.
            with Path(self.path).open("rb"):
                handle = openslide.OpenSlide(self.path)
            handle.set_cache(self._cache)
            return handle
        except openslide.OpenSlideUnsupportedFormatError:
            what, unknown = "OpenSlide does not know this format", True
        except openslide.OpenSlideError as error:
            what, unknown = f"cannot be opened ({error})", False
        cut = cut_short(self.path)
        if cut:
            raise SlideError(Reason.TRUNCATED, cut, self.slide_id, COPY_ANEW)
        if unknown:
            raise UnknownFormatError(what)
        raise SlideError(Reason.UNREADABLE, what, self.slide_id, COPY_ANEW)

    def _drop(self) -> None:
        """Closes this thread's handle; the next call opens another."""
        handle = self._local.__dict__.pop("handle", None)
        if handle is not None:
            handle.close()
            self._handles.remove(handle)

    def close(self) -> None:
        """Closes all handles."""
        for handle in self._handles:
            handle.close()
        self._handles = []
        self._local = threading.local()

    def beyond_end(self) -> tuple[int, int]:
        """Not known: OpenSlide does not say where its chunks lie."""
        return 0, 0

    def chunks(self, level: int, indices: Sequence[int]) -> list[Chunk]:
        """Reads blocks of a level."""
        return [self._chunk(self.levels[level], level, index) for index in indices]

    def _chunk(self, level: Level, number: int, index: int) -> Chunk:
        left, top = level.origin(index)
        width, height = min(BLOCK, level.width - left), min(BLOCK, level.height - top)
        whole = self._region(number, left, top, width, height)
        if whole is not None:
            return whole
        # Only the pieces that cannot be decoded are lost.
        pixels, flaws = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)
        for y in range(0, height, PIECE):
            for x in range(0, width, PIECE):
                w, h = min(PIECE, width - x), min(PIECE, height - y)
                piece = self._region(number, left + x, top + y, w, h) or UNREADABLE
                flaws[y : y + h, x : x + w] = piece.flaws
                if piece.pixels is not None:
                    pixels[y : y + h, x : x + w] = piece.pixels
        return Chunk(pixels, flaws)

    def _region(self, number: int, x: int, y: int, width: int, height: int) -> Chunk | None:
        """A region in pixels of a level; None where it cannot be decoded."""
        scale = self.levels[number].downsample
        try:
            corner = round(x * scale), round(y * scale)
            rgba: RGB = np.asarray(self._handle().read_region(corner, number, (width, height)))
        except (openslide.OpenSlideError, SlideError, UnknownFormatError, OSError):
            self._drop()
            return None
        return on_white(rgba)
