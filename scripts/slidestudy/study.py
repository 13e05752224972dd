"""A study: its checked configuration and tables, and the settings files that the workflow depends on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from slidestudy.adopted_checks import adopted_table_problems, is_adopted
from slidestudy.checks import check_references, check_tables, class_columns
from slidestudy.encoder_checks import encoder_problems
from slidestudy.encoder_entries import NOT_FILES
from slidestudy.errors import Problem, StudyError
from slidestudy.import_files import import_problems
from slidestudy.label_checks import (
    DEFAULT_RANGE,
    check_labels,
    check_target_column,
    column_schemas,
    complete_models,
    missing_targets,
)
from slidestudy.labels import is_labelled, target_columns
from slidestudy.reader_kinds import PROMPTS, weights_path
from slidestudy.settings import Config, check_config
from slidestudy.subgroup_checks import subgroup_problems
from slidestudy.survival_checks import endpoint_problems, outcome_schemas
from slidestudy.tables import read_table

STUDIED = ("development", "external")
"""Roles of the cohorts on which models are trained or validated."""


@dataclass
class Study:
    """A checked study.

    Attributes:
        source: The configuration file.
        config: The configuration, complete, its input paths absolute.
        slides: One row per slide, `path`, `roi` and `mask` absolute.
        patients: One row per patient.
    """

    source: Path
    config: Config
    slides: pd.DataFrame
    patients: pd.DataFrame

    @property
    def results(self) -> Path:
        """The output folder, as configured (relative to the working folder)."""
        return Path(self.config["results"])

    def cohorts(self, role: str) -> list[str]:
        """Names of the cohorts with a role, `development`, `external` or `pretraining`."""
        return [name for name, cohort in self.config["cohorts"].items() if cohort["role"] == role]

    def labels(self, model: str) -> pd.DataFrame:
        """The labels of a model, one row per slide.

        Returns:
            `slide_id patient_id cohort center`, the model's `columns` and its covariates; labels and covariates may
            be missing.
        """
        spec = self.config["models"][model]
        sources: Sequence[str | None] = target_columns(spec) or [None] * len(spec["columns"])
        found = {name: self.values(source)["value"] for name, source in zip(spec["columns"], sources, strict=True)}
        found |= {name: self.values(name)["value"] for name in spec["covariates"]}
        text = spec["columns"] if spec["task"] == "multiclass" else []
        typed = {name: values if name in text else pd.to_numeric(values) for name, values in found.items()}
        return pd.concat([self.values(None).drop(columns="value"), pd.DataFrame(typed)], axis=1)

    def labelled(self, model: str) -> pd.DataFrame:
        """The rows of a model's labels that it can be trained and tested on: development slides that have one."""
        spec, labels = self.config["models"][model], self.labels(model)
        chosen = labels["cohort"].isin(self.cohorts("development"))
        return labels[chosen & is_labelled(labels, spec["task"], spec["columns"])]

    def numbers(self, column: str, roles: Sequence[str] = STUDIED) -> pd.DataFrame:
        """A numeric column of either table, as `target`: `slide_id patient_id cohort center target`.

        Args:
            column: A column of the slides' or the patients' table.
            roles: Roles of the cohorts whose slides are listed.
        """
        table = self.values(column, roles).rename(columns={"value": "target"})
        return table.assign(target=pd.to_numeric(table["target"]))

    def values(self, column: str | None, roles: Sequence[str] = STUDIED) -> pd.DataFrame:
        """A column of either table, as `value`: `slide_id patient_id cohort center value`, one row per slide.

        Args:
            column: A column of the slides' or the patients' table; None gives blank values.
            roles: Roles of the cohorts whose slides are listed.
        """
        keep = ["slide_id", "patient_id", "cohort"]
        table = self.slides[self.slides["cohort"].isin([name for role in roles for name in self.cohorts(role)])]
        patients = self.patients.set_index("patient_id")
        found = table[keep].assign(center=table["patient_id"].map(patients["center"]))
        if column is None:
            return found.assign(value=None).reset_index(drop=True)
        values = table[column] if column in table.columns else table["patient_id"].map(patients[column])
        return found.assign(value=values).reset_index(drop=True)


def _absolute(base: Path, value: str) -> str:
    """A path as it stands if absolute, otherwise below the folder of the file that names it."""
    return os.path.normpath(base / Path(value).expanduser())


