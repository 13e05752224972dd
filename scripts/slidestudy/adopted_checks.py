"""Checks of the models of a study that are predictions from a file: others made them, and nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from slidestudy.errors import Problem, StudyError
from slidestudy.labels import target_columns
from slidestudy.prediction_files import IDS, capped, read_predictions
from slidestudy.settings import Config, fill_defaults
from slidestudy.tables import load_schema

MEANINGLESS = (
    "encoder",
    "aggregator",
    "options",
    "covariates",
    "modality",
    "published",
    "training",
    "splits",
    "folds",
    "group_by",
    "time_bins",
    "search",
    "label_efficiency",
)
"""Keys of a model that say how it is made."""


def is_adopted(model: Config) -> bool:
    """Whether a model of the configuration is predictions from a file."""
    return "predictions" in model


def adopted_problems(config: Config, source: str) -> list[Problem]:
    """Problems of the models that are predictions from a file, within the configuration and on disk.

    Args:
        config: The configuration, complete, its input paths absolute. A key that only training needs may have its
            default, which is not told from a key that is not given.
        source: Its file, for the messages.
    """
    schema = load_schema("config")
    defaults = fill_defaults({}, schema["$defs"]["model"], schema)
    problems: list[Problem] = []
    for name, model in config["models"].items():
        if not is_adopted(model):
            continue
        where, path = f"{source}, key models.{name}", model["predictions"]
        if not Path(path).is_file():
            problems.append(Problem(f"{where}.predictions", f"{path} does not exist", "correct the path"))
        problems += _key_problems(model, defaults, where)
        if name in config["explanations"]["models"]:
            what = f"the model {name} is predictions from a file: no tile has a score that could be explained"
            problems.append(Problem(f"{source}, key explanations.models", what, f"take {name} out"))
    return problems


def _key_problems(model: Config, defaults: Config, where: str) -> Iterator[Problem]:
    """Keys that mean nothing of predictions from a file."""
    for key in MEANINGLESS:
        if key in model and model[key] != defaults.get(key):
            what = "says how a model is made, but predictions from a file are taken as they are"
            yield Problem(f"{where}.{key}", what, "leave the key out, or leave `predictions` out")


def adopted_table_problems(config: Config, slides: pd.DataFrame, source: str) -> list[Problem]:
    """Problems within the files of predictions, and of how they go with the study's slides.

    Args:
        config: The configuration, whose files of predictions exist.
        slides: `slide_id patient_id cohort` of the study.
        source: The configuration's file, for the messages.
    """
    problems: list[Problem] = []
    for name, model in config["models"].items():
        if not is_adopted(model):
            continue
        path, targets = model["predictions"], target_columns(model)
        try:
            table, found = read_predictions(path, model["task"], targets)
        except StudyError as error:
            problems += error.problems
            continue
        problems += found or _match_problems(table, slides, path, f"{source}, key models.{name}.predictions")
    return problems


def _match_problems(table: pd.DataFrame, slides: pd.DataFrame, path: str, where: str) -> list[Problem]:
    """A file none of whose rows is of the study, or that gives a slide to another patient."""
    key = next(name for name in IDS if name in table)
    if not table[key].isin(slides[key]).any():
        what = f"no {key} of {path} is one of the study, e.g. '{table[key].iloc[0]}'"
        return [Problem(where, what, f"write {key} as in slides.tsv, e.g. '{slides[key].iloc[0]}'")]
    if set(IDS) - set(table):
        return []
    patients = table["slide_id"].map(dict(zip(slides["slide_id"], slides["patient_id"], strict=True)))
    wrong = patients.notna() & (patients != table["patient_id"])
    found = [
        Problem(
            f"{path}, line {row + 2}, column patient_id",
            f"'patient_id' is '{table['patient_id'][row]}', the study gives the slide to '{patients[row]}'",
            "correct one of the tables",
        )
        for row in table.index[wrong]
    ]
    return capped(found, f"{path}, column patient_id")
