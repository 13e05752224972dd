"""Feature stores with features of a test's choosing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.features.stores import attributes

from slidestudy.features.store import write_features


def plant(
    folder: Path,
    slide: str,
    features: npt.NDArray[np.floating[Any]],
    cohort: str = "north",
    patient: str | None = None,
    unreadable: tuple[int, ...] = (),
    **changed: Any,
) -> Path:
    """Writes a store of one slide: tiles in a row, 512 level-0 px apart, NaN where not readable."""
    path = folder / cohort / f"{slide}.zarr"
    count = len(features)
    coords = np.stack([np.arange(count) * 512, np.zeros(count)], axis=1).astype(np.int32)
    readable = np.ones(count, bool)
    readable[list(unreadable)] = False
    values = np.where(readable[:, None], features, np.nan).astype(np.float32)
    fraction = np.linspace(0.5, 1, count, dtype=np.float32)
    own = {**attributes(slide, cohort), "patient_id": patient or f"patient-{slide}", **changed}
    write_features(path, values, coords, fraction, readable, own)
    return path


def three_cohorts(folder: Path, dim: int = 6, seed: int = 0) -> list[Path]:
    """Eight slides of three cohorts, of different size and mean, one with tiles that could not be decoded."""
    rng = np.random.default_rng(seed)
    shift = {"north": 0.0, "south": 1.0, "west": 3.0}
    paths = []
    for number, cohort in enumerate(["north", "north", "north", "south", "south", "west", "west", "west"]):
        scale = np.arange(1, dim + 1)
        features = rng.normal(shift[cohort], 1, (20 + 7 * number, dim)) * scale
        bad = (1, 4) if number == 2 else ()
        paths.append(plant(folder, f"s{number}", features, cohort, unreadable=bad))
    return paths
