"""Development and external cohorts with a planted shift, and their records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tests.features.planted import plant

from slidestudy.features.shift.acquisition import STAIN

DIM = 8
SETTINGS: dict[str, Any] = {
    "encoder": "toy",
    "roles": [["north", "development"], ["same", "external"], ["moved", "external"]],
    "tiles_per_slide": 15,
    "percentile": 95,
    "bootstrap": 200,
    "confidence": 0.95,
    "seed": 3,
}
PATIENTS = {"north": 40, "same": 40, "moved": 12}
SHIFTS = {"north": 0.0, "same": 0.0, "moved": 3.0}
"""Standard deviations of a development tile by which every feature is moved."""


def tiles(rng: np.random.Generator, shift: float, count: int) -> np.ndarray:
    """A slide's tiles: patients differ by half as much as their tiles; features differ in unit."""
    patient = rng.normal(0, 0.5, DIM)
    spread = np.sqrt(1.25)
    return (rng.normal(patient, 1, (count, DIM)) + shift * spread) * np.arange(1, DIM + 1)


def write_stores(folder: Path, seed: int = 0, patients: Mapping[str, int] = PATIENTS) -> list[Path]:
    """A slide of 20 to 39 tiles for each patient, two for every fifth."""
    rng = np.random.default_rng(seed)
    paths = []
    for cohort, count in patients.items():
        for number in range(count):
            for slide in "ab" if number % 5 == 0 else "a":
                features = tiles(rng, SHIFTS[cohort], 20 + number % 20)
                name = f"{cohort}-{number:02d}{slide}"
                paths.append(plant(folder, name, features, cohort, patient=f"{cohort}-{number:02d}"))
    return paths


def records(paths: list[Path], seed: int = 1) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Inspection and tissue records; slides of `moved` come from another scanner, stained 2 SD more densely."""
    rng = np.random.default_rng(seed)
    inspections, tissues = [], []
    for path in paths:
        cohort, slide = path.parent.name, path.stem
        key = {"cohort": cohort, "slide_id": slide, "patient_id": slide[:-1]}
        moved = cohort == "moved"
        scanner = "GT450" if moved else ("AT2", "S60")[int(slide[-3:-1]) % 2]
        mpp = {"value": 0.26 if moved else 0.5, "source": "vendor"}
        named = {"vendor": "aperio", "scanner": scanner, "objective": "40" if moved else "20"}
        inspections.append({**key, **named, "mpp": mpp})
        quality = {name: 10 + rng.normal() + (2.0 if moved and name == "stain_density" else 0) for name in STAIN}
        tissues.append({**key, "quality": quality})
    return inspections, tissues
