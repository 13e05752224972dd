"""Paints a tissue layout as haematoxylin and eosin concentration maps at any pixel size.

Concentrations are in units of the scanner's stain vectors (optical density, natural logarithm): 0 is glass,
about 0.4 is stroma's eosin, about 1.3 is a lymphocyte's haematoxylin. Colour is the scanner's business.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from slidestudy.demo.layout import Float, Layout, Mask, distance_to, smooth_noise

_NUCLEUS_SCALE = 120.0
"""Grey levels of the nucleus canvas per unit of concentration (OpenCV antialiases 8-bit images only)."""

_SHIFT = 4
"""Fractional bits of the coordinates that OpenCV draws at."""


@dataclass(frozen=True)
class StainMaps:
    """What a painted field absorbs.

    Attributes:
        haematoxylin: (height, width) float32 concentration >= 0.
        eosin: (height, width) float32 concentration >= 0.
        mpp: Micrometres per pixel of both.
    """

    haematoxylin: Float
    eosin: Float
    mpp: float


@dataclass(frozen=True)
class _Nuclei:
    """Ellipses to draw; every field is an (n,) or (n, 2) array.

    Attributes:
        centres: (n, 2) x, y in um.
        radii: (n, 2) semi-axes in um.
        angles: (n,) degrees.
        rim: (n,) haematoxylin of the nuclear membrane.
        body: (n,) haematoxylin of the chromatin.
    """

    centres: Float
    radii: Float
    angles: Float
    rim: Float
    body: Float


def paint_tissue(rng: np.random.Generator, layout: Layout, mpp: float) -> StainMaps:
    """Paints a layout.

    Args:
        rng: Source of randomness for textures and the shapes of nuclei.
        layout: Where everything lies, in um.
        mpp: Micrometres per pixel to paint at.

    Returns:
        Maps of round(size in um / mpp) pixels.
    """
    width, height = (round(side / mpp) for side in layout.size_um)
    direction, fibres = _fibres(rng, layout.tissue.shape)
    ground_h, ground_e = _ground(rng, layout, fibres)
    # The ground varies over several um, so it is painted at 1 um and enlarged; only nuclei need every pixel.
    haematoxylin = _enlarge(ground_h, (height, width))
    eosin = _enlarge(np.maximum(ground_e, _fat_walls(layout)), (height, width))
    nuclei = _nuclei_canvas(rng, layout, direction, (height, width), mpp)
    inside = np.minimum(nuclei * 2.0, 1.0)
    grain = _tiled_grain(rng, (height, width), 0.9 / mpp)
    chromatin = nuclei * (1.0 + 0.20 * grain)
    haematoxylin = np.maximum(haematoxylin, chromatin) + 0.03 * grain * (haematoxylin > 0.02)
    # Nuclei displace cytoplasm, and its own grain keeps smooth areas from looking airbrushed.
    eosin = eosin * (1.0 - 0.55 * inside) * (1.0 + 0.10 * grain[::-1])
    return StainMaps(np.maximum(haematoxylin, 0.0), np.maximum(eosin, 0.0), mpp)


def _fibres(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Float, Float]:
    """Wavy collagen on the 1 um grid: direction in degrees and (height, width) texture of unit variance."""
    height, width = shape[0], shape[1]
    base = rng.uniform(0.0, 180.0)
    weights = [smooth_noise(rng, (height, width), 140.0) for _ in range(3)]
    choice = np.argmax(weights, axis=0)
    texture = np.zeros((height, width), dtype=np.float32)
    direction = np.zeros((height, width), dtype=np.float32)
    softened = np.zeros((height, width), dtype=np.float32)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    for index in range(3):
        angle = base + 60.0 * index
        radians = np.deg2rad(angle)
        along = np.float32(np.cos(radians)) * columns + np.float32(np.sin(radians)) * rows
        across = np.float32(np.cos(radians)) * rows - np.float32(np.sin(radians)) * columns
        across += 7.0 * smooth_noise(rng, (height, width), 60.0) + 2.0 * smooth_noise(rng, (height, width), 20.0)
        # Noise that is 25 times longer than wide, bent by the displacement above, reads as strands.
        strands = smooth_noise(rng, (512, 512), 2.0)
        bent = cv2.remap(strands, along / 14.0, across / 1.1, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        share = cv2.GaussianBlur((choice == index).astype(np.float32), (0, 0), 8.0)
        texture += share * bent
        softened += share * share
        direction[choice == index] = angle
    texture /= np.sqrt(np.maximum(softened, 1e-3))
    return direction, np.asarray(texture / max(float(texture.std()), 1e-6), dtype=np.float32)


def _ground(rng: np.random.Generator, layout: Layout, fibres: Float) -> tuple[Float, Float]:
    """Haematoxylin and eosin of everything but nuclei, on the 1 um grid."""
    shape = (layout.size_um[1], layout.size_um[0])
    haze = smooth_noise(rng, shape, 60.0)
    fine = smooth_noise(rng, shape, 4.0)
    loose = np.clip(0.5 + 0.35 * smooth_noise(rng, shape, 110.0), 0.0, 1.0)
    infiltrated = np.exp(-np.square(distance_to(layout.lymphocytes, shape) / 9.0))
    stroma_e = 0.42 + 0.06 * haze + (0.09 + 0.09 * loose) * fibres - 0.10 * loose
    # Pale clefts between bundles, as fixation leaves them.
    stroma_e = np.where(fibres < -1.5, 0.16 + 0.0 * fibres, stroma_e)
    stroma_e = stroma_e * (1.0 - 0.35 * infiltrated)
    stroma_h = 0.05 + 0.015 * fibres + 0.10 * infiltrated
    parts = [
        (layout.stroma, np.maximum(stroma_h, 0.02), np.maximum(stroma_e, 0.08)),
        (layout.tumour, 0.17 + 0.03 * haze + 0.035 * fine, 0.30 + 0.04 * haze + 0.05 * fine),
        (layout.mucin, *_mucin(rng, shape, fine)),
        (layout.fat, np.zeros(shape, np.float32), np.full(shape, 0.015, np.float32)),
    ]
    haematoxylin = np.zeros(shape, dtype=np.float32)
    eosin = np.zeros(shape, dtype=np.float32)
    for mask, part_h, part_e in parts:
        weight = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.8)
        haematoxylin += weight * part_h.astype(np.float32)
        eosin += weight * part_e.astype(np.float32)
    return haematoxylin, eosin * _retraction(rng, layout.tumour)


def _mucin(rng: np.random.Generator, shape: tuple[int, int], fine: Float) -> tuple[Float, Float]:
    """Pale bluish pools with wisps, on the 1 um grid."""
    swirl = smooth_noise(rng, shape, 90.0) + 0.25 * smooth_noise(rng, shape, 25.0)
    wisps = np.exp(-np.square(np.sin(4.0 * swirl) / 0.35)) * (0.6 + 0.4 * smooth_noise(rng, shape, 60.0))
    return 0.12 + 0.045 * wisps + 0.008 * fine, 0.025 + 0.015 * wisps


def _retraction(rng: np.random.Generator, tumour: Mask) -> Float:
    """Factor on eosin: thin pale gaps around part of the nests, on the 1 um grid."""
    outside = cv2.distanceTransform((~tumour).astype(np.uint8), cv2.DIST_L2, 5)
    reach = 2.2 * np.maximum(smooth_noise(rng, (tumour.shape[0], tumour.shape[1]), 50.0) - 0.2, 0.0)
    gap = (outside > 0) & (outside < reach)
    return 1.0 - 0.75 * cv2.GaussianBlur(gap.astype(np.float32), (0, 0), 0.7)


def _fat_walls(layout: Layout) -> Float:
    """Eosin of the thin walls between fat vacuoles, on the 1 um grid."""
    if len(layout.vacuoles) == 0:
        return np.zeros(layout.fat.shape, dtype=np.float32)
    seeds = np.ones(layout.fat.shape, dtype=np.uint8)
    seeds[layout.vacuoles[:, 1].astype(np.intp), layout.vacuoles[:, 0].astype(np.intp)] = 0
    _, nearest = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    cells = np.where(layout.fat, nearest, 0).astype(np.float32)
    # Walls run where the nearest vacuole changes; opening rounds the corners as droplets under tension are.
    edges = cv2.morphologyEx(cells, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    droplets = (layout.fat & ~edges).astype(np.uint8)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (15, 15))
    rounded = cv2.morphologyEx(droplets, cv2.MORPH_OPEN, disc)
    walls = (layout.fat & (rounded == 0)).astype(np.float32)
    return np.asarray(0.40 * cv2.GaussianBlur(walls, (0, 0), 0.6), dtype=np.float32)


def _nuclei_canvas(
    rng: np.random.Generator, layout: Layout, direction: Float, shape: tuple[int, int], mpp: float
) -> Float:
    """Haematoxylin of all nuclei, (height, width) at `mpp`, 0 between them."""
    canvas = np.zeros(shape, dtype=np.uint8)
    for nuclei in (_tumour(rng, layout), _spindles(rng, layout, direction), _small_round(rng, layout)):
        for index in range(len(nuclei.centres)):
            centre, angle = nuclei.centres[index] / mpp, float(nuclei.angles[index])
            radii = nuclei.radii[index] / mpp
            _ellipse(canvas, centre, radii, angle, int(nuclei.rim[index] * _NUCLEUS_SCALE))
            _ellipse(canvas, centre, radii - 0.7 / mpp, angle, int(nuclei.body[index] * _NUCLEUS_SCALE))
    _nucleoli(rng, canvas, layout, mpp)
    soft = cv2.GaussianBlur(canvas, (0, 0), 0.35 / mpp)
    return np.asarray(soft.astype(np.float32) / _NUCLEUS_SCALE, dtype=np.float32)


def _tumour(rng: np.random.Generator, layout: Layout) -> _Nuclei:
    """Large, pale, pleomorphic nuclei with a visible membrane."""
    count = len(layout.tumour_nuclei)
    size = np.clip(rng.lognormal(np.log(5.0), 0.17, count), 3.6, 8.0)
    stretch = rng.uniform(1.0, 1.45, count)
    body = np.clip(rng.normal(0.50, 0.11, count), 0.28, 0.85)
    return _Nuclei(
        centres=layout.tumour_nuclei,
        radii=np.stack([size * np.sqrt(stretch), size / np.sqrt(stretch)], axis=1).astype(np.float32),
        angles=rng.uniform(0.0, 180.0, count).astype(np.float32),
        rim=(body + 0.22).astype(np.float32),
        body=body.astype(np.float32),
    )


def _spindles(rng: np.random.Generator, layout: Layout, direction: Float) -> _Nuclei:
    """Thin fibroblast nuclei that follow the fibres."""
    points = layout.spindle_nuclei
    count = len(points)
    along = direction[points[:, 1].astype(np.intp), points[:, 0].astype(np.intp)]
    body = rng.uniform(0.6, 0.95, count).astype(np.float32)
    radii = np.stack([rng.uniform(4.5, 8.5, count), rng.uniform(1.1, 1.8, count)], axis=1)
    angles = along + rng.normal(0.0, 14.0, count)
    return _Nuclei(points, radii.astype(np.float32), angles.astype(np.float32), body, body)


def _small_round(rng: np.random.Generator, layout: Layout) -> _Nuclei:
    """Lymphocytes: round, dark, about 7 um across and nearly equal in size."""
    count = len(layout.lymphocytes)
    size = np.clip(rng.normal(3.5, 0.25, count), 2.9, 4.2)
    stretch = rng.uniform(0.93, 1.07, count)
    body = np.clip(rng.normal(1.30, 0.13, count), 0.95, 1.7)
    return _Nuclei(
        centres=layout.lymphocytes,
        radii=np.stack([size * stretch, size / stretch], axis=1).astype(np.float32),
        angles=rng.uniform(0.0, 180.0, count).astype(np.float32),
        rim=body.astype(np.float32),
        body=body.astype(np.float32),
    )


def _nucleoli(rng: np.random.Generator, canvas: np.ndarray, layout: Layout, mpp: float) -> None:
    """Adds a nucleolus to about half of the tumour nuclei, in place."""
    chosen = layout.tumour_nuclei[rng.random(len(layout.tumour_nuclei)) < 0.55]
    offsets = rng.normal(0.0, 1.1, chosen.shape)
    sizes = rng.uniform(0.7, 1.25, len(chosen))
    for centre, size in zip(chosen + offsets, sizes, strict=True):
        _ellipse(canvas, centre / mpp, np.array([size, size]) / mpp, 0.0, int(1.1 * _NUCLEUS_SCALE))


def _ellipse(canvas: np.ndarray, centre: np.ndarray, radii: np.ndarray, angle: float, value: int) -> None:
    """Draws one filled antialiased ellipse in place; `centre` and `radii` in pixels, `angle` in degrees."""
    unit = 1 << _SHIFT
    # OpenCV's pixel centres lie on integers, ours at halves.
    at = (round((float(centre[0]) - 0.5) * unit), round((float(centre[1]) - 0.5) * unit))
    axes = (max(round(float(radii[0]) * unit), 1), max(round(float(radii[1]) * unit), 1))
    cv2.ellipse(canvas, at, axes, angle, 0, 360, (value,), -1, cv2.LINE_AA, _SHIFT)


def _tiled_grain(rng: np.random.Generator, shape: tuple[int, int], scale_px: float) -> Float:
    """(height, width) grain of unit variance, repeated from one block: too fine for the repeat to show."""
    side = 640
    # Blurred as a torus, so that neighbouring copies meet without a seam.
    torus = np.tile(rng.standard_normal((side, side), dtype=np.float32), (2, 2))
    blurred = cv2.GaussianBlur(torus, (0, 0), max(scale_px / 2.0, 0.3))
    block = blurred[side // 2 : side // 2 + side, side // 2 : side // 2 + side]
    repeats = (-(-shape[0] // side), -(-shape[1] // side))
    grain = np.tile(block / float(block.std()), repeats)
    return np.asarray(grain[: shape[0], : shape[1]], dtype=np.float32)


def _enlarge(values: Float, shape: tuple[int, int]) -> Float:
    """Resizes a map of the 1 um grid to (height, width)."""
    return np.asarray(cv2.resize(values, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR), dtype=np.float32)
