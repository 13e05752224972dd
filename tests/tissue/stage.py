"""The tissue stage as the tests of this folder run it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tests.tissue.pictures import RGB, write_tiff

from slidestudy.settings import fill_defaults
from slidestudy.tables import load_schema
from slidestudy.tissue.segmentation import Segmentation, segment_tissue

SCHEMA = load_schema("config")
OPTIONS: dict[str, Any] = fill_defaults({}, SCHEMA["properties"]["tissue"], SCHEMA)
"""The section `tissue` of a configuration that says nothing of it."""
FIELD_MM2 = 0.768 * 0.512
"""The generated slides' size: a whole number of mask pixels."""


def segment(
    path: Path, slide_mpp: float, roi: Path | None = None, mask: Path | None = None, **options: Any
) -> Segmentation:
    entry = {"slide_id": "s1", "patient_id": "p1", "cohort": "c1", "path": str(path)}
    entry |= {key: str(file) for key, file in (("roi", roi), ("mask", mask)) if file}
    return segment_tissue(entry, {"mpp": {"value": slide_mpp}}, {**OPTIONS, **options})


def codes(found: Segmentation) -> list[str]:
    return [warning["code"] for warning in found.record["warnings"]]


def areas(found: Segmentation, kind: str) -> list[float]:
    features = [f["properties"] for f in found.geojson["features"]]
    return [p["area_mm2"] for p in features if p["classification"]["name"] == kind]


def slide(folder: Path, picture: RGB, enlarged: int = 1) -> Path:
    """A slide of a picture whose pixels are enlarged."""
    return write_tiff(folder / "slide.tif", np.kron(picture, np.ones((enlarged, enlarged, 1), np.uint8)))
