"""Quality of a slide's picture: brightness, strength of the stain, pen, and focus."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from slidestudy.geometry import TileGrid, tile_fractions
from slidestudy.slides.reader import RGB, SlideReader
from slidestudy.tissue.cleaning import Mask

HAEMATOXYLIN = (0.650, 0.704, 0.286)
"""Optical densities of red, green and blue (Ruifrok and Johnston 2001, Anal. Quant. Cytol. Histol. 23:291)."""
EOSIN = (0.072, 0.990, 0.105)
"""As HAEMATOXYLIN."""
WINDOW_PX = 256
"""Side of a focus window, px."""
WINDOW_MPP = 0.5
"""Resolution of a focus window, um/px; that of the slide where it is coarser."""
WINDOW_TISSUE = 0.8
"""Least fraction of a focus window that is tissue: the edge of tissue says little of the focus (our choice)."""
LEAST_STRUCTURE = 4.0
"""Windows whose grey levels have a smaller standard deviation are not judged (our choice)."""
FINE_PX, COARSE_PX = (0.7, 1.4), (2.8, 5.6)
"""The bands of detail that are compared: standard deviations of two Gaussians that are subtracted, px (our choice)."""
BLURRED_BELOW = -1.0
"""Focus below which a window is blurred, unless told otherwise.

Chosen on 118 windows of four public slides (0.5 and 0.69 um/px) and 97 of regions of colon (0.275 and 0.55 um/px). By
slide, sharp windows have medians of -0.1 to -0.6 and 5th percentiles of at least -0.7; blurred by a Gaussian of 2 px
(1 um) their medians are -1.1 to -1.3, by 3 px -1.5 to -1.6. Weak noise and JPEG change them by at most 0.1.
"""

MOSTLY_BLURRED = 0.5
"""Fraction of blurred focus windows above which a slide is said to be blurred (our choice)."""
MUCH_PEN = 0.1
"""Fraction of pen in pen and tissue above which it is mentioned (our choice)."""
PALE_BELOW = 0.06
"""Mean optical density of tissue below which the stain is called pale.

