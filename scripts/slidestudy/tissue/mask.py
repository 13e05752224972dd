"""Finding tissue and felt-pen marks on an overview picture of a bright-field slide."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from slidestudy.slides.reader import RGB

Mask = NDArray[np.uint8]

SMOOTHING_UM = 12.0
"""Radius over which the picture is smoothed before the threshold, um (our choice)."""
SATURATION_FLOOR = 12
"""Otsu's threshold is not taken below this saturation (0 to 255): on glass alone it would split the noise."""
PALEST_TISSUE = 40
"""Mean saturation (0 to 255) above which the paler side of Otsu's threshold is tissue, not glass (our choice)."""
PEN_HALO_UM = 30.0
"""Margin around pen strokes that is taken out with them, um (our choice)."""


@dataclass(frozen=True)
class Masks:
    """Masks of one overview, uint8 (height, width), 1 inside.

    Attributes:
        tissue: Tissue without pen.
        pen: Felt-pen marks with their margin.
        threshold: The saturation threshold used, 0 to 255.
    """

    tissue: Mask
    pen: Mask
    threshold: float


def _disk(radius_px: float) -> Mask:
    """A round structuring element; one pixel for radii below one."""
    side = 2 * max(0, round(radius_px)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def _without_specks(mask: Mask, min_px: float) -> Mask:
    """Drops connected pieces smaller than an area in pixels."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    keep = np.zeros(count, np.uint8)
    keep[1:] = stats[1:, cv2.CC_STAT_AREA] >= min_px
    return np.asarray(keep[labels], np.uint8)


def _without_holes(mask: Mask, max_px: float) -> Mask:
    """Fills holes smaller than an area in pixels."""
    padded = np.pad(1 - mask, 1, constant_values=1)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(padded.astype(np.uint8), connectivity=4)
    fill = np.zeros(count, np.uint8)
    fill[1:] = stats[1:, cv2.CC_STAT_AREA] < max_px
    fill[labels[0, 0]] = 0
    return np.asarray(mask | fill[labels][1:-1, 1:-1], np.uint8)


def find_pen(picture: RGB, mpp: float) -> Mask:
    """Finds felt-pen strokes of blue, green, black and red by colour.

    H&E lies between blue-violet and pink: its red is never below its green, and its blue never far below its
    red. Ink breaks one of these rules over a connected stroke. Thresholds are our choice.

    Args:
        picture: uint8 (height, width, 3).
        mpp: Its resolution, um/px.

    Returns:
        uint8 mask with a margin of PEN_HALO_UM.
    """
    smooth = cv2.blur(picture, (3, 3)).astype(np.int16)
    red, green, blue = smooth[..., 0], smooth[..., 1], smooth[..., 2]
    darkest, brightest = smooth.min(-1), smooth.max(-1)
    blue_ink = (blue - red > 45) & (green - red > 8)
    green_ink = (green - red > 25) & (green - blue > 5)
    red_ink = (red - blue > 90) & (red - green > 90)
    black_ink = (brightest < 80) & (brightest - darkest < 20)
    ink = (blue_ink | green_ink | red_ink | black_ink).astype(np.uint8)
    ink = cv2.morphologyEx(ink, cv2.MORPH_CLOSE, _disk(20 / mpp))
    stroke_px = 10_000 / mpp**2
    strokes = _without_specks(np.asarray(ink, np.uint8), stroke_px)
    if not strokes.any():
        return strokes
    return np.asarray(cv2.dilate(strokes, _disk(PEN_HALO_UM / mpp)), np.uint8)


def find_tissue(picture: RGB, mpp: float, *, min_area_mm2: float, min_hole_mm2: float, exclude_pen: bool) -> Masks:
    """Finds tissue by Otsu's threshold of the saturation (Otsu 1979, IEEE Trans. SMC 9:62).

    Args:
        picture: Overview, uint8 (height, width, 3).
        mpp: Its resolution, um/px.
        min_area_mm2: Smaller pieces are dropped.
        min_hole_mm2: Smaller holes are filled.
        exclude_pen: Whether pen marks are taken out.

    Returns:
        Tissue and pen. The tissue may be empty.
    """
    pen = find_pen(picture, mpp) if exclude_pen else np.zeros(picture.shape[:2], np.uint8)
    side = 2 * max(1, round(SMOOTHING_UM / mpp)) + 1
    smooth = cv2.medianBlur(picture, 3)
    saturation = cv2.cvtColor(smooth, cv2.COLOR_RGB2HSV)[..., 1]
    saturation = cv2.GaussianBlur(saturation, (side, side), 0)
    outside_pen = saturation[pen == 0]
    if outside_pen.size == 0:
        return Masks(np.zeros_like(pen), pen, 0.0)
    threshold, _ = cv2.threshold(outside_pen.reshape(1, -1), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    threshold = max(float(threshold), SATURATION_FLOOR)
    # Where the whole picture is tissue, Otsu splits strong from pale tissue: then the pale part is no glass.
    pale = outside_pen[outside_pen <= threshold]
    if pale.size and pale.mean() > PALEST_TISSUE:
        threshold = float(SATURATION_FLOOR)
    mask = ((saturation > threshold) & (pen == 0)).astype(np.uint8)
    px = mpp**2 / 1e6
    mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, _disk(SMOOTHING_UM / mpp)), np.uint8)
    mask = _without_holes(mask, min_hole_mm2 / px)
    mask = _without_specks(mask & (pen == 0).astype(np.uint8), min_area_mm2 / px)
    return Masks(mask, pen, threshold)
