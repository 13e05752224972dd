"""The configuration of a study: checked against its schema and completed with defaults."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import jsonschema

from slidestudy.encoder_entries import load_registry
from slidestudy.errors import Problem, StudyError
from slidestudy.tables import did_you_mean, load_schema

REGISTRY = Path(__file__).resolve().parents[2] / "config" / "encoders.yaml"
Config = dict[str, Any]


def _resolve(schema: Config, root: Config) -> Config:
    """Follows a `$ref` within the schema."""
    while "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        schema = {**root["$defs"][name], **{k: v for k, v in schema.items() if k != "$ref"}}
    return schema


def fill_defaults(value: Any, schema: Config, root: Config) -> Any:
    """Returns a value completed with the defaults of its schema, in the schema's key order."""
    schema = _resolve(schema, root)
    if not isinstance(value, dict):
        return value
    properties = schema.get("properties", {})
    filled: Config = {}
    for key, part in properties.items():
        part = _resolve(part, root)
        if key in value:
            filled[key] = fill_defaults(value[key], part, root)
        elif "default" in part:
            filled[key] = fill_defaults(copy.deepcopy(part["default"]), part, root)
    extra = schema.get("additionalProperties")
    for key in value.keys() - properties.keys():
        filled[key] = fill_defaults(value[key], extra, root) if isinstance(extra, dict) else value[key]
    # Names chosen by the user (cohorts, models) keep the order in which they stand.
    return {
        key: filled[key]
        for key in [*[k for k in properties if k in filled], *[k for k in value if k not in properties]]
    }


def _as_list(instance: Any) -> list[Any]:
    """The keys of a mapping, or the items of a sequence."""
    return list(instance or [])


def _is_number(value: Any) -> bool:
    """Whether a text would be a number."""
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False


def _problems_of(error: jsonschema.ValidationError, source: str) -> list[Problem]:
    """A schema error in words."""
    path = ".".join(str(p) for p in error.absolute_path)
    where = f"{source}, key {path}" if path else source
    schema = error.schema if isinstance(error.schema, dict) else {}
    described = str(schema.get("description", ""))
    if error.validator == "additionalProperties":
        known = sorted(schema.get("properties", {}))
        unknown = [key for key in _as_list(error.instance) if key not in known]
        return [Problem(where, f"unknown key '{key}'", did_you_mean(str(key), known)) for key in unknown]
    if error.validator == "required":
        required: list[str] = list(schema.get("required", []))
        missing = [key for key in required if key not in _as_list(error.instance)]
        parts = schema.get("properties", {})
        return [
            Problem(
                where,
                f"the key '{key}' is missing",
                f"add it: {parts.get(key, {}).get('description', '')}".rstrip(": "),
            )
            for key in missing
            if f"'{key}'" in error.message
        ]
    if error.validator == "type" and error.instance is None:
        wanted = "a section, {} where nothing is to be set" if error.validator_value == "object" else "a value"
        return [Problem(where, "has no value", f"give {wanted}: {described}".rstrip(": "))]
    if error.validator == "type" and error.validator_value in ("number", "integer") and _is_number(error.instance):
        remedy = "write it without quotes, and an exponent with a point and a sign: 1.0e-4"
        return [Problem(where, f"YAML reads '{error.instance}' as text, not as a number", remedy)]
    if error.validator == "pattern":
        remedy = "use letters, digits, '-' and '_', and begin with a letter or digit"
        return [Problem(where, f"the name '{error.instance}' has characters that are not allowed", remedy)]
    return [Problem(where, error.message, described)]


def _misread(value: Any, source: str, path: str = "") -> list[Problem]:
    """Problems that a JSON schema cannot see: keys that YAML takes for numbers or booleans, and .nan or .inf."""
    where = f"{source}, key {path}" if path else source
    if isinstance(value, float) and not math.isfinite(value):
        return [Problem(where, f"{value} is not a finite number", "give a number")]
    if isinstance(value, list):
        return [p for i, item in enumerate(value) for p in _misread(item, source, f"{path}.{i}")]
    if not isinstance(value, dict):
        return []
    problems = [
        Problem(where, f"YAML does not read the name {key} as text", "put it in quotes")
        for key in value
        if not isinstance(key, str)
    ]
    return problems + [p for k, part in value.items() for p in _misread(part, source, f"{path}.{k}".lstrip("."))]


def check_section(section: Any, key: str, source: str) -> Config:
    """Checks one section of a configuration, which stands in a file of its own, and completes it.

    Args:
        section: As read from YAML; None and {} give the defaults.
        key: The section's key in the configuration.
        source: Name of the file, for the messages.

    Raises:
        StudyError: With all problems.
    """
    schema, section = load_schema("config"), {} if section is None else section
    own = {**schema["properties"][key], "$defs": schema["$defs"]}
    problems = _misread(section, source)
    problems += [p for e in jsonschema.Draft202012Validator(own).iter_errors(section) for p in _problems_of(e, source)]
    if problems:
        raise StudyError.of(sorted(dict.fromkeys(problems), key=lambda p: p.where))
    return fill_defaults(copy.deepcopy(section), own, schema)


def check_config(config: Config, source: str) -> Config:
    """Checks a configuration against its schema and completes it.

    Args:
        config: As read from YAML.
        source: Name of the file, for the messages.

    Returns:
        The configuration with all defaults, and every encoder merged with its entry in the registry.

    Raises:
        StudyError: With all problems: unknown or missing keys, wrong types, values out of range.
    """
    if not isinstance(config, dict) or not config:
        raise StudyError("holds no configuration", source, "start from config/config.yaml or `slidestudy init FOLDER`")
    schema = load_schema("config")
    validator = jsonschema.Draft202012Validator(schema)
    problems = _misread(config, source)
    problems += [p for error in validator.iter_errors(config) for p in _problems_of(error, source)]
    if problems:
        raise StudyError.of(sorted(dict.fromkeys(problems), key=lambda p: p.where))
    config = copy.deepcopy(config)
    own = [Path(source).resolve().parent / Path(name).expanduser() for name in config.get("registries", [])]
    registry = load_registry([REGISTRY, *own])
    for name, entry in config["encoders"].items():
        config["encoders"][name] = {**registry.get(name, {}), **entry}
        if "backend" not in config["encoders"][name]:
            problems.append(
                Problem(
                    f"{source}, key encoders.{name}",
                    "no such encoder in the registry, and no backend is given",
                    f"{did_you_mean(name, sorted(registry))} Or give a `backend`",
                )
            )
    if problems:
        raise StudyError.of(problems)
    return fill_defaults(config, schema, schema)
