"""Slides that look alike: the same scan exported twice, which would leak between folds and cohorts."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from slidestudy.slides.levels import RGB

SIDE = 32
"""Side to which the picture is brought before the transform, px."""
FREQUENCIES = 16
"""Side of the square of low frequencies that is kept: 16 x 16 = 256 bits."""
LEAST_STRUCTURE = 0.01
"""Standard deviation of the optical density (natural logarithm) below which a picture looks like any other."""
BLOCK = 2048
"""Slides compared at once."""


def appearance(thumbnail: RGB) -> str | None:
    """A perceptual hash of what is on the glass: 64 hex digits that hardly change with scale, codec or brightness.

    The optical density is cropped to the tissue, brought to 32 x 32 px, and of its cosine transform the signs of the
    16 x 16 lowest frequencies about their median are kept (the usual pHash, with our crop and size).

    Args:
        thumbnail: uint8 (height, width, 3).

    Returns:
        The hash; None where the picture is too even to tell it from another.
    """
    density = -np.log((thumbnail.astype(np.float32).mean(axis=2) + 1) / 256)
    if density.std() < LEAST_STRUCTURE:
        return None
    smooth = cv2.GaussianBlur(density, (0, 0), max(density.shape) / 64)
    # Between glass and strong stain; percentiles, since a speck would move the extremes.
    cut = smooth > np.percentile(smooth, [5, 95]).mean()
    rows, columns = np.flatnonzero(cut.any(axis=1)), np.flatnonzero(cut.any(axis=0))
    density = density[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    small = cv2.resize(density, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small)[:FREQUENCIES, :FREQUENCIES].ravel()
    bits = low > np.median(low[1:])
    return np.packbits(bits).tobytes().hex()


def distances(a: Sequence[str], b: Sequence[str]) -> NDArray[np.int64]:
    """Bits in which hashes differ, int (len(a), len(b))."""
    first, second = (
        np.unpackbits(np.frombuffer(bytes.fromhex("".join(h)), np.uint8).reshape(len(h), -1), axis=1) for h in (a, b)
    )
    signs = [bits.astype(np.float32) * 2 - 1 for bits in (first, second)]
    # Equal signs count +1 and unequal ones -1, so that a product gives all distances at once.
    return np.rint((first.shape[1] - signs[0] @ signs[1].T) / 2).astype(np.int64)


def near_pairs(hashes: Sequence[str], limit: int) -> list[tuple[int, int, int]]:
    """Pairs of slides that look alike.

    Args:
        hashes: Their hashes.
        limit: Largest number of bits in which a pair may differ.

    Returns:
        `(i, j, bits)` with i < j, sorted.
    """
    pairs = []
    for start in range(0, len(hashes), BLOCK):
        found = distances(hashes[start : start + BLOCK], hashes[start:])
        rows, columns = np.nonzero(found <= limit)
        keep = columns > rows
        values = found[rows, columns]
        pairs += [
            (start + int(i), start + int(j), int(bits))
            for i, j, bits in zip(rows[keep], columns[keep], values[keep], strict=True)
        ]
    return sorted(pairs)
