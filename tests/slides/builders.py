"""Sources held in memory, TIFFs of every kind, and ways to damage them."""

from __future__ import annotations

import resource
import shutil
import struct
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import openslide
import pytest
import simplejpeg
import tifffile

from slidestudy.errors import SlideError
from slidestudy.slides.levels import Chunk, Flaw, Level
from slidestudy.slides.reader import Slide
from slidestudy.slides.stream import Batch

RGB = npt.NDArray[np.uint8]


class FakeSource:
    """Levels in memory, that count what is decoded and how much of it is held.

    Args:
        images: The levels' pixels, finest first.
        chunk: Width and height of a chunk, px.
        flaws: (level, chunk) -> its flaw, where it has one.
        fail: Called with each (level, chunk) before it is decoded; may raise.
    """

    kind, vendor = "fake", "fake"
    reduced: Sequence[Level] = ()
    reductions: Mapping[int, int] = {}
    properties: Mapping[str, str] = {}
    icc_profile = None

    def __init__(
        self,
        images: Sequence[RGB],
        chunk: tuple[int, int],
        flaws: Mapping[tuple[int, int], Flaw] | None = None,
        fail: Callable[[int, int], None] = lambda level, index: None,
    ) -> None:
        self.images, self.flaws, self.fail = images, flaws or {}, fail
        full = images[0].shape[1]
        self.levels = [Level(i.shape[1], i.shape[0], full / i.shape[1], *chunk) for i in images]
        self.decoded: Counter[tuple[int, int]] = Counter()
        self.held = self.most_held = 0
        self._lock = threading.RLock()

    def chunks(self, level: int, indices: Sequence[int]) -> Iterator[Chunk]:
        for index in indices:
            self.fail(level, index)
            yield self._chunk(level, index)

    def _chunk(self, number: int, index: int) -> Chunk:
        level = self.levels[number]
        assert 0 <= index < level.columns * level.rows
        x, y = level.origin(index)
        flaw = self.flaws.get((number, index), Flaw.NONE)
        pixels = self.images[number][y : y + level.chunk_height, x : x + level.chunk_width].copy()
        with self._lock:
            self.decoded[number, index] += 1
            if flaw is not Flaw.NONE:
                return Chunk(None, flaw)
            self.held += 1
            self.most_held = max(self.most_held, self.held)
        weakref.finalize(pixels, self._let_go)
        return Chunk(pixels)

    def _let_go(self) -> None:
        with self._lock:
            self.held -= 1

    def beyond_end(self) -> tuple[int, int]:
        return 0, 0

    def close(self) -> None:
        pass


def window_of(image: RGB, x: int, y: int, width: int, height: int) -> RGB:
    """A window of an image, white outside it: slow and obvious."""
    out = np.full((height, width, 3), 255, np.uint8)
    for row in range(height):
        for column in range(width):
            if 0 <= y + row < len(image) and 0 <= x + column < image.shape[1]:
                out[row, column] = image[y + row, x + column]
    return out


