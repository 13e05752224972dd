"""Slide features of made-up candidates that carry a label more or less clearly, compared by the real code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from slidestudy.features.slide_encoders.identity import SlideEncoderIdentity
from slidestudy.features.slide_encoders.store import write_slide_features
from slidestudy.validation.encoder_comparison import compare_encoders

ROLES = {"north": "development", "south": "external"}
SIZES = {"north": 48, "south": 20}
SETTINGS: dict[str, Any] = {
    "name": "c", "seed": 3, "bootstrap": 100, "confidence": 0.95, "target": "tils", "task": "regression",
    "target_range": [0, 100], "folds": 4, "group_by": "patient", "biology": None, "neighbours": 5,
}  # fmt: skip
NOISE = {"sharp": 0.2, "vague": 0.9, "blind": 100.0}
TABLES = ("splits", "predictions", "choices", "metrics", "differences", "robustness")


def label_table(task: str = "regression") -> pd.DataFrame:
    """Two slides per patient, who share the label; two centres in the development cohort."""
    rng, rows = np.random.default_rng(0), []
    for cohort, count in SIZES.items():
        for patient in range(count // 2):
            value = rng.uniform(0, 100)
            target = value if task == "regression" else float(value > 50)
            ids = [f"{cohort}-{patient:02}", cohort, f"{cohort}-c{patient % 4}"]
            rows += [[f"{cohort}-{patient:02}-{k}", *ids, target, "AB"[int(value > 50)]] for k in range(2)]
    return pd.DataFrame(rows, columns=["slide_id", "patient_id", "cohort", "center", "target", "biology"])


def write_candidates(
    folder: Path, labels: pd.DataFrame, names: Sequence[str] = tuple(NOISE), lost: Mapping[str, str] | None = None
) -> dict[str, list[Path]]:
    """Slide features of candidates that carry the label more or less clearly; `lost` has slide -> candidate."""
    hidden = (labels["target"].rank() / len(labels) - 0.5).to_numpy() * 4
    paths: dict[str, list[Path]] = {}
    for name in names:
        rng = np.random.default_rng(len(name))
        vectors = rng.normal(size=(len(labels), 6))
        vectors[:, :2] = hidden[:, None] + NOISE[name] * rng.normal(size=(len(labels), 2))
        identity = SlideEncoderIdentity(name, "mean", name, 6, "none needed (pooling)", "0" * 16, "fp32")
        paths[name] = []
        for cohort in labels["cohort"].unique():
            keep = (labels["cohort"] == cohort) & (labels["slide_id"].map(lost or {}) != name)
            path = folder / name / f"{cohort}.zarr"
            ids = labels.loc[keep, "slide_id"].tolist(), labels.loc[keep, "patient_id"].tolist()
            write_slide_features(path, vectors[keep].astype(np.float32), *ids, cohort, identity, "r1")
            paths[name].append(path)
    return paths


def compared(folder: Path, paths: Mapping[str, Sequence[Path]], labels: pd.DataFrame, **changed: Any) -> Path:
    compare_encoders(paths, labels, ROLES, {**SETTINGS, "candidates": list(paths), **changed}, folder)
    return folder
