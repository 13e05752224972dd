"""The study's configuration: checked against its schema, completed with defaults, cut into stages.

Each stage of the workflow depends on a file `settings/<stage>.yaml` that holds only what the stage reads
and is rewritten only when that changes; so a changed parameter reruns its stage and what follows, by time stamps.
"""

from __future__ import annotations

import copy
import math
import os
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from slidestudy.errors import Problem, StudyError
from slidestudy.tables import did_you_mean, load_schema

REGISTRY = Path(__file__).resolve().parents[2] / "config" / "encoders.yaml"
Config = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Makes a dictionary; where a key stands twice the last would win in silence."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                what = f"the key '{key.value}' stands twice in its section"
                raise yaml.constructor.ConstructorError(None, None, what, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_yaml(path: str | os.PathLike[str]) -> Any:
    """Reads a YAML file.

    Raises:
        StudyError: The file is missing or not YAML; with the line.
    """
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise StudyError("the configuration does not exist", str(path), "correct the path") from None
    except IsADirectoryError:
        raise StudyError("is a folder, not a configuration", str(path), "name the .yaml file in it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"cannot be read ({error})", str(path), "save it as UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        what = f"not valid YAML: {getattr(error, 'problem', None) or error}"
        raise StudyError(what, where, "check indentation, colons and quotes near that line") from None


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
    registry = load_yaml(REGISTRY)
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


def dump_yaml(value: Any, keep_order: bool = False) -> str:
    """YAML text of a settings file; keys sorted unless their order means something."""
    return yaml.safe_dump(value, sort_keys=not keep_order, allow_unicode=True, width=1000)


def explanation_names(config: Config) -> list[str]:
    """The written explanations and their automatic controls, by name."""
    explanations = config["explanations"]
    names = list(explanations["texts"])
    if "inverted" in explanations["controls"]:
        names += [f"{name}.inverted" for name in explanations["texts"]]
    if "irrelevant" in explanations["controls"]:
        names.append("control.irrelevant")
    return names


def stage_settings(config: Config) -> dict[str, Config]:
    """Cuts a complete configuration into what each stage reads.

    Returns:
        Stage name -> settings; written to `settings/<stage>.yaml`.
    """
    seed = config["seed"]
    stages: dict[str, Config] = {"slides": config["inspection"], "tissue": config["tissue"]}
    for name, encoder in config["encoders"].items():
        stages[f"features.{name}"] = {
            "encoder": {"name": name, **encoder},
            "tiles": config["tiles"],
            "seed": seed,
        }
    for name, model in config["models"].items():
        training_keys = [k for k in model if k not in ("cutoffs", "cutoff_rule")]
        stages[f"models.{name}"] = {"name": name, "seed": seed, **{k: model[k] for k in training_keys}}
        stages[f"validation.{name}"] = {
            "model": name,
            "seed": seed,
            **config["validation"],
            **{k: model[k] for k in ("task", "target", "cutoffs", "cutoff_rule")},
            "truth_column": config.get("truth", {}).get("columns", {}).get(name),
        }
    explanations = config["explanations"]
    sample = explanations["sample"]
    stages["explanations.sample"] = {
        **{k: v for k, v in sample.items() if k not in ("x1", "x3")},
        "seed": seed,
        "tiles": config["tiles"],
    }
    reader = explanations["reader"]
    stages["explanations.reader"] = {"seed": seed, **reader} if reader["kind"] == "vlm" else reader
    stages["explanations.scores"] = {
        **config["validation"],
        "seed": seed,
        "x1": sample["x1"],
        "x3": sample["x3"],
    }
    stages["report"] = {k: config[k] for k in ("study", "cohorts", "tiles", "encoders", "models", "explanations")}
    stages["report"]["truth"] = bool(config.get("truth"))
    stages["report"]["seed"] = seed
    return stages
