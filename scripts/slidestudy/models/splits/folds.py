"""Which folds may predict a patient."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from slidestudy.models.splits.groups import linked_patients

SPLITS = ["patient_id", "slide_id", "fold", "part"]
"""Columns of a table of splits."""


def no_splits() -> pd.DataFrame:
    """The splits of a model for which nothing is trained: the columns of SPLITS without a row."""
    return pd.DataFrame(columns=SPLITS)


def testing_folds(splits: pd.DataFrame) -> dict[str, list[int]]:
    """The folds that tested a patient.

    Args:
        splits: `patient_id fold part`.

    Returns:
        Patient -> folds in rising order: one for k-fold, one per repeat for repeated k-fold, any number for
        Monte-Carlo. Patients whom no fold tested are not in it.
    """
    tests = splits.loc[splits["part"] == "test", ["patient_id", "fold"]].drop_duplicates()
    return {str(p): sorted(map(int, folds)) for p, folds in tests.groupby("patient_id")["fold"]}


def predicting_folds(
    splits: pd.DataFrame,
    patients: Iterable[str],
    lookalikes: pd.DataFrame | None = None,
    folds: Iterable[int] | None = None,
) -> dict[str, list[int]]:
    """The folds whose mean predicts a patient.

    A patient whom folds tested is predicted by those alone. Any other is predicted by the folds in which neither the
    patient nor one with look-alike slides was trained or validated on: by all folds where the patient does not stand
    in the splits (an external cohort), by none where every fold has used the patient.

    Args:
        splits: `patient_id fold part`.
        patients: The patients to predict.
        lookalikes: `patient_id_a patient_id_b`; None where they do not count.
        folds: All folds of the model; None for those of the splits. Published weights have folds and no splits.

    Returns:
        Patient -> folds in rising order; none: the patient has no prediction that did not see the label.
    """
    every = sorted(map(int, splits["fold"].unique())) if folds is None else sorted(folds)
    tested = testing_folds(splits)
    used = splits[splits["part"] != "test"].groupby("patient_id")["fold"].agg(set).to_dict()
    linked = linked_patients(lookalikes)
    found = {}
    for patient in patients:
        seen = set().union(*(used.get(p, set()) for p in linked.get(patient, {patient})))
        found[patient] = tested.get(patient) or [fold for fold in every if fold not in seen]
    return found
