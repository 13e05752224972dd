"""The picture on which a person checks a mask: the overview with outlines and section numbers."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from slidestudy.slides.reader import RGB, resize
from slidestudy.tissue.cleaning import Mask
from slidestudy.tissue.polygons import COLOURS, Region

OVERLAY_SIDE = 1024
"""Longer side of the overlay picture, px."""
UNREADABLE_COLOUR = (230, 81, 0)
"""Colour of the hatching over what could not be decoded."""
HATCH_PX = 8
"""Distance of the hatching's lines, px."""
FONT = cv2.FONT_HERSHEY_SIMPLEX
FONT_SCALE = 0.5
FONT_WEIGHT = 1
MARGIN_PX = 3
"""White around a section's number, px."""


def draw_overlay(
    picture: RGB,
    tissue: Mask,
    pen: Mask,
    readable: NDArray[np.bool_] | None = None,
    regions: Iterable[Region] = (),
    downsample: float = 1.0,
) -> RGB:
    """Draws what was found onto an overview.

    Tissue and pen are outlined, their holes with a thinner line; what cannot be read is hatched; each section bears its
    number.

    Args:
        picture: Overview, uint8 (height, width, 3).
        tissue: uint8 (height, width), 1 on tissue.
        pen: uint8 (height, width), 1 on pen.
        readable: bool (height, width); None where all of it is.
        regions: Regions whose sections are numbered.
        downsample: Level-0 pixels per overview pixel, for the places of the numbers.

    Returns:
        uint8 (height, width, 3), at most OVERLAY_SIDE px long.
    """
    scale = min(1.0, OVERLAY_SIDE / max(picture.shape[:2]))
    width, height = (max(1, round(side * scale)) for side in (picture.shape[1], picture.shape[0]))
    canvas = resize(picture, width, height).copy()
    if readable is not None and not readable.all():
        unreadable = cv2.resize(1 - readable.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
        y, x = np.mgrid[:height, :width]
        canvas[(unreadable > 0) & ((x + y) % HATCH_PX < 2)] = UNREADABLE_COLOUR
    for mask, kind in ((tissue, "Tissue"), (pen, "Pen")):
        small = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        contours, hierarchy = cv2.findContours(small, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        for index in range(len(contours)):
            is_hole = hierarchy[0][index][3] != -1
            cv2.drawContours(canvas, contours, index, COLOURS[kind], 1 if is_hole else 2, cv2.LINE_AA)
    _number(canvas, regions, downsample / scale)
    return canvas


def _within(position: float, end: int, least: int = 0) -> int:
    """A position that is moved into the picture, with a margin."""
    return int(np.clip(position, least + MARGIN_PX, max(least + MARGIN_PX, end - MARGIN_PX)))


def _number(canvas: RGB, regions: Iterable[Region], downsample: float) -> None:
    """Writes each section's number onto its largest piece."""
    largest: dict[int, Region] = {}
    for region in regions:
        if region.section and region.area_mm2 > getattr(largest.get(region.section), "area_mm2", -1.0):
            largest[region.section] = region
    for section, region in largest.items():
        text = str(section)
        (width, height), _ = cv2.getTextSize(text, FONT, FONT_SCALE, FONT_WEIGHT)
        left, _, right, _ = (edge / downsample for edge in region.polygon.bounds)
        point = region.polygon.representative_point()
        # Beside a piece that the number would hide.
        centred = right - left > 3 * width
        x = _within(point.x / downsample - width / 2 if centred else right + 2 * MARGIN_PX, canvas.shape[1] - width)
        y = _within(point.y / downsample + height / 2, canvas.shape[0], least=height)
        # A white field behind the number, so that it can be read on any stain.
        corners = (x - MARGIN_PX, y - height - MARGIN_PX), (x + width + MARGIN_PX, y + MARGIN_PX)
        cv2.rectangle(canvas, *corners, (255, 255, 255), cv2.FILLED)
        cv2.putText(canvas, text, (x, y), FONT, FONT_SCALE, COLOURS["Tissue"], FONT_WEIGHT, cv2.LINE_AA)