def _resolve_paths(config: Config, source: Path) -> Config:
    """Makes the input paths of a configuration absolute."""
    base = source.resolve().parent
    for key in ("slides", "patients"):
        config[key] = _absolute(base, config[key])
    if "truth" in config:
        config["truth"]["table"] = _absolute(base, config["truth"]["table"])
    if config["weights_dir"] is not None:
        config["weights_dir"] = _absolute(base, config["weights_dir"])
    for encoder in config["encoders"].values():
        if encoder.get("weights") not in (None, *NOT_FILES):
            encoder["weights"] = _absolute(base, encoder["weights"])
        template = encoder["normaliser"]["template"]
        # A plain name is one of config/templates.
        if Path(template).suffix:
            encoder["normaliser"]["template"] = _absolute(base, template)
        if "pretraining" in encoder and encoder["pretraining"]["start"] not in NOT_FILES:
            encoder["pretraining"]["start"] = _absolute(base, encoder["pretraining"]["start"])
    for model in config["models"].values():
        if "table" in model["splits"]:
            model["splits"]["table"] = _absolute(base, model["splits"]["table"])
        if "modality" in model:
            model["modality"]["table"] = _absolute(base, model["modality"]["table"])
        if is_adopted(model):
            model["predictions"] = _absolute(base, model["predictions"])
        if "published" in model:
            model["published"]["files"] = [_absolute(base, path) for path in model["published"]["files"]]
    for slide_encoder in config["slide_encoders"].values():
        if slide_encoder["weights"] != "hub":
            slide_encoder["weights"] = _absolute(base, slide_encoder["weights"])
    for entry in config["features"]["import"].values():
        entry |= {key: _absolute(base, entry[key]) for key in ("files", "coords") if key in entry}
    explanations = config["explanations"]
    for key in ("texts", "patch_sets"):
        explanations[key] = {k: _absolute(base, v) for k, v in explanations[key].items()}
    if explanations["gate"]["table"] is not None:
        explanations["gate"]["table"] = _absolute(base, explanations["gate"]["table"])
    reader = explanations["reader"]
    reader |= {key: _absolute(base, reader[key]) for key in PROMPTS if key in reader}
    weights = weights_path(reader, base)
    if weights is not None:
        reader["weights"] = _absolute(base, weights)
    return config


def _check_targets(study: Study) -> list[Problem]:
    """Problems of the labels that models and comparisons need, of how they can be folded, and of class columns."""
    problems = []
    tables, development = (study.slides, study.patients), study.cohorts("development")
    for key, column in class_columns(study.config):
        problems += check_target_column(column, f"{study.source}, key {key}", *tables)
    for name, options in study.config["comparisons"].items():
        where = f"{study.source}, key comparisons.{name}"
        found = check_target_column(options["target"], f"{where}.target", *tables)
        problems += found or check_labels(study.numbers(options["target"]), development, options, where)
    for name, model in study.config["models"].items():
        where = f"{study.source}, key models.{name}"
        found = missing_targets(model, f"{where}.target", *tables)
        if not found and not problems and "published" not in model and not is_adopted(model):
            found = check_labels(study.labels(name), development, model, where)
        problems += found
    studied = study.patients[study.patients["cohort"].isin([c for role in STUDIED for c in study.cohorts(role)])]
    studied_slides = study.slides[study.slides["cohort"].isin(set(studied["cohort"]))]
    validation = study.config["validation"]
    problems += subgroup_problems(validation["subgroups"], studied_slides, studied, str(study.source))
    endpoints = validation["survival"]
    return problems + endpoint_problems(endpoints, study.config["models"], studied, str(study.source))


def _name_held_out(study: Study) -> None:
    """Names the centres or cohorts that a leave-one-out scheme tests on, so that no lost slide changes the folds."""
    for name, model in study.config["models"].items():
        column = {"leave-one-center-out": "center", "leave-one-cohort-out": "cohort"}.get(model["splits"]["scheme"])
        if column is not None and not model["splits"].get("held_out"):
            model["splits"]["held_out"] = sorted(study.labelled(name)[column].unique())


def load_study(config: Config, source: str | os.PathLike[str], *, files: bool = True) -> Study:
    """Checks a study's configuration and tables.

    Args:
        config: The configuration as read.
        source: The file it comes from; its relative input paths are relative to that file's folder.
        files: Whether to look for every slide on disk; a job on a cluster need not do again what was done before.

    Raises:
        StudyError: With every problem that could be found; nothing has been computed or written then.
    """
    name = os.fspath(source)
    config = _resolve_paths(check_config(config, name), Path(source))
    for options in config["comparisons"].values():
        options.setdefault("target_range", DEFAULT_RANGE if options["task"] == "regression" else [0, 1])
    problems = complete_models(config, name) + check_references(config, name) + encoder_problems(config, name)
    if problems:
        raise StudyError.of(problems)
    tables, ranges = {}, {**outcome_schemas(config["validation"]["survival"]), **column_schemas(config)}
    for key in ("slides", "patients"):
        try:
            tables[key] = read_table(config[key], key, ranges)
        except StudyError as error:
            problems += error.problems
    if problems:
        raise StudyError.of(problems)
    slides = tables["slides"]
    base = Path(config["slides"]).parent
    for column in ("mpp", "roi", "mask"):
        if column not in slides.columns:
            slides[column] = None
    for column in ("path", "roi", "mask"):
        slides[column] = [_absolute(base, v) if isinstance(v, str) else None for v in slides[column]]
    study = Study(Path(source), config, slides, tables["patients"])
    problems = check_tables(config, study.slides, study.patients, files=files)
    problems += import_problems(config, study.slides, name, files=files)
    problems += adopted_table_problems(config, study.slides, name) if files else []
    problems = problems or _check_targets(study)
    if problems:
        raise StudyError.of(problems)
    _name_held_out(study)
    return study


def slide_entries(study: Study) -> dict[tuple[str, str], Config]:
    """What the tables say of each slide: `(cohort, slide_id)` -> `slide_id patient_id cohort path mpp roi mask`."""
    keys = ["slide_id", "patient_id", "cohort", "path", "mpp", "roi", "mask"]
    rows = study.slides[keys].astype(object).where(study.slides[keys].notna(), None).to_dict("records")
    return {(str(row["cohort"]), str(row["slide_id"])): {str(k): v for k, v in row.items()} for row in rows}
