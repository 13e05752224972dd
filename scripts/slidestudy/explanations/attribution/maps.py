"""Maps of what a model's targets come from, on the grid of the method, and spread over the pixels of a patch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.float32]
BLUR = 0.1
"""SD of the blur of the baseline, as a fraction of the patch's side (our choice: no nucleus is left of it)."""


@dataclass(frozen=True)
class Maps:
    """The maps of some patches.

    Attributes:
        method: `gradcam` or `occlusion`.
        place: Where in the encoder they come from, or how they were made, in words.
        raw: Target -> (n, h, w), positive where pixels raise the target; without targets that are undefined.
        undefined: Target -> why it has no map.
        spread: Brings one raw map (h, w) to the pixels of a patch (size, size).
    """

    method: str
    place: str
    raw: dict[str, Grid]
    undefined: dict[str, str]
    spread: Callable[[Grid], Grid]


def baseline(tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What stands where pixels are taken away: the patch itself, blurred until no structure is left.

    Args:
        tiles: uint8 (n, size, size, 3).

    SOURCE: the blurred canvas of V. Petsiuk et al., RISE, BMVC 2018, section 4.3.
    """
    sigma = BLUR * tiles.shape[1]
    blurred = [cv2.GaussianBlur(tile, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) for tile in tiles]
    return np.stack(blurred).astype(np.uint8)
