"""A tissue mask that the user gives: polygons, or a picture of the whole slide."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from slidestudy.errors import StudyError
from slidestudy.geometry import rasterise
from slidestudy.tissue.cleaning import Mask
from slidestudy.tissue.polygons import read_features
from slidestudy.tissue.roi import matches

GEOJSON = {".geojson", ".json"}
"""Suffixes of masks that are polygons; all others are pictures."""
NOT_TISSUE = ("Pen",)
"""Classifications of polygons that are no tissue: so the tissue stage's own output can be edited and given back."""
ASPECT_TOLERANCE = 0.02
"""Largest relative difference between the picture's and the slide's ratio of width to height."""
JPEG_START = b"\xff\xd8\xff"


def read_mask(path: str, size: tuple[int, int], shape: tuple[int, int], downsample: float) -> Mask:
    """Reads a tissue mask and puts it onto the overview's grid.

    Args:
        path: GeoJSON (`.geojson`, `.json`) with polygons in level-0 pixels, or a picture (PNG, TIFF, JPEG) of the whole
            slide at any resolution. In a picture, all that is neither black nor transparent is tissue; in a JPEG, whose
            values are not exact, all that is brighter than half of its brightest.
        size: The slide's width and height at level 0, px.
        shape: Height and width of the overview.
        downsample: Level-0 pixels per overview pixel.

    Returns:
        uint8 (height, width), 1 inside: a pixel is what the mask is at its centre.

    Raises:
        StudyError: The file is missing, cannot be read, or is no picture of this slide.
    """
    if Path(path).suffix.lower() in GEOJSON:
        tissue = [geometry for name, geometry in read_features(path) if not matches(name, NOT_TISSUE)]
        return rasterise(tissue, shape, downsample)
    picture = _decode(path)
    height, width = picture.shape
    # A small picture's sides are rounded: one pixel is forgiven.
    if abs(width * size[1] - height * size[0]) > max(ASPECT_TOLERANCE * height * size[0], max(size)):
        what = f"is {width} x {height} px, but its slide {size[0]} x {size[1]} px: not the same ratio"
        raise StudyError(what, path, "give a mask of the whole slide, not turned or cropped")
    rows, columns = (
        np.minimum((np.arange(n) + 0.5) * downsample / whole * side, side - 1).astype(np.intp)
        for n, whole, side in zip(shape, size[::-1], (height, width), strict=True)
    )
    return picture[np.ix_(rows, columns)].astype(np.uint8)


def _decode(path: str) -> NDArray[np.bool_]:
    """Decodes a mask picture to bool (height, width)."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise StudyError(f"cannot be read ({error.strerror})", path, "correct the path") from None
    try:
        values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) if content else None
    except cv2.error:
        values = None
    if values is None:
        remedy = "give a PNG, TIFF or JPEG picture, or polygons in a file that ends in .geojson"
        raise StudyError("is no picture that can be decoded", path, remedy)
    planes = values.reshape(*values.shape[:2], -1)
    colours, alpha = (planes[..., :3], planes[..., 3]) if planes.shape[2] == 4 else (planes, None)
    brightness = colours.max(-1)
    least = float(brightness.max()) / 2 if content.startswith(JPEG_START) else 0
    inside = brightness > least
    return np.asarray(inside if alpha is None else inside & (alpha > 0))
