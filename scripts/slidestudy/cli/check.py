"""`slidestudy check`: what is wrong with a study, what would be lost and why, and what it will cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import Progress

from slidestudy.cli.output import duration_text, print_table, size_text
from slidestudy.cli.survey import (
    EncoderCost,
    Record,
    count_labels,
    count_tiles,
    disk_bytes,
    drawn_problems,
    inspect_slides,
    problems_after_losses,
    time_encoder,
)
from slidestudy.errors import Problem, StudyError
from slidestudy.explanations.naming import read_texts
from slidestudy.explanations.readers.prompts import check_prompts
from slidestudy.features import stain_texture
from slidestudy.features.availability import Weights, find_weights
from slidestudy.features.study_imports import survey_imports
from slidestudy.slides.admission import admit
from slidestudy.study import Study, load_study, slide_entries
from slidestudy.tissue.quality_tables import warning_table
from slidestudy.yaml_files import load_yaml

UNTIMED = (Weights.HUB, Weights.STUDY, Weights.IMPORTED)
"""Where the weights of encoders are that cannot be tried before the study runs."""


def check_study(config: Path, console: Console, *, fast: bool, workers: int) -> None:
    """Checks a study and prints what was found.

    Args:
        config: The study's configuration.
        console: Where to print.
        fast: Whether to leave slides unopened and encoders untimed.
        workers: Processes that inspect slides; also the number by which the time is divided.

    Raises:
        StudyError: The study cannot run; with every reason. Slides that would be lost are none.
    """
    study = load_study(load_yaml(config), config)
    read_texts(study.config["explanations"])
    check_prompts(study.config["explanations"]["reader"])
    console.print(f"{config}: the configuration and its tables are in order.")
    counts = f"{len(study.slides)} slides of {len(study.patients)} patients"
    console.print(f"{counts}; cohorts: {', '.join(study.config['cohorts'])}.")
    problems, weights = _find_all_weights(study)
    admitted = study.slides
    records: list[Record] = []
    if not fast:
        problems += drawn_problems(study)
        admitted, records = _check_slides(study, console, workers)
        problems += problems_after_losses(study, admitted)
        problems += _check_imports(study, records, console)
    _print_labels(study, admitted, console)
    if records and weights:
        problems += _print_costs(study, records, weights, console, workers)
    if problems:
        raise StudyError.of(dict.fromkeys(problems))
    console.print(f"\nThe study can run: snakemake --configfile {config} --cores {workers}", style="bold")


def _find_all_weights(study: Study) -> tuple[list[Problem], dict[str, Weights]]:
    """Where the weights of each encoder that is run are, and the problems of those that are nowhere."""
    problems: list[Problem] = []
    weights: dict[str, Weights] = {}
    for name, encoder in study.config["encoders"].items():
        if name in study.config["features"]["import"]:
            continue
        try:
            weights[name] = find_weights(name, encoder, study.config["weights_dir"])
        except StudyError as error:
            problems += error.problems
    return problems, weights


def _check_slides(study: Study, console: Console, workers: int) -> tuple[pd.DataFrame, list[Record]]:
    """Opens every slide; returns those admitted, as a table and as their inspection records."""
    entries = list(slide_entries(study).values())
    # Without auto-refresh there is no thread that a forked worker could inherit in the middle of a line.
    with Progress(console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("opening slides", total=len(entries))
        records = inspect_slides(entries, study.config, workers, lambda: bar.update(task, advance=1, refresh=True))
    options = study.config["inspection"]
    admission = admit(records, options["near_duplicates"], options["near_duplicate_bits"])
    admitted, lost = admission.admitted, admission.lost
    columns = ["cohort", "slide_id", "code", "message"]
    title = f"Slides that would be lost: {len(lost)} of {len(records)}"
    if len(lost):
        print_table(console, title, ["cohort", "slide", "code", "message"], lost[columns].to_numpy().tolist())
    else:
        console.print(f"\n{title}", style="bold")
    kept = [record for record in records if record["slide_id"] in set(admitted["slide_id"])]
    warnings = warning_table(kept, [], admission.lookalikes).drop(columns=["patient_id", "stage"])
    if len(warnings):
        columns = ["cohort", "slide", "code", "warning"]
        print_table(console, f"Warnings: {len(warnings)}", columns, warnings.to_numpy().tolist())
    _print_cohorts(study, admitted, console)
    return admitted, kept


def _check_imports(study: Study, records: Sequence[Record], console: Console) -> list[Problem]:
    """Prints the slides whose imported features would be lost; returns the problems of imports that fit no file."""
    inspections = {(record["cohort"], record["slide_id"]): record for record in records}
    found = survey_imports(study.config, slide_entries(study), inspections)
    columns = ["encoder", "cohort", "slide", "message"]
    for title, rows in (("Features that are missing", found.missing), ("Features of no use", found.unusable)):
        if rows:
            print_table(console, f"{title}: {len(rows)}", columns, rows)
    return found.problems


def _print_cohorts(study: Study, admitted: pd.DataFrame, console: Console) -> None:
    """Prints how many slides and patients of each cohort can be used."""
    rows = []
    for name, cohort in study.config["cohorts"].items():
        every, left = (t[t["cohort"] == name] for t in (study.slides, admitted))
        patients = f"{left['patient_id'].nunique()} of {(study.patients['cohort'] == name).sum()}"
        rows.append((name, cohort["role"], f"{len(left)} of {len(every)}", patients))
    print_table(console, "Admitted", ["cohort", "role", "slides", "patients"], rows)
    for name, _, slides, _ in rows:
        if slides.startswith("0 "):
            console.print(f"Cohort {name} has no slide left.")


def _print_labels(study: Study, admitted: pd.DataFrame, console: Console) -> None:
    """Prints how many labels each model has."""
    labels = count_labels(study, admitted)
    if labels.empty:
        console.print("\nNo model is configured: the study ends with the features.")
        return
    labels["positive"] = labels["positive"].astype(object).where(labels["positive"].notna(), "")
    rows = [[_plain(cell) for cell in row] for row in labels.to_numpy().tolist()]
    print_table(console, "Labels", list(labels.columns), rows)


def _plain(cell: Any) -> object:
    """A count without the decimals that a column with blanks gives it."""
    return int(cell) if isinstance(cell, float) else cell


def _print_costs(
    study: Study, records: Sequence[Record], weights: dict[str, Weights], console: Console, workers: int
) -> list[Problem]:
    """Prints tiles, disk and time per encoder; returns the problems of encoders that cannot be built."""
    tiles = count_tiles(records, study.config["tiles"])
    rows, problems = [], []
    for name, place in weights.items():
        encoder = study.config["encoders"][name]
        cost: EncoderCost | None = None
        # An encoder on the hub is not timed, as that would download it; one that the study trains is not there yet.
        if place not in UNTIMED:
            try:
                cost = time_encoder({"name": name, **encoder}, study.config, records[0])
            except StudyError as error:
                problems += error.problems
                continue
        known = stain_texture.DIM if encoder["backend"] == "stain-texture" else encoder.get("dim")
        dim = cost.dim if cost else known
        disk = f"at most {size_text(disk_bytes(tiles, dim))}" if dim else "unknown"
        duration = f"at most {duration_text(tiles * cost.seconds / workers)}" if cost else "unknown"
        each = f"{1000 * cost.seconds:.3g} ms" if cost else "not measured"
        rows.append((name, place, dim or "unknown", disk, each, duration))
    title = f"Cost of the features: at most {tiles} tiles (whole slides; masks leave fewer)"
    columns = ["encoder", "weights", "dim", "disk", "a tile here", f"time, {workers} jobs at once"]
    print_table(console, title, columns, rows)
    return problems
