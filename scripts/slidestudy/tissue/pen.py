"""Felt-pen marks, found by the colour of their ink on an overview picture of a bright-field slide.

H&E lies, as optical densities, between haematoxylin (red about equal to green, little blue) and eosin (green only).
Ink lies outside: blue and green pens absorb red light most, red pens absorb blue light nearly as much as green, and
black pens absorb all of it. Where ink is strong that is beyond doubt; where a stroke fades it is not, so that weak ink
counts only where it hangs together with strong ink of its kind, not far from it, and where strong ink makes up enough
of the stroke. Violet and pale pink pens have the colours of the stains and are not told apart from them.

All bounds are our choice, made on three public thumbnails whose pen is outlined (green, red, black), on four more with
pen, and against their unmarked tissue and that of some 120 slides without pen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from slidestudy.slides.reader import RGB
from slidestudy.tissue.cleaning import Mask, disk

PEN_HALO_UM = 30.0
"""Margin around pen strokes that is taken out with them, um."""
GAP_UM = 50.0
"""Gaps of about twice this within a stroke are closed, um: a dry pen leaves dashes."""
MIN_STRONG_MM2 = 0.004
"""Least area of strong ink in a stroke, mm2."""
DARKER_THAN_TISSUE = 1.6
"""A black stroke over tissue is at least this many times as dense as the slide's stained pixels usually are."""
STRIP = 512
"""Rows whose colours are judged at once: bounds the memory."""
SAMPLE_PX = 1_000_000
"""About as many pixels say how dense the slide's stain usually is."""

Flags = NDArray[np.bool_]
Densities = NDArray[np.float32]


@dataclass(frozen=True)
class Ink:
    """Pixels of one kind of ink.

    Attributes:
        strong: Ink beyond doubt, bool (height, width).
        weak: What may be ink, bool (height, width).
        reach_um: How far weak ink may lie from strong ink, um.
        share: Least share of a stroke that is strong ink.
        least_mm2: Least area of a stroke, mm2. The dots that pens leave are larger.
    """

    strong: Flags
    weak: Flags
    reach_um: float
    share: float
    least_mm2: float


def _densities(picture: RGB) -> tuple[Densities, Densities, Densities, Densities]:
    """Optical densities -log10((I + 1) / 256) of red, green and blue, and their sum, each (height, width)."""
    table = -np.log10((np.arange(256) + 1) / 256).astype(np.float32)
    red, green, blue = (table[picture[..., channel]] for channel in range(3))
    return red, green, blue, red + green + blue


def _cool(picture: RGB) -> tuple[Flags, Flags]:
    """Blue and green ink, strong and weak: red light is absorbed most. Shares are those of the summed density."""
    red, green, blue, total = _densities(picture)
    strong = (total > 0.3) & (red - green > 0.12 * total) & (red > 0.38 * total)
    weak = (total > 0.18) & (red - green > 0.08 * total) & (red > 0.36 * total)
    # Dark blue is nearer to haematoxylin, but absorbs less blue light.
    strong |= (total > 0.6) & (red - green > 0.05 * total) & (red > 0.43 * total) & (blue < 0.19 * total)
    weak |= (total > 0.3) & (red > green) & (red > 0.41 * total) & (blue < 0.21 * total)
    return strong, weak


def _warm(picture: RGB) -> tuple[Flags, Flags]:
    """Red ink, strong and weak. Blood is nearly as red, but paler, and absorbs some red light too."""
    red, _, blue, total = _densities(picture)
    strong = (total > 0.65) & (blue > 0.37 * total) & (red < 0.12 * total)
    return strong, (total > 0.3) & (blue > 0.34 * total) & (red < 0.18 * total)


def _is_black(picture: RGB) -> Flags:
    """Black ink beyond doubt: dense and grey, or all but opaque over tissue; melanin is browner."""
    red, green, blue, total = _densities(picture)
    grey = (total > 1.7) & (red > 0.28 * total) & (blue > 0.29 * total) & (green < 0.38 * total)
    return grey | ((total > 2.5) & (red > 0.22 * total) & (blue > 0.27 * total) & (blue < green))


