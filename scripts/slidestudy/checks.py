"""Checks between a study's configuration, its tables and the files on disk; each returns all problems it finds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from slidestudy.adopted_checks import adopted_problems, is_adopted
from slidestudy.attribution_kinds import attribution_problems
from slidestudy.errors import Problem
from slidestudy.label_checks import other_labelled
from slidestudy.published_checks import published_problems
from slidestudy.reader_kinds import reader_problems
from slidestudy.search_space import space_problems
from slidestudy.settings import Config
from slidestudy.tables import did_you_mean

FUSING = ("concat-abmil", "mcat", "motcat")
"""Aggregators that take a second modality."""


def check_references(config: Config, source: str) -> list[Problem]:
    """Names within the configuration that point nowhere, and files that do not exist.

    Args:
        config: The configuration, complete, its input paths absolute.
        source: Its file, for the messages.
    """
    problems = _model_problems(config, source) + published_problems(config, source) + adopted_problems(config, source)
    problems += _name_problems(config, source) + attribution_problems(config, source)
    has_development = any(cohort["role"] == "development" for cohort in config["cohorts"].values())
    models = config["models"].items()
    trained = [name for name, model in models if "published" not in model and not is_adopted(model)]
    if (trained or config["comparisons"]) and not has_development:
        what = "no cohort has the role development"
        problems.append(Problem(f"{source}, key cohorts", what, "models and comparisons need one to train on"))
    return problems + _file_problems(config, source)


def _model_problems(config: Config, source: str) -> list[Problem]:
    problems = []
    for name, model in config["models"].items():
        if is_adopted(model):
            continue
        where = f"{source}, key models.{name}"
        if model["encoder"] not in config["encoders"]:
            hint = did_you_mean(model["encoder"], list(config["encoders"]))
            problems.append(Problem(f"{where}.encoder", f"unknown encoder '{model['encoder']}'", hint))
        scheme, table = model["splits"]["scheme"], model["splits"].get("table")
        if scheme == "table" and not (table and Path(table).is_file()):
            what = f"the table of parts {table} does not exist" if table else "no table of parts is given"
            problems.append(Problem(f"{where}.splits.table", what, "correct the path, or use another scheme"))
        problems += _modality_problems(model, where)
        problems += space_problems(model.get("search", {}).get("space", {}), f"{where}.search.space")
    for key, options in other_labelled(config):
        low, high = options["target_range"]
        if low >= high:
            remedy = "give the lowest, then the highest target"
            where = f"{source}, key {key}.target_range"
            problems.append(Problem(where, f"[{low}, {high}] is not a range", remedy))
    return problems


def _modality_problems(model: Config, where: str) -> list[Problem]:
    """A second modality that the aggregator does not take, that it lacks, or whose table does not exist."""
    problems, aggregator, modality = [], model["aggregator"], model.get("modality")
    fusing = aggregator in FUSING
    if fusing and modality is None:
        what = f"the aggregator {aggregator} needs a second modality"
        problems.append(Problem(f"{where}.modality", what, "name its table, or use another aggregator"))
    if modality is not None and not fusing:
        what = f"the aggregator {aggregator} takes no second modality"
        remedy = f"use one of {', '.join(FUSING)}, or take it out"
        problems.append(Problem(f"{where}.modality", what, remedy))
    if modality is not None and not Path(modality["table"]).is_file():
        what = f"the table {modality['table']} does not exist"
        problems.append(Problem(f"{where}.modality.table", what, "correct the path"))
    if fusing and "groups" in model["options"]:
        what = f"groups are no option of {aggregator}"
        problems.append(Problem(f"{where}.options", what, f"set {where.split()[-1]}.modality.groups"))
    return problems


def class_columns(config: Config) -> list[tuple[str, str]]:
    """Columns of classes and covariates that are named, by their key; the target of a fine-tuning among them."""
    found = [("summaries.biology", config["summaries"]["biology"])]
    found.append(("explanations.sample.strata_by", config["explanations"]["sample"]["strata_by"]))
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
    if explanations["patch_sets"] and len(explanations["models"]) > 1:
        what = f"the patches hold the logits of one model, but {len(explanations['models'])} are explained"
        remedy = "explain the model that they were saved with alone, in a configuration of its own"
        problems.append(Problem(f"{source}, key explanations.patch_sets", what, remedy))
    if explanations["models"] and not explanations["texts"]:
        remedy = "name at least one text, or set models: []"
        problems.append(Problem(f"{source}, key explanations.texts", "no explanation is given", remedy))
    return problems


def _file_problems(config: Config, source: str) -> list[Problem]:
    explanations = config["explanations"]
    files = {f"explanations.texts.{name}": path for name, path in explanations["texts"].items()}
    if "truth" in config:
        files["truth.table"] = config["truth"]["table"]
    if explanations["gate"]["table"] is not None:
        files["explanations.gate.table"] = explanations["gate"]["table"]
    problems = [
        Problem(f"{source}, key {key}", f"{path} does not exist", "correct the path")
        for key, path in files.items()
        if not Path(path).is_file()
    ]
    problems += reader_problems(explanations["reader"], source)
    return problems + [
        Problem(f"{source}, key explanations.patch_sets.{name}", f"{path} is no folder", "correct the path")
        for name, path in explanations["patch_sets"].items()
        if not Path(path).is_dir()
    ]


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
