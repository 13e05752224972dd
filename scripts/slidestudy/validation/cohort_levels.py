"""The slides and the patients of each cohort with their draws, for all that is measured beside the metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slidestudy import statistics
from slidestudy.statistics import Estimate, PatientDraws, Statistic
from slidestudy.validation.metrics import draws_of
from slidestudy.validation.views import View, by_level

ESTIMATE_COLUMNS = [
    "cohort", "role", "level", "target", "statistic", "value", "ci_low", "ci_high", "n", "n_patients",
    "undefined_reason",
]  # fmt: skip
"""Columns of a table of statistics that are no metrics."""


@dataclass(frozen=True)
class CohortLevel:
    """The slides of a cohort, or its patients.

    Attributes:
        cohort: Its name.
        role: `development` or `external`.
        level: `slide` or `patient`.
        views: Its targets or classes.
        draws: The draws of patients that the metrics use too.
    """

    cohort: str
    role: str
    level: str
    views: Sequence[View]
    draws: PatientDraws

    def keys(self, view: View) -> dict[str, str]:
        """What names the rows of a target in a table."""
        return {"cohort": self.cohort, "role": self.role, "level": self.level, "target": view.target}


def cohort_levels(
    predictions: Mapping[str, pd.DataFrame], roles: Mapping[str, str], settings: Mapping[str, Any]
) -> list[CohortLevel]:
    """Takes the predictions of all cohorts apart, as the metrics do.

    Args:
        predictions: Cohort -> predictions, as `models.cohort.predict_cohort` gives them.
        roles: Cohort -> `development` or `external`.
        settings: `task columns bootstrap seed`.
    """
    return [
        CohortLevel(cohort, roles[cohort], level, found, draws_of(found, settings))
        for cohort, table in predictions.items()
        for level, found in by_level(table, settings).items()
    ]


@dataclass(frozen=True)
class Pairs:
    """Truths and predictions of a view as arrays, with their draws.

    Attributes:
        truth: (n,).
        prediction: (n,).
        patients: Patient of each row (n,).
        weights: How often each row's patient was drawn (b, n).
    """

    truth: NDArray[np.float64]
    prediction: NDArray[np.float64]
    patients: NDArray[Any]
    weights: NDArray[np.float64]

    @classmethod
    def of(cls, view: View, draws: PatientDraws) -> Pairs:
        """The pairs of a view; a patient's class is 1 where more than half of the slides have it."""
        truth, prediction = (view.table[name].to_numpy(float) for name in ("truth", "prediction"))
        if view.kind == "binary":
            truth = (truth > 0.5).astype(float)
        patients = view.table["patient_id"].to_numpy()
        return cls(truth, prediction, patients, draws.weights(patients))

    def where(self, keep: NDArray[np.bool_]) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.truth[keep], self.prediction[keep], self.patients[keep], self.weights[:, keep])

    @property
    def n_patients(self) -> int:
        """Patients, each once."""
        return len(np.unique(self.patients))

    def measure(self, statistic: Statistic, confidence: float, why: str = "") -> Estimate:
        """A statistic with its interval over the draws.

        Args:
            statistic: A weighted statistic.
            confidence: Coverage of the interval.
            why: The reason where it is undefined; `statistics.why_undefined` finds it where blank.
        """
        reason = (lambda *_: why) if why else None
        return statistics.measure(
            statistic, self.truth, self.prediction, self.patients, self.weights, confidence, reason
        )[0]
