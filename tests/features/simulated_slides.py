"""A small simulated slide with blank, dark and damaged tiles, and its extraction with stain normalisation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from shapely.geometry import box, mapping
from tests.damage import spoil_tile

from slidestudy.features.extraction import extract_features
from slidestudy.features.identity import Encoder, EncoderIdentity
from slidestudy.features.normalisation import Normaliser, build_normaliser

TILES = {"size": 64, "mpp": 0.5, "min_tissue": 0.1, "min_tiles": 4, "max_unreadable": 0.2}
SIDE, COLUMNS, ROWS = 64, 6, 4
BLANK, DARK, UNREADABLE = (0, 5, 11), (7, 8), 14
"""Tiles, by number, without stain; much darker than the template; and damaged."""


class Mean:
    """An encoder that gives the tile's mean colours."""

    identity = EncoderIdentity("mean", "stain-texture", "mean/1", 3, "none", "0" * 16, "fp32", {})

    def encode(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return tiles.mean((1, 2)).astype(np.float32)


def simulated_tile(number: int) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(number)
    if number in BLANK:
        return np.full((SIDE, SIDE, 3), 243, np.uint8)
    strength = 2.2 if number in DARK else 0.8
    blobs = rng.random((SIDE // 8, SIDE // 8)).repeat(8, 0).repeat(8, 1) < 0.4
    h, e = strength * (0.3 + blobs + rng.normal(0, 0.05, blobs.shape)), strength * (0.5 + rng.random(blobs.shape) * 0.2)
    density = h[..., None] * (0.65, 0.70, 0.29) + e[..., None] * (0.3, 0.85, 0.43)
    return np.clip(240 * np.exp(-density), 0, 255).astype(np.uint8)


def write_simulated_slide(path: Path) -> Path:
    """A simulated slide whose JPEG chunks are the tiles, one of them damaged."""
    rows = [np.concatenate([simulated_tile(y * COLUMNS + x) for x in range(COLUMNS)], 1) for y in range(ROWS)]
    tifffile.imwrite(
        path, np.concatenate(rows), tile=(SIDE, SIDE), compression="jpeg", compressionargs={"level": 98},
        photometric="rgb", metadata=None, resolution=(20_000, 20_000), resolutionunit="CENTIMETER",
    )  # fmt: skip
    return spoil_tile(path, UNREADABLE)


def normaliser(max_shift: float = 60.0) -> Normaliser:
    made = build_normaliser({"method": "macenko", "template": "generated-he", "max_shift": max_shift})
    assert made is not None
    return made


def extract(
    slide: Path, output: Path, used: Normaliser | None, encoder: Encoder | None = None, **options: Any
) -> dict[str, Any]:
    """Extracts a simulated slide as the workflow does."""
    width, height = SIDE * COLUMNS, SIDE * ROWS
    feature = {"type": "Feature", "properties": {"classification": {"name": "Tissue"}}}
    feature["geometry"] = mapping(box(0, 0, width, height))
    tissue = output.with_suffix(".geojson")
    tissue.parent.mkdir(parents=True, exist_ok=True)
    tissue.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    entry = {"slide_id": output.stem, "patient_id": "p1", "cohort": "north", "path": str(slide)}
    mpp = {"value": 0.5, "x": 0.5, "y": 0.5, "source": "tiff-tags"}
    inspection = {"width": width, "height": height, "mpp": mpp, "reader": "chunks", "fingerprint": "f"}
    record = {"status": "admitted", "reason": None}
    tiles = {**TILES, **options.pop("tiles", {})}
    chosen = encoder or Mean()
    return extract_features(entry, inspection, record, tissue, chosen, tiles, output, normaliser=used, **options)
