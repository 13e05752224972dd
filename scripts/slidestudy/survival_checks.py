"""Checks of the endpoints of a survival analysis, and which columns of the patients' table they use."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from slidestudy.errors import Problem
from slidestudy.labels import class_name
from slidestudy.tables import did_you_mean

Options = Mapping[str, Any]
RESERVED = ("patient_id", "cohort", "time", "event")
"""Columns of the table of an endpoint, beside which the columns of scores and covariates stand by their own names."""
NO_SINGLE_NUMBER = ("multiclass", "multi-regression")
"""Tasks whose prediction is no single number."""


def named_columns(endpoint: Options, models: Collection[str]) -> list[str]:
    """The columns of patients.tsv that an endpoint uses beside time and event, each once.

    Args:
        endpoint: Its configuration.
        models: The models; a score of such a name is no column.
    """
    cluster = [endpoint["cluster"]] if endpoint["cluster"] is not None else []
    scores = [name for name in endpoint["scores"] if name not in models]
    return list(dict.fromkeys([*scores, *endpoint["covariates"], *endpoint["strata"], *cluster]))


def outcome_schemas(endpoints: Mapping[str, Options]) -> dict[str, Any]:
    """Column schemas of the times and events, so that a bad cell is told with its line."""
    found: dict[str, Any] = {}
    for name, endpoint in endpoints.items():
        of = f", or blank where unknown (endpoint {name})"
        words = f"a time, not negative{of}"
        found[endpoint["time"]] = {"type": ["number", "null"], "minimum": 0, "description": words}
        words = f"1 where the event happened, 0 where not{of}"
        found[endpoint["event"]] = {"type": ["integer", "null"], "enum": [0, 1, None], "description": words}
    return found


def endpoint_problems(
    endpoints: Mapping[str, Options], models: Mapping[str, Options], patients: pd.DataFrame, source: str
) -> list[Problem]:
    """All that is wrong with the endpoints.

    Args:
        endpoints: Endpoint -> its configuration, complete.
        models: Model -> its configuration, complete.
        patients: The patients' table, of the studied cohorts.
        source: The configuration's file, for the messages.
    """
    problems = []
    for name, endpoint in endpoints.items():
        where = f"{source}, key validation.survival.{name}"
        found = _name_problems(endpoint, models, list(patients.columns), where)
        problems += found or _value_problems(endpoint, models, patients, where)
    return problems


def _name_problems(
    endpoint: Options, models: Mapping[str, Options], columns: Sequence[str], where: str
) -> list[Problem]:
    """Columns that are not there or stand for two things, and scores that are no numbers."""
    problems, outcome = [], [endpoint["time"], endpoint["event"]]
    keys = [(key, endpoint[key]) for key in ("time", "event")]
    keys += [(f"covariates.{name}", name) for name in endpoint["covariates"]]
    keys += [("strata", name) for name in endpoint["strata"]]
    keys += [("cluster", endpoint["cluster"])] if endpoint["cluster"] is not None else []
    keys += [(f"scores.{name}", name) for name in endpoint["scores"] if name not in models]
    for key, column in keys:
        if column not in columns:
            kind = "neither a model nor a column of patients.tsv" if key.startswith("scores") else "no column"
            hint = did_you_mean(column, [*models, *columns] if key.startswith("scores") else list(columns))
            what = f"'{column}' is {kind}" + (" of patients.tsv" if kind == "no column" else "")
            problems.append(Problem(f"{where}.{key}", what, hint))
        elif key not in ("time", "event") and column in (*RESERVED, *outcome):
            what = f"'{column}' cannot be a score, covariate, stratum or cluster"
            problems.append(Problem(f"{where}.{key}", what, "name or make another column"))
    if endpoint["time"] == endpoint["event"]:
        problems.append(Problem(f"{where}.event", "time and event are one column", "name two columns"))
    for name in endpoint["scores"]:
        problems += _score_problems(name, models, columns, f"{where}.scores.{name}")
    if not set(endpoint["scores"]) & set(models):
        what = "none of the scores is a model"
        problems.append(Problem(f"{where}.scores", what, f"name one of {', '.join(models) or 'the models'}"))
    for name in [n for n in endpoint["covariates"] if n in {*endpoint["scores"], *endpoint["strata"]}]:
        what = f"'{name}' is a score or a stratum as well as a covariate"
        problems.append(Problem(f"{where}.covariates.{name}", what, "keep it in one place"))
    return problems


def _score_problems(name: str, models: Mapping[str, Options], columns: Sequence[str], where: str) -> list[Problem]:
    """A model whose prediction cannot be a score, or whose name is a column too."""
    if name not in models:
        return []
    if name in columns:
        return [Problem(where, f"'{name}' is both a model and a column of patients.tsv", "rename one of them")]
    if (task := models[name]["task"]) in NO_SINGLE_NUMBER:
        return [Problem(where, f"the prediction of task {task} is no single number", "name another model")]
    return []


def _value_problems(
    endpoint: Options, models: Mapping[str, Options], patients: pd.DataFrame, where: str
) -> list[Problem]:
    """Scores and covariates whose cells cannot be used, and outcomes that are known by half."""
    problems = []
    half = patients[endpoint["time"]].notna() != patients[endpoint["event"]].notna()
    if half.any():
        ids = _listed(patients.loc[half, "patient_id"])
        what = f"time or event is blank where the other is known: {ids}"
        problems.append(Problem(f"{where}.event", what, "fill in both, or leave both blank"))
    if not (patients[endpoint["event"]] == 1).any():
        what = f"no patient has an event in '{endpoint['event']}'"
        problems.append(Problem(f"{where}.event", what, "look at the column of events"))
    for name in endpoint["scores"]:
        if name not in models and (bad := not_numbers(patients[name])):
            what = f"the score '{name}' is not numeric: {_listed(bad)}"
            problems.append(Problem(f"{where}.scores.{name}", what, "correct the cells, or leave them blank"))
    for name, options in endpoint["covariates"].items():
        problems += _covariate_problems(name, options, patients[name], f"{where}.covariates.{name}")
    return problems


def _covariate_problems(name: str, options: Options, values: pd.Series, where: str) -> list[Problem]:
    """A covariate without two levels, or whose options do not go with its kind."""
    reference = options.get("reference")
    if reference is None and (bad := not_numbers(values)):
        what = f"the covariate '{name}' is not numeric: {_listed(bad)}"
        remedy = "give a reference level, which makes it categorical, or correct the cells"
        return [Problem(where, what, remedy)]
    levels = sorted({str(class_name(value)) for value in values if class_name(value) is not None})
    if len(levels) < 2:
        what = f"the covariate '{name}' has {'one level' if levels else 'no value'} in the studied patients"
        return [Problem(where, what, "take it out")]
    if reference is None:
        return []
    problems = []
    if reference not in levels:
        what = f"'{reference}' is no level of '{name}'"
        problems.append(Problem(f"{where}.reference", what, did_you_mean(reference, levels)))
    if "per" in options:
        what = f"'{name}' is categorical, as it has a reference level: it has no `per`"
        problems.append(Problem(f"{where}.per", what, "take out per, or reference"))
    return problems


def not_numbers(values: pd.Series) -> list[str]:
    """The distinct cells of a column that are neither blank nor finite numbers."""
    found = []
    for value in values[values.notna()].unique():
        try:
            finite = math.isfinite(float(value))
        except (TypeError, ValueError):
            finite = False
        if not finite:
            found.append(str(value))
    return found


def _listed(values: Collection[Any], most: int = 5) -> str:
    """Some of the values in words."""
    shown = [str(value) for value in list(values)[:most]]
    return ", ".join(shown) + (f" and {len(values) - most} more" if len(values) > most else "")
