"""A study: its checked configuration and tables, and the settings files that the workflow depends on."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from slidestudy.errors import Problem, StudyError
from slidestudy.files import write_text_if_changed
from slidestudy.settings import Config, check_config, dump_yaml, stage_settings
from slidestudy.tables import did_you_mean, read_table

ALLOWED_TASKS = {"ectil": "regression", "gated-abmil": "classification"}


@dataclass
class Study:
    """A checked study.

    Attributes:
        source: The configuration file.
        config: The configuration, complete, its input paths absolute.
        slides: One row per slide, `path` and `roi` absolute.
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
        """Names of the cohorts with a role, `development` or `external`."""
        return [name for name, cohort in self.config["cohorts"].items() if cohort["role"] == role]

    def labels(self, model: str) -> pd.DataFrame:
        """The labels of a model: `slide_id patient_id cohort center target`, one row per slide, target may be NaN."""
        target = self.config["models"][model]["target"]
        keep = ["slide_id", "patient_id", "cohort"]
        table = self.slides[[*keep, *([target] if target in self.slides.columns else [])]]
        columns = ["patient_id", "center", *([target] if target not in self.slides.columns else [])]
        table = table.merge(self.patients[columns], on="patient_id", how="left")
        table["target"] = pd.to_numeric(table[target])
        return table[[*keep, "center", "target"]]


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
    for encoder in config["encoders"].values():
        if encoder.get("weights") not in (None, "hub", "none"):
            encoder["weights"] = _absolute(base, encoder["weights"])
    explanations = config["explanations"]
    explanations["texts"] = {k: _absolute(base, v) for k, v in explanations["texts"].items()}
    for key in ("describe_prompt", "answer_prompt"):
        if key in explanations["reader"]:
            explanations["reader"][key] = _absolute(base, explanations["reader"][key])
    return config


def _check_config_references(config: Config, source: str) -> list[Problem]:
    """Problems of names within the configuration that point nowhere, and of files that do not exist."""
    problems = []
    for name, encoder in config["encoders"].items():
        where = f"{source}, key encoders.{name}"
        if encoder["backend"] == "timm" and not encoder.get("architecture"):
            problems.append(Problem(where, "a timm encoder needs an architecture", "e.g. architecture: resnet18"))
        if encoder["backend"] == "timm" and "weights" not in encoder:
            problems.append(Problem(where, "a timm encoder needs to say its weights", "weights: hub, none or a file"))
        weights = encoder.get("weights", "none")
        if weights not in ("hub", "none") and not Path(weights).is_file():
            problems.append(
                Problem(
                    where,
                    f"the weights file {weights} does not exist",
                    "correct the path, or weights: hub or none",
                )
            )
    for name, model in config["models"].items():
        where = f"{source}, key models.{name}"
        if model["encoder"] not in config["encoders"]:
            problems.append(
                Problem(
                    f"{where}.encoder",
                    f"unknown encoder '{model['encoder']}'",
                    did_you_mean(model["encoder"], list(config["encoders"])),
                )
            )
        if ALLOWED_TASKS[model["aggregator"]] != model["task"]:
            allowed = ALLOWED_TASKS[model["aggregator"]]
            problems.append(
                Problem(
                    f"{where}.task",
                    f"the aggregator {model['aggregator']} cannot do {model['task']}",
                    f"use task: {allowed}, or another aggregator",
                )
            )
        low, high = model.setdefault("target_range", [0, 100] if model["task"] == "regression" else [0, 1])
        if low >= high:
            problems.append(
                Problem(
                    f"{where}.target_range",
                    f"[{low}, {high}] is not a range",
                    "give the lowest, then the highest target",
                )
            )
    explanations = config["explanations"]
    references = [
        ("explanations.models", explanations["models"], list(config["models"]), "model"),
        ("explanations.sample.cohorts", explanations["sample"]["cohorts"], list(config["cohorts"]), "cohort"),
        ("truth.columns", list(config.get("truth", {}).get("columns", {})), list(config["models"]), "model"),
    ]
    for key, names, known, kind in references:
        problems += [
            Problem(f"{source}, key {key}", f"unknown {kind} '{n}'", did_you_mean(n, known))
            for n in names
            if n not in known
        ]
    if explanations["models"] and not explanations["texts"]:
        problems.append(
            Problem(
                f"{source}, key explanations.texts",
                "no explanation is given",
                "name at least one text, or set models: []",
            )
        )
    files = {f"explanations.texts.{k}": v for k, v in explanations["texts"].items()}
    files |= {
        f"explanations.reader.{k}": explanations["reader"][k]
        for k in ("describe_prompt", "answer_prompt")
        if k in explanations["reader"]
    }
    if "truth" in config:
        files["truth.table"] = config["truth"]["table"]
    problems += [
        Problem(f"{source}, key {key}", f"{path} does not exist", "correct the path")
        for key, path in files.items()
        if not Path(path).is_file()
    ]
    if not any(c["role"] == "development" for c in config["cohorts"].values()) and config["models"]:
        problems.append(
            Problem(f"{source}, key cohorts", "no cohort has the role development", "models need one to train on")
        )
    return problems


