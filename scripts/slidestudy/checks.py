"""Checks between a study's configuration, its tables and the files on disk; each returns all problems it finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from slidestudy.errors import Problem
from slidestudy.settings import Config
from slidestudy.tables import did_you_mean

ONLY_REGRESSION = ("ectil",)
"""Aggregators whose output is a fraction of a range."""
NOT_LABELS = {"slide_id", "patient_id", "path", "mpp", "roi", "mask", "cohort"}
DEFAULT_RANGES = {"regression": [0, 100], "classification": [0, 1]}


def check_references(config: Config, source: str) -> list[Problem]:
    """Names within the configuration that point nowhere, and files that do not exist.

    Args:
        config: The configuration, complete, its input paths absolute.
        source: Its file, for the messages.
    """
    problems = _model_problems(config, source) + _name_problems(config, source)
    has_development = any(cohort["role"] == "development" for cohort in config["cohorts"].values())
    if (config["models"] or config["comparisons"]) and not has_development:
        what = "no cohort has the role development"
        problems.append(Problem(f"{source}, key cohorts", what, "models and comparisons need one to train on"))
    return problems + _file_problems(config, source)


def _model_problems(config: Config, source: str) -> list[Problem]:
    problems = []
    for name, model in config["models"].items():
        where = f"{source}, key models.{name}"
        if model["encoder"] not in config["encoders"]:
            hint = did_you_mean(model["encoder"], list(config["encoders"]))
            problems.append(Problem(f"{where}.encoder", f"unknown encoder '{model['encoder']}'", hint))
        if model["task"] != "regression" and model["aggregator"] in ONLY_REGRESSION:
            what = f"the aggregator {model['aggregator']} cannot do {model['task']}"
            problems.append(Problem(f"{where}.task", what, "use task: regression, or another aggregator"))
        scheme, table = model["splits"]["scheme"], model["splits"].get("table")
        if scheme == "table" and not (table and Path(table).is_file()):
            what = f"the table of parts {table} does not exist" if table else "no table of parts is given"
            problems.append(Problem(f"{where}.splits.table", what, "correct the path, or use another scheme"))
    for key, options in labelled(config):
        low, high = options["target_range"]
        if low >= high:
            remedy = "give the lowest, then the highest target"
            where = f"{source}, key {key}.target_range"
            problems.append(Problem(where, f"[{low}, {high}] is not a range", remedy))
    return problems


def labelled(config: Config) -> list[tuple[str, Config]]:
    """Every section that has a `target`, a `task` and a `target_range`, by its key."""
    found = [(f"models.{name}", model) for name, model in config["models"].items()]
    found += [(f"comparisons.{name}", options) for name, options in config["comparisons"].items()]
    found += [
        (f"encoders.{name}.pretraining", encoder["pretraining"])
        for name, encoder in config["encoders"].items()
        if encoder.get("pretraining", {}).get("method") == "fine-tune" and "target" in encoder["pretraining"]
    ]
    return found


def class_columns(config: Config) -> list[tuple[str, str]]:
    """Columns of classes and covariates that are named, by their key; the target of a fine-tuning among them."""
    found = [("summaries.biology", config["summaries"]["biology"])]
    found += [(f"models.{name}.covariates", c) for name, model in config["models"].items() for c in model["covariates"]]
    found += [(f"comparisons.{name}.biology", options["biology"]) for name, options in config["comparisons"].items()]
    for name, encoder in config["encoders"].items():
        options = encoder.get("pretraining", {})
        keys = ("check_label", "target") if options.get("method") == "fine-tune" else ("check_label",)
        found += [(f"encoders.{name}.pretraining.{key}", options.get(key)) for key in keys]
    return [(key, column) for key, column in found if column is not None]


def _name_problems(config: Config, source: str) -> list[Problem]:
    explanations = config["explanations"]
    models, cohorts = list(config["models"]), list(config["cohorts"])
    references = [
        ("explanations.models", explanations["models"], models, "model"),
        ("explanations.sample.cohorts", explanations["sample"]["cohorts"], cohorts, "cohort"),
        ("truth.columns", list(config.get("truth", {}).get("columns", {})), models, "model"),
    ]
    problems = [
        Problem(f"{source}, key {key}", f"unknown {kind} '{name}'", did_you_mean(name, known))
        for key, names, known, kind in references
        for name in names
        if name not in known
    ]
    if explanations["models"] and not explanations["texts"]:
        remedy = "name at least one text, or set models: []"
        problems.append(Problem(f"{source}, key explanations.texts", "no explanation is given", remedy))
    return problems


def _file_problems(config: Config, source: str) -> list[Problem]:
    explanations = config["explanations"]
    files = {f"explanations.texts.{name}": path for name, path in explanations["texts"].items()}
    for key in ("describe_prompt", "answer_prompt"):
        if key in explanations["reader"]:
            files[f"explanations.reader.{key}"] = explanations["reader"][key]
    if "truth" in config:
        files["truth.table"] = config["truth"]["table"]
    return [
        Problem(f"{source}, key {key}", f"{path} does not exist", "correct the path")
        for key, path in files.items()
        if not Path(path).is_file()
    ]


def label_ranges(config: Config) -> dict[str, Any]:
    """Column schemas of the labels that models, comparisons and fine-tuned encoders use."""
    ranges: dict[str, Any] = {}
    for key, model in labelled(config):
        low, high = model["target_range"]
        if model["task"] == "classification":
            allowed = {"type": ["integer", "null"], "enum": [0, 1, None]}
            words = "0 or 1"
        else:
            allowed = {"type": ["number", "null"], "minimum": low, "maximum": high}
            words = f"between {low} and {high}"
        words += f", or blank where unknown (target of {key.split('.')[1]})"
        ranges[model["target"]] = {**allowed, "description": words}
    return ranges


def check_tables(config: Config, slides: pd.DataFrame, patients: pd.DataFrame, *, files: bool = True) -> list[Problem]:
    """Rows that do not fit the configuration, each other or the disk; row i stands on line i + 2.

    Args:
        config: The configuration.
        slides: The table of slides.
        patients: The table of patients.
        files: Whether to look for every slide, ROI and mask on disk.
    """
    cohorts = list(config["cohorts"])
    problems = [
        Problem(
            f"{config[name]}, line {row + 2}, column cohort",
            f"unknown cohort '{cohort}'",
            did_you_mean(str(cohort), cohorts),
        )
        for name, table in (("slides", slides), ("patients", patients))
        for row, cohort in enumerate(table["cohort"])
        if cohort not in cohorts
    ]
    problems += _patient_problems(config, slides, patients)
    for column, kind in (("path", "slide"), ("roi", "ROI"), ("mask", "mask")) if files else ():
        for row, path in enumerate(slides[column]):
            if isinstance(path, str) and not Path(path).exists():
                where = f"{config['slides']}, line {row + 2}, column {column}"
                remedy = "correct the path, or remove the line"
                problems.append(Problem(where, f"the {kind} {path} does not exist", remedy))
    present, remedy = set(slides["cohort"]), "add its slides, or take it out of the config"
    return problems + [
        Problem(f"{config['slides']}", f"cohort '{name}' has no slide", remedy)
        for name in cohorts
        if name not in present
    ]


def _patient_problems(config: Config, slides: pd.DataFrame, patients: pd.DataFrame) -> list[Problem]:
    problems = []
    cohort_of = dict(zip(patients["patient_id"], patients["cohort"], strict=True))
    for row, (patient, cohort) in enumerate(zip(slides["patient_id"], slides["cohort"], strict=True)):
        where = f"{config['slides']}, line {row + 2}, column patient_id"
        if patient not in cohort_of:
            what = f"patient '{patient}' is not in {Path(config['patients']).name}"
            problems.append(Problem(where, what, "add the patient there, or correct the id"))
        elif cohort_of[patient] != cohort:
            what = f"patient '{patient}' is of cohort '{cohort_of[patient]}', the slide of '{cohort}'"
            problems.append(Problem(where, what, "a patient belongs to one cohort"))
    return problems


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
    """Whether a model's labels can be folded.

    Args:
        labels: `patient_id cohort center target`, one row per slide.
        development: The development cohorts.
        model: The model's configuration.
        where: Its place, for the messages.
    """
    problems = []
    labelled = labels[labels["cohort"].isin(development) & labels["target"].notna()]
    by_center = model["group_by"] == "center"
    groups = labelled["center" if by_center else "patient_id"].nunique()
    if groups < model["folds"] and model.get("splits", {"scheme": "k-fold"})["scheme"] in ("k-fold", "repeated-k-fold"):
        what = (
            f"{model['folds']} folds need as many {model['group_by']}s with a label in the development cohorts,"
            f" there are {groups}"
        )
        remedy = "use fewer folds" + (" or group_by: patient" if by_center else "")
        problems.append(Problem(f"{where}.folds", what, remedy + (" (at least 3)" if groups < 3 else "")))
    if model["task"] == "classification" and labelled["target"].nunique() < 2:
        what = f"'{model['target']}' has one class only in the development cohorts"
        problems.append(Problem(f"{where}.target", what, "a classifier needs both"))
    return problems
