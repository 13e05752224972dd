"""Masks as polygons in level-0 pixels, and the GeoJSON that QuPath opens."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from shapely import affinity
from shapely.errors import ShapelyError
from shapely.geometry import Polygon, mapping, shape
from shapely.geometry.base import BaseGeometry

from slidestudy.errors import StudyError
from slidestudy.geometry import polygons_of, rasterise
from slidestudy.tissue.cleaning import Mask
from slidestudy.tissue.sections import number_sections

COLOURS = {"Tissue": [46, 125, 50], "Pen": [21, 101, 192]}
SECTION_GAP_MM = 0.5
"""Pieces at most this far apart belong to one section, mm, where the configuration does not say (our choice)."""


@dataclass(frozen=True)
class Region:
    """A piece of tissue or a pen mark.

    Attributes:
        kind: `Tissue` or `Pen`.
        section: Number of the tissue section that the piece belongs to, from 1; 0 for pen.
        polygon: Outline with holes, level-0 pixels.
        area_mm2: Area of the mask's pixels, without holes.
    """

    kind: str
    section: int
    polygon: Polygon
    area_mm2: float


def outline(mask: Mask, downsample: float) -> list[Polygon]:
    """Outlines a mask a quarter of a pixel inside its pixels' borders, so that `rasterise` gives back the mask.

    Args:
        mask: uint8 (height, width), 1 inside.
        downsample: Level-0 pixels per mask pixel.

    Returns:
        Valid polygons with holes, in level-0 pixels, in reading order.
    """
    # Doubling moves OpenCV's contours, which run through pixel centres, onto borders within half a small pixel.
    factor = 2
    big = np.kron(mask, np.ones((factor, factor), np.uint8))
    contours, hierarchy = cv2.findContours(big, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    polygons: list[Polygon] = []
    if hierarchy is None:
        return polygons
    for index, contour in enumerate(contours):
        if hierarchy[0][index][3] != -1 or len(contour) < 3:
            continue
        holes, child = [], hierarchy[0][index][2]
        while child != -1:
            if len(contours[child]) >= 3:
                holes.append(contours[child][:, 0])
            child = hierarchy[0][child][0]
        whole = Polygon(contour[:, 0], holes)
        polygons += polygons_of(whole if whole.is_valid else whole.buffer(0))
    scaled = [
        affinity.affine_transform(
            p,
            [
                downsample / factor,
                0,
                0,
                downsample / factor,
                downsample / factor / 2,
                downsample / factor / 2,
            ],
        )
        for p in polygons
    ]
    return sorted(scaled, key=lambda p: (p.bounds[1], p.bounds[0]))


def _pixels(polygon: Polygon, downsample: float) -> int:
    """Mask pixels of an outline, whose own area falls short by the quarter pixel all around."""
    left, top, right, bottom = (edge / downsample for edge in polygon.bounds)
    x, y = int(left), int(top)
    moved = affinity.translate(polygon, -x * downsample, -y * downsample)
    return int(rasterise([moved], (int(bottom) - y + 1, int(right) - x + 1), downsample).sum())


def regions_of(
    mask: Mask, kind: str, downsample: float, slide_mpp: float, section_gap_mm: float = SECTION_GAP_MM
) -> list[Region]:
    """The regions of a mask; tissue is numbered by section.

    Args:
        mask: uint8 (height, width), 1 inside.
        kind: `Tissue` or `Pen`.
        downsample: Level-0 pixels per mask pixel.
        slide_mpp: Resolution at level 0, um/px.
        section_gap_mm: Pieces at most this far apart belong to one section, mm.

    Returns:
        One region per connected piece, by section, in reading order within one.
    """
    to_mm2 = (slide_mpp * downsample) ** 2 / 1e6
    polygons = outline(mask, downsample)
    gap = section_gap_mm * 1000 / slide_mpp
    sections = number_sections(polygons, gap) if kind == "Tissue" else [0] * len(polygons)
    regions = [
        Region(kind, section, polygon, _pixels(polygon, downsample) * to_mm2)
        for section, polygon in zip(sections, polygons, strict=True)
    ]
    # Sorting is stable: within a section the outlines' reading order stays.
    return sorted(regions, key=lambda region: region.section)


def to_geojson(regions: list[Region]) -> dict[str, Any]:
    """A FeatureCollection of QuPath annotations, coordinates in level-0 pixels."""
    features = []
    for region in regions:
        # A tenth of a level-0 pixel is far below any mask's resolution, and keeps the file small.
        geometry = json.loads(json.dumps(mapping(region.polygon)), parse_float=lambda text: round(float(text), 1))
        properties = {
            "objectType": "annotation",
            "name": f"{region.kind} {region.section}" if region.section else region.kind,
            "classification": {"name": region.kind, "color": COLOURS[region.kind]},
            "section": region.section,
            "area_mm2": round(region.area_mm2, 6),
        }
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    return {"type": "FeatureCollection", "features": features}


def read_features(path: str | os.PathLike[str]) -> list[tuple[str | None, BaseGeometry]]:
    """Reads the features of a GeoJSON file.

    Args:
        path: The file; written here or by QuPath.

    Returns:
        Of each feature the name of its classification, if it has one, and its valid geometry.

    Raises:
        StudyError: The file is missing or not GeoJSON.
    """
    remedy = "export it anew from QuPath as GeoJSON (FeatureCollection)"
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        features = content["features"] if isinstance(content, dict) else content
        found = [(_class_of(f), shape(f["geometry"])) for f in features]
    except OSError as error:
        raise StudyError(f"cannot be read ({error.strerror})", str(path), "correct the path") from None
    except (ValueError, LookupError, TypeError, AttributeError, ShapelyError, RecursionError) as error:
        raise StudyError(f"not a GeoJSON FeatureCollection ({error})", str(path), remedy) from None
    return [(name, g if g.is_valid else g.buffer(0)) for name, g in found]


def _class_of(feature: dict[str, Any]) -> str | None:
    """The name of a feature's classification; GeoJSON allows features without properties."""
    name = ((feature.get("properties") or {}).get("classification") or {}).get("name")
    return None if name is None else str(name)


def read_polygons(path: str | os.PathLike[str], kind: str | None = None) -> list[BaseGeometry]:
    """Reads the geometries of a GeoJSON file.

    Args:
        path: The file; written here or by QuPath.
        kind: Only features of this classification; all where None.

    Raises:
        StudyError: The file is missing or not GeoJSON.
    """
    return [geometry for name, geometry in read_features(path) if kind is None or name == kind]