def _label_ranges(config: Config) -> dict[str, Any]:
    """Column schemas of the labels that the models use."""
    ranges: dict[str, Any] = {}
    for name, model in config["models"].items():
        low, high = model["target_range"]
        if model["task"] == "classification":
            ranges[model["target"]] = {
                "type": ["integer", "null"],
                "enum": [0, 1, None],
                "description": f"0 or 1, or blank where unknown (target of {name})",
            }
        else:
            ranges[model["target"]] = {
                "type": ["number", "null"],
                "minimum": low,
                "maximum": high,
                "description": f"between {low} and {high}, or blank where unknown (target of {name})",
            }
    return ranges


def _check_tables(study: Study) -> list[Problem]:
    """Problems between the tables, the configuration and the files on disk."""
    config, slides, patients = study.config, study.slides, study.patients
    cohorts = list(config["cohorts"])
    problems = []
    for name, table in (("slides", slides), ("patients", patients)):
        problems += [
            Problem(
                f"{config[name]}, line {row + 2}, column cohort",
                f"unknown cohort '{cohort}'",
                did_you_mean(str(cohort), cohorts),
            )
            for row, cohort in enumerate(table["cohort"])
            if cohort not in cohorts
        ]
    cohort_of = dict(zip(patients["patient_id"], patients["cohort"], strict=True))
    for row, (patient, cohort) in enumerate(zip(slides["patient_id"], slides["cohort"], strict=True)):
        where = f"{config['slides']}, line {row + 2}, column patient_id"
        if patient not in cohort_of:
            problems.append(
                Problem(
                    where,
                    f"patient '{patient}' is not in {Path(config['patients']).name}",
                    "add the patient there, or correct the id",
                )
            )
        elif cohort_of[patient] != cohort:
            problems.append(
                Problem(
                    where,
                    f"patient '{patient}' is of cohort '{cohort_of[patient]}', the slide of '{cohort}'",
                    "a patient belongs to one cohort",
                )
            )
    for column, kind in (("path", "slide"), ("roi", "ROI")):
        for row, path in enumerate(slides[column]):
            if isinstance(path, str) and not Path(path).exists():
                problems.append(
                    Problem(
                        f"{config['slides']}, line {row + 2}, column {column}",
                        f"the {kind} {path} does not exist",
                        "correct the path, or remove the line",
                    )
                )
    present = set(slides["cohort"])
    problems += [
        Problem(
            f"{config['slides']}",
            f"cohort '{c}' has no slide",
            "add its slides, or take it out of the config",
        )
        for c in cohorts
        if c not in present
    ]
    return problems


