"""Inspecting a slide before anything is computed: can it be opened, decoded, and what is its resolution?"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from slidestudy.errors import Reason, SlideError
from slidestudy.files import versions
from slidestudy.slides.levels import RGB
from slidestudy.slides.mpp import decide_mpp
from slidestudy.slides.openslide_source import COPY_ANEW
from slidestudy.slides.reader import Slide
from slidestudy.slides.similarity import appearance
from slidestudy.slides.staging import opened
from slidestudy.slides.tiff_files import too_short

REGION = 256
"""Side of a decoded sample region, px."""
THUMBNAIL = 256
"""Longer side of the thumbnail that the fingerprint is taken of, px."""
DARK_MEAN = 50
"""A slide darker than this on average (0 to 255) is not bright-field (our choice)."""
SCANNER_KEYS = (
    "aperio.ScanScope ID", "hamamatsu.Product", "leica.device-model", "ventana.ScannerModel",
    "philips.DICOM_MANUFACTURERS_MODEL_NAME", "dicom.ManufacturerModelName", "mirax.GENERAL.SLIDE_TYPE", "tiff.Model",
)  # fmt: skip
"""Properties that name the scanner, the first one found is kept."""
UNSEEN = (
    "vendor", "scanner", "scan_date", "reader", "width", "height", "objective", "icc", "fingerprint", "appearance",
    "quality",
)  # fmt: skip
"""What is null in the record of a slide without a file."""
NO_FILE = "no_slide_file"
"""Code of the warning that a slide has no file, and so was not looked at."""
DATE_KEYS = (
    "aperio.Date", "hamamatsu.Created", "leica.creation-date", "ventana.ScanDate",
    "philips.DICOM_ACQUISITION_DATETIME", "dicom.AcquisitionDateTime", "mirax.GENERAL.SLIDE_CREATIONDATETIME",
    "tiff.DateTime",
)  # fmt: skip
"""Properties that tell the day of the scan."""


def check_regions(slide: Slide, regions: int) -> tuple[int, list[str]]:
    """Decodes regions spread over every level, the last corner of the file included.

    Args:
        slide: An open slide.
        regions: Regions per level.

    Returns:
        Number of regions tried, and what each that cannot be decoded says.
    """
    tried, failed = 0, []
    for level, (width, height) in enumerate(slide.level_sizes):
        downsample = slide.downsamples[level]
        columns = max(1, round(np.sqrt(regions * width / height)))
        rows = max(1, int(np.ceil(regions / columns)))
        xs = np.unique(np.linspace(0, max(0, width - REGION), columns).astype(int))
        ys = np.unique(np.linspace(0, max(0, height - REGION), rows).astype(int))
        for y in ys:
            for x in xs:
                side = (min(REGION, width), min(REGION, height))
                tried += 1
                try:
                    slide.read(int(x * downsample), int(y * downsample), level, *side)
                except SlideError as error:
                    failed.append(error.what)
    return tried, failed


def fingerprint(thumbnail: RGB) -> str:
    """SHA-256 of a thumbnail's pixels, 64 hex digits: equal for copies of a slide under any name."""
    shape = f"{thumbnail.shape[0]}x{thumbnail.shape[1]}".encode()
    return hashlib.sha256(shape + thumbnail.tobytes()).hexdigest()


def quality(thumbnail: RGB) -> dict[str, float]:
    """Brightness (0 to 255) and saturation (0 to 1) of a thumbnail, means over its pixels."""
    hsv = cv2.cvtColor(thumbnail, cv2.COLOR_RGB2HSV)
    return {
        "brightness": round(float(thumbnail.mean()), 3),
        "saturation": round(float(hsv[..., 1].mean() / 255), 5),
    }


