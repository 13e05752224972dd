"""Finding tissue on an overview picture of a bright-field slide, by any of the methods, with what they share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slidestudy.slides.reader import RGB
from slidestudy.tissue.cleaning import Mask, is_blank, largest_piece, with_glass, without_holes, without_specks
from slidestudy.tissue.fesi import thumbnail_side
from slidestudy.tissue.methods import METHODS
from slidestudy.tissue.pen import find_pen

__all__ = ["Mask", "Masks", "find_tissue", "overview_downsample"]


@dataclass(frozen=True)
class Masks:
    """Masks of one overview, uint8 (height, width), 1 inside.

    Attributes:
        tissue: Tissue without pen and without what cannot be read.
        pen: Felt-pen marks with their margin.
        threshold: The threshold that the method set, in its own unit; None where the picture shows glass or pen alone.
        largest_mm2: Area of the largest piece found, dropped or not; 0 where there is none.
    """

    tissue: Mask
    pen: Mask
    threshold: float | None
    largest_mm2: float = 0.0


def overview_downsample(method: str, size: tuple[int, int], slide_mpp: float, mask_mpp: float) -> float:
    """Level-0 pixels per pixel of the overview on which a method works.

    Args:
        method: Name of the method.
        size: Width and height at level 0, px.
        slide_mpp: Resolution at level 0, um/px.
        mask_mpp: The configured resolution, um/px; of no effect on a method that chooses its own thumbnail.
    """
    if METHODS[method].own_thumbnail:
        # A hair more than the ratio, so that rounding up does not add a pixel to the thumbnail's side.
        ratio = max(size) / thumbnail_side(size, slide_mpp)
        return ratio * (1 + 1e-12) if ratio > 1 else 1.0
    return max(1.0, mask_mpp / slide_mpp)


def find_tissue(
    picture: RGB,
    mpp: float,
    *,
    min_area_mm2: float,
    min_hole_mm2: float,
    exclude_pen: bool,
    method: str = "otsu",
    readable: NDArray[np.bool_] | None = None,
) -> Masks:
    """Finds tissue; what is pen or cannot be read is never tissue.

    Args:
        picture: Overview, uint8 (height, width, 3).
        mpp: Its resolution, um/px.
        min_area_mm2: Smaller pieces are dropped.
        min_hole_mm2: Smaller holes are filled.
        exclude_pen: Whether pen marks are taken out.
        method: A name in METHODS.
        readable: bool (height, width), False where the picture cannot be trusted; None where all of it can.

    Returns:
        Tissue and pen. The tissue may be empty.
    """
    usable = np.ones(picture.shape[:2], np.uint8) if readable is None else readable.astype(np.uint8)
    pen = find_pen(picture, mpp) & usable if exclude_pen else np.zeros_like(usable)
    usable = usable & (1 - pen)
    shown = with_glass(picture, usable)
    if not usable.any() or is_blank(shown):
        return Masks(np.zeros_like(usable), pen, None)
    mask, threshold = METHODS[method].find(shown, mpp, usable)
    to_px = 1e6 / mpp**2
    # Filling must not bring back pen or what cannot be read.
    mask = without_holes(mask & usable, min_hole_mm2 * to_px) & usable
    return Masks(without_specks(mask, min_area_mm2 * to_px), pen, threshold, largest_piece(mask) / to_px)
