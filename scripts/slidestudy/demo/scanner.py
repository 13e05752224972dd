"""Two whole-slide scanners: from concentration maps to pyramidal files that OpenSlide opens.

The files carry no date, no software tag and no identifier, so equal input gives equal bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import tifffile

from slidestudy.demo.tissue import StainMaps

RGB = npt.NDArray[np.uint8]

TILE = 256
"""Side of the files' tiles in pixels."""

DOWNSAMPLES = (1, 4, 16)
"""Downsample of every pyramid level; a field smaller than a tile at a level still gets it."""


class Format(Enum):
    """How a scanner writes its files."""

    SVS = ".svs"
    """Aperio-style: mpp in the ImageDescription, a thumbnail as the second page."""

    TIFF = ".tif"
    """Generic pyramidal TIFF: mpp in the resolution tags."""


class Pen(Enum):
    """Felt pens, as the RGB of their ink on glass."""

    BLUE = (38, 62, 168)
    GREEN = (30, 128, 74)
    BLACK = (36, 36, 42)
    RED = (196, 34, 48)


@dataclass(frozen=True)
class Scanner:
    """One scanner with its laboratory's stain.

    Attributes:
        name: Short name.
        mpp: Micrometres per pixel at level 0.
        haematoxylin: Optical density (natural logarithm) of unit concentration in R, G, B.
        eosin: The same of eosin.
        background: Intensity of empty glass in R, G, B, 0-255.
        noise: Standard deviation of the sensor's noise, grey levels.
        blur_um: Sigma of the optics' blur in um.
        jpeg_quality: 1-100.
        format: File format.
    """

    name: str
    mpp: float
    haematoxylin: tuple[float, float, float]
    eosin: tuple[float, float, float]
    background: tuple[float, float, float]
    noise: float
    blur_um: float
    jpeg_quality: int
    format: Format


SCANNER_A = Scanner(
    name="A",
    mpp=0.5,
    haematoxylin=(0.70, 0.82, 0.38),
    eosin=(0.12, 0.80, 0.42),
    background=(243.0, 242.0, 244.0),
    noise=1.6,
    blur_um=0.40,
    jpeg_quality=80,
    format=Format.SVS,
)
"""Aperio-like: a violet haematoxylin and a rose eosin."""

SCANNER_B = Scanner(
    name="B",
    mpp=0.4,
    haematoxylin=(0.94, 0.83, 0.38),
    eosin=(0.14, 0.92, 0.66),
    background=(240.0, 241.0, 240.0),
    noise=2.2,
    blur_um=0.28,
    jpeg_quality=85,
    format=Format.TIFF,
)
"""Generic TIFF: a blue, strong haematoxylin and an orange-pink, strong eosin."""


