"""The `stain-texture` encoder: hand-crafted colour, stain, blob and texture statistics of a tile. No weights.

Stains are separated by Ruifrok and Johnston's colour deconvolution (2001, Anal. Quant. Cytol. Histol. 23:291) with
their published H&E vectors; blobs are maxima of the scale-normalised Laplacian of Gaussian (Lindeberg 1998, IJCV
30:79). Which statistics are kept is our choice. Scales are in micrometres, so that the features mean the same
at every resolution.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]

VERSION = 1
"""Raised whenever a feature changes; part of the weights digest."""
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], np.float32)
"""Optical-density vectors of haematoxylin, eosin and the residual (Ruifrok and Johnston)."""
BLOB_SIGMAS_UM = (1.2, 1.8, 2.6, 3.6)
"""Scales of the Laplacian of Gaussian: nuclei of about 3.4 to 10 um in diameter."""
TEXTURE_SIGMAS_UM = (0.8, 1.6, 3.2, 6.4)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BLOB_STRENGTHS = (0.05, 0.15, 0.3)
"""Haematoxylin blob responses (OD) above which a maximum is counted."""


def feature_names() -> list[str]:
    """Names of the features, in their order."""
    names = [f"{channel}_{s}" for channel in ("red", "green", "blue") for s in ("od_mean", "od_sd")]
    for stain in ("h", "e"):
        names += [f"{stain}_mean", f"{stain}_sd", *[f"{stain}_q{round(100 * q)}" for q in QUANTILES]]
    names += ["he_correlation", "h_share", "white", "dark", "saturation_mean", "saturation_sd", "bluish", "pinkish"]
    for sigma in BLOB_SIGMAS_UM:
        names += [f"blob{sigma}_mean", f"blob{sigma}_sd", *[f"blob{sigma}_per_mm2_{t}" for t in BLOB_STRENGTHS]]
    for stain in ("h", "e"):
        for sigma in TEXTURE_SIGMAS_UM:
            names += [f"{stain}_gradient{sigma}", f"{stain}_coherence{sigma}", f"{stain}_band{sigma}"]
    names += [
        "nuclear_fraction",
        "pale_nuclear_fraction",
        "round_dark_per_mm2",
        "large_nuclei_per_mm2",
        "nuclear_area_mean",
        "nuclear_area_sd",
    ]
    return names


DIM = len(feature_names())


def separate_stains(rgb: NDArray[np.uint8]) -> tuple[Image, Image, Image]:
    """Optical density and the haematoxylin and eosin concentrations of an image.

    Args:
        rgb: uint8 (height, width, 3).

    Returns:
        OD (height, width, 3), haematoxylin and eosin (height, width), float32, not negative.
    """
    table = (-np.log10(np.maximum(np.arange(256, dtype=np.float32), 1) / 245)).clip(0)
    od = np.take(table, rgb).astype(np.float32)
    unmix = np.linalg.inv(STAINS / np.linalg.norm(STAINS, axis=1, keepdims=True)).astype(np.float32)
    concentrations = od.reshape(-1, 3) @ unmix
    height, width = rgb.shape[:2]
    h, e = (np.maximum(concentrations[:, i], 0).reshape(height, width) for i in (0, 1))
    return od, np.ascontiguousarray(h), np.ascontiguousarray(e)


def _smooth(image: Image, sigma_px: float) -> Image:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), max(sigma_px, 0.3), borderType=cv2.BORDER_REFLECT), np.float32)


def _stain_statistics(h: Image, e: Image) -> list[float]:
    values: list[float] = []
    for stain in (h, e):
        values += [float(stain.mean()), float(stain.std()), *np.quantile(stain[::2, ::2], QUANTILES).tolist()]
    spread = float(h.std() * e.std())
    values.append(float(((h - h.mean()) * (e - e.mean())).mean() / spread) if spread > 1e-9 else 0.0)
    values.append(float(h.mean() / (h.mean() + e.mean() + 1e-6)))
    return values


def _colour_statistics(rgb: NDArray[np.uint8]) -> list[float]:
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
    saturation, hue = hsv[..., 1].astype(np.float32) / 255, hsv[..., 0]
    coloured = saturation > 0.1
    bluish = coloured & (hue >= 100) & (hue < 140)
    pinkish = coloured & ((hue >= 150) | (hue < 5))
    darkest = rgb.min(-1)
    return [
        float((darkest > 215).mean()), float((rgb.max(-1) < 100).mean()),
        float(saturation.mean()), float(saturation.std()), float(bluish.mean()), float(pinkish.mean()),
    ]  # fmt: skip


def _blob_statistics(h: Image, mpp: float) -> list[float]:
    values: list[float] = []
    area_mm2 = h.size * mpp**2 / 1e6
    for sigma in BLOB_SIGMAS_UM:
        px = sigma / mpp
        response = -(px**2) * np.asarray(cv2.Laplacian(_smooth(h, px), cv2.CV_32F, borderType=cv2.BORDER_REFLECT))
        side = 2 * max(1, round(px)) + 1
        peaks = response >= cv2.dilate(response, np.ones((side, side), np.uint8))
        values += [float(np.maximum(response, 0).mean()), float(response.std())]
        values += [float((peaks & (response > t)).sum() / area_mm2) / 1000 for t in BLOB_STRENGTHS]
    return values


def _texture_statistics(stain: Image, mpp: float) -> list[float]:
    """Gradient strength, orientation coherence (1 for parallel fibres) and band-pass energy at each scale."""
    values: list[float] = []
    for sigma in TEXTURE_SIGMAS_UM:
        px = sigma / mpp
        smooth = _smooth(stain, px)
        gx, gy = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8)
        xx, yy, xy = float((gx * gx).mean()), float((gy * gy).mean()), float((gx * gy).mean())
        strength = xx + yy
        coherence = np.sqrt((xx - yy) ** 2 + 4 * xy**2) / strength if strength > 1e-12 else 0.0
        band = smooth - _smooth(smooth, px)
        values += [px * np.sqrt(strength), float(coherence), float(band.std())]
    return values


def _nucleus_statistics(h: Image, mpp: float) -> list[float]:
    """Areas and densities of nuclei as connected dark pieces of the haematoxylin image."""
    smooth = _smooth(h, 0.7 / mpp)
    quantised = np.clip(smooth * 255 / 1.5, 0, 255).astype(np.uint8)
    otsu, _ = cv2.threshold(quantised, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    threshold = max(otsu / 255 * 1.5, 0.25)
    nuclei = (smooth > threshold).astype(np.uint8)
    distance = cv2.distanceTransform(nuclei, cv2.DIST_L2, 3)
    cores = (distance > 1.2 / mpp).astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(cores, connectivity=4)
    areas = stats[1:count, cv2.CC_STAT_AREA] * mpp**2
    # A core has lost 1.2 um on every side; its radius is given back.
    full = np.pi * (np.sqrt(areas / np.pi) + 1.2) ** 2
    mm2 = h.size * mpp**2 / 1e6
    sides = stats[1:count, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].astype(float)
    round_enough = sides.min(1) / np.maximum(sides.max(1), 1) > 0.6 if count > 1 else np.zeros(0, bool)
    # Below about 20 um2 a dark piece is a fleck; the bound was chosen on the CRCHistoPhenotypes annotations.
    small_round = (full > 20) & (full < 60) & round_enough
    pale = (smooth > threshold / 2) & (nuclei == 0)
    mean, sd = (float(full.mean()), float(full.std())) if len(full) else (0.0, 0.0)
    return [
        float(nuclei.mean()),
        float(pale.mean()),
        small_round.sum() / mm2 / 1000,
        (full > 80).sum() / mm2 / 1000,
        mean / 50,
        sd / 50,
    ]


def encode_tile(rgb: NDArray[np.uint8], mpp: float) -> NDArray[np.float32]:
    """The features of one tile.

    Args:
        rgb: uint8 (size, size, 3).
        mpp: Resolution of the tile, um/px.

    Returns:
        float32 (DIM,), all finite.
    """
    od, h, e = separate_stains(rgb)
    channels = od.reshape(-1, 3)
    values = np.stack([channels.mean(0), channels.std(0)], 1).ravel().tolist()
    values += _stain_statistics(h, e) + _colour_statistics(rgb) + _blob_statistics(h, mpp)
    values += _texture_statistics(h, mpp) + _texture_statistics(e, mpp) + _nucleus_statistics(h, mpp)
    return np.asarray(values, np.float32)
