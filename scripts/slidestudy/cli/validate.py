"""`slidestudy validate`: the whole validation of a table of predictions from anywhere, without a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from slidestudy.cli.output import print_table
from slidestudy.errors import StudyError
from slidestudy.files import atomic_path, file_digest, versions, write_text
from slidestudy.settings import check_section
from slidestudy.stages import MEASURED
from slidestudy.tables import load_schema, write_table
from slidestudy.validation.further_stages import SUBGROUPS, SURVIVAL, further_paths, run_subgroups, run_survival
from slidestudy.validation.metrics import MAIN_METRIC
from slidestudy.validation.outside import Joined, join_outside
from slidestudy.validation.outside_further import (
    check_further,
    endpoint_tables,
    subgroup_settings,
    subgroup_table,
    survival_settings,
)
from slidestudy.validation.outside_labels import Outside
from slidestudy.validation.paper_tables import write_paper_tables
from slidestudy.validation.stage import output_paths, run_validation
from slidestudy.yaml_files import dump_yaml, load_yaml

ALSO_SHOWN = {"regression": ("spearman", "ccc", "auroc"), "survival-cox": ("c_index_uno", "auroc")}
"""Task -> metrics that are printed beside the headline's."""
NEED_TILES = ("heatmaps", "shift")
"""Keys of the settings that a table of predictions can do nothing with."""
CARD, JOINED, TABLES = "validation.yaml", "predictions.tsv", "tables"
"""What the validation was of and how, the joined table, and the folder of tables for a paper."""


class Task(StrEnum):
    """Tasks whose predictions can be validated."""

    REGRESSION = "regression"
    CLASSIFICATION = "classification"
    MULTICLASS = "multiclass"
    MULTI_REGRESSION = "multi-regression"
    SURVIVAL = "survival-cox"


class CutoffRule(StrEnum):
    """How a label counts as positive at a cut-off."""

    ABOVE = ">"
    FROM = ">="


@dataclass(frozen=True)
class How:
    """How predictions are validated.

    Attributes:
        cutoffs: Cut-offs of the label, or times.
        rule: How a label counts as positive at a cut-off.
        settings: A file with the keys of the configuration's section `validation`, or None.
        title: What the model is called.
    """

    cutoffs: Sequence[float]
    rule: CutoffRule
    settings: Path | None
    title: str


def validate_outside(request: Outside, how: How, output: Path, console: Console) -> None:
    """Validates predictions and prints the headline metrics.

    Args:
        request: The tables, and what they hold.
        how: How they are measured.
        output: The folder that is written; it must hold nothing but an earlier validation.
        console: Where to print.

    Raises:
        StudyError: With all problems of the tables, or of the settings.
    """
    _check_output(output)
    given = load_yaml(how.settings) if how.settings else {}
    section = check_section(given, "validation", str(how.settings))
    joined = join_outside(request)
    check_further(section, joined, how.title, request.task, request.patients, str(how.settings))
    settings = _settings(request, how, joined, section)
    with atomic_path(output) as partial:
        partial.mkdir()
        outputs = {name: path for name, path in output_paths(partial).items() if name != "truth"}
        metrics = run_validation(joined.cohorts, joined.roles, settings, None, outputs)
        found = {"metrics": metrics, **_run_further(section, joined, settings, partial)}
        (partial / TABLES).mkdir()
        write_paper_tables(partial / TABLES, found, settings)
        tables = [table.assign(cohort=cohort, role=joined.roles[cohort]) for cohort, table in joined.cohorts.items()]
        write_table(partial / JOINED, pd.concat(tables, ignore_index=True))
        further = {key: section[key] for key in ("survival", "subgroups") if section[key]}
        write_text(partial / CARD, dump_yaml(_card(request, {**settings, **further}), keep_order=True))
    unused = [f"{key} needs tiles: it is not made" for key in NEED_TILES if key in (given or {})]
    for note in [*joined.notes, *unused]:
        console.print(note, soft_wrap=True)
    _print_metrics(metrics, settings, console)
    console.print(f"\nAll tables and figures: {output.resolve()}", soft_wrap=True)