def scan(rng: np.random.Generator, maps: StainMaps, scanner: Scanner, strength: tuple[float, float]) -> RGB:
    """Turns concentrations into an image.

    Args:
        rng: Source of the sensor's noise.
        maps: Concentrations painted at the scanner's mpp.
        scanner: Stain colours, glass and optics.
        strength: Factors on haematoxylin and eosin: how strongly this slide took the stains.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    haematoxylin = maps.haematoxylin * np.float32(strength[0])
    eosin = maps.eosin * np.float32(strength[1])
    noise = rng.standard_normal(haematoxylin.shape, dtype=np.float32)
    noise *= np.float32(scanner.noise)
    image = np.empty((*haematoxylin.shape, 3), dtype=np.uint8)
    for channel in range(3):
        density = haematoxylin * np.float32(-scanner.haematoxylin[channel])
        density -= eosin * np.float32(scanner.eosin[channel])
        passed = cv2.GaussianBlur(cv2.exp(density), (0, 0), scanner.blur_um / scanner.mpp)
        light = np.asarray(passed, dtype=np.float32) * np.float32(scanner.background[channel])
        light += noise
        image[..., channel] = np.clip(light + np.float32(0.5), 0, 255)
    return image


def mark_with_pen(rng: np.random.Generator, image: RGB, mpp: float, pen: Pen) -> RGB:
    """Draws felt-pen strokes around and partly over the tissue.

    Args:
        rng: Source of the strokes' shape.
        image: (height, width, 3) uint8 RGB; left as it is.
        mpp: Micrometres per pixel.
        pen: Which ink.

    Returns:
        The marked image, of the same shape.
    """
    height, width = image.shape[:2]
    ink = np.zeros((height, width), dtype=np.uint8)
    start = rng.uniform(0.0, 2 * np.pi)
    # One arc runs along the glass margin, the other cuts over the piece.
    for turn, (nearest, farthest) in enumerate([(0.84, 0.92), (0.68, 0.78)]):
        angles = start + np.pi * turn + np.linspace(0.0, rng.uniform(0.9, 1.5), 60)
        reach = rng.uniform(nearest, farthest) + 0.03 * np.sin(5 * angles)
        edge = reach / np.maximum(np.abs(np.cos(angles)), np.abs(np.sin(angles)))
        x = width / 2 * (1 + np.clip(np.cos(angles) * edge, -0.97, 0.97))
        y = height / 2 * (1 + np.clip(np.sin(angles) * edge, -0.97, 0.97))
        line = np.stack([x, y], axis=1).round().astype(np.int32)
        cv2.polylines(ink, [line], False, (255,), max(int(rng.uniform(34.0, 52.0) / mpp), 1), cv2.LINE_AA)
    cover = cv2.GaussianBlur(ink, (0, 0), 1.5 / mpp).astype(np.float32) / 255.0
    streaks = cv2.resize(rng.standard_normal((height // 24, width // 24), dtype=np.float32), (width, height))
    cover *= np.clip(0.9 + 0.06 * streaks, 0.0, 1.0)
    # Ink absorbs: what lies under it stays faintly visible.
    tint = np.array(pen.value, dtype=np.float32) / 245.0
    passed = 1.0 - cover[..., None] * (1.0 - tint)
    return np.asarray(np.clip(image * passed + 0.5, 0, 255), dtype=np.uint8)


def write_slide(path: Path, image: RGB, scanner: Scanner, with_mpp: bool = True) -> None:
    """Writes a pyramidal slide.

    Args:
        path: The file to write; its suffix is not looked at.
        image: (height, width, 3) uint8 RGB, level 0.
        scanner: Says format, mpp and JPEG quality.
        with_mpp: Whether the file says its mpp; without, neither magnification nor resolution is written.
    """
    levels = [image, *(_reduced(image, factor) for factor in DOWNSAMPLES[1:])]
    if scanner.format is Format.SVS:
        _write_svs(path, levels, scanner, with_mpp)
    else:
        _write_tiff(path, levels, scanner, with_mpp)


def _write_svs(path: Path, levels: Sequence[RGB], scanner: Scanner, with_mpp: bool) -> None:
    """Aperio's order of pages: level 0, a thumbnail in strips, the smaller levels."""
    height, width = levels[0].shape[:2]
    title = "Aperio Image Library v12.0.16\r\n"
    scale = f"|AppMag = 20|MPP = {scanner.mpp:.4f}" if with_mpp else ""
    kind = f"({TILE}x{TILE}) JPEG/RGB Q={scanner.jpeg_quality}"
    with tifffile.TiffWriter(path) as file:
        full = f"{width}x{height} [0,0 {width}x{height}] {kind}"
        _write_page(file, levels[0], scanner, f"{title}{full}|ScanScope ID = DEMO{scanner.name}{scale}")
        thumbnail = levels[-1]
        small = f"{thumbnail.shape[1]}x{thumbnail.shape[0]}"
        _write_page(file, thumbnail, scanner, f"{title}{full} -> {small} -|{scale[1:]}", tiled=False)
        for level in levels[1:]:
            reduced = f"{full} -> {level.shape[1]}x{level.shape[0]} JPEG/RGB Q={scanner.jpeg_quality}"
            _write_page(file, level, scanner, f"{title}{reduced}")


def _write_tiff(path: Path, levels: Sequence[RGB], scanner: Scanner, with_mpp: bool) -> None:
    """Plain pages, the smaller ones flagged as reduced, mpp as pixels per centimetre."""
    with tifffile.TiffWriter(path) as file:
        for index, level in enumerate(levels):
            per_cm = 1e4 / (scanner.mpp * DOWNSAMPLES[index]) if with_mpp else None
            _write_page(file, level, scanner, None, reduced=index > 0, per_cm=per_cm)


def _write_page(
    file: tifffile.TiffWriter,
    image: RGB,
    scanner: Scanner,
    description: str | None,
    tiled: bool = True,
    reduced: bool = False,
    per_cm: float | None = None,
) -> None:
    """Writes one JPEG page; `per_cm` is its resolution in pixels per centimetre, none where None."""
    file.write(
        image,
        # Names what is given here; JPEG stores it as subsampled YCbCr and the page is tagged so.
        photometric="rgb",
        subsampling=(2, 2),
        compression="jpeg",
        compressionargs={"level": scanner.jpeg_quality},
        tile=(TILE, TILE) if tiled else None,
        rowsperstrip=None if tiled else 16,
        subfiletype=1 if reduced else 0,
        resolution=None if per_cm is None else (per_cm, per_cm),
        resolutionunit="NONE" if per_cm is None else "CENTIMETER",
        description=description,
        metadata=None,
        software=False,
        # One thread: slides are already made in parallel.
        maxworkers=1,
    )


def _reduced(image: RGB, factor: int) -> RGB:
    """The image reduced by an integer factor, by area."""
    size = (max(image.shape[1] // factor, 1), max(image.shape[0] // factor, 1))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
