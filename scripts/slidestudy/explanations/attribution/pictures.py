"""Maps laid over patches."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pytorch_grad_cam.utils.image import show_cam_on_image

from slidestudy.attribution_kinds import INVERTED, NORMALISED, TARGETS
from slidestudy.errors import StudyError
from slidestudy.explanations.attribution.maps import Grid, Maps

JPEG_QUALITY = 90
Picture = NDArray[np.uint8]


def overlay(rgb: Picture, grid: Grid) -> Picture:
    """A patch under what of a map is above 0, scaled to its highest value: blue is nothing, red is most.

    Args:
        rgb: uint8 (size, size, 3).
        grid: (size, size).
    """
    above = np.maximum(grid, 0)
    highest = float(above.max())
    shown = above / highest if highest > 0 else above
    return np.asarray(show_cam_on_image(rgb.astype(np.float32) / 255, shown, use_rgb=True), np.uint8)


def write_pictures(folder: Path, rgb: Picture, seen: Picture | None, maps: Maps, index: int) -> None:
    """Writes all images of one patch.

    Args:
        folder: The patch's folder.
        rgb: The patch, uint8 (size, size, 3).
        seen: The patch as the encoder sees it, where it is normalised.
        maps: The maps of all patches.
        index: Which of them it is.
    """
    folder.mkdir(parents=True)
    if seen is not None:
        _write(folder / f"{NORMALISED}.jpeg", seen)
    for name, (target, sign) in signed_maps().items():
        if target in maps.raw:
            grid = sign * maps.spread(maps.raw[target][index])
            _write(folder / f"{maps.method}_{name}.jpeg", overlay(rgb, grid))


def signed_maps() -> dict[str, tuple[str, int]]:
    """Map -> its target, and 1 for what raises it or -1 for what lowers it."""
    return {**{name: (name, 1) for name in TARGETS}, **{name: (target, -1) for name, target in INVERTED.items()}}


def _write(path: Path, image: Picture) -> None:
    """Writes an RGB image as JPEG."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    encoded, data = cv2.imencode(".jpeg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)
    if not encoded:
        raise StudyError("the image cannot be written as JPEG", str(path))
    path.write_bytes(data.tobytes())
