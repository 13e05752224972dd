"""A sound feature store with the attributes of a real one, for tests of what reads stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slidestudy.features.extraction import recipe_of
from slidestudy.features.identity import EncoderIdentity
from slidestudy.features.store import write_features
from slidestudy.files import digest

DIM = 5
SLIDE_MPP = 0.25


def attributes(slide: str = "s1", cohort: str = "north", size: int = 256, mpp: float = 0.5) -> dict[str, Any]:
    identity = EncoderIdentity("toy", "timm", "toy-net", DIM, "untrained", "0" * 16, "fp32", {"size": 224})
    recipe = recipe_of(identity, {"size": size, "mpp": mpp, "min_tissue": 0.3})
    return {
        "slide_id": slide,
        "patient_id": "p1",
        "cohort": cohort,
        "status": "admitted",
        "reason": None,
        "fingerprint": "f" * 16,
        "slide_mpp": {"value": SLIDE_MPP, "source": "vendor", "x": SLIDE_MPP, "y": SLIDE_MPP},
        "reader": "tiff",
        "tile_size_px": size,
        "tile_size_level0": size * mpp / SLIDE_MPP,
        "target_mpp": mpp,
        **recipe,
        "recipe": digest(recipe),
        "software": {"slidestudy": "0.1.0"},
    }


def grid(columns: int = 4, rows: int = 3, extent: int = 512) -> npt.NDArray[np.int32]:
    x, y = np.meshgrid(np.arange(columns) * extent, np.arange(rows) * extent)
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int32)


def make_store(
    path: Path,
    coords: npt.NDArray[np.int32] | None = None,
    unreadable: tuple[int, ...] = (),
    **changed: Any,
) -> Path:
    coords = grid() if coords is None else coords
    rng = np.random.default_rng(len(coords))
    features = rng.normal(0, 3, (len(coords), DIM)).astype(np.float32)
    readable = np.ones(len(coords), bool)
    for row in unreadable:
        readable[row] = False
        features[row] = np.nan
    counts = {"n_tiles": len(coords), "n_unreadable": len(unreadable)}
    fraction = rng.random(len(coords), dtype=np.float32)
    write_features(path, features, coords, fraction, readable, {**attributes(path.stem), **counts, **changed})
    return path
