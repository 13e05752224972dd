"""A study: its checked configuration and tables, and the settings files that the workflow depends on."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from slidestudy.checks import (
    DEFAULT_RANGES,
    check_labels,
    check_references,
    check_tables,
    check_target_column,
    label_ranges,
)
from slidestudy.errors import Problem, StudyError
from slidestudy.files import write_text_if_changed
from slidestudy.settings import Config, check_config, dump_yaml, stage_settings
from slidestudy.tables import read_table


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


def _check_targets(study: Study) -> list[Problem]:
    """Problems of the models' labels and of how they can be folded."""
    problems = []
    for name, model in study.config["models"].items():
        where = f"{study.source}, key models.{name}"
        found = check_target_column(model["target"], f"{where}.target", study.slides, study.patients)
        problems += found or check_labels(study.labels(name), study.cohorts("development"), model, where)
    return problems


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
    for model in config["models"].values():
        model.setdefault("target_range", DEFAULT_RANGES[model["task"]])
    problems = check_references(config, name)
    if problems:
        raise StudyError.of(problems)
    tables, ranges = {}, label_ranges(config)
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
    problems = check_tables(config, study.slides, study.patients, files=files) or _check_targets(study)
    if problems:
        raise StudyError.of(problems)
    return study


def slide_entries(study: Study) -> dict[tuple[str, str], Config]:
    """What the tables say of each slide: `(cohort, slide_id)` -> `slide_id patient_id cohort path mpp roi mask`."""
    keys = ["slide_id", "patient_id", "cohort", "path", "mpp", "roi", "mask"]
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
