"""The tissue stage of one slide: overview, masks, polygons, areas and the overlay picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from slidestudy.errors import Reason, SlideError
from slidestudy.files import digest, versions
from slidestudy.geometry import rasterise
from slidestudy.slides.reader import RGB, Slide, resize
from slidestudy.tissue.mask import Mask, find_tissue
from slidestudy.tissue.polygons import COLOURS, read_polygons, regions_of, to_geojson

OVERLAY_SIDE = 1024
"""Longer side of the overlay picture, px."""


@dataclass(frozen=True)
class Segmentation:
    """What the tissue stage gives for a slide.

    Attributes:
        geojson: Tissue and pen as polygons.
        record: Areas and scores, with `status` and `reason` as in the inspection record.
        overlay: Overview with outlines, uint8 (height, width, 3).
    """

    geojson: dict[str, Any]
    record: dict[str, Any]
    overlay: RGB


def draw_overlay(picture: RGB, tissue: Mask, pen: Mask) -> RGB:
    """Draws the outlines of tissue and pen onto an overview, at most OVERLAY_SIDE px long."""
    scale = min(1.0, OVERLAY_SIDE / max(picture.shape[:2]))
    width, height = (max(1, round(side * scale)) for side in (picture.shape[1], picture.shape[0]))
    canvas = resize(picture, width, height).copy()
    for mask, kind in ((tissue, "Tissue"), (pen, "Pen")):
        small = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(small, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, contours, -1, COLOURS[kind], 2, cv2.LINE_AA)
    return canvas


def segment_tissue(entry: dict[str, Any], inspection: dict[str, Any], options: dict[str, Any]) -> Segmentation:
    """Finds the tissue of a slide; a slide without any gets the reason `no_tissue`.

    Args:
        entry: The slide's row, with `path` and perhaps `roi`.
        inspection: The slide's inspection record.
        options: The configuration's section `tissue`.
    """
    mpp = inspection["mpp"]["value"]
    downsample = max(1.0, options["mpp"] / mpp)
    record: dict[str, Any] = {key: entry[key] for key in ("slide_id", "patient_id", "cohort")}
    record |= {"status": "admitted", "reason": None}
    empty = np.zeros((1, 1), np.uint8)
    picture, tissue, pen, threshold = np.full((1, 1, 3), 255, np.uint8), empty, empty, 0.0
    try:
        with Slide(entry["path"], entry["slide_id"]) as slide:
            picture = slide.read_overview(downsample)
        found = find_tissue(
            picture,
            downsample * mpp,
            min_area_mm2=options["min_area_mm2"],
            min_hole_mm2=options["min_hole_mm2"],
            exclude_pen=options["exclude_pen"],
        )
        tissue, pen, threshold = found.tissue, found.pen, found.threshold
        if entry["roi"]:
            tissue = tissue & rasterise(read_polygons(entry["roi"]), (tissue.shape[0], tissue.shape[1]), downsample)
        if not tissue.any():
            raise SlideError(
                Reason.NO_TISSUE,
                "no tissue was found",
                entry["slide_id"],
                "look at its overlay; where small tissue was missed, lower tissue.min_area_mm2",
            )
    except SlideError as error:
        record |= {"status": "excluded", "reason": {"code": str(error.reason), "message": error.message}}
    regions = regions_of(tissue, "Tissue", downsample, mpp) + regions_of(pen, "Pen", downsample, mpp)
    areas = {kind: round(sum(r.area_mm2 for r in regions if r.kind == kind), 6) for kind in COLOURS}
    record |= {
        "sections": sum(r.kind == "Tissue" for r in regions),
        "tissue_mm2": areas["Tissue"],
        "pen_mm2": areas["Pen"],
        "tissue_fraction": round(float(tissue.mean()), 6),
        "saturation_threshold": threshold,
        "mask_mpp": downsample * mpp,
        "settings": digest(options),
        "software": versions("opencv-python-headless", "shapely", "openslide-bin"),
    }
    return Segmentation(to_geojson(regions), record, draw_overlay(picture, tissue, pen))
