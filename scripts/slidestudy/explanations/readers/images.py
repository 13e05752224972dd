"""The images of a patch that a reader is shown."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from slidestudy.errors import StudyError
from slidestudy.explanations.protocol import Patch

__all__ = ["Picture", "chosen_images", "data_url", "image_digest"]

Picture = npt.NDArray[np.uint8]
"""uint8, shape (height, width, 3), RGB."""


def chosen_images(patch: Patch, names: Sequence[str]) -> tuple[Picture, ...]:
    """The images of a patch by name.

    Args:
        patch: The patch.
        names: `rgb`, `normalised` or the name of a heatmap.

    Raises:
        StudyError: The patch lacks one of them.
    """
    held = {"rgb": patch.rgb, **patch.heatmaps}
    if patch.normalised is not None:
        held["normalised"] = patch.normalised
    missing = [name for name in names if name not in held]
    if missing:
        what = f"the patch {patch.patch_id} has no image {', '.join(missing)}"
        remedy = f"it has: {', '.join(held)}; choose among them, or have the others made"
        raise StudyError(what, "explanations.reader.images", remedy)
    return tuple(held[name] for name in names)


def image_digest(image: Picture) -> str:
    """SHA-256 of an image's shape and pixels, first 16 hex digits."""
    sha = hashlib.sha256(repr(image.shape).encode())
    sha.update(np.ascontiguousarray(image).tobytes())
    return sha.hexdigest()[:16]


def data_url(image: Picture) -> str:
    """An image as a data URL, PNG in base64: lossless, so that a model sees the pixels that were scored."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return f"data:image/png;base64,{base64.b64encode(encoded.tobytes()).decode('ascii')}"
