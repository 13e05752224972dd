"""The space of a hyper-parameter search, checked before anything runs: its keys, values and bounds.

Keys of the recipe are checked against their own schema. What other keys an aggregator takes is known only where models
are built; those are checked when the search begins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jsonschema

from slidestudy.errors import Problem
from slidestudy.tables import load_schema

Schema = Mapping[str, Any]
NOT_SEARCHED = {
    "threads": "it changes speed only",
    "memory_gb": "it changes speed only",
    "pack_tiles": "it changes speed and memory only",
    "share_load": "it changes speed only",
    "seeds": "a setting is judged with one seed",
    "calibration": "settings are judged before calibration",
}
"""Keys of the recipe that no search may vary, and why."""


def recipe_schemas() -> dict[str, Any]:
    """The schema of every key of a model's section `training`."""
    properties: dict[str, Any] = load_schema("config")["$defs"]["model"]["properties"]["training"]["properties"]
    return properties


def is_integer(key: str, low: float, high: float) -> bool:
    """Whether a range is of whole numbers: those of the recipe by their schema, others where both bounds are whole."""
    schema = recipe_schemas().get(key)
    if schema is not None:
        return "integer" in _types(schema)
    return isinstance(low, int) and isinstance(high, int)


def space_problems(space: Mapping[str, Any], where: str) -> list[Problem]:
    """Mistakes in the space of a search.

    Args:
        space: Key -> list of values, or `low high log`; its form has been checked against the schema.
        where: Its place, for the messages.
    """
    schemas, problems = recipe_schemas(), []
    for key, values in space.items():
        place = f"{where}.{key}"
        if key in NOT_SEARCHED:
            problems.append(Problem(place, f"'{key}' is not searched: {NOT_SEARCHED[key]}", "set it in training"))
        elif isinstance(values, Mapping):
            problems += _range_problems(key, values, schemas.get(key), place)
        else:
            problems += _choice_problems(values, schemas.get(key), place)
    return problems


def inner_fold_problems(model: Mapping[str, Any], groups: int, where: str) -> list[Problem]:
    """Whether the folds of a model can be dealt once more for its search, if it has one.

    Args:
        model: The model's configuration.
        groups: Patients or centres with a label in the development cohorts.
        where: The model's place, for the messages.
    """
    if "search" not in model:
        return []
    folds, inner = model["folds"], model["search"]["inner_folds"]
    cut = model["splits"]["scheme"] in ("k-fold", "repeated-k-fold")
    # The largest test part of a cross-validation has at least this share of the groups.
    most = groups - math.ceil(groups / folds) if cut else groups
    if inner <= most:
        return []
    what = f"{inner} inner folds need as many {model['group_by']}s in each fold's training and validation parts"
    remedy = "use fewer inner folds (at least 3), or more folds"
    remedy += ", or group_by: patient" if model["group_by"] == "center" else ""
    return [Problem(f"{where}.search.inner_folds", f"{what}, some have {most} at most", remedy)]


def _types(schema: Schema) -> list[str]:
    kinds = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else list(kinds)


def _range_problems(key: str, bounds: Mapping[str, Any], schema: Schema | None, place: str) -> list[Problem]:
    """What is wrong with a range."""
    low, high = bounds["low"], bounds["high"]
    if schema is not None and not {"integer", "number"} & set(_types(schema)):
        return [Problem(place, f"'{key}' is no number and has no range", "give a list of values")]
    problems = []
    if low >= high:
        problems.append(Problem(place, f"low ({low}) is not below high ({high})", "give the lowest, then the highest"))
    if bounds.get("log") and low <= 0:
        what = f"a logarithmic scale cannot begin at {low}"
        problems.append(Problem(f"{place}.low", what, "give a low above 0, or log: false"))
    for name in ("low", "high"):
        problems += _value_problems(bounds[name], schema, f"{place}.{name}")
    return problems


def _choice_problems(values: list[Any], schema: Schema | None, place: str) -> list[Problem]:
    """What is wrong with a list of values."""
    problems = [p for i, value in enumerate(values) for p in _value_problems(value, schema, f"{place}.{i}")]
    if not problems and any(same(value, other) for i, value in enumerate(values) for other in values[:i]):
        problems.append(Problem(place, f"a value of {values} stands twice", "give each once"))
    return problems


def same(value: Any, other: Any) -> bool:
    """Whether two values of a list are the same to a model: 1 and 1.0 are, 1 and true are not."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _value_problems(value: Any, schema: Schema | None, place: str) -> list[Problem]:
    """Why a value does not pass its key's schema; nothing is known of keys without one."""
    if schema is None:
        return []
    validator = jsonschema.Draft202012Validator(dict(schema))
    errors = sorted(validator.iter_errors(value), key=lambda error: error.validator != "type")
    if errors and isinstance(value, str) and {"integer", "number"} & set(_types(schema)) and _reads_as_number(value):
        remedy = "write it without quotes, and an exponent with a point and a sign: 1.0e-4"
        return [Problem(place, f"YAML reads '{value}' as text, not as a number", remedy)]
    if not errors and isinstance(value, float) and "integer" in _types(schema):
        # JSON schemas take 16.0 for an integer, torch does not.
        return [Problem(place, f"{value} is no whole number", "write it without a point")]
    # The first error, the type before all others, says enough.
    return [Problem(place, error.message, str(schema.get("description", ""))) for error in errors[:1]]


def _reads_as_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
