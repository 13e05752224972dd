"""Survival analysis and groups of predictions from outside a study: their tables and settings, from the patients'."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from slidestudy.errors import Problem, StudyError
from slidestudy.grouping import group_names, inspected_columns
from slidestudy.labels import class_name
from slidestudy.prediction_files import PROBABILITY, SEVERAL, SURVIVAL, numbers
from slidestudy.stages import survival_endpoints
from slidestudy.subgroup_checks import subgroup_problems
from slidestudy.survival_checks import endpoint_problems, named_columns
from slidestudy.validation.outside import Joined

Section = Mapping[str, Any]
NOT_GROUPS = ("prediction", "prediction_sd", "threshold", "fold", "patient_id")
"""Columns of the table of predictions that are no slides' groups, beside those of the task."""


def check_further(section: Section, joined: Joined, title: str, task: str, patients: Path, source: str) -> None:
    """Checks the endpoints and the columns of groups, as those of a study are checked.

    Args:
        section: The configuration's section `validation`, complete.
        joined: The predictions; as a score they go by the title.
        title: What the model is called.
        task: Its task.
        patients: The file of patients, for the messages.
        source: The file of the section, likewise.

    Raises:
        StudyError: With all problems.
    """
    typed, problems = _typed_outcomes(section["survival"], joined.patients, patients)
    models = {title: {"task": task}}
    found = [] if problems else endpoint_problems(section["survival"], models, typed, source)
    slides = _slide_columns(joined)
    found += subgroup_problems(section["subgroups"], slides, joined.patients, source)
    for column in inspected_columns(section["subgroups"], slides, joined.patients):
        where = f"{source}, key validation.subgroups.{column}"
        found.append(Problem(where, f"no table has a column '{column}'", "add it to one of the tables, or take it out"))
    problems += [Problem(p.where.replace("key validation.", "key "), p.what, p.remedy) for p in found]
    if problems:
        raise StudyError.of(problems)


def _typed_outcomes(endpoints: Section, patients: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """The patients with times and events as numbers, and the problems of such cells."""
    typed, problems = patients.copy(), []
    for endpoint in endpoints.values():
        for key, wrong, remedy in (
            ("time", lambda value: "is negative" if value < 0 else "", "give the time since the start of follow-up"),
            ("event", lambda value: "" if value in (0, 1) else "is neither 0 nor 1", "give 1 or 0, or leave it blank"),
        ):
            if endpoint[key] in patients:
                typed[endpoint[key]], found = numbers(patients, endpoint[key], path, wrong, remedy)
                problems += found
    return typed, list(dict.fromkeys(problems))


def _slide_columns(joined: Joined) -> pd.DataFrame:
    """What the table of predictions says of slides besides their predictions and labels."""
    prefixes = (PROBABILITY, SEVERAL, SURVIVAL)
    taken = {*NOT_GROUPS, *joined.columns}
    return joined.slides[[c for c in joined.slides if c not in taken and not str(c).startswith(prefixes)]]


def survival_settings(section: Section, title: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `settings/survival.<model>.yaml` would hold; no endpoints where none is configured."""
    endpoints = survival_endpoints({"validation": section, "models": {title: {}}}, title)
    return {key: settings[key] for key in ("model", "seed", "bootstrap", "confidence")} | {"endpoints": endpoints}


def endpoint_tables(joined: Joined, endpoints: Section, title: str) -> dict[str, pd.DataFrame]:
    """What `settings/survival/<endpoint>.tsv` would hold, every cell as text."""
    cohorts = joined.slides.drop_duplicates("patient_id").set_index("patient_id")["cohort"]
    tables = {}
    for name, endpoint in endpoints.items():
        patients = joined.patients
        table = patients[["patient_id"]].assign(cohort=patients["patient_id"].map(cohorts))
        table = table.assign(time=patients[endpoint["time"]], event=patients[endpoint["event"]])
        for column in named_columns(endpoint, {title}):
            table[column] = patients[column]
        tables[name] = table.reset_index(drop=True)
    return tables


def subgroup_settings(section: Section, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `settings/subgroups.<model>.yaml` would hold."""
    columns = [{"column": column, **options} for column, options in section["subgroups"].items()]
    return {**settings, "subgroups": columns}


def subgroup_table(joined: Joined, section: Section) -> pd.DataFrame:
    """What `settings/subgroups.tsv` would hold: `slide_id cohort column group`."""
    of_slides, people = _slide_columns(joined), joined.patients.set_index("patient_id")
    tables = [pd.DataFrame(columns=["slide_id", "cohort", "column", "group"])]
    for column, options in section["subgroups"].items():
        values = of_slides[column] if column in of_slides else joined.slides["patient_id"].map(people[column])
        groups = group_names(values.map(class_name), options["edges"])
        tables.append(joined.slides[["slide_id", "cohort"]].assign(column=column, group=groups))
    return pd.concat(tables, ignore_index=True)
