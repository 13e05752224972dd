"""Checks of the labels that models, comparisons and fine-tuned encoders learn from; each returns all problems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from slidestudy.errors import Problem, StudyError
from slidestudy.labels import (
    CLASSES,
    NOT_LABELS,
    SURVIVAL,
    expand_columns,
    is_labelled,
    is_survival,
    label_columns,
    target_columns,
)
from slidestudy.published_kinds import PUBLISHED
from slidestudy.search_space import inner_fold_problems
from slidestudy.settings import Config
from slidestudy.tables import did_you_mean, read_raw

SINGLE = ("regression", "classification", "multiclass")
"""Tasks with one label column."""
TAKEN = {"fold", "prediction", "prediction_sd", "target", "threshold"}
"""Columns of a table of predictions, where several targets stand by their own names."""
DEFAULT_RANGE = [0, 100]
"""Of a regression, the scale of TIL scores (%)."""


def complete_models(config: Config, source: str) -> list[Problem]:
    """Fills in what a model's task decides: the columns of its labels, its range, and of published weights the task.

    Args:
        config: The configuration, its input paths absolute; changed in place.
        source: Its file, for the messages.
    """
    problems = []
    for name, model in config["models"].items():
        if "published" in model and "predictions" not in model:
            _take_over(model)
        problems += _expand_targets(config, model, f"{source}, key models.{name}.target")
        several = target_columns(model) if model["task"] == "multi-regression" else None
        model["columns"] = label_columns(model["task"], several)
        model.setdefault("target", None)
        model.setdefault("target_range", DEFAULT_RANGE if model["task"] == "regression" else None)
        problems += _target_problems(model, f"{source}, key models.{name}")
    return problems


def _take_over(model: Config) -> None:
    """Fills in the task and the aggregator of published weights, unless the user has said otherwise (a problem)."""
    kind = PUBLISHED[model["published"]["kind"]]
    model.setdefault("task", kind.card["task"])
    model.setdefault("aggregator", kind.architecture["aggregator"])
    model.setdefault("target_range", kind.card["target_range"])


def _expand_targets(config: Config, model: Config, where: str) -> list[Problem]:
    """Replaces the patterns of a model of several targets by the columns that fit them."""
    if model["task"] != "multi-regression" or not isinstance(model.get("target"), list):
        return []
    present: list[str] = []
    for key in ("slides", "patients"):
        try:
            present += [name for name in read_raw(config[key]).columns if name not in NOT_LABELS]
        except StudyError:
            return []  # The table is read again, and what is wrong with it told, in a moment.
    model["target"], unmatched = expand_columns(model["target"], present)
    return [Problem(where, f"no table has a column '{name}'", did_you_mean(name, present)) for name in unmatched]


def _target_problems(model: Config, where: str) -> list[Problem]:
    """A target or a range that does not go with the task."""
    task, target, columns = model["task"], model["target"], target_columns(model)
    problems = []
    if target is not None:
        if task in SINGLE and not isinstance(target, str):
            what = f"the task {task} has one label column, not a list"
            problems.append(Problem(f"{where}.target", what, "give its name, or use task: multi-regression"))
        if is_survival(task) and (isinstance(target, str) or len(columns) != 2):
            what = f"the task {task} needs two columns"
            problems.append(Problem(f"{where}.target", what, "give those of time and event, as [time, event]"))
        if task == "multi-regression" and len(columns) < 2:
            what = "the task multi-regression needs two columns at least"
            problems.append(Problem(f"{where}.target", what, "list them, or use task: regression"))
        if task == "multi-regression" and (taken := sorted(TAKEN.intersection(columns))):
            what = f"a target cannot be named {', '.join(taken)}, as a column of the predictions is"
            problems.append(Problem(f"{where}.target", what, "rename the column, or take it out"))
    span = model["target_range"]
    if span is not None and task != "regression":
        what = f"the task {task} has no range"
        problems.append(Problem(f"{where}.target_range", what, "leave it out"))
    elif span is not None and span[0] >= span[1]:
        remedy = "give the lowest, then the highest target"
        problems.append(Problem(f"{where}.target_range", f"{list(span)} is not a range", remedy))
    if span is None and model.get("aggregator") == "ectil":
        what = f"the aggregator ectil cannot do {task if task != 'regression' else 'a regression without bounds'}"
        remedy = "use task: regression with a target_range, or another aggregator"
        problems.append(Problem(f"{where}.task", what, remedy))
    if shared := sorted({*columns, *model["columns"]} & set(model["covariates"])):
        what = f"{', '.join(shared)} would be both label and covariate"
        problems.append(Problem(f"{where}.covariates", what, "a model must not be told its own label: take it out"))
    return problems


def column_schemas(config: Config) -> dict[str, Any]:
    """Column schemas of the labels that models, comparisons and fine-tuned encoders use."""
    found: dict[str, Any] = {}
    users = [(f"models.{name}", model) for name, model in config["models"].items()]
    users += other_labelled(config)
    # Classes are text: a column that another model takes for numbers is read as numbers.
    for key, user in sorted(users, key=lambda item: item[1]["task"] != "multiclass"):
        of = f", or blank where unknown (target of {key.split('.')[1]})"
        for column, schema, words in _schemas(user):
            found[column] = {**schema, "description": words + of}
    return found


def _schemas(user: Config) -> list[tuple[str, dict[str, Any], str]]:
    """Column, schema and words for it, of one model's labels."""
    task, columns, span = user["task"], target_columns(user), user.get("target_range")
    number: dict[str, Any] = {"type": ["number", "null"]}
    event = {"type": ["integer", "null"], "enum": [0, 1, None]}
    if task == "classification":
        return [(columns[0], event, "0 or 1")] if columns else []
    if task == "multiclass":
        return [(name, {"type": ["string", "null"]}, "a class") for name in columns]
    if is_survival(task):
        kinds = [({**number, "minimum": 0}, "a time, not negative"), (event, "1 where the event happened, 0 where not")]
        return [(name, *kind) for name, kind in zip(columns, kinds, strict=True)] if columns else []
    if span is not None and task == "regression":
        limits = {**number, "minimum": span[0], "maximum": span[1]}
        return [(name, limits, f"between {span[0]} and {span[1]}") for name in columns]
    return [(name, number, "a number") for name in columns]


