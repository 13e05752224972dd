"""A study on imported features with planted signals, labels of every kind and no slide: a whole DAG in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import yaml

PATIENTS = {"north": 21, "south": 6}
TILES, DIM, SIZE = 24, 6, 256
TRAINING = {"learning_rate": 0.01, "hidden": 16, "attention": 8, "epochs": 25, "patience": 10, "dropout": 0.1}
MODEL = {"encoder": "planted", "folds": 3, "training": TRAINING}


def write_feature_study(folder: Path, models: Mapping[str, Mapping[str, Any]], **config: Any) -> Path:
    """Writes features, tables and a configuration.

    A patient's share of positive tiles, from 0 to 1, decides all labels: `tils` (0 to 100), `stiffness` (without
    bounds), `subtype` (three classes), `gene_a` and `gene_b` (rising and falling; blank for some), `years` and `died`
    (the more, the sooner), `high` (0 or 1). expression.tsv holds it as `ex_a` and noise as `ex_b`, for all but one
    patient.

    Args:
        folder: Where to.
        models: The models; each is completed by MODEL, but for predictions from a file.
        config: Further keys of the configuration.

    Returns:
        The configuration's path.
    """
    rng = np.random.default_rng(11)
    slides, patients, expression = [], [], []
    for cohort, count in PATIENTS.items():
        for number in range(count):
            patient, share = f"{cohort[0].upper()}{number:02d}", (number % 6 + rng.uniform()) / 6
            patients.append(_patient(patient, cohort, number, share, rng))
            if number:
                expression.append([patient, share + rng.normal(0, 0.05), rng.normal()])
            for slide in ("a", "b") if number % 7 == 0 else ("a",):
                slides.append([f"{patient}{slide}", patient, cohort, ""])
                _write_features(folder / "h5" / cohort / f"{patient}{slide}.h5", share, rng)
    columns = ["patient_id", "cohort", "center", "tils", "high", "subtype", "stiffness", "gene_a", "gene_b"]
    tables = {
        "slides": pd.DataFrame(slides, columns=["slide_id", "patient_id", "cohort", "path"]),
        "patients": pd.DataFrame(patients, columns=[*columns, "years", "died", "age"]),
        "expression": pd.DataFrame(expression, columns=["patient_id", "ex_a", "ex_b"]),
    }
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.tsv", sep="\t", index=False)
    stated = {"files": "h5/{cohort}/{slide}.h5", "slide_mpp": 0.5, "tile_size": SIZE, "tile_mpp": 0.5, "unit": "px"}
    complete = {
        "study": "planted features",
        "results": "results",
        "slides": "slides.tsv",
        "patients": "patients.tsv",
        "cohorts": {"north": {"role": "development"}, "south": {"role": "external"}},
        "tiles": {"size": SIZE, "mpp": 0.5},
        "encoders": {"planted": {"backend": "imported", "dim": DIM}},
        "features": {"import": {"planted": stated}},
        "models": {name: model if "predictions" in model else {**MODEL, **model} for name, model in models.items()},
        "validation": {"bootstrap": 100},
        **config,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(complete, sort_keys=False), encoding="utf-8")
    return path


def _patient(patient: str, cohort: str, number: int, share: float, rng: np.random.Generator) -> list[Any]:
    """A row of patients.tsv."""
    subtype = ["basal", "luminal", "her2"][min(2, int(3 * share))]
    genes = [2 + 3 * share if number % 7 else None, -5 * share]
    survival = [round(float(rng.exponential(10 * np.exp(-3 * share)) + 0.1), 3), int(rng.uniform() < 0.8)]
    return [
        patient, cohort, f"c{number % 4}", round(100 * share, 2), int(share > 0.5), subtype, 7 * share - 3, *genes,
        *survival, 40 + number,
    ]  # fmt: skip


def _write_features(path: Path, share: float, rng: np.random.Generator) -> None:
    """A slide's features: positive tiles lie apart along the first two."""
    features = rng.normal(size=(TILES, DIM)).astype(np.float32)
    features[: round(share * TILES), :2] += 3
    path.parent.mkdir(parents=True, exist_ok=True)
    x, y = np.meshgrid(SIZE * np.arange(6), SIZE * np.arange(TILES // 6))
    with h5py.File(path, "w") as file:
        file["features"] = features[rng.permutation(TILES)]
        file["coords"] = np.stack([x.ravel(), y.ravel()], 1).astype(np.int32)
