"""The tissue stage of one slide: overview, masks, polygons, areas, quality and the overlay picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from slidestudy.errors import Reason, SlideError
from slidestudy.files import digest, versions
from slidestudy.slides.reader import RGB, Slide
from slidestudy.slides.staging import opened
from slidestudy.tissue.cleaning import Mask
from slidestudy.tissue.mask import find_tissue, overview_downsample
from slidestudy.tissue.mask_file import read_mask
from slidestudy.tissue.overlay import draw_overlay
from slidestudy.tissue.polygons import COLOURS, Region, regions_of, to_geojson
from slidestudy.tissue.quality import (
    Scores,
    focus_scores,
    focus_windows,
    pen_fraction,
    stain_scores,
    warnings_of,
)
from slidestudy.tissue.roi import read_roi

MOSTLY_PEN = 0.5
"""Fraction of the overview that is pen, above which that is said to be why no tissue was found."""


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


def _no_pixels() -> Mask:
    return np.zeros((1, 1), np.uint8)


@dataclass
class _Findings:
    """What is known of a slide so far; a slide that is excluded half-way keeps what was found until then."""

    downsample: float = 1.0
    seen: bool = False
    picture: RGB = field(default_factory=lambda: np.full((1, 1, 3), 255, np.uint8))
    readable: NDArray[np.bool_] = field(default_factory=lambda: np.ones((1, 1), bool))
    tissue: Mask = field(default_factory=_no_pixels)
    pen: Mask = field(default_factory=_no_pixels)
    pen_sought: bool = False
    threshold: float | None = None
    focus: Scores = field(default_factory=lambda: {"focus": None, "blurred_fraction": None, "focus_windows": 0})


def _look(slide: Slide, found: _Findings, downsample: float, most: float) -> None:
    """Reads the overview.

    Raises:
        SlideError: `unreadable_tiles` where too much of it cannot be decoded.
    """
    found.downsample = downsample
    overview = slide.read_overview(downsample, cv2.getNumThreads())
    found.picture, found.readable, found.seen = overview.picture, overview.readable, True
    found.tissue, found.pen = (np.zeros(overview.readable.shape, np.uint8) for _ in range(2))
    unreadable = 1 - float(found.readable.mean())
    if unreadable > most:
        what = f"{unreadable:.1%} of the overview cannot be decoded, more than tissue.max_unreadable = {most:g}"
        remedy = "copy the file anew from its source, or allow more"
        raise SlideError(Reason.UNREADABLE_TILES, what, slide.slide_id, remedy)


def _find(found: _Findings, mpp: float, options: dict[str, Any], slide_id: str) -> None:
    """Finds the tissue on the overview.

    Raises:
        SlideError: `no_tissue`.
    """
    masks = find_tissue(
        found.picture,
        found.downsample * mpp,
        min_area_mm2=options["min_area_mm2"],
        min_hole_mm2=options["min_hole_mm2"],
        exclude_pen=options["exclude_pen"],
        method=options["method"],
        readable=found.readable,
    )
    found.tissue, found.pen, found.threshold = masks.tissue, masks.pen, masks.threshold
    found.pen_sought = options["exclude_pen"]
    if masks.tissue.any():
        return
    what, remedy = "no tissue was found", "where there is some, try another tissue.method or give a mask"
    if masks.pen.mean() > MOSTLY_PEN:
        what += f": {masks.pen.mean():.0%} of the slide is pen or as dark as it"
        remedy = "where that is tissue, set tissue.exclude_pen to false"
    elif masks.threshold is None:
        what += ": nothing stands out from the glass"
    elif masks.largest_mm2 > 0:
        what += f": the largest piece has {masks.largest_mm2:.2g} mm2, less than tissue.min_area_mm2"
        remedy = "check the slide's mpp, or lower tissue.min_area_mm2"
    raise SlideError(Reason.NO_TISSUE, what, slide_id, f"look at its overlay; {remedy}")


def _take(found: _Findings, slide: Slide, mask: str) -> None:
    """Takes the tissue from the user's mask.

    Raises:
        SlideError: `no_tissue`.
    """
    shape = (found.picture.shape[0], found.picture.shape[1])
    found.tissue = read_mask(mask, slide.size, shape, found.downsample) & found.readable.astype(np.uint8)
    if not found.tissue.any():
        what = f"no tissue: the mask {Path(mask).name} is empty where the slide can be read"
        raise SlideError(Reason.NO_TISSUE, what, slide.slide_id, "look at its overlay and correct the mask")


def _restrict(found: _Findings, roi: str, options: dict[str, Any], slide_id: str) -> None:
    """Keeps the tissue inside the slide's regions of interest.

    Raises:
        SlideError: `no_tissue`.
    """
    shape = (found.tissue.shape[0], found.tissue.shape[1])
    regions = read_roi(roi, options["roi_exclude"])
    found.tissue = found.tissue & regions.mask(shape, found.downsample)
    if not found.tissue.any():
        what = f"no tissue lies in the regions of {Path(roi).name}"
        raise SlideError(Reason.NO_TISSUE, what, slide_id, "look at its overlay and correct the regions")


def _scores(found: _Findings) -> dict[str, Any]:
    """The quality scores of the record."""
    glass = found.readable & (found.tissue == 0) & (found.pen == 0) & found.seen
    scores: dict[str, Any] = stain_scores(found.picture, found.tissue, glass.astype(np.uint8))
    scores["pen_fraction"] = pen_fraction(found.tissue, found.pen) if found.pen_sought else None
    return scores | found.focus


def _measurements(found: _Findings, regions: list[Region], mpp: float) -> dict[str, Any]:
    """Areas, scores and warnings of the record."""
    tissue = [r for r in regions if r.kind == "Tissue"]
    areas = {kind: round(sum(r.area_mm2 for r in regions if r.kind == kind), 6) for kind in COLOURS}
    numbers = sorted({r.section for r in tissue})
    unreadable = round(1 - float(found.readable.mean()), 6) if found.seen else None
    quality = _scores(found)
    return {
        "sections": len(numbers),
        "pieces": len(tissue),
        "section_mm2": [round(sum(r.area_mm2 for r in tissue if r.section == n), 6) for n in numbers],
        "tissue_mm2": areas["Tissue"],
        "pen_mm2": areas["Pen"],
        "tissue_fraction": round(float(found.tissue.mean()), 6),
        "unreadable_fraction": unreadable,
        "threshold": None if found.threshold is None else round(found.threshold, 6),
        "mask_mpp": found.downsample * mpp,
        "mask_shape": list(found.tissue.shape),
        "quality": quality,
        "warnings": warnings_of(quality, unreadable or 0.0),
    }


def segment_tissue(
    entry: dict[str, Any],
    inspection: dict[str, Any],
    options: dict[str, Any],
    reading: dict[str, Any] | None = None,
) -> Segmentation:
    """Finds the tissue of a slide; a slide without any gets the reason `no_tissue`.

    Args:
        entry: The slide's row, with `path` and perhaps `roi` (GeoJSON) and `mask` (GeoJSON or a picture).
        inspection: The slide's inspection record.
        options: The configuration's section `tissue`.
        reading: The configuration's section `reading`; its defaults where absent.

    Raises:
        StudyError: The ROI or the mask cannot be used, or the scratch folder.
    """
    mpp, slide_id, mask = inspection["mpp"]["value"], entry["slide_id"], entry.get("mask")
    record: dict[str, Any] = {key: entry[key] for key in ("slide_id", "patient_id", "cohort")}
    record |= {"status": "admitted", "reason": None, "method": "file" if mask else options["method"]}
    found = _Findings()
    try:
        with opened(entry["path"], slide_id, reading or {}) as slide:
            method = "otsu" if mask else options["method"]
            downsample = overview_downsample(method, slide.size, mpp, options["mpp"])
            _look(slide, found, downsample, options["max_unreadable"])
            if mask:
                _take(found, slide, mask)
            else:
                _find(found, mpp, options, slide_id)
            if entry.get("roi"):
                _restrict(found, entry["roi"], options, slide_id)
            coords, extent = focus_windows(found.tissue, slide.size, mpp, downsample, options["focus_windows"])
            limit, threads = options["blurred_below"], cv2.getNumThreads()
            found.focus = focus_scores(slide, coords, extent, blurred_below=limit, threads=threads)
    except SlideError as error:
        record |= {"status": "excluded", "reason": {"code": str(error.reason), "message": error.message}}
    regions = regions_of(found.tissue, "Tissue", found.downsample, mpp, options["section_gap_mm"])
    regions += regions_of(found.pen, "Pen", found.downsample, mpp)
    record |= _measurements(found, regions, mpp)
    record |= {
        "settings": digest(options),
        "software": versions("numpy", "opencv-python-headless", "shapely", "openslide-bin", "tifffile", "imagecodecs"),
    }
    overlay = draw_overlay(found.picture, found.tissue, found.pen, found.readable, regions, found.downsample)
    return Segmentation(to_geojson(regions), record, overlay)
