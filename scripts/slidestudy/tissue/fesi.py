"""FESI: foreground extraction from the structure of a slide's thumbnail, as ECTIL finds its tissue.

Bug, Feuerhake and Merhof 2015 (Bildverarbeitung fuer die Medizin), and the improved variant of arXiv 2006.06531, step
by step as the public reference of ECTIL (dlup) has them, in code of our own. Two things differ. The distance of two
regions' deepest points is the plain one: the reference swaps x and y of one of the two before it compares them. And the
thumbnail is made by area averaging, as everywhere here.

ECTIL kept a tile where more than 0.1 of it was tissue: `tiles.min_tissue`.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from slidestudy.slides.reader import RGB
from slidestudy.tissue.cleaning import Mask

TARGET_MPP = 10.0
"""The thumbnail's resolution before its side is rounded up to a power of two, um/px."""
LEAST_SIDE = 512
"""Least side of the thumbnail, px, where the slide has as many."""
PEAK_SHARE = 0.6
"""A region is tissue if it is more than this share as deep as the deepest one."""
NEAR_PX = 500.0
"""A shallower region is tissue if its deepest point lies within this of that of one that is, px of the thumbnail."""
LUMINANCE = np.array([0.2125, 0.7154, 0.0721])
"""Weights of red, green and blue in grey (ITU-R BT.709)."""
STRIP = 256
"""Rows whose colours are converted at once: bounds the memory."""

Values = NDArray[np.float64]


def thumbnail_side(size: tuple[int, int], mpp: float) -> int:
    """The longer side of the thumbnail that FESI looks at, px.

    Args:
        size: Width and height at level 0, px.
        mpp: Resolution at level 0, um/px.

    Returns:
        The next power of two of the longer side at 10 um/px, at least 512, at most the slide's own.
    """
    longest = max(size)
    wanted = int(longest * mpp / TARGET_MPP)
    power = 1 if wanted <= 1 else 1 << (wanted - 1).bit_length()
    return min(longest, max(power, min(LEAST_SIDE, longest)))


def _structure(grey: Values) -> Values:
    """The absolute 4-neighbour Laplacian; the border is mirrored, its own row repeated."""
    kernel = np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]], np.float64)
    values = np.asarray(cv2.filter2D(grey, cv2.CV_64F, kernel, borderType=cv2.BORDER_REFLECT))
    return np.abs(values, out=values)


def _by_strips(convert: Callable[[RGB], Values], picture: RGB) -> Values:
    """Converts the pixels some rows at a time."""
    converted = np.empty(picture.shape[:2])
    for top in range(0, len(picture), STRIP):
        converted[top : top + STRIP] = convert(picture[top : top + STRIP])
    return converted


def _grey(picture: RGB) -> Values:
    """Luminance, 0 to 1."""
    return picture @ (LUMINANCE / 255)


def _depths(mask: Mask) -> NDArray[np.float32]:
    """Squared Euclidean distance to the nearest pixel outside; whole numbers, so that equal depths are equal."""
    depths = np.asarray(cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)
    np.multiply(depths, depths, out=depths)
    return np.rint(depths, out=depths)


