"""Predictions from outside a study, joined with the labels of a table of patients, as a model's tables are."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from slidestudy.errors import Problem, StudyError
from slidestudy.labels import CLASSES, class_name, is_labelled
from slidestudy.prediction_files import (
    PREDICTIONS,
    PROBABILITY,
    SEVERAL,
    capped,
    prediction_columns,
    read_any,
    read_predictions,
)
from slidestudy.tables import did_you_mean
from slidestudy.validation.outside_labels import Outside, join_labels, request_problems
from slidestudy.validation.views import classes_of

FROM_FILE = "file"
"""What stands for the fold where the file names none."""


@dataclass(frozen=True)
class Joined:
    """Predictions with their labels.

    Attributes:
        cohorts: Cohort -> predictions, as `models.cohort.predict_cohort` gives them.
        roles: Cohort -> `development` or `external`.
        columns: The label columns.
        target: The label's name, or names.
        slides: The table of predictions, other columns than those of the task as text; `cohort` is complete.
        patients: The patients who are predicted, each once, every cell as text; row i stands on line i + 2.
        notes: What the user should know of the tables.
    """

    cohorts: dict[str, pd.DataFrame]
    roles: dict[str, str]
    columns: list[str]
    target: str | list[str]
    slides: pd.DataFrame
    patients: pd.DataFrame
    notes: list[str] = field(default_factory=list)


def join_outside(request: Outside) -> Joined:
    """Reads and joins the tables.

    Args:
        request: What is to be validated.

    Raises:
        StudyError: With all problems of both files.
    """
    problems = request_problems(request)
    predictions, found, patients = _read(request)
    missing = _missing_ids(predictions, patients, request)
    if problems or missing or "patient_id" not in predictions:
        raise StudyError.of([*problems, *found, *missing])
    labels, of_labels = join_labels(predictions, patients, request)
    cohorts = pd.Series(predictions.get("cohort", request.predictions.stem), index=predictions.index)
    problems = found + _patient_problems(predictions, patients, request)
    problems += _cohort_problems(cohorts, predictions, request) + of_labels
    if problems:
        raise StudyError.of(dict.fromkeys(problems))
    people = patients.loc[labels.once]
    complete = _complete(predictions, labels.table, people, request)
    parts = {str(name): complete[cohorts == name].reset_index(drop=True) for name in dict.fromkeys(cohorts)}
    roles = {name: "development" if name in request.development else "external" for name in parts}
    columns, sources = list(labels.sources), list(labels.sources.values())
    notes = labels.notes + _notes(parts, columns, request.task)
    target = sources if len(sources) > 1 else sources[0]
    slides = predictions.assign(slide_id=complete["slide_id"], cohort=cohorts)
    predicted = people[people["patient_id"].isin(slides["patient_id"])]
    return Joined(parts, roles, columns, target, slides, predicted, notes)


def _read(request: Outside) -> tuple[pd.DataFrame, list[Problem], pd.DataFrame]:
    """Both tables, and the problems of the first.

    Raises:
        StudyError: One of them, or both, cannot be read at all.
    """
    unreadable: list[Problem] = []
    try:
        patients = read_any(request.patients)
    except StudyError as error:
        unreadable = error.problems
    try:
        predictions, found = read_predictions(request.predictions, request.task, request.several)
    except StudyError as error:
        unreadable = [*error.problems, *unreadable]
    if unreadable:
        raise StudyError.of([*request_problems(request), *unreadable])
    return predictions, found, patients


def _missing_ids(predictions: pd.DataFrame, patients: pd.DataFrame, request: Outside) -> list[Problem]:
    """Tables without a column of patients; where the predictions have no id at all that was told before."""
    tables = [(request.patients, patients)]
    tables += [(request.predictions, predictions)] if "slide_id" in predictions else []
    return [
        Problem(str(path), "the column 'patient_id' is missing", did_you_mean("patient_id", list(table)))
        for path, table in tables
        if "patient_id" not in table
    ]


def _patient_problems(predictions: pd.DataFrame, patients: pd.DataFrame, request: Outside) -> list[Problem]:
    """Patients without an id, and predictions of nobody whom the table of patients knows."""
    blank = [
        Problem(f"{request.patients}, line {row + 2}, column patient_id", "'patient_id' is blank", "say who it is")
        for row in patients.index[patients["patient_id"].isna()]
    ]
    known = [str(name) for name in patients["patient_id"].dropna()]
    unknown = predictions["patient_id"].notna() & ~predictions["patient_id"].isin(known)
    found = [
        Problem(
            f"{request.predictions}, line {row + 2}, column patient_id",
            f"'{predictions['patient_id'][row]}' is not in {request.patients.name}",
            "add the patient there, or write the id as there" + (f", e.g. '{known[0]}'" if known else ""),
        )
        for row in predictions.index[unknown]
    ]
    return capped(blank, str(request.patients)) + capped(found, f"{request.predictions}, column patient_id")


def _cohort_problems(cohorts: pd.Series, predictions: pd.DataFrame, request: Outside) -> list[Problem]:
    """Rows without a cohort, patients of two cohorts, and development cohorts that there are not."""
    where = f"{request.predictions}, line"
    problems = [
        Problem(f"{where} {row + 2}, column cohort", "'cohort' is blank", "name the cohort, or leave the column out")
        for row in cohorts.index[cohorts.isna()]
    ]
    names = [str(name) for name in dict.fromkeys(cohorts.dropna())]
    problems += [
        Problem("--development", f"there is no cohort '{name}'", did_you_mean(name, names))
        for name in request.development
        if name not in names
    ]
    several = cohorts.groupby(predictions["patient_id"]).agg(lambda found: sorted(set(found.dropna())))
    problems += [
        Problem(
            f"{request.predictions}, column cohort",
            f"patient '{patient}' is in the cohorts {' and '.join(found)}",
            "a patient belongs to one cohort: correct it, or tell the patients apart",
        )
        for patient, found in several.items()
        if len(found) > 1
    ]
    return capped(problems, f"{request.predictions}, column cohort")


def _complete(
    predictions: pd.DataFrame, labels: pd.DataFrame, patients: pd.DataFrame, request: Outside
) -> pd.DataFrame:
    """The table that `predict_cohort` would give."""
    columns = prediction_columns(predictions, request.task, request.several)
    if request.task == "multiclass":
        columns = ["prediction", *columns]
    table = predictions[["patient_id"]].assign(
        slide_id=predictions["slide_id"] if "slide_id" in predictions else predictions["patient_id"],
        center=predictions["patient_id"].map(patients.set_index("patient_id").get("center", {})),
        fold=predictions["fold"].fillna(FROM_FILE) if "fold" in predictions else FROM_FILE,
    )
    kept = [*columns, *(name for name in ("prediction_sd", "threshold") if name in predictions)]
    table = pd.concat([table, predictions[kept], labels], axis=1)
    first = [name for name in PREDICTIONS if name in table]
    return table[first + [name for name in table if name not in first]]


def _notes(cohorts: dict[str, pd.DataFrame], columns: list[str], task: str) -> list[str]:
    """What is missing in each cohort, and classes that a cohort or the model has not."""
    notes = []
    for name, table in cohorts.items():
        predicted = [str(c) for c in table if c == "prediction" or str(c).startswith(SEVERAL)]
        counts = {
            "without a prediction": int(table[predicted].isna().all(axis=1).sum()),
            "without a label": int((~is_labelled(table, task, columns)).sum()),
        }
        if missing := [f"{count} {what}" for what, count in counts.items() if count]:
            notes.append(f"{name}: left out of {len(table)} rows are {' and '.join(missing)}")
        if task not in CLASSES:
            continue
        classes = sorted({str(class_name(label)) for label in table["target"].dropna()})
        if len(classes) == 1:
            notes.append(f"{name}: all labels are {classes[0]}, so that nothing can be told apart")
        unknown = [c for c in classes if c not in classes_of(table)] if task == "multiclass" else []
        if unknown:
            notes.append(f"{name}: labels {', '.join(unknown)} have no column {PROBABILITY}<class>: always missed")
    return notes