def inspect_slide(
    entry: Mapping[str, Any], options: Mapping[str, Any], reading: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Inspects a slide; a slide that cannot be used gets a reason instead of an error.

    A slide without a file, of which only features are imported, is admitted with a warning; what could not be seen
    is null in its record.

    Args:
        entry: The slide's row: `slide_id patient_id cohort path mpp roi`; `path` may be None.
        options: The configuration's section `inspection`.
        reading: The configuration's section `reading`.

    Returns:
        The inspection record, JSON-able, with `status` `admitted` or `excluded` and then its `reason`.

    Raises:
        StudyError: The scratch folder of `reading.staging` cannot be used.
    """
    record: dict[str, Any] = {key: entry[key] for key in ("slide_id", "patient_id", "cohort", "path")}
    record |= {"status": "admitted", "reason": None, "warnings": []}
    try:
        if entry["path"] is None:
            return {**record, **_unseen(entry, options), "software": versions()}
        with opened(entry["path"], entry["slide_id"], reading or {}) as slide:
            record |= _describe(slide)
            mpp = decide_mpp(slide.properties, entry["mpp"], entry["slide_id"], options["mpp_tolerance"])
            record["mpp"] = mpp.to_dict()
            record["warnings"] += mpp.warnings
            _check_whole(slide)
            _check_decoding(slide, options, record)
            _look(slide, record)
    except SlideError as error:
        record["status"] = "excluded"
        record["reason"] = {"code": str(error.reason), "message": error.message}
    record["software"] = versions(
        "openslide-python", "openslide-bin", "tifffile", "imagecodecs", "simplejpeg", "pillow"
    )
    return record


def _unseen(entry: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The record's part of a slide without a file; raises `mpp_implausible` for a mistake in the table."""
    message = "the table gives no file: the slide was neither inspected nor masked, its features are imported"
    warnings = [{"code": NO_FILE, "message": message}]
    mpp = None
    if entry["mpp"] is not None:
        decided = decide_mpp({}, entry["mpp"], entry["slide_id"], options["mpp_tolerance"])
        mpp = decided.to_dict()
        warnings += decided.warnings
    return {**dict.fromkeys(UNSEEN), "levels": [], "mpp": mpp, "warnings": warnings}


def _check_whole(slide: Slide) -> None:
    """Raises `truncated` where the file's directory names chunks beyond its end."""
    what = too_short(*slide.beyond_end())
    if what:
        raise SlideError(Reason.TRUNCATED, what, slide.slide_id, COPY_ANEW)


def _check_decoding(slide: Slide, options: Mapping[str, Any], record: dict[str, Any]) -> None:
    """Decodes samples of every level; raises `unreadable_tiles` where too many fail."""
    tried, failed = check_regions(slide, options["regions"])
    record["regions_decoded"] = tried - len(failed)
    if not failed:
        return
    what = f"{len(failed)} of {tried} sampled regions cannot be decoded; the first: {failed[0]}"
    if len(failed) > options["max_unreadable"] * tried:
        raise SlideError(Reason.UNREADABLE_TILES, what, slide.slide_id, COPY_ANEW)
    record["warnings"].append({"code": str(Reason.UNREADABLE_TILES), "message": what})


def _look(slide: Slide, record: dict[str, Any]) -> None:
    """Adds what a thumbnail shows; raises `not_brightfield` for a dark one."""
    thumbnail = slide.read_overview(max(1.0, max(slide.size) / THUMBNAIL)).picture
    record["fingerprint"] = fingerprint(thumbnail)
    record["appearance"] = appearance(thumbnail)
    record["quality"] = quality(thumbnail)
    if record["quality"]["brightness"] < DARK_MEAN:
        what = f"too dark for a bright-field slide (mean {record['quality']['brightness']:.0f} of 255)"
        raise SlideError(Reason.NOT_BRIGHTFIELD, what, slide.slide_id, "fluorescence and masks cannot be used")


def _describe(slide: Slide) -> dict[str, Any]:
    """What the file says of itself. Label and macro images are never read: they can identify a patient."""
    width, height = slide.size
    profile = slide.icc_profile
    return {
        "vendor": slide.vendor,
        "scanner": _first(slide.properties, SCANNER_KEYS),
        "scan_date": _first(slide.properties, DATE_KEYS),
        "reader": {"kind": slide.kind, "why": slide.indirect},
        "width": width,
        "height": height,
        "levels": [
            {"width": w, "height": h, "downsample": d}
            for (w, h), d in zip(slide.level_sizes, slide.downsamples, strict=True)
        ],
        "objective": slide.properties.get("openslide.objective-power"),
        "icc": hashlib.sha256(profile).hexdigest()[:16] if profile else None,
    }


def _first(properties: Mapping[str, str], keys: tuple[str, ...]) -> str | None:
    return next((properties[key].strip() for key in keys if properties.get(key, "").strip()), None)