def _check_targets(study: Study) -> list[Problem]:
    """Problems of the models' labels and of how they can be folded."""
    problems = []
    for name, model in study.config["models"].items():
        target, where = model["target"], f"{study.source}, key models.{name}"
        in_slides, in_patients = target in study.slides.columns, target in study.patients.columns
        if not (in_slides or in_patients):
            known = sorted(
                (set(study.patients.columns) | set(study.slides.columns))
                - {"slide_id", "patient_id", "path", "mpp", "roi", "cohort"}
            )
            problems.append(
                Problem(f"{where}.target", f"no table has a column '{target}'", did_you_mean(target, known))
            )
            continue
        if in_slides and in_patients:
            problems.append(
                Problem(
                    f"{where}.target",
                    f"the column '{target}' stands in both tables",
                    "keep it in one of them",
                )
            )
            continue
        labels = study.labels(name)
        labelled = labels[labels["cohort"].isin(study.cohorts("development")) & labels["target"].notna()]
        group = "patient_id" if model["group_by"] == "patient" else "center"
        groups = labelled[group].nunique()
        if groups < model["folds"]:
            problems.append(
                Problem(
                    f"{where}.folds",
                    f"{model['folds']} folds need as many {model['group_by']}s with a label in the development"
                    f" cohorts, there are {groups}",
                    "use fewer folds"
                    + (" or group_by: patient" if group == "center" else "")
                    + (" (at least 3)" if groups < 3 else ""),
                )
            )
        if model["task"] == "classification" and labelled["target"].nunique() < 2:
            problems.append(
                Problem(
                    f"{where}.target",
                    f"'{target}' has one class only in the development cohorts",
                    "a classifier needs both",
                )
            )
    return problems


def load_study(config: Config, source: str | os.PathLike[str]) -> Study:
    """Checks a study's configuration and tables.

    Args:
        config: The configuration as read.
        source: The file it comes from; its relative input paths are relative to that file's folder.

    Raises:
        StudyError: With every problem that could be found; nothing has been computed or written then.
    """
    name = os.fspath(source)
    config = _resolve_paths(check_config(config, name), Path(source))
    problems = _check_config_references(config, name)
    if problems:
        raise StudyError.of(problems)
    tables, ranges = {}, _label_ranges(config)
    for key in ("slides", "patients"):
        try:
            tables[key] = read_table(config[key], key, ranges)
        except StudyError as error:
            problems += error.problems
    if problems:
        raise StudyError.of(problems)
    slides = tables["slides"]
    base = Path(config["slides"]).parent
    for column in ("mpp", "roi"):
        if column not in slides.columns:
            slides[column] = None
    for column in ("path", "roi"):
        slides[column] = [_absolute(base, v) if isinstance(v, str) else None for v in slides[column]]
    study = Study(Path(source), config, slides, tables["patients"])
    problems = _check_tables(study) or _check_targets(study)
    if problems:
        raise StudyError.of(problems)
    return study


def slide_entries(study: Study) -> dict[tuple[str, str], Config]:
    """What the tables say of each slide: `(cohort, slide_id) -> {slide_id, patient_id, cohort, path, mpp, roi}`."""
    keys = ["slide_id", "patient_id", "cohort", "path", "mpp", "roi"]
    rows = study.slides[keys].astype(object).where(study.slides[keys].notna(), None).to_dict("records")
    return {(str(row["cohort"]), str(row["slide_id"])): {str(k): v for k, v in row.items()} for row in rows}


def publish_settings(study: Study) -> None:
    """Writes the files that the rules depend on; each only if its content changed.

    `settings/<stage>.yaml`, `settings/slides/<cohort>/<slide>.json` and `settings/labels/<model>.tsv`.
    """
    folder = study.results / "settings"
    for stage, settings in stage_settings(study.config).items():
        # The report shows cohorts and models in the configuration's order.
        write_text_if_changed(folder / f"{stage}.yaml", dump_yaml(settings, keep_order=stage == "report"))
    for (cohort, slide), entry in slide_entries(study).items():
        write_text_if_changed(folder / "slides" / cohort / f"{slide}.json", json.dumps(entry, indent=2) + "\n")
    for model in study.config["models"]:
        text = study.labels(model).to_csv(sep="\t", index=False, lineterminator="\n", na_rep="")
        write_text_if_changed(folder / "labels" / f"{model}.tsv", text)
    roster = study.slides[["slide_id", "patient_id", "cohort"]].to_csv(sep="\t", index=False, lineterminator="\n")
    write_text_if_changed(folder / "roster.tsv", roster)
    patients = study.patients[["patient_id", "cohort", "center"]].to_csv(sep="\t", index=False, lineterminator="\n")
    write_text_if_changed(folder / "patients.tsv", patients)
