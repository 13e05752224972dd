"""Made-up tables of predictions of every task, in the form that `predict_cohort` gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

SETTINGS: dict[str, Any] = {
    "cutoffs": [], "cutoff_rule": ">", "bootstrap": 100, "confidence": 0.95, "seed": 1, "truth_column": None,
}  # fmt: skip
CLASSES = ("adenoma", "carcinoma", "normal")


def settings(task: str, columns: Sequence[str] = ("target",), **more: Any) -> dict[str, Any]:
    """A model's validation settings."""
    target = {"survival-cox": ["months", "died"], "multi-regression": list(columns)}.get(task, "label")
    return {**SETTINGS, "task": task, "columns": list(columns), "target": target, **more}


SURVIVAL = settings("survival-cox", ("time", "event"))
MULTICLASS = settings("multiclass")


def several(genes: Sequence[str], **more: Any) -> dict[str, Any]:
    """Settings of a model of several targets."""
    return settings("multi-regression", genes, **more)


def ids(n: int, per_patient: int = 1, prefix: str = "s") -> pd.DataFrame:
    """Slides, patient by patient."""
    slides = [f"{prefix}{i:03}" for i in range(n)]
    patients = [f"{prefix}-p{i // per_patient:03}" for i in range(n)]
    return pd.DataFrame({"slide_id": slides, "patient_id": patients, "center": "c", "fold": "ensemble"})


def of_classes(n: int, seed: int = 0, per_patient: int = 1, classes: Sequence[str] = CLASSES) -> pd.DataFrame:
    """Predictions of classes; all slides of a patient have the patient's class."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(classes), n)[np.arange(n) // per_patient * per_patient]
    logits = rng.normal(size=(n, len(classes)))
    logits[np.arange(n), truth] += 1.2
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    names = np.array(classes, dtype=object)
    table = ids(n, per_patient).assign(prediction=names[shares.argmax(1)], target=names[truth], prediction_sd=0.1)
    return table.assign(**{f"probability.{name}": shares[:, k] for k, name in enumerate(classes)})


def of_targets(n: int, genes: Sequence[str], seed: int = 0, per_patient: int = 1) -> pd.DataFrame:
    """Predictions of several quantities, the later ones better."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(n, len(genes)))
    predicted = truth * np.linspace(0.1, 1, len(genes)) + rng.normal(0, 0.7, truth.shape)
    named = pd.DataFrame(predicted, columns=[f"prediction.{gene}" for gene in genes])
    labels = pd.DataFrame(truth, columns=list(genes))
    return pd.concat([ids(n, per_patient), named, labels], axis=1).assign(prediction_sd=0.25)


def of_times(n: int, seed: int = 0, per_patient: int = 1) -> pd.DataFrame:
    """Risks beside times with ties and censoring; all slides of a patient have the patient's time and event."""
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=n)
    happens, censored = rng.exponential(np.exp(-risk)) * 30, rng.uniform(0, 80, n)
    first = np.arange(n) // per_patient * per_patient
    time, event = np.minimum(happens, censored).round()[first], (happens <= censored).astype(float)[first]
    return ids(n, per_patient).assign(prediction=risk.round(1), time=time, event=event, prediction_sd=0.05)
