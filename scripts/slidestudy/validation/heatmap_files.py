"""Heatmaps for other programs: polygons that QuPath reads, and pyramids that lie on the slide."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from slidestudy.files import atomic_path
from slidestudy.statistics import Array
from slidestudy.validation.heatmap_values import CELL, Scale, halved

BINS = 5
"""Classes of the score, of equal width between the ends of its scale."""
TILE = 256
"""Side of a TIFF's tiles, px."""
SMALLEST = 256
"""A pyramid ends with the first level whose longer side is at most this, px."""


def to_geojson(coords: NDArray[np.integer], extent: float, values: Mapping[str, Array], scale: Scale) -> dict[str, Any]:
    """Tiles as QuPath detections: one square each, in level-0 pixels, coloured by its score.

    Args:
        coords: Corners (n_tiles, 2).
        extent: Side of a tile, level-0 px.
        values: Name -> measurement (n_tiles,), `score` among them; those that are NaN are left out.
        scale: The score's scale, which is cut into BINS classes.

    Returns:
        A FeatureCollection.
    """
    bins = np.minimum((scale.positions(values["score"]) * BINS).astype(int), BINS - 1)
    ends = np.linspace(scale.low, scale.high, BINS + 1)
    middles = scale.paint((ends[:-1] + ends[1:]) / 2)[:, :3].tolist()
    features = []
    for place, (x, y) in enumerate(np.asarray(coords, float)):
        right, bottom = round(x + extent, 3), round(y + extent, 3)
        ring = [[x, y], [right, y], [right, bottom], [x, bottom], [x, y]]
        own = int(bins[place])
        name = f"score {ends[own]:.3g} to {ends[own + 1]:.3g}"
        measured = {key: float(f"{each[place]:.6g}") for key, each in values.items() if np.isfinite(each[place])}
        properties = {
            "objectType": "detection",
            "classification": {"name": name, "color": middles[own]},
            "measurements": measured,
        }
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    return {"type": "FeatureCollection", "features": features}


def write_pyramid(path: str | os.PathLike[str], values: Array, scale: Scale, mpp: tuple[float, float]) -> None:
    """Writes a heatmap as a tiled, pyramidal RGBA TIFF (deflate), transparent where there is no tile.

    Colours of lower levels are of the mean values, on a logarithmic scale of their geometric mean. OpenSlide, QuPath
    and tifffile open it; its resolution tags put it onto the slide.

    Args:
        path: The file.
        values: As `raster` gives them.
        scale: Their scale.
        mpp: Micrometres per pixel across and down.
    """
    levels = [np.log(np.maximum(values, scale.low)) if scale.logarithmic else values]
    while max(levels[-1].shape) > SMALLEST:
        levels.append(halved(levels[-1]))
    with atomic_path(path) as partial, tifffile.TiffWriter(partial) as writer:
        for number, level in enumerate(levels):
            factors = (values.shape[1] / level.shape[1], values.shape[0] / level.shape[0])
            per_cm = tuple(1e4 / (each * factor) for each, factor in zip(mpp, factors, strict=True))
            writer.write(
                scale.paint(np.exp(level) if scale.logarithmic else level),
                photometric="rgb",
                extrasamples=["unassalpha"],
                compression="adobe_deflate",
                tile=(TILE, TILE),
                resolution=per_cm,
                resolutionunit="CENTIMETER",
                subfiletype=1 if number else 0,
                metadata=None,
                software=False,
            )


def step_of(extent: float, mpp: float) -> float:
    """Micrometres per pixel of a heatmap.

    Args:
        extent: Side of a tile, level-0 px.
        mpp: The slide's, um/px at level 0.
    """
    return extent * mpp / CELL
