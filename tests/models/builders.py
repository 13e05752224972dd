"""Small bags, feature stores and label tables, with a signal planted where a test asks for one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from slidestudy.features.store import write_features
from slidestudy.models.bags import Bag
from slidestudy.models.epochs import Part
from slidestudy.models.loading import BagSource
from slidestudy.models.targets import Classification, Regression, Task

RECIPE: dict[str, Any] = {
    "hidden": 16,
    "attention": 8,
    "dropout": 0.1,
    "tile_dropout": 0.0,
    "learning_rate": 0.01,
    "weight_decay": 1e-4,
    "batch_size": 8,
    "gradient_clip": 0.5,
    "epochs": 40,
    "patience": 15,
    "standardise": True,
    "threads": 1,
}
"""The section `training` of a configuration, small."""


def make_bag(features: np.ndarray, slide_id: str = "s") -> Bag:
    """A bag of given features, its tiles in a column."""
    coords = np.stack([np.zeros(len(features)), 128 * np.arange(len(features))], 1).astype(np.int32)
    return Bag(slide_id, torch.from_numpy(features.astype(np.float16)), coords, np.full(len(features), 0.5, np.float32))


def planted_features(rng: np.random.Generator, fraction: float, tiles: int = 30, dim: int = 6) -> np.ndarray:
    """Noise in which a fraction of the tiles, the positive ones, is moved along the first two features."""
    features = rng.normal(size=(tiles, dim))
    features[: round(fraction * tiles), :2] += 3
    return features[rng.permutation(tiles)]


TASKS: dict[str, Task] = {
    "regression": Regression(("target",), (0.0, 1.0)),
    "classification": Classification(("target",)),
}
"""The tasks of planted parts."""


def planted_part(count: int, seed: int, task: str = "regression", tiles: int = 30, dim: int = 6) -> Part:
    """Labelled slides: the target is the fraction of positive tiles, or whether there are any."""
    rng, bags, targets = np.random.default_rng(seed), [], []
    for i in range(count):
        fraction = rng.uniform(0, 1) if task == "regression" else (0.3 if i % 2 else 0.0)
        bags.append(make_bag(planted_features(rng, fraction, tiles, dim), f"s{i}"))
        targets.append(fraction if task == "regression" else float(fraction > 0))
    return make_part(bags, targets, TASKS[task])


def make_part(bags: list[Bag], targets: Sequence[float], task: Task) -> Part:
    """A part of given bags and targets."""
    labels = pd.DataFrame({"slide_id": [bag.slide_id for bag in bags], "target": targets})
    return Part(BagSource(bags, "r1"), task.encode(labels))


def write_store(
    path: Path, features: np.ndarray, readable: np.ndarray | None = None, recipe: str = "r1", **attributes: Any
) -> Path:
    """A feature store on disk; its slide id is the file's name."""
    n = len(features)
    coords = np.stack([128 * (np.arange(n) % 5), 128 * (np.arange(n) // 5)], 1).astype(np.int32)
    said = {"slide_id": path.stem, "recipe": recipe, "status": "admitted", "reason": None, **attributes}
    readable = np.ones(n, bool) if readable is None else readable
    write_features(path, features.astype(np.float32), coords, np.linspace(0.2, 1, n, dtype=np.float32), readable, said)
    return path


def write_cohort(
    folder: Path, patients: int = 9, slides: int = 2, seed: int = 0, cohort: str = "dev"
) -> tuple[pd.DataFrame, list[str]]:
    """Labels (0 to 100) and stores of a cohort with a planted signal."""
    rng, rows, paths = np.random.default_rng(seed), [], []
    for patient in range(patients):
        for k in range(slides):
            fraction = rng.uniform(0, 1)
            slide = f"{cohort}-{patient}-{k}"
            paths.append(str(write_store(folder / f"{slide}.zarr", planted_features(rng, fraction, 12))))
            rows.append([slide, f"{cohort}-{patient}", cohort, f"{cohort}-c{patient % 4}", 100 * fraction])
    return pd.DataFrame(rows, columns=["slide_id", "patient_id", "cohort", "center", "target"]), paths