def _foreground(blurred: Values) -> tuple[Mask, Mask]:
    """Pixels at or above the mean, smoothed, and the plain ones below it."""
    above = (blurred >= blurred.mean()).astype(np.uint8)
    opened = cv2.morphologyEx(cv2.medianBlur(above, 7), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    return np.asarray(opened, np.uint8), 1 - above


def _without_background(mask: Mask, below: Mask) -> Mask:
    """All but the connected region that holds the deepest point of what lies below the mean; so holes are filled.

    Where the smoothing has turned that point into foreground, it is that piece of foreground which goes, as in the
    reference.
    """
    y, x = np.unravel_index(int(np.argmax(_depths(below))), below.shape)
    same = (mask == mask[y, x]).astype(np.uint8)
    labels = cv2.connectedComponents(same, connectivity=8)[1]
    return (labels != labels[y, x]).astype(np.uint8)


def _chosen(mask: Mask) -> Mask:
    """The regions that are deep enough, and those whose deepest point lies near that of a chosen, deeper one."""
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    if count == 1:
        return mask
    depths, flat = _depths(mask).ravel(), labels.ravel()
    deepest_of = np.zeros(count, np.float32)
    np.maximum.at(deepest_of, np.asarray(flat, np.intp), depths)
    # The deepest pixel of each region, the first in reading order where several are equal.
    candidates = np.flatnonzero((flat > 0) & (depths == deepest_of[flat]))
    regions, first = np.unique(flat[candidates], return_index=True)
    peaks = candidates[first]
    limit, deepest = PEAK_SHARE**2, depths[peaks].max()
    chosen = np.zeros(count, np.uint8)
    near: list[tuple[float, float]] = []
    for i in np.lexsort((peaks, -depths[peaks])):
        y, x = divmod(int(peaks[i]), mask.shape[1])
        close = any((y - v) ** 2 + (x - u) ** 2 <= NEAR_PX**2 for v, u in near)
        if depths[peaks[i]] > limit * deepest or close:
            chosen[regions[i]] = 1
            near.append((y, x))
    return np.asarray(chosen[labels], np.uint8)


def _regions(values: Values) -> tuple[Mask, float]:
    """The steps that both variants share, from the picture of structure to the mask; and the mean of that picture."""
    values = np.asarray(cv2.GaussianBlur(values, (11, 11), 1.0, borderType=cv2.BORDER_REPLICATE))
    threshold = float(values.mean())
    mask, below = _foreground(values)
    # The largest array is not needed while the regions are told apart.
    del values
    return _chosen(_without_background(mask, below)), threshold


def fesi(picture: RGB) -> tuple[Mask, float]:
    """FESI.

    Args:
        picture: The thumbnail, uint8 (height, width, 3).

    Returns:
        The mask, and the threshold: the mean of the blurred absolute Laplacian of grey (0 to 1).
    """
    return _regions(_structure(_by_strips(_grey, picture)))


def _saturation(picture: RGB) -> Values:
    """HSV saturation, 0 to 1."""
    brightest = picture.max(-1).astype(np.float64)
    return (brightest - picture.min(-1)) / np.maximum(brightest, 1)


def _yellow_grey(picture: RGB) -> Values:
    """Grey of the Lab picture whose L and a are set to 100, 0 to 1.

    With L and a fixed, it depends on b alone: b gives Z, which gives the colour's linear blue and little else. sRGB
    with its D65 white, as in the reference; values outside 0 to 1 are clipped.
    """
    white_x, white_z = 0.95047, 1.08883
    to_xyz = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
    values = np.arange(256) / 255
    linear = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    light = linear[picture]
    relative = (light @ to_xyz[1], light @ to_xyz[2] / white_z)
    f_y, f_z = (np.where(v > 0.008856, np.cbrt(v), 7.787 * v + 16 / 116) for v in relative)
    b = 200 * (f_y - f_z)
    # L = 100 means f(Y) = 1, and a = 100 then means f(X) = 1.2.
    f_z = np.maximum(1 - b / 200, 0)
    z = np.where(f_z > 0.2068966, f_z**3, (f_z - 16 / 116) / 7.787) * white_z
    xyz = np.stack([np.full_like(z, white_x * 1.2**3), np.ones_like(z), z], axis=-1)
    rgb = xyz @ np.linalg.inv(to_xyz).T
    rgb = np.where(rgb > 0.0031308, 1.055 * np.maximum(rgb, 0) ** (1 / 2.4) - 0.055, 12.92 * rgb)
    return np.clip(rgb, 0, 1) @ LUMINANCE


def _coloured_structure(picture: RGB) -> Values:
    """Structure times saturation, where the Lab picture is yellow enough."""
    yellow = _by_strips(_yellow_grey, picture)
    chosen = yellow >= yellow.mean()
    del yellow
    values = _structure(_by_strips(_grey, picture))
    values *= chosen
    values *= _by_strips(_saturation, picture)
    return values


def improved_fesi(picture: RGB) -> tuple[Mask, float]:
    """Improved FESI: structure times saturation, where the Lab picture is yellow enough.

    The reference reverses the channels and then converts them as if they still were red, green and blue. That changes
    grey and Lab, but not the saturation; it is done here too, so that the mask is the same.

    Args:
        picture: The thumbnail, uint8 (height, width, 3).

    Returns:
        The mask, and the threshold: the mean of the blurred product (0 to 1).
    """
    return _regions(_coloured_structure(np.ascontiguousarray(picture[..., ::-1])))