def _run_further(
    section: Mapping[str, Any], joined: Joined, settings: dict[str, Any], folder: Path
) -> dict[str, pd.DataFrame]:
    """Survival analysis and groups, where the settings have them; the tables that a paper shows, by name."""
    found, data = {}, (joined.cohorts, joined.roles)
    if section["survival"]:
        own = survival_settings(section, settings["model"], settings)
        tables = endpoint_tables(joined, own["endpoints"], settings["model"])
        found["cox"] = run_survival(*data, tables, own, further_paths(folder, SURVIVAL))
    if section["subgroups"]:
        own, groups = subgroup_settings(section, settings), subgroup_table(joined, section)
        found["subgroups"] = run_subgroups(*data, groups, own, further_paths(folder, SUBGROUPS))
    return found


def _check_output(output: Path) -> None:
    """Refuses a folder that holds anything but an earlier validation, which is replaced as a whole.

    Raises:
        StudyError: It is a file, or holds other things.
    """
    remedy = "name another by --output"
    if output.exists() and not output.is_dir():
        raise StudyError("is no folder", str(output), remedy)
    if output.resolve() == Path.cwd():
        raise StudyError("is the working folder, which cannot be replaced", str(output), remedy)
    present = {path.name for path in output.iterdir()} if output.is_dir() else set()
    known = {CARD, JOINED, TABLES, *(path.name for path in output_paths(output).values())}
    known |= {*SURVIVAL.values(), *SUBGROUPS.values()}
    if others := sorted(present - known):
        raise StudyError(f"holds other things: {', '.join(others[:5])}", str(output), remedy)


def _settings(request: Outside, how: How, joined: Joined, section: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a model's validation."""
    return {
        "model": how.title,
        "seed": load_schema("config")["properties"]["seed"]["default"],
        **{key: section[key] for key in MEASURED},
        "task": request.task,
        "target": joined.target,
        "columns": joined.columns,
        "target_range": list(request.span) if request.span else None,
        "cutoffs": sorted(set(how.cutoffs)),
        "cutoff_rule": str(how.rule),
        "truth_column": None,
    }


def _card(request: Outside, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What was validated, by the digests of its files, and how."""
    files = {"predictions": request.predictions, "patients": request.patients}
    return {
        "settings": dict(settings),
        "files": {key: {"name": path.name, "sha256": file_digest(path)} for key, path in files.items()},
        "software": versions("numpy", "pandas", "scipy", "scikit-learn", "matplotlib"),
    }


def _print_metrics(metrics: pd.DataFrame, settings: Mapping[str, Any], console: Console) -> None:
    """Prints the headline metrics of each cohort and level, with their intervals."""
    shown = [MAIN_METRIC[settings["task"]], *ALSO_SHOWN.get(settings["task"], ())]
    table = metrics[metrics["metric"].isin(shown) & (metrics["target"].fillna("") == "")]
    rows = []
    for row in table.to_dict("records"):
        at = "" if pd.isna(row["threshold"]) else f"{settings['cutoff_rule']} {row['threshold']:g}"
        at = at.replace(settings["cutoff_rule"], "by") if settings["task"] == "survival-cox" else at
        value = str(row["undefined_reason"]) if pd.isna(row["value"]) else f"{row['value']:.3f}"
        interval = "" if pd.isna(row["ci_low"]) else f"{row['ci_low']:.3f} to {row['ci_high']:.3f}"
        name = f"{row['metric']} {at}".strip()
        rows.append((row["cohort"], row["role"], row["level"], name, value, interval, row["n"], row["n_patients"]))
    columns = ["cohort", "role", "level", "metric", "value", f"{settings['confidence']:.0%} interval", "n", "patients"]
    print_table(console, settings["model"], columns, rows)
