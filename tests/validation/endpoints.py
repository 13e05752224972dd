"""Patients of an endpoint as `survival_rows.endpoint_rows` gives them, and their analysis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from slidestudy.validation.cox import analyse_endpoints

DEFAULTS: dict[str, Any] = {
    "time": "time", "event": "event", "unit": "years", "covariates": {}, "strata": [], "cluster": None,
    "missing": "complete-case", "imputations": 5, "times": [],
}  # fmt: skip


def endpoint(scores: Mapping[str, Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """The configuration of an endpoint."""
    filled = {name: {"per": "sd", "cutoffs": [], **options} for name, options in scores.items()}
    return {**DEFAULTS, "scores": filled, **more}


def analyse(
    rows: pd.DataFrame, options: Mapping[str, Any], n_patients: int | None = None, bootstrap: int = 100
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of one endpoint in one external cohort.

    Args:
        rows: `time event`, scores and covariates; ids are given here where they have none.
        options: The endpoint.
        n_patients: Patients of the cohort; those of `rows` where absent.
        bootstrap: Bootstrap samples.
    """
    ids = {} if "patient_id" in rows else {"patient_id": [f"p{i:05}" for i in range(len(rows))]}
    named = rows.assign(**ids, cohort="south")
    settings = {"endpoints": {"os": options}, "bootstrap": bootstrap, "confidence": 0.95, "seed": 3}
    sizes = {"os": {"south": len(rows) if n_patients is None else n_patients}}
    return analyse_endpoints({"os": named}, sizes, {"south": "external"}, settings)


def simulated(n: int, seed: int, coef: float = 0.7, other: float = 0.5) -> pd.DataFrame:
    """Times with a hazard of a score and a numeric covariate that go together, of a level, and random censoring."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=n)
    age, grade = 0.6 * score + 0.8 * rng.normal(size=n), rng.choice(["1", "2", "3"], n)
    hazard = np.exp(coef * score + other * age + 0.5 * (grade == "3"))
    happens, censored = rng.exponential(1 / hazard), rng.exponential(2, n)
    columns = {"score.til": score, "score.tils": score + rng.normal(size=n), "age": age, "grade": grade}
    outcome = {"time": np.minimum(happens, censored), "event": (happens <= censored).astype(float)}
    return pd.DataFrame({**outcome, **columns})


def row(table: pd.DataFrame, **wanted: str) -> dict[str, Any]:
    """The one row whose columns have the values wanted."""
    for name, value in wanted.items():
        table = table[table[name].fillna("") == value]
    (found,) = table.to_dict("records")
    return {str(key): value for key, value in found.items()}
