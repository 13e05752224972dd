"""What there is to compare in a table of predictions: for each target or class, truth beside prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from slidestudy.censoring_statistics import case_weights
from slidestudy.labels import class_name, is_survival, label_columns
from slidestudy.statistics import Array
from slidestudy.survival_statistics import event_by

Kind = Literal["continuous", "binary", "survival"]
PROBABILITY = "probability."
"""Prefix of the columns of class probabilities."""
SURVIVAL = "survival."
"""Prefix of the columns of probabilities of no event by a time."""


@dataclass(frozen=True)
class View:
    """The labelled rows of one target.

    Attributes:
        target: The target or class; empty for a model's only one.
        kind: What truth is: a number, a class (1 or 0, or its share in a patient's slides), or a time to an event.
        table: `slide_id patient_id truth prediction`, of survival `event` and `survival.<time>` too. Nothing is blank
            but the frozen decision `threshold` of a classification, where it has that column. At patient level there
            is no `slide_id`.
    """

    target: str
    kind: Kind
    table: pd.DataFrame

    def per_patient(self) -> View:
        """One row per patient, sorted: the mean of the slides' predictions and truths."""
        values = [name for name in self.table if name not in ("slide_id", "patient_id")]
        means = self.table.groupby("patient_id", sort=True, as_index=False)[values].mean()
        return View(self.target, self.kind, means)


def classes_of(predictions: pd.DataFrame) -> list[str]:
    """The classes that a model knows, in the order of its columns `probability.<class>`."""
    return [str(name).removeprefix(PROBABILITY) for name in predictions if str(name).startswith(PROBABILITY)]


def views(predictions: pd.DataFrame, settings: Mapping[str, Any]) -> list[View]:
    """Takes a table of predictions apart; rows without a label or a prediction are left out.

    A class is compared with all others together, by its probability.

    Args:
        predictions: As `models.cohort.predict_cohort` gives them.
        settings: `task`, and of several targets `columns`.
    """
    task, predictions = settings["task"], _with_columns(predictions, settings)
    if task == "multiclass":
        names = predictions["target"].map(class_name)
        return [
            _view(predictions, (names == name).where(names.notna()), PROBABILITY + name, name, "binary")
            for name in classes_of(predictions)
        ]
    columns = label_columns(task, settings.get("columns"))
    if task == "multi-regression":
        return [_view(predictions, predictions[c], f"prediction.{c}", c, "continuous") for c in columns]
    if is_survival(task):
        return [_view(predictions, predictions["time"], "prediction", "", "survival")]
    kind: Kind = "binary" if task == "classification" else "continuous"
    return [_view(predictions, predictions["target"], "prediction", "", kind)]


def _with_columns(predictions: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """A table without rows knows nothing of the task: it gets the columns of the labels and predictions."""
    if len(predictions):
        return predictions
    labels = label_columns(settings["task"], settings.get("columns"))
    several = [f"prediction.{column}" for column in labels] if settings["task"] == "multi-regression" else []
    return predictions.reindex(columns=list(dict.fromkeys([*predictions, *labels, *several])))


def _view(predictions: pd.DataFrame, truth: pd.Series, column: str, target: str, kind: Kind) -> View:
    names = ["slide_id", "patient_id"] if "slide_id" in predictions else ["patient_id"]
    columns = {"truth": truth.astype(float), "prediction": predictions[column].astype(float)}
    if kind == "survival":
        columns["event"] = predictions["event"].astype(float)
        columns |= {name: predictions[name].astype(float) for name in predictions if str(name).startswith(SURVIVAL)}
    known = np.logical_and.reduce([values.notna() for values in columns.values()])
    if kind == "binary" and column == "prediction" and "threshold" in predictions:
        columns["threshold"] = predictions["threshold"].astype(float)
    return View(target, kind, predictions[names].assign(**columns)[known])


def of_several_labels(predictions: pd.DataFrame, settings: Mapping[str, Any]) -> list[str]:
    """Patients whose slides have different classes, or different times or events: they have no label as patients.

    Of numbers and of 0 or 1 a patient has the mean, so that there are no such patients.

    Args:
        predictions: As `models.cohort.predict_cohort` gives them.
        settings: `task`.
    """
    if settings["task"] == "multiclass":
        labels = predictions["target"].map(class_name).to_frame()
    elif is_survival(settings["task"]):
        labels = _with_columns(predictions, settings)[["time", "event"]]
    else:
        return []
    known = labels[labels.notna().all(axis=1)].assign(patient_id=predictions["patient_id"]).drop_duplicates()
    return sorted(known.loc[known["patient_id"].duplicated(), "patient_id"].unique())


def by_level(predictions: pd.DataFrame, settings: Mapping[str, Any]) -> dict[str, list[View]]:
    """The views of the slides and of the patients; patients of several labels have none at patient level.

    Args:
        predictions: As `models.cohort.predict_cohort` gives them.
        settings: `task columns`.
    """
    clear = predictions[~predictions["patient_id"].isin(of_several_labels(predictions, settings))]
    return {"slide": views(predictions, settings), "patient": [v.per_patient() for v in views(clear, settings)]}


@dataclass(frozen=True)
class Cut:
    """A question of yes or no to the rows of a view.

    Attributes:
        threshold: The cut-off of the target or of time; None where the truth is a class.
        positive: The answer, bool (n,).
        table: The rows with an answer, as in the view.
        weights: What each row counts for being followed (n,), of survival; None where all count alike.
    """

    threshold: float | None
    positive: pd.Series
    table: pd.DataFrame
    weights: Array | None = None


@dataclass(frozen=True)
class Decision:
    """What a model says to a question of yes or no, by a threshold that was frozen before.

    Attributes:
        threshold: The threshold; of rows that have their own, the mean.
        positive: Whether it says yes, bool (n,).
        rows: Which rows of the cut have a threshold, bool; positive is of those.
    """

    threshold: float | None
    positive: pd.Series
    rows: pd.Series


def cuts(view: View, settings: Mapping[str, Any]) -> list[Cut]:
    """The questions of yes or no to a view.

    A class: whether it is there, in more than half of a patient's slides. A number: whether it is above each cut-off.
    Survival: whether the event came by each cut-off, of those of whom that is known.

    Args:
        view: The view.
        settings: `cutoffs cutoff_rule`.
    """
    if view.kind == "binary":
        return [Cut(None, positives(view.table["truth"], 0.5, ">"), view.table)]
    if view.kind == "continuous":
        rule = settings["cutoff_rule"]
        return [Cut(c, positives(view.table["truth"], c, rule), view.table) for c in settings["cutoffs"]]
    found = []
    for cutoff in settings["cutoffs"]:
        by_then, known = event_by(view.table["truth"], view.table["event"], cutoff)
        table = view.table[known]
        weights = case_weights(view.table["truth"].to_numpy(), view.table["event"].to_numpy(), cutoff)[known]
        found.append(Cut(cutoff, pd.Series(by_then[known], index=table.index), table, weights))
    return found


def decision(view: View, cut: Cut, settings: Mapping[str, Any]) -> Decision | None:
    """What the model says to a question, None where it has no threshold for it.

    A classification says yes from each slide's frozen threshold on (`threshold` in the table; a patient has the mean).
    A number is compared with the cut-off itself, by the same rule.

    Args:
        view: The view.
        cut: One of its questions.
        settings: `cutoff_rule`.
    """
    predicted = cut.table["prediction"]
    if view.kind == "continuous" and cut.threshold is not None:
        every = pd.Series(True, index=predicted.index)
        return Decision(cut.threshold, positives(predicted, cut.threshold, settings["cutoff_rule"]), every)
    if view.kind != "binary" or "threshold" not in cut.table:
        return None
    rows = cut.table["threshold"].notna()
    thresholds = cut.table.loc[rows, "threshold"]
    mean = float(thresholds.mean()) if len(thresholds) else None
    return Decision(mean, predicted[rows] >= thresholds, rows)


def positives(target: pd.Series, cutoff: float, rule: str) -> pd.Series:
    """Which targets count as positive at a cut-off, by the rule `>` or `>=`."""
    # Targets such as 0.3 * 100 are not exactly 30: differences below a millionth are rounding.
    gap = target - cutoff
    return gap > 1e-6 if rule == ">" else gap > -1e-6
