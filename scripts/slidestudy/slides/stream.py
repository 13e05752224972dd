"""Reading many windows of a slide: chunks are decoded in threads, stitched, and scaled to the wanted size."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from slidestudy.slides.levels import RGB, UNREADABLE, Chunk, Flaw, Level, PixelSource
from slidestudy.slides.plan import Group, Unit, Windows, plan


@dataclass(frozen=True)
class Batch:
    """Some tiles of a slide, read together.

    Attributes:
        rows: Positions of the tiles in the list that was asked for, int (n,).
        tiles: uint8 (n, height, width, 3); black where not readable.
        readable: bool (n,), False where a part of the tile cannot be decoded.
        absent: float32 (n,), fraction of the tile that the scanner left out or that lies outside the slide: white.
    """

    rows: NDArray[np.intp]
    tiles: RGB
    readable: NDArray[np.bool_]
    absent: NDArray[np.float32]


def resize(image: RGB, width: int, height: int) -> RGB:
    """Resizes by area averaging when shrinking, bilinear when enlarging."""
    if image.shape[1] == width and image.shape[0] == height:
        return image
    shrinking = image.shape[1] > width
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8)


def blank(level: Level, corner: tuple[int, int], out: RGB) -> int:
    """Whitens a window that reaches beyond its level.

    Args:
        level: The level.
        corner: Left and top edge of the window, px of the level.
        out: uint8 (height, width, 3), white afterwards unless all of it lies inside the level.

    Returns:
        Pixels that lie outside.
    """
    (left, top), (height, width) = corner, out.shape[:2]
    if left >= 0 and top >= 0 and left + width <= level.width and top + height <= level.height:
        return 0
    out[...] = 255
    columns = min(left + width, level.width) - max(left, 0)
    rows = min(top + height, level.height) - max(top, 0)
    return width * height - max(0, columns) * max(0, rows)


def place(level: Level, corner: tuple[int, int], index: int, chunk: Chunk, out: RGB) -> tuple[bool, int]:
    """Puts a chunk where it belongs in a window.

    Args:
        level: The level.
        corner: Left and top edge of the window, px of the level.
        index: The chunk's number.
        chunk: The decoded chunk.
        out: uint8 (height, width, 3), filled here; white where the scan ends.

    Returns:
        Whether the part in the window could be decoded, and the absent pixels in it.
    """
    if chunk.flaws is Flaw.UNREADABLE:
        return False, 0
    (left, top), (height, width), (x, y) = corner, out.shape[:2], level.origin(index)
    x0, x1 = max(x, left), min(x + level.chunk_width, left + width, level.width)
    y0, y1 = max(y, top), min(y + level.chunk_height, top + height, level.height)
    target = out[y0 - top : y1 - top, x0 - left : x1 - left]
    if chunk.pixels is None:
        target[...] = 255
        return True, target.shape[0] * target.shape[1]
    target[...] = chunk.pixels[y0 - y : y1 - y, x0 - x : x1 - x]
    if not isinstance(chunk.flaws, np.ndarray):
        return True, 0
    flaws = chunk.flaws[y0 - y : y1 - y, x0 - x : x1 - x]
    return not (flaws == Flaw.UNREADABLE).any(), int((flaws == Flaw.ABSENT).sum())


def stitch(level: Level, corner: tuple[int, int], chunks: Mapping[int, Chunk], out: RGB) -> bool:
    """Puts a window together from the chunks that it touches.

    Args:
        level: The level.
        corner: Left and top edge of the window, px of the level.
        chunks: Those chunks by number.
        out: uint8 (height, width, 3), filled here. White where the level or the scan ends.

    Returns:
        Whether all of it could be decoded.
    """
    blank(level, corner, out)
    return all(place(level, corner, index, chunk, out)[0] for index, chunk in chunks.items())


class _Run:
    """The reading of one group of units, whose chunks the threads share."""

    def __init__(self, source: PixelSource, windows: Windows, group: Group, out: tuple[int, int]) -> None:
        self.source = source
        self.windows = windows
        self.level = [*source.levels, *source.reduced][windows.level]
        self.group = group
        self.out_width, self.out_height = out
        self.chunks: dict[int, Chunk] = {}
        self.left = dict(group.uses)
        self.lock = threading.Lock()
        self.decoded = [threading.Event() for _ in group.units]

    def read(self, number: int) -> Batch:
        """Reads the windows of a unit. Units must be begun in their order, since later ones wait for earlier ones."""
        unit = self.group.units[number]
        mosaic = _Mosaic(self.level, self.windows, unit)
        try:
            # One by one, so that most chunks are gone before the next is decoded.
            fresh = self.source.chunks(self.windows.level, unit.decode)
            for index, chunk in zip(unit.decode, fresh, strict=True):
                mosaic.put(index, chunk)
                if self.group.uses[index] > 1:
                    self.chunks[index] = chunk
                del chunk
        finally:
            # Units that wait must not wait for ever; chunks that are missing then count as unreadable.
            self.decoded[number].set()
        for earlier in unit.after:
            self.decoded[earlier].wait()
        for index in mosaic.wanted.keys() - set(unit.decode):
            mosaic.put(index, self.chunks.get(index, UNREADABLE))
        with self.lock:
            for index in mosaic.wanted:
                self.left[index] -= 1
                if not self.left[index]:
                    self.chunks.pop(index, None)
        return mosaic.batch(self.out_width, self.out_height)


class _Mosaic:
    """The windows of a unit while their chunks come in."""

    def __init__(self, level: Level, windows: Windows, unit: Unit) -> None:
        self.level, self.rows = level, unit.rows
        self.corners = [(x, y) for x, y in windows.corners[unit.rows].tolist()]
        self.pixels = np.empty((len(unit.rows), windows.height, windows.width, 3), np.uint8)
        self.readable = np.ones(len(unit.rows), bool)
        self.absent = np.array([blank(level, c, p) for c, p in zip(self.corners, self.pixels, strict=True)], np.int64)
        self.wanted: dict[int, list[int]] = {}
        for i, need in enumerate(unit.needs):
            for index in need:
                self.wanted.setdefault(index, []).append(i)

    def put(self, index: int, chunk: Chunk) -> None:
        """Puts a chunk into the windows that touch it."""
        for i in self.wanted[index]:
            readable, absent = place(self.level, self.corners[i], index, chunk, self.pixels[i])
            self.readable[i] &= readable
            self.absent[i] += absent

    def batch(self, width: int, height: int) -> Batch:
        """The windows scaled to a size."""
        count, rows, columns = self.pixels.shape[:3]
        tiles = self.pixels
        if (rows, columns) != (height, width):
            tiles = np.empty((count, height, width, 3), np.uint8)
            for i in np.flatnonzero(self.readable):
                tiles[i] = resize(self.pixels[i], width, height)
        tiles[~self.readable] = 0
        absent = np.where(self.readable, self.absent / (rows * columns), 0).astype(np.float32)
        return Batch(np.array(self.rows, np.intp), tiles, self.readable, absent)


def stream(source: PixelSource, windows: Windows, out: tuple[int, int], threads: int = 1) -> Iterator[Batch]:
    """Reads windows of a level in an order that needs little memory, row by row where the level is not very wide.

    Args:
        source: The open file.
        windows: What to read.
        out: Width and height of the result, px.
        threads: Threads that decode and scale.

    Yields:
        Batches whose `rows` say which windows they hold; each window comes once.
    """
    level = [*source.levels, *source.reduced][windows.level]
    runs = (_Run(source, windows, group, out) for group in plan(level, windows, out[0] * out[1] * 3))
    if threads == 1:
        for run in runs:
            yield from map(run.read, range(len(run.group.units)))
        return
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[Batch]] = deque()
        try:
            for run in runs:
                for number in range(len(run.group.units)):
                    # Begun in order, so that what a unit waits for is always running or done.
                    ahead.append(pool.submit(run.read, number))
                    if len(ahead) > threads + 2:
                        yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
