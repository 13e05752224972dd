"""Inspecting a slide before anything is computed: can it be opened, decoded, and what is its resolution?"""

from __future__ import annotations

import hashlib
from typing import Any

import cv2
import numpy as np

from slidestudy.errors import Reason, SlideError
from slidestudy.files import versions
from slidestudy.slides.mpp import decide_mpp
from slidestudy.slides.reader import RGB, Slide

REGION = 256
"""Side of a decoded sample region, px."""
THUMBNAIL = 256
"""Longer side of the thumbnail that the fingerprint is taken of, px."""
DARK_MEAN = 50
"""A slide darker than this on average (0 to 255) is not bright-field (our choice)."""


def check_regions(slide: Slide, regions: int) -> int:
    """Decodes regions spread over every level, the last corner of the file included.

    Args:
        slide: An open slide.
        regions: Regions per level.

    Returns:
        Number of regions decoded.

    Raises:
        SlideError: `truncated` at the first region that cannot be decoded.
    """
    decoded = 0
    for level, (width, height) in enumerate(slide.level_sizes):
        downsample = slide.downsamples[level]
        columns = max(1, round(np.sqrt(regions * width / height)))
        rows = max(1, int(np.ceil(regions / columns)))
        xs = np.unique(np.linspace(0, max(0, width - REGION), columns).astype(int))
        ys = np.unique(np.linspace(0, max(0, height - REGION), rows).astype(int))
        for y in ys:
            for x in xs:
                side = (min(REGION, width), min(REGION, height))
                slide.read(int(x * downsample), int(y * downsample), level, *side)
                decoded += 1
    return decoded


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


def inspect_slide(entry: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Inspects a slide; a slide that cannot be used gets a reason instead of an error.

    Args:
        entry: The slide's row: `slide_id patient_id cohort path mpp roi`.
        options: The configuration's section `inspection`.

    Returns:
        The inspection record, JSON-able, with `status` `admitted` or `excluded` and then its `reason`.
    """
    record: dict[str, Any] = {key: entry[key] for key in ("slide_id", "patient_id", "cohort", "path")}
    record |= {"status": "admitted", "reason": None, "warnings": []}
    try:
        with Slide(entry["path"], entry["slide_id"]) as slide:
            record |= _describe(slide)
            mpp = decide_mpp(slide.properties, entry["mpp"], entry["slide_id"], options["mpp_tolerance"])
            record["mpp"] = mpp.to_dict()
            record["warnings"] += mpp.warnings
            record["regions_decoded"] = check_regions(slide, options["regions"])
            thumbnail = slide.read_overview(max(1.0, max(slide.size) / THUMBNAIL))
            record["fingerprint"] = fingerprint(thumbnail)
            record["quality"] = quality(thumbnail)
            if record["quality"]["brightness"] < DARK_MEAN:
                what = f"too dark for a bright-field slide (mean {record['quality']['brightness']:.0f} of 255)"
                raise SlideError(
                    Reason.NOT_BRIGHTFIELD, what, entry["slide_id"], "fluorescence and masks cannot be used"
                )
    except SlideError as error:
        record["status"] = "excluded"
        record["reason"] = {"code": str(error.reason), "message": error.message}
    record["software"] = versions("openslide-python", "openslide-bin")
    return record


def _describe(slide: Slide) -> dict[str, Any]:
    """What the file says of itself. Label and macro images are never read: they can identify a patient."""
    width, height = slide.size
    profile = slide.icc_profile
    return {
        "vendor": slide.vendor,
        "width": width,
        "height": height,
        "levels": [
            {"width": w, "height": h, "downsample": d}
            for (w, h), d in zip(slide.level_sizes, slide.downsamples, strict=True)
        ],
        "objective": slide.properties.get("openslide.objective-power"),
        "icc": hashlib.sha256(profile).hexdigest()[:16] if profile else None,
    }
