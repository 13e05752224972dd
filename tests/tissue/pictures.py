"""Painted and real overviews that the tests of this folder look at."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import tifffile

from slidestudy.demo.scanner import SCANNER_A

RGB = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
MPP = 8.0
SIDE = 300
MM2_PER_PIXEL = MPP**2 / 1e6
METHODS = ["otsu", "entropy", "fesi", "improved-fesi"]


def density(haematoxylin: npt.ArrayLike, eosin: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Colours of stained tissue at optical densities (natural logarithm), (..., 3)."""
    absorbed = np.multiply.outer(haematoxylin, SCANNER_A.haematoxylin) + np.multiply.outer(eosin, SCANNER_A.eosin)
    return np.asarray(SCANNER_A.background) * np.exp(-absorbed)


def disc(radius: float, centre: tuple[float, float] = (SIDE / 2, SIDE / 2), side: int = SIDE) -> Flags:
    y, x = np.mgrid[:side, :side]
    return np.asarray(np.hypot(x - centre[0], y - centre[1]) < radius)


def overview(tissue: Flags, strength: float = 1.0, grain: float = 3.0, noise: float = 2.0) -> RGB:
    """H&E tissue on glass, with cellular and fibrous places of a size in pixels."""
    rng = np.random.default_rng(0)
    patches = cv2.GaussianBlur(rng.random(tissue.shape), (0, 0), grain)
    cellular = np.clip(0.5 + (patches - patches.mean()) / patches.std() / 3, 0, 1)
    stained = density(strength * (0.1 + 1.0 * cellular), strength * (0.6 - 0.3 * cellular))
    picture = np.where(tissue[..., None], stained, SCANNER_A.background)
    return np.clip(picture + rng.normal(0, noise, picture.shape), 0, 255).astype(np.uint8)


def glass(grey: float, noise: float = 2.0, shape: tuple[int, int] = (SIDE, SIDE)) -> RGB:
    noisy = grey + np.random.default_rng(0).normal(0, noise, (*shape, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def overlap(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Intersection over union."""
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    return float((a & b).sum() / (a | b).sum())


def thumbnail(shared: Path, name: str) -> RGB:
    return np.ascontiguousarray(cv2.imread(str(shared / "qc" / f"{name}.png"))[..., ::-1])


def write_tiff(path: Path, picture: RGB) -> Path:
    """A lossless tiled TIFF of one level."""
    tifffile.imwrite(path, picture, tile=(256, 256), compression="zlib", photometric="rgb", metadata=None)
    return path
