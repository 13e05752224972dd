"""The ways of finding tissue, by the names that the configuration gives them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from slidestudy.slides.reader import RGB
from slidestudy.tissue.cleaning import Mask, disk
from slidestudy.tissue.fesi import fesi, improved_fesi

SMOOTHING_UM = 12.0
"""Radius over which the picture is smoothed before the threshold, um (our choice)."""
SATURATION_FLOOR = 12
"""Otsu's threshold is not taken below this saturation (0 to 255): on glass alone it would split the noise."""
PALEST_TISSUE = 40
"""Mean saturation (0 to 255) above which the paler side of Otsu's threshold is tissue, not glass (our choice)."""
GREY_BIN = 4
"""Grey levels per bin of the local histogram whose entropy is taken (our choice)."""
ENTROPY_RADIUS_UM = 40.0
"""Half the side of the square of that histogram, um (our choice)."""
ENTROPY_LEAST_PX = 3
"""That half side is at least this, px: fewer pixels make no histogram (our choice)."""
ENTROPY_BOUNDS = 1.5, 2.0
"""Otsu's threshold of the entropy is kept between these, bits (our choice): below, noise on glass would be tissue
(normal noise of 2 grey levels has about 1.1 bits); above, plain tissue beside structured tissue would be glass."""


def _otsu(values: NDArray[Any]) -> float:
    """Otsu's threshold (Otsu 1979, IEEE Trans. SMC 9:62) of 8-bit values."""
    threshold, _ = cv2.threshold(values.reshape(1, -1), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return float(threshold)


def by_saturation(picture: RGB, mpp: float, usable: Mask) -> tuple[Mask, float]:
    """Otsu's threshold of the smoothed saturation.

    Args:
        picture: uint8 (height, width, 3).
        mpp: Its resolution, um/px.
        usable: uint8 (height, width), 0 where the picture is not to be looked at.

    Returns:
        The mask, and the threshold (0 to 255).
    """
    side = 2 * max(1, round(SMOOTHING_UM / mpp)) + 1
    saturation = cv2.cvtColor(cv2.medianBlur(picture, 3), cv2.COLOR_RGB2HSV)[..., 1]
    saturation = np.asarray(cv2.GaussianBlur(saturation, (side, side), 0), np.uint8)
    seen = saturation[usable > 0]
    threshold = max(_otsu(seen), SATURATION_FLOOR)
    # Where the whole picture is tissue, Otsu splits strong from pale tissue: then the pale part is no glass.
    pale = seen[seen <= threshold]
    if pale.size and pale.mean() > PALEST_TISSUE:
        threshold = SATURATION_FLOOR
    mask = ((saturation > threshold) & (usable > 0)).astype(np.uint8)
    return np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, disk(SMOOTHING_UM / mpp)), np.uint8), float(threshold)


def _entropy_radius(mpp: float) -> int:
    """Half the side of the square in which the entropy is taken, px."""
    return max(ENTROPY_LEAST_PX, round(ENTROPY_RADIUS_UM / mpp))


def local_entropy(picture: RGB, mpp: float) -> NDArray[np.float32]:
    """Entropy of the grey levels in a square around each pixel.

    Args:
        picture: uint8 (height, width, 3).
        mpp: Its resolution, um/px.

    Returns:
        float32 (height, width), bits: 0 where all is of one bin, log2(256 / GREY_BIN) at most.
    """
    # A median takes single noisy pixels away and leaves the texture.
    bins = cv2.medianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), 3) // GREY_BIN
    side = 2 * _entropy_radius(mpp) + 1
    entropy = np.zeros(bins.shape, np.float32)
    for value in np.unique(bins):
        share = cv2.boxFilter((bins == value).astype(np.float32), -1, (side, side), borderType=cv2.BORDER_REFLECT)
        present = share > 0
        entropy[present] -= share[present] * np.log2(share[present])
    return np.maximum(entropy, 0)


def by_entropy(picture: RGB, mpp: float, usable: Mask) -> tuple[Mask, float]:
    """Otsu's threshold of the local entropy: tissue is structured, glass is not. Asks nothing of the stain's colour.

    Args:
        picture: uint8 (height, width, 3).
        mpp: Its resolution, um/px.
        usable: uint8 (height, width), 0 where the picture is not to be looked at.

    Returns:
        The mask, and the threshold, bits.
    """
    entropy = local_entropy(picture, mpp)
    scale = 255 / np.log2(256 / GREY_BIN)
    seen = entropy[usable > 0]
    threshold = float(np.clip(_otsu(np.round(seen * scale).astype(np.uint8)) / scale, *ENTROPY_BOUNDS))
    mask = (entropy > threshold).astype(np.uint8)
    radius = _entropy_radius(mpp)
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, disk(radius))
    # The square reaches beyond the tissue's edge until about half of it is glass: that is taken back.
    return np.asarray(cv2.erode(closed, disk(radius / 2)), np.uint8) & usable, threshold


def by_structure(picture: RGB, mpp: float, usable: Mask) -> tuple[Mask, float]:
    """FESI, see `slidestudy.tissue.fesi`; the picture is its thumbnail."""
    return fesi(picture)


def by_structure_and_colour(picture: RGB, mpp: float, usable: Mask) -> tuple[Mask, float]:
    """Improved FESI, see `slidestudy.tissue.fesi`; the picture is its thumbnail."""
    return improved_fesi(picture)


@dataclass(frozen=True)
class Method:
    """A way of finding tissue.

    Attributes:
        find: (picture, its mpp in um/px, usable pixels) -> raw mask and the threshold that it set.
        own_thumbnail: Whether it chooses the size of the picture as FESI does, instead of the configured resolution.
    """

    find: Callable[[RGB, float, Mask], tuple[Mask, float]]
    own_thumbnail: bool = False


METHODS = {
    "otsu": Method(by_saturation),
    "entropy": Method(by_entropy),
    "fesi": Method(by_structure, own_thumbnail=True),
    "improved-fesi": Method(by_structure_and_colour, own_thumbnail=True),
}
"""The methods by the name that the configuration gives them."""
