"""Extracting a slide that is tissue throughout, with an encoder that tells which tile a row is of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from shapely.geometry import box, mapping
from shapely.geometry.base import BaseGeometry

from slidestudy.features.extraction import extract_features
from slidestudy.features.identity import EncoderIdentity
from slidestudy.features.store import FeatureStore, read_features
from slidestudy.slides.inspection import inspect_slide

SIZE, MPP = 64, 1.0
TILES = {"size": SIZE, "mpp": MPP, "min_tissue": 0.1, "min_tiles": 4, "max_unreadable": 0.05}
SVS, TIFF = "north/N02-2.svs", "north/N02-1.tif"
"""The same patient's slides at 0.5 and at 0.4 um/px, 640 x 512 um."""


class Mean:
    """An encoder whose features are the tile's mean colours, so that a row tells which tile it is of."""

    identity = EncoderIdentity("mean", "stain-texture", "mean/1", 3, "none", "0" * 16, "fp32", {})

    def __init__(self) -> None:
        self.batches: list[int] = []

    def encode(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self.batches.append(len(tiles))
        return tiles.mean((1, 2)).astype(np.float32)


def geojson(path: Path, geometry: BaseGeometry, kind: str = "Tissue") -> Path:
    properties = {"classification": {"name": kind}}
    feature = {"type": "Feature", "properties": properties, "geometry": mapping(geometry)}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return path


def inspected(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    entry = {"slide_id": "s1", "patient_id": "p1", "cohort": "c1", "path": str(path), "mpp": None, "roi": None}
    return entry, inspect_slide(entry, {"regions": 1, "mpp_tolerance": 0.05, "max_unreadable": 0.05})


def extract(
    path: Path,
    output: Path,
    geometry: BaseGeometry | None = None,
    encoder: Any = None,
    record: dict[str, Any] | None = None,
    inspection: dict[str, Any] | None = None,
    tiles: dict[str, Any] | None = None,
    **options: Any,
) -> FeatureStore:
    """Extracts a slide that is tissue throughout, unless told otherwise, and reads the store."""
    entry, found = inspected(path)
    found = inspection or found
    tissue = geojson(output.parent / "tissue.geojson", geometry or box(0, 0, found["width"], found["height"]))
    attributes = extract_features(
        entry,
        found,
        record or {"status": "admitted", "reason": None},
        tissue,
        encoder or Mean(),
        {**TILES, **(tiles or {})},
        output,
        **options,
    )
    store = read_features(output)
    assert {k: v for k, v in store.attributes.items() if k not in ("format", "checksum")} == attributes
    return store
