"""What a slide's pixels are made of: levels cut into chunks, which a source decodes one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

RGB = NDArray[np.uint8]
Flaws = NDArray[np.uint8]


class Flaw(IntEnum):
    """What ails a pixel."""

    NONE = 0
    ABSENT = 1
    """The scanner left it out: shown white, as OpenSlide shows it."""
    UNREADABLE = 2
    """The file holds it, but it cannot be decoded."""


@dataclass(frozen=True)
class Chunk:
    """A decoded chunk of a level.

    Attributes:
        pixels: uint8 (height, width, 3), at least the part of the chunk inside the level; None where there is none.
        flaws: One flaw for all of it, or one per pixel, uint8 (height, width).
    """

    pixels: RGB | None
    flaws: Flaw | Flaws = Flaw.NONE


ABSENT = Chunk(None, Flaw.ABSENT)
UNREADABLE = Chunk(None, Flaw.UNREADABLE)


@dataclass(frozen=True)
class Level:
    """A level of the pyramid, cut into a grid of equal chunks; the last ones of a row or column may reach beyond it.

    Attributes:
        width: Width, px.
        height: Height, px.
        downsample: Level-0 pixels per pixel.
        chunk_width: Width of a chunk, px.
        chunk_height: Height of a chunk, px.
    """

    width: int
    height: int
    downsample: float
    chunk_width: int
    chunk_height: int

    @property
    def columns(self) -> int:
        """Chunks in a row."""
        return -(-self.width // self.chunk_width)

    @property
    def rows(self) -> int:
        """Chunks in a column."""
        return -(-self.height // self.chunk_height)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a decoded chunk."""
        return self.chunk_width * self.chunk_height * 3

    def origin(self, index: int) -> tuple[int, int]:
        """Left and top edge of a chunk, px of the level. Chunks are numbered row by row."""
        row, column = divmod(index, self.columns)
        return column * self.chunk_width, row * self.chunk_height


class PixelSource(Protocol):
    """An open file that gives the chunks of its levels.

    Attributes:
        kind: How it reads, as the inspection record says it.
        vendor: The format's vendor or name.
        levels: The file's own levels, finest first.
        reduced: Further levels that are decoded at a fraction of their size from the file's own; may be empty.
        reductions: Position of a level of the file -> position of its reduced one, counted from the first of `levels`.
        properties: What the file says of itself, under OpenSlide's names.
        icc_profile: The embedded ICC profile, or None.
    """

    kind: str
    vendor: str
    levels: Sequence[Level]
    reduced: Sequence[Level]
    reductions: Mapping[int, int]
    properties: Mapping[str, str]
    icc_profile: bytes | None

    def chunks(self, level: int, indices: Sequence[int]) -> Iterable[Chunk]:
        """Decodes chunks of a level, `levels` first and `reduced` after them. Safe to call from several threads.

        Chunks may be decoded when they are asked for, so that they need not all be held.
        """

    def beyond_end(self) -> tuple[int, int]:
        """How many of the file's chunks lie beyond its end, and how many there are; 0, 0 where that is not known."""

    def close(self) -> None:
        """Closes the file."""