def collect(batches: Iterator[Batch], count: int) -> tuple[RGB, npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Batches in the order asked for; each position must come exactly once."""
    found = list(batches)
    rows = np.concatenate([b.rows for b in found]) if found else np.zeros(0, np.intp)
    assert sorted(rows.tolist()) == list(range(count))
    order = np.argsort(rows)
    if not found:
        return np.zeros((0, 0, 0, 3), np.uint8), np.zeros(0, bool), np.zeros(0, np.float32)
    return tuple(np.concatenate([getattr(b, k) for b in found])[order] for k in ("tiles", "readable", "absent"))  # type: ignore[return-value]


def grid(size: tuple[int, int], side: int) -> npt.NDArray[np.int32]:
    """Corners of squares that cover a slide, the last ones reaching beyond it."""
    y, x = np.mgrid[0 : size[1] : side, 0 : size[0] : side]
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int32)


def all_tiles(slide: Slide, side: int, threads: int = 1) -> tuple[RGB, npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """All tiles of level 0."""
    coords = grid(slide.size, side)
    return collect(slide.tiles(coords, side, side, threads), len(coords))


def openslides_level(path: Path, level: int = 0) -> RGB:
    """A level as OpenSlide reads it, at once, on white."""
    with openslide.OpenSlide(path) as slide:
        rgba = np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]))
    weight = rgba[..., 3:] / 255
    return np.round(rgba[..., :3] * weight + 255 * (1 - weight)).astype(np.uint8)


# TIFFs

TILED: dict[str, dict[str, Any]] = {
    "uncompressed": {"compression": None},
    "lzw": {"compression": "lzw", "predictor": True},
    "deflate": {"compression": "zlib"},
    "deflate-predictor": {"compression": "zlib", "predictor": True},
    "zstd": {"compression": "zstd"},
    "packbits": {"compression": "packbits"},
    "planes": {"compression": "zlib", "planarconfig": "separate"},
    "planes-jpeg": {"compression": "jpeg", "planarconfig": "separate"},
    "bigtiff": {"compression": "zlib", "bigtiff": True},
    "jpeg-444": {"compression": "jpeg", "subsampling": (1, 1)},
    "jpeg-422": {"compression": "jpeg", "subsampling": (2, 1)},
    "jpeg-420": {"compression": "jpeg", "subsampling": (2, 2)},
    "jpeg-rgb": {"compression": "jpeg", "compressionargs": {"level": 85, "outcolorspace": "rgb"}},
}
"""How a picture of tiles of 256 px can be written so that OpenSlide opens it."""


def write_abbreviated(path: Path, image: RGB, tile: int, transform: bool) -> Path:
    """A TIFF whose JPEG tiles share their tables, as scanners write it.

    Args:
        path: The file.
        image: Its pixels; the sides must be whole tiles.
        tile: Side of a tile, px.
        transform: Whether the colours are stored as YCbCr, halved; otherwise the same components are called RGB.
    """
    height, width = image.shape[:2]
    assert height % tile == width % tile == 0
    pieces = [image[y : y + tile, x : x + tile] for y in range(0, height, tile) for x in range(0, width, tile)]
    split = [_split(simplejpeg.encode_jpeg(np.ascontiguousarray(p), 85, "RGB", "420")) for p in pieces]
    assert len({tables for tables, _ in split}) == 1
    tifffile.imwrite(
        path,
        iter([body for _, body in split]),
        shape=image.shape,
        dtype=np.uint8,
        tile=(tile, tile),
        compression="jpeg",
        photometric="ycbcr",
        subsampling=(2, 2),
        jpegtables=split[0][0],
        metadata=None,
        software=False,
    )
    return path if transform else set_tag(path, "PhotometricInterpretation", tifffile.PHOTOMETRIC.RGB)


def _split(jpeg: bytes) -> tuple[bytes, bytes]:
    """A JPEG as its tables, and the rest without them and without marks that name the colours."""
    tables, rest, at = b"", b"", 2
    while jpeg[at + 1] != 0xDA:
        length = 2 + struct.unpack(">H", jpeg[at + 2 : at + 4])[0]
        marker, segment = jpeg[at + 1], jpeg[at : at + length]
        if marker in (0xDB, 0xC4):
            tables += segment
        elif not 0xE0 <= marker <= 0xEF:
            rest += segment
        at += length
    return b"\xff\xd8" + tables + b"\xff\xd9", b"\xff\xd8" + rest + jpeg[at:]


def chunk_at(path: Path, index: int, page: int = 0) -> tuple[int, int]:
    """Offset and length of a chunk in the file, bytes."""
    with tifffile.TiffFile(path) as file:
        return int(file.pages[page].dataoffsets[index]), int(file.pages[page].databytecounts[index])


def overwrite(path: Path, offset: int, data: bytes) -> Path:
    """Replaces bytes of a file."""
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(data)
    return path


def set_chunk(path: Path, index: int, page: int = 0, **values: int) -> Path:
    """Changes a chunk's entry in the directory: its `offset`, its `count`, or both."""
    with tifffile.TiffFile(path, mode="r+") as file:
        tags = file.pages[page].tags
        for name, value in values.items():
            names = {"offset": ("TileOffsets", "StripOffsets"), "count": ("TileByteCounts", "StripByteCounts")}[name]
            tag = next(tags[n] for n in names if n in tags)
            listed = list(tag.value)
            listed[index] = value
            tag.overwrite(listed)
    return path


def set_tag(path: Path, name: str, value: Any, page: int = 0) -> Path:
    """Changes a tag of a directory."""
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[page].tags[name].overwrite(value)
    return path


def peak_megabytes() -> float:
    """The most memory that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():
        # The system's own count starts with what the parent process held.
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def crop(image: RGB, x: int, y: int, width: int, height: int) -> RGB:
    """A window of an image, white outside it."""
    out = np.full((height, width, 3), 255, np.uint8)
    x0, x1, y0, y1 = max(x, 0), min(x + width, image.shape[1]), max(y, 0), min(y + height, len(image))
    if x0 < x1 and y0 < y1:
        out[y0 - y : y1 - y, x0 - x : x1 - x] = image[y0:y1, x0:x1]
    return out


def exact_area(image: RGB, x: int, y: int, side: int, size: int) -> RGB:
    shrunk = cv2.resize(crop(image, x, y, side, side), (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, np.uint8)


def refusal(path: Path) -> SlideError:
    with pytest.raises(SlideError) as caught:
        Slide(path, "s1")
    assert caught.value.what
    assert caught.value.remedy
    assert "s1" in str(caught.value)
    return caught.value


class Watched:
    """Which chunks of which levels a slide decodes."""

    def __init__(self, slide: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decoded: list[tuple[int, int]] = []
        chunks = slide._source.chunks

        def watched(level: int, indices: Sequence[int]) -> Iterator[Chunk]:
            self.decoded += [(level, index) for index in indices]
            yield from chunks(level, indices)

        monkeypatch.setattr(slide._source, "chunks", watched)

    @property
    def levels(self) -> set[int]:
        return {level for level, _ in self.decoded}


def spoil(path: Path, target: Path, index: int, part: float) -> Path:
    """A copy whose chunk holds zeros from some part on."""
    shutil.copy(path, target)
    offset, count = chunk_at(path, index)
    start = int(count * part)
    return overwrite(target, offset + start, bytes(count - start))