Our choice: eleven public slides and thumbnails have 0.10 to 0.30 and 121 regions of colon 0.11 in the median; below
0.06 are regions of fat alone, and slides whose stain is diluted to about a quarter.
"""

Scores = dict[str, float | int | None]


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(float(value), digits)


def stain_scores(picture: RGB, tissue: Mask, glass: Mask) -> Scores:
    """Brightness and stain of an overview.

    Args:
        picture: uint8 (height, width, 3).
        tissue: uint8 (height, width), 1 on tissue.
        glass: uint8 (height, width), 1 on glass: neither tissue nor pen nor unreadable.

    Returns:
        `brightness` and `background`: mean grey of tissue and of glass, 0 to 255; `saturation`: mean HSV saturation of
        tissue, 0 to 1; `stain_density`: mean optical density -log10((I + 1) / 256) of tissue over its pixels and
        channels; `haematoxylin` and `eosin`: mean density of each stain, after colour deconvolution with the published
        vectors and their cross product as the third, clipped at 0. None where there is no tissue or no glass.
    """
    scores: Scores = dict.fromkeys(
        ("brightness", "background", "saturation", "stain_density", "haematoxylin", "eosin"), None
    )
    if glass.any():
        scores["background"] = _rounded(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[glass > 0].mean(), 2)
    if not tissue.any():
        return scores
    pixels = picture[tissue > 0]
    scores["brightness"] = _rounded(cv2.cvtColor(pixels[None], cv2.COLOR_RGB2GRAY).mean(), 2)
    scores["saturation"] = _rounded(cv2.cvtColor(pixels[None], cv2.COLOR_RGB2HSV)[..., 1].mean() / 255, 4)
    table = -np.log10((np.arange(256) + 1) / 256).astype(np.float32)
    densities = table[pixels]
    scores["stain_density"] = _rounded(densities.mean(dtype=np.float64), 4)
    vectors = np.array([HAEMATOXYLIN, EOSIN])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    third = np.cross(vectors[0], vectors[1])
    unmix = np.linalg.inv(np.vstack([vectors, third / np.linalg.norm(third)]))[:, :2].astype(np.float32)
    stains = np.maximum(densities @ unmix, 0).mean(0, dtype=np.float64)
    scores["haematoxylin"], scores["eosin"] = (_rounded(stain, 4) for stain in stains)
    return scores


def sharpness(window: RGB) -> float | None:
    """Focus of a window: how much fine detail there is for the coarse detail, whatever the contrast of the stain.

    Args:
        window: uint8 (height, width, 3).

    Returns:
        log10 of the variance of the band FINE_PX of grey over that of the band COARSE_PX; None where the window has
        hardly any structure.
    """
    grey = cv2.cvtColor(window, cv2.COLOR_RGB2GRAY).astype(np.float32)
    if grey.std() < LEAST_STRUCTURE:
        return None
    fine, coarse = (
        float((cv2.GaussianBlur(grey, (0, 0), first) - cv2.GaussianBlur(grey, (0, 0), second)).var())
        for first, second in (FINE_PX, COARSE_PX)
    )
    return float(np.log10(fine / coarse)) if fine > 0 and coarse > 0 else None


def focus_windows(
    tissue: Mask, size: tuple[int, int], slide_mpp: float, downsample: float, count: int
) -> tuple[NDArray[np.int32], float]:
    """Where focus is measured: squares of a regular grid that lie in tissue, evenly spaced in reading order.

    Args:
        tissue: uint8 (height, width), 1 on tissue.
        size: The slide's width and height at level 0, px.
        slide_mpp: Resolution at level 0, um/px.
        downsample: Level-0 pixels per mask pixel.
        count: At most so many.

    Returns:
        Level-0 corners (n, 2), and the side in level-0 pixels.
    """
    grid = TileGrid(*size, slide_mpp, WINDOW_PX, max(WINDOW_MPP, slide_mpp))
    coords = grid.coords()
    inside = np.flatnonzero(tile_fractions(tissue, coords, grid.extent, downsample) >= WINDOW_TISSUE)
    chosen = np.round(np.linspace(0, len(inside) - 1, min(count, len(inside)))).astype(np.intp)
    return coords[inside[chosen]], grid.extent


def focus_scores(
    slide: SlideReader,
    coords: NDArray[np.int32],
    extent: float,
    *,
    blurred_below: float = BLURRED_BELOW,
    threads: int = 1,
) -> Scores:
    """Measures the focus of windows of a slide.

    Args:
        slide: The open slide.
        coords: Corners of the windows, level-0 px (n, 2).
        extent: Their side, level-0 px.
        blurred_below: Focus below which a window is blurred.
        threads: Threads that decode.

    Returns:
        `focus`: the median over the windows, see `sharpness`; `blurred_fraction` of them; `focus_windows`: how many
        could be judged. None where none could.
    """
    scores = (
        [
            sharpness(tile)
            for batch in slide.tiles(coords, extent, WINDOW_PX, threads)
            for tile, readable in zip(batch.tiles, batch.readable.tolist(), strict=True)
            if readable
        ]
        if len(coords)
        else []
    )
    found = np.array([score for score in scores if score is not None])
    return {
        "focus": _rounded(np.median(found), 4) if found.size else None,
        "blurred_fraction": _rounded((found < blurred_below).mean(), 4) if found.size else None,
        "focus_windows": int(found.size),
    }


def pen_fraction(tissue: Mask, pen: Mask) -> float | None:
    """Area of pen over that of pen and tissue; None where there is neither."""
    marked, stained = int(pen.sum()), int(tissue.sum())
    return _rounded(marked / (marked + stained), 4) if marked + stained else None


def warnings_of(quality: dict[str, Any], unreadable: float) -> list[dict[str, str]]:
    """Lists what is conspicuous in a slide's quality.

    Args:
        quality: The scores of the record.
        unreadable: Fraction of the overview that cannot be decoded.

    Returns:
        `code` and `message` of each.
    """
    found: list[tuple[str, str]] = []
    if unreadable > 0:
        found.append(("unreadable", f"{unreadable:.2%} of the overview cannot be decoded and counts as no tissue"))
    if (quality["pen_fraction"] or 0) > MUCH_PEN:
        found.append(("pen", f"pen covers {quality['pen_fraction']:.0%} of what is marked or tissue"))
    density = quality["stain_density"]
    if density is not None and density < PALE_BELOW:
        found.append(("pale", f"the tissue's mean optical density is {density:.3f}, below {PALE_BELOW:g}"))
    if (quality["blurred_fraction"] or 0) > MOSTLY_BLURRED:
        windows = quality["focus_windows"]
        found.append(("blurred", f"{quality['blurred_fraction']:.0%} of {windows} windows of tissue are out of focus"))
    return [{"code": code, "message": message} for code, message in found]