def _black(picture: RGB, least: float) -> tuple[Flags, Flags]:
    """Black ink, strong and weak. Over tissue it has some of its colour, and is known by being denser than `least`."""
    red, green, blue, total = _densities(picture)
    grey = (total > 0.5) & (red > 0.27 * total) & (blue > 0.27 * total) & (green < 0.38 * total)
    over_tissue = (total > least) & (red > 0.22 * total) & (blue > 0.28 * total) & (green < 0.46 * total)
    return _is_black(picture), grey | over_tissue


def _least_over_tissue(picture: RGB) -> float:
    """The density that black ink over tissue has at least, from the usual density of what is stained."""
    step = max(1, round((picture.shape[0] * picture.shape[1] / SAMPLE_PX) ** 0.5))
    sample = np.ascontiguousarray(picture[::step, ::step])
    total = _densities(sample)[3]
    stained = total[(total > 0.3) & ~_is_black(sample)]
    return max(0.8, DARKER_THAN_TISSUE * float(np.median(stained))) if stained.size else np.inf


def _inks(picture: RGB) -> list[Ink]:
    """Where blue or green, red, and black ink may be."""
    smooth = np.asarray(cv2.blur(picture, (3, 3)), np.uint8)
    least = _least_over_tissue(smooth)
    strips = [smooth[top : top + STRIP] for top in range(0, len(smooth), STRIP)]

    def ink(judge: Callable[[RGB], tuple[Flags, Flags]], reach_um: float, share: float, least_mm2: float) -> Ink:
        strong, weak = zip(*(judge(strip) for strip in strips), strict=True)
        return Ink(np.concatenate(strong), np.concatenate(weak), reach_um, share, least_mm2)

    return [
        ink(_cool, 2000, 0.02, 0.01),
        ink(_warm, 1500, 0.1, 0.01),
        # Heaps of black pigment in tissue are often larger than 0.01 mm2.
        ink(partial(_black, least=least), 800, 0.02, 0.02),
    ]


def _strokes(ink: Ink, mpp: float) -> Mask:
    """Grows strong ink into weak ink, and keeps what is large and strong enough for a stroke."""
    strong = ink.strong.astype(np.uint8)
    if not strong.any():
        return strong
    near = cv2.distanceTransform(1 - strong, cv2.DIST_L2, cv2.DIST_MASK_5) < ink.reach_um / mpp
    grown = ((ink.weak & near) | ink.strong).astype(np.uint8)
    grown = np.asarray(cv2.morphologyEx(grown, cv2.MORPH_CLOSE, disk(GAP_UM / mpp)), np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(grown, connectivity=8)
    to_mm2 = mpp**2 / 1e6
    area = stats[:, cv2.CC_STAT_AREA]
    sure = np.bincount(labels[ink.strong], minlength=count)
    keep = (area * to_mm2 >= ink.least_mm2) & (sure * to_mm2 >= MIN_STRONG_MM2) & (sure >= ink.share * area)
    keep[0] = False
    return np.asarray(keep[labels], np.uint8)


def find_pen(picture: RGB, mpp: float) -> Mask:
    """Finds strokes and dots of blue, green, red and black felt pen.

    The dark edge of a coverslip and the black margin beyond a scan look like black pen and are taken for it.

    Args:
        picture: uint8 (height, width, 3).
        mpp: Its resolution, um/px.

    Returns:
        uint8 mask (height, width) with a margin of PEN_HALO_UM.
    """
    pen = np.zeros(picture.shape[:2], np.uint8)
    for ink in _inks(picture):
        pen |= _strokes(ink, mpp)
    if not pen.any():
        return pen
    return np.asarray(cv2.dilate(pen, disk(PEN_HALO_UM / mpp)), np.uint8)