def other_labelled(config: Config) -> list[tuple[str, Config]]:
    """What else has a `target`, a `task` and a `target_range`, by its key: comparisons and fine-tuned encoders."""
    found = [(f"comparisons.{name}", options) for name, options in config["comparisons"].items()]
    return found + [
        (f"encoders.{name}.pretraining", encoder["pretraining"])
        for name, encoder in config["encoders"].items()
        if encoder.get("pretraining", {}).get("method") == "fine-tune" and "target" in encoder["pretraining"]
    ]


def check_target_column(target: str, where: str, slides: pd.DataFrame, patients: pd.DataFrame) -> list[Problem]:
    """Whether a label stands in exactly one of the tables."""
    in_slides, in_patients = target in slides.columns, target in patients.columns
    if in_slides and in_patients:
        return [Problem(where, f"the column '{target}' stands in both tables", "keep it in one of them")]
    if in_slides or in_patients:
        return []
    known = sorted((set(patients.columns) | set(slides.columns)) - NOT_LABELS)
    return [Problem(where, f"no table has a column '{target}'", did_you_mean(target, known))]


def check_labels(labels: pd.DataFrame, development: Sequence[str], model: Config, where: str) -> list[Problem]:
    """Whether a model's labels can be folded and teach anything.

    Args:
        labels: `patient_id cohort center` and the model's label columns, one row per slide.
        development: The development cohorts.
        model: The configuration of a model, or of a comparison.
        where: Its place, for the messages.
    """
    columns = model.get("columns") or ["target"]
    problems = []
    chosen = labels[labels["cohort"].isin(development) & is_labelled(labels, model["task"], columns)]
    by_center = model["group_by"] == "center"
    groups = chosen["center" if by_center else "patient_id"].nunique()
    if groups < model["folds"] and model.get("splits", {"scheme": "k-fold"})["scheme"] in ("k-fold", "repeated-k-fold"):
        what = (
            f"{model['folds']} folds need as many {model['group_by']}s with a label in the development cohorts,"
            f" there are {groups}"
        )
        remedy = "use fewer folds" + (" or group_by: patient" if by_center else "")
        problems.append(Problem(f"{where}.folds", what, remedy + (" (at least 3)" if groups < 3 else "")))
    problems += inner_fold_problems(model, groups, where)
    return problems + _variety_problems(chosen, model, columns, f"{where}.target")


def _variety_problems(chosen: pd.DataFrame, model: Config, columns: Sequence[str], where: str) -> list[Problem]:
    """Labels of which there is one value only, or no event."""
    if chosen.empty:
        return []
    task = model["task"]
    if is_survival(task):
        if (chosen[SURVIVAL[1]] == 1).any():
            return []
        return [Problem(where, "no patient of the development cohorts has an event", "look at the column of events")]
    names = dict(zip(columns, target_columns(model), strict=True))
    constant = [names[column] for column in columns if chosen[column].nunique() < 2]
    kind = "has one class only" if task in CLASSES else "has the same value in all slides of"
    tail = " in the development cohorts" if task in CLASSES else " the development cohorts"
    remedy = "give it another target: a classifier needs two classes" if task in CLASSES else "take it out"
    return [Problem(where, f"'{name}' {kind}{tail}", remedy) for name in constant]


def missing_targets(model: Config, where: str, slides: pd.DataFrame, patients: pd.DataFrame) -> list[Problem]:
    """Label columns of a model that stand in none of the tables, or in both."""
    return [
        problem for column in target_columns(model) for problem in check_target_column(column, where, slides, patients)
    ]
