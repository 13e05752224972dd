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


def stitch(
    level: Level, corner: tuple[int, int], needs: list[int], chunks: Mapping[int, Chunk], out: RGB
) -> tuple[bool, float]:
    """Puts a window together from its chunks.

    Args:
        level: The level.
        corner: Left and top edge of the window, px of the level.
        needs: The chunks that it touches.
        chunks: Decoded chunks by number.
        out: uint8 (height, width, 3), filled here. White where the level or the scan ends.

    Returns:
        Whether all of it could be decoded, and the fraction that is absent.
    """
    left, top = corner
    height, width = out.shape[:2]
    inside = left >= 0 and top >= 0 and left + width <= level.width and top + height <= level.height
    blank = 0
    if not inside:
        out[...] = 255
        covered = max(0, min(left + width, level.width) - max(left, 0)) * max(
            0, min(top + height, level.height) - max(top, 0)
        )
        blank = width * height - covered
    for index in needs:
        x, y = level.origin(index)
        x0, x1 = max(x, left, 0), min(x + level.chunk_width, left + width, level.width)
        y0, y1 = max(y, top, 0), min(y + level.chunk_height, top + height, level.height)
        chunk = chunks[index]
        target = out[y0 - top : y1 - top, x0 - left : x1 - left]
        if chunk.flaws is Flaw.UNREADABLE:
            return False, 0.0
        if chunk.pixels is None:
            target[...] = 255
            blank += target.shape[0] * target.shape[1]
            continue
        target[...] = chunk.pixels[y0 - y : y1 - y, x0 - x : x1 - x]
        if isinstance(chunk.flaws, np.ndarray):
            flaws = chunk.flaws[y0 - y : y1 - y, x0 - x : x1 - x]
            if (flaws == Flaw.UNREADABLE).any():
                return False, 0.0
            blank += int((flaws == Flaw.ABSENT).sum())
    return True, blank / (width * height)


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

    def decode(self, number: int) -> None:
        """Decodes the chunks that fall to a unit."""
        wanted = self.group.units[number].decode
        try:
            for index, chunk in zip(wanted, self.source.chunks(self.windows.level, wanted), strict=True):
                self.chunks[index] = chunk
        finally:
            # Units that wait must not wait for ever; chunks that are missing then count as unreadable.
            self.decoded[number].set()

    def read(self, number: int) -> Batch:
        """Reads the windows of a unit. Units must be begun in their order, since later ones wait for earlier ones."""
        unit = self.group.units[number]
        self.decode(number)
        for earlier in unit.after:
            self.decoded[earlier].wait()
        with self.lock:
            at_hand = {index: self.chunks.get(index, UNREADABLE) for need in unit.needs for index in need}
            for index in at_hand:
                self.left[index] -= 1
                if not self.left[index]:
                    self.chunks.pop(index, None)
        return self._stitch(unit, at_hand)

    def _stitch(self, unit: Unit, chunks: Mapping[int, Chunk]) -> Batch:
        tiles = np.empty((len(unit.rows), self.out_height, self.out_width, 3), np.uint8)
        readable, absent = np.ones(len(unit.rows), bool), np.zeros(len(unit.rows), np.float32)
        same = (self.windows.height, self.windows.width) == tiles.shape[1:3]
        window = np.empty((self.windows.height, self.windows.width, 3), np.uint8)
        for i, (row, need) in enumerate(zip(unit.rows, unit.needs, strict=True)):
            left, top = self.windows.corners[row].tolist()
            target = tiles[i] if same else window
            readable[i], absent[i] = stitch(self.level, (left, top), need, chunks, target)
            if not readable[i]:
                tiles[i] = 0
            elif not same:
                tiles[i] = resize(window, self.out_width, self.out_height)
        return Batch(np.array(unit.rows, np.intp), tiles, readable, absent)


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
    runs = (_Run(source, windows, group, out) for group in plan(level, windows))
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
