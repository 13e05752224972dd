"""Nothing may stand in two parts of a fold, and every fold must have something to learn from."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pandas as pd

from slidestudy.errors import Problem, StudyError
from slidestudy.labels import CLASSES, is_survival, label_columns
from slidestudy.models.splits.groups import linked_patients
from slidestudy.models.splits.scheme import named
from slidestudy.models.splits.strata import discrete_labels

PARTS = ("train", "validation", "test")
WHERE = "splits"


def check_disjoint(
    splits: pd.DataFrame,
    labels: pd.DataFrame,
    group_by: str,
    lookalikes: pd.DataFrame | None = None,
    without_test: Collection[int] = (),
) -> None:
    """Refuses splits in which something stands in two parts of a fold, or a part is empty.

    Args:
        splits: `patient_id slide_id fold part`.
        labels: `slide_id center`, for folds by centre.
        group_by: `patient` or `center`.
        lookalikes: `patient_id_a patient_id_b` of pairs of slides that look alike; None where they do not count.
        without_test: Folds that need no test part.

    Raises:
        StudyError: With all patients, centres and patients of look-alike slides that stand in two parts: a hard
            error, since results would leak; and with the parts that are empty.
    """
    problems = _overlaps(splits, "slide_id", "slide") + _overlaps(splits, "patient_id", "patient")
    repeated = splits.loc[splits.duplicated(["fold", "slide_id"]), "slide_id"]
    if len(repeated) and not problems:
        problems.append(Problem(WHERE, f"slides stand twice in a fold: {named(set(repeated))}", "list them once"))
    if group_by == "center":
        centers = splits["slide_id"].map(labels.set_index("slide_id")["center"])
        if centers.isna().any():
            what = f"slides without a centre: {named(set(splits.loc[centers.isna(), 'slide_id']))}"
            problems.append(Problem(WHERE, what, "give their patients a center"))
        problems += _overlaps(splits.assign(center=centers), "center", "center")
    linked = {patient: min(group) for patient, group in linked_patients(lookalikes).items()}
    joined = splits[splits["patient_id"].isin(linked)]
    problems += _look_alike(joined.assign(group=joined["patient_id"].map(linked)))
    for fold, rows in splits.groupby("fold"):
        missing = set(PARTS) - set(rows["part"]) - ({"test"} if fold in without_test else set())
        if missing:
            what = f"fold {fold} has no {' and no '.join(sorted(missing))} slides"
            problems.append(Problem(WHERE, what, "use fewer folds, or more patients"))
    if problems:
        raise StudyError.of(problems)


def _overlaps(splits: pd.DataFrame, column: str, noun: str) -> list[Problem]:
    """The values of a column that stand in two parts of a fold, all in one problem per fold."""
    places = splits[["fold", column, "part"]].drop_duplicates()
    problems = []
    for fold, rows in places[places.duplicated(["fold", column], keep=False)].groupby("fold"):
        names = [f"{name} ({', '.join(sorted(parts))})" for name, parts in rows.groupby(column)["part"]]
        what = f"{noun} {named(names)} stand{'s' if len(names) == 1 else ''} in two parts of fold {fold}"
        problems.append(Problem(WHERE, what, "make the splits anew; in a given table, move them to one part"))
    return problems


def _look_alike(joined: pd.DataFrame) -> list[Problem]:
    """Groups of patients with look-alike slides that stand in two parts of a fold."""
    problems = []
    for (fold, _), rows in joined.groupby(["fold", "group"]):
        if len(set(rows["part"])) > 1:
            pairs = rows[["patient_id", "part"]].drop_duplicates().itertuples(index=False)
            what = f"patients {named(f'{p} ({part})' for p, part in pairs)} of fold {fold} have slides that look alike"
            remedy = (
                "look at slides/lookalikes.tsv; leave one out of the study (inspection.near_duplicates: exclude does), "
                "or allow it (splits.lookalikes: ignore)"
            )
            problems.append(Problem(WHERE, what, remedy))
    return problems


def check_varied(labels: pd.DataFrame, task: str, columns: Sequence[str]) -> None:
    """Refuses labels from which nothing can be learnt, whatever the folds.

    Args:
        labels: The labelled slides.
        task: The model's task.
        columns: The columns of the labels; of survival the time and the event.

    Raises:
        StudyError: A target with one value only, or no event.
    """
    if problem := _unvaried(labels, task, columns):
        remedy = "look at the label column, and in slides/ledger.tsv for the slides that were lost"
        raise StudyError(f"{len(labels)} labelled slides teach nothing: {problem}", "make_splits", remedy)


def _unvaried(rows: pd.DataFrame, task: str, columns: Sequence[str]) -> str:
    """What is constant in some slides' labels; blank where nothing is."""
    if is_survival(task):
        return "" if (rows[columns[1]] == 1).any() else "no patient has an event"
    values = {name: rows[name].dropna().unique() for name in columns}
    constant = [
        f"{name} is always {found[0] if len(found) else 'blank'}" for name, found in values.items() if len(found) < 2
    ]
    return named(constant)


def check_labels(
    splits: pd.DataFrame,
    labels: pd.DataFrame,
    task: str,
    columns: Sequence[str] | None = None,
    parts: Collection[str] = ("train",),
) -> None:
    """Refuses folds that cannot be learnt from.

    Args:
        splits: `slide_id fold part`.
        labels: `slide_id` and the labels.
        task: The model's task.
        columns: The columns of the labels; None for `target`, of survival `time event`.
        parts: Parts that are looked at. Training parts need every class, an event, or two values of each target;
            validation parts two classes, where the task has classes.

    Raises:
        StudyError: With all folds that fall short.
    """
    columns = label_columns(task, columns)
    table = splits[["slide_id", "fold", "part"]].merge(labels, on="slide_id", how="left", suffixes=("", "_label"))
    discrete = discrete_labels(table, task, columns)
    every = set() if discrete is None or is_survival(task) else set(discrete.dropna().unique())
    problems = []
    for (fold, part), rows in table.groupby(["fold", "part"]):
        if part not in parts:
            continue
        what = ""
        if task in CLASSES:
            present = set(rows[columns[0]].dropna().unique())
            if part == "train" and every - present:
                what = f"no slide of class {named(_plain(c) for c in every - present)}"
            elif part == "validation" and len(present) < 2:
                what = f"slides of class {named(map(_plain, present))} only"
        elif part == "train":
            what = _unvaried(rows, task, columns)
        if what:
            remedy = "use fewer folds, another seed or scheme, or balance the given table"
            problems.append(Problem(WHERE, f"fold {fold}, {part} part ({len(rows)} slides): {what}", remedy))
    if problems:
        raise StudyError.of(problems)


def _plain(label: object) -> object:
    """A class as a user writes it: 1, not 1.0."""
    return int(label) if isinstance(label, float) and label.is_integer() else label
