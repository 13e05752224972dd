"""The patients of an endpoint: their time and event, their scores and their covariates, a row each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from slidestudy.tables import read_raw

SCORE = "score."
"""Prefix of the columns of scores."""


def load_endpoint(path: str) -> pd.DataFrame:
    """Reads `settings/survival/<endpoint>.tsv`: every cell as text, so that a grade `1` stays a level; blanks missing.

    Args:
        path: The file.

    Raises:
        StudyError: The file is missing or damaged.
    """
    return read_raw(path)


def endpoint_rows(
    predictions: Mapping[str, pd.DataFrame], table: pd.DataFrame, endpoint: Mapping[str, Any]
) -> pd.DataFrame:
    """Brings the outcomes, scores and covariates of the patients together.

    Patients whose time or event is unknown have no row: `sizes` tells how many there are with them.

    Args:
        predictions: Cohort -> predictions of the model that is a score, as `models.cohort.predict_cohort` gives them.
        table: `settings/survival/<endpoint>.tsv`, as `load_endpoint` reads it.
        endpoint: Its configuration, of one model.

    Returns:
        `patient_id cohort time event`, `score.<name>` of each score in the configuration's order, and the covariates,
        strata and cluster by their names: numbers, and text where a covariate has a reference level and of strata and
        cluster. Of a model the score is the mean over the patient's slides; blank without a prediction.
    """
    found = {"patient_id": table["patient_id"].astype(str), "cohort": table["cohort"].astype(str)}
    found |= {name: pd.to_numeric(table[name]) for name in ("time", "event")}
    means = pd.concat([_per_patient(part) for cohort, part in predictions.items()] or [pd.Series(dtype=float)])
    for name in endpoint["scores"]:
        found[SCORE + name] = (
            pd.to_numeric(table[name]) if name in table else table["patient_id"].astype(str).map(means)
        ).astype(float)
    for name, options in endpoint["covariates"].items():
        found[name] = table[name] if "reference" in options else pd.to_numeric(table[name]).astype(float)
    cluster = [endpoint["cluster"]] if endpoint["cluster"] is not None else []
    found |= {name: table[name] for name in [*endpoint["strata"], *cluster] if name not in found}
    rows = pd.DataFrame(found)
    return rows[rows["time"].notna() & rows["event"].notna()].reset_index(drop=True)


def sizes(table: pd.DataFrame) -> dict[str, int]:
    """The patients of each cohort, with those whose time or event is unknown."""
    return {str(cohort): int(count) for cohort, count in table["cohort"].value_counts(sort=False).items()}


def _per_patient(predictions: pd.DataFrame) -> pd.Series:
    """The mean prediction of each patient, by patient; none of a table without rows."""
    if predictions.empty:
        return pd.Series(dtype=float)
    known = predictions[predictions["prediction"].notna()]
    return known.assign(patient_id=known["patient_id"].astype(str)).groupby("patient_id")["prediction"].mean()
