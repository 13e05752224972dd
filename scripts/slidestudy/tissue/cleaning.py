"""What all mask methods share: small holes filled, small pieces dropped, and the picture made fit for them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from slidestudy.slides.reader import RGB, resize

Mask = NDArray[np.uint8]
"""A mask of one overview, uint8 (height, width), 1 inside."""

GLASS_PERCENTILE = 90.0
"""Pixels at least this bright, as a percentile of the usable ones, are taken for glass (our choice)."""
BLANK_CONTRAST = 3.0
"""Grey levels by which some spot must differ from its surroundings for a slide not to be blank (our choice)."""
BLANK_SHRINK = 4
"""The overview is shrunk by this before spots are looked for: noise averages out, and it is quicker."""
BLANK_RADII = 1.0, 5.0
"""Radius of such a spot and of its surroundings, px of the shrunk overview: uneven light changes more slowly."""


def disk(radius_px: float) -> Mask:
    """A round structuring element; one pixel for radii below one."""
    side = 2 * max(0, round(radius_px)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def without_specks(mask: Mask, min_px: float) -> Mask:
    """Drops connected pieces (8 neighbours) smaller than an area in pixels."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    keep = np.zeros(count, np.uint8)
    keep[1:] = stats[1:, cv2.CC_STAT_AREA] >= min_px
    return np.asarray(keep[labels], np.uint8)


def largest_piece(mask: Mask) -> int:
    """Pixels of the largest connected piece (8 neighbours)."""
    stats = cv2.connectedComponentsWithStats(mask, connectivity=8)[2]
    return int(stats[1:, cv2.CC_STAT_AREA].max(initial=0))


def without_holes(mask: Mask, max_px: float) -> Mask:
    """Fills holes (4 neighbours) smaller than an area in pixels; what touches the picture's border is no hole."""
    padded = np.pad(1 - mask, 1, constant_values=1)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(padded.astype(np.uint8), connectivity=4)
    fill = np.zeros(count, np.uint8)
    fill[1:] = stats[1:, cv2.CC_STAT_AREA] < max_px
    fill[labels[0, 0]] = 0
    return np.asarray(mask | fill[labels][1:-1, 1:-1], np.uint8)


def with_glass(picture: RGB, usable: Mask) -> RGB:
    """Paints what is not to be looked at in the colour of the slide's glass.

    Its border would otherwise be a structure of its own, and a ring of pen would enclose glass.

    Args:
        picture: uint8 (height, width, 3).
        usable: uint8 (height, width), 0 where to paint.

    Returns:
        The picture itself where all of it is usable, otherwise a painted copy.
    """
    if usable.all() or not usable.any():
        return picture
    seen = picture[usable > 0]
    brightness = seen.sum(1, dtype=np.int32)
    glass = np.median(seen[brightness >= np.percentile(brightness, GLASS_PERCENTILE)], axis=0)
    painted = picture.copy()
    painted[usable == 0] = np.round(glass).astype(np.uint8)
    return painted


def is_blank(picture: RGB) -> bool:
    """Whether a picture shows glass alone: noise and uneven light, but no spot that stands out.

    The methods that set their threshold at a mean, as FESI does, would find "tissue" in the noise.

    Args:
        picture: uint8 (height, width, 3).
    """
    height, width = (max(1, side // BLANK_SHRINK) for side in picture.shape[:2])
    shrunk = resize(picture, width, height).astype(np.float32)
    spot, surroundings = (cv2.GaussianBlur(shrunk, (0, 0), radius) for radius in BLANK_RADII)
    return bool(np.abs(spot - surroundings).max() < BLANK_CONTRAST)
