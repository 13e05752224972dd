"""Reading pixels of a slide at a wanted resolution, through OpenSlide."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal

import cv2
import numpy as np
import openslide
from numpy.typing import NDArray

from slidestudy.errors import Reason, SlideError

RGB = NDArray[np.uint8]


def _on_white(rgba: NDArray[np.uint8]) -> RGB:
    """Lays transparent pixels (outside the scanned area) onto white."""
    alpha = rgba[..., 3]
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    weight = alpha[..., None].astype(np.float32) / 255
    # OpenSlide premultiplies internally; PIL gives straight RGBA.
    blended = rgba[..., :3] * weight + 255 * (1 - weight)
    return np.ascontiguousarray(np.round(blended).astype(np.uint8))


def resize(image: RGB, width: int, height: int) -> RGB:
    """Resizes by area averaging when shrinking, bilinear when enlarging."""
    if image.shape[1] == width and image.shape[0] == height:
        return image
    shrinking = image.shape[1] > width
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8)


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


class Slide:
    """An open slide. Coordinates are level-0 pixels.

    Args:
        path: The slide's file.
        slide_id: Its id, for messages; the path where empty.

    Raises:
        SlideError: `unreadable` where OpenSlide cannot open it, `truncated` where the file ends too early for that.
    """

    def __init__(self, path: str | os.PathLike[str], slide_id: str = "") -> None:
        self.path = os.fspath(path)
        self.slide_id = slide_id or self.path
        self._handle = self._open()

    def _open(self) -> openslide.OpenSlide:
        try:
            return openslide.OpenSlide(self.path)
        except openslide.OpenSlideUnsupportedFormatError:
            what, remedy = "OpenSlide does not know this format", "convert it to a tiled pyramidal TIFF"
        except (openslide.OpenSlideError, OSError) as error:
            what, remedy = f"cannot be opened ({error})", "copy the file anew from its source"
        cut = self._cut_short()
        if cut:
            raise SlideError(Reason.TRUNCATED, cut, self.slide_id, "copy the file anew from its source")
        raise SlideError(Reason.UNREADABLE, what, self.slide_id, remedy)

    def _cut_short(self) -> str:
        """How a file that cannot be opened was cut short; empty where that is not what ails it."""
        try:
            size = Path(self.path).stat().st_size
            with Path(self.path).open("rb") as stream:
                directory = missing_directory(stream)
        except OSError:
            return ""
        if size == 0:
            return "the file is empty"
        if directory is None:
            return ""
        place = "before" if directory >= size else "within"
        return f"the file ends at byte {size}, {place} its directory at byte {directory}"

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._handle.close()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height at level 0, px."""
        return self._handle.dimensions

    @property
    def level_sizes(self) -> list[tuple[int, int]]:
        """Width and height of every level, px."""
        return list(self._handle.level_dimensions)

    @property
    def downsamples(self) -> list[float]:
        """Level-0 pixels per pixel of every level."""
        return [float(d) for d in self._handle.level_downsamples]

    @property
    def properties(self) -> Mapping[str, str]:
        """OpenSlide's properties."""
        return self._handle.properties

    @property
    def vendor(self) -> str:
        """The format's vendor as OpenSlide names it."""
        return self.properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")

    @property
    def icc_profile(self) -> bytes | None:
        """The embedded ICC profile, or None."""
        profile = getattr(self._handle, "color_profile", None)
        return profile.tobytes() if profile is not None else None

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
        try:
            return _on_white(np.asarray(self._handle.read_region((x, y), level, (width, height))))
        except openslide.OpenSlideError as error:
            # An OpenSlide handle is spoilt by its first error, so that later regions need a new one.
            self._handle.close()
            self._handle = self._open()
            what = f"the region at {x}, {y} of level {level} cannot be decoded ({error})"
            raise SlideError(Reason.TRUNCATED, what, self.slide_id, "copy the file anew from its source") from None

    def level_for(self, downsample: float) -> int:
        """The smallest level that is at least as fine as a downsample (level-0 px per wanted px)."""
        fine_enough = [i for i, d in enumerate(self.downsamples) if d <= downsample * 1.001]
        return fine_enough[-1] if fine_enough else 0

    def read_square(self, x: int, y: int, extent: float, size: int) -> RGB:
        """Reads a square region at a wanted output size.

        Args:
            x: Left edge, level-0 px.
            y: Top edge, level-0 px.
            extent: Side in level-0 px.
            size: Side of the result, px.

        Returns:
            uint8 (size, size, 3).
        """
        level = self.level_for(extent / size)
        side = max(1, round(extent / self.downsamples[level]))
        return resize(self.read(x, y, level, side, side), size, size)

    def read_overview(self, downsample: float) -> RGB:
        """Reads the whole slide at a downsample, in bands so that memory stays bounded.

        Args:
            downsample: Level-0 px per px of the result; at least 1.

        Returns:
            uint8 (ceil(height / downsample), ceil(width / downsample), 3).
        """
        width, height = self.size
        out_width, out_height = (max(1, int(np.ceil(side / downsample))) for side in (width, height))
        level = self.level_for(downsample)
        scale = self.downsamples[level]
        band = max(1, int(16_000_000 / (width / scale) * scale / downsample))
        result = np.empty((out_height, out_width, 3), np.uint8)
        for top in range(0, out_height, band):
            rows = min(band, out_height - top)
            region_height = max(1, round(rows * downsample / scale))
            region = self.read(
                0,
                round(top * downsample),
                level,
                max(1, round(out_width * downsample / scale)),
                region_height,
            )
            result[top : top + rows] = resize(region, out_width, rows)
        return result
