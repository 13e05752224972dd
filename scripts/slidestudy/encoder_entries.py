"""Entries of encoder registries: read, checked, and held against a study's tiles."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema

from slidestudy.errors import Problem, StudyError
from slidestudy.tables import did_you_mean, load_schema
from slidestudy.yaml_files import load_yaml

Entry = dict[str, Any]
NOT_FILES = ("hub", "none", "study")
"""What `weights` may be instead of a file or folder."""


def load_registry(paths: Iterable[str | os.PathLike[str]]) -> dict[str, Entry]:
    """Reads registry files: encoder entries by name.

    Args:
        paths: Files like `config/encoders.yaml`.

    Returns:
        The entries of all files, as they stand there, their weights files absolute (they are relative to the file
        that names them).

    Raises:
        StudyError: With every problem: unknown keys, wrong types, a name that stands in two files.
    """
    registry: dict[str, Entry] = {}
    places: dict[str, str] = {}
    problems: list[Problem] = []
    for path in paths:
        source, content = os.fspath(path), load_yaml(path)
        if not isinstance(content, dict):
            remedy = "write one section per encoder, like those of config/encoders.yaml"
            problems.append(Problem(source, "holds no encoder entries", remedy))
            continue
        for name, entry in content.items():
            problems += _entry_problems(str(name), entry, source)
            if name in places:
                what = f"'{name}' stands in {places[name]} too"
                problems.append(Problem(f"{source}, encoder {name}", what, "give one of them another name"))
            places[name] = source
            registry[name] = _with_absolute_weights(entry, Path(source)) if isinstance(entry, dict) else entry
    if problems:
        raise StudyError.of(problems)
    return registry


def _with_absolute_weights(entry: Entry, source: Path) -> Entry:
    """The entry, its weights file made absolute."""
    weights = entry.get("weights")
    if not isinstance(weights, str) or weights in NOT_FILES:
        return entry
    return {**entry, "weights": os.path.normpath(source.resolve().parent / Path(weights).expanduser())}


def _entry_problems(name: str, entry: Any, source: str) -> list[Problem]:
    """Problems of one entry against the schema of a study's encoders."""
    schema = load_schema("config")
    names = schema["properties"]["encoders"]["propertyNames"]
    where = f"{source}, encoder {name}"
    problems = []
    if not jsonschema.Draft202012Validator(names).is_valid(name):
        remedy = "use letters, digits, '-', '_' and '.', and begin with a letter or digit"
        problems.append(Problem(where, "the name has characters that are not allowed", remedy))
    validator = jsonschema.Draft202012Validator({**schema["$defs"]["encoder"], "$defs": schema["$defs"]})
    for error in validator.iter_errors(entry):
        problems += _schema_problems(error, where)
    if isinstance(entry, dict) and "backend" not in entry:
        remedy = f"add it: {schema['$defs']['encoder']['properties']['backend']['description']}"
        problems.append(Problem(where, "the key 'backend' is missing", remedy))
    return problems


def _schema_problems(error: jsonschema.ValidationError, where: str) -> list[Problem]:
    """A schema error in words."""
    path = ".".join(str(part) for part in error.absolute_path)
    where = f"{where}, key {path}" if path else where
    schema = error.schema if isinstance(error.schema, dict) else {}
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = sorted(schema.get("properties", {}))
        unknown = [str(key) for key in error.instance if key not in known]
        return [Problem(where, f"unknown key '{key}'", did_you_mean(key, known)) for key in unknown]
    return [Problem(where, error.message, str(schema.get("description", "")))]


def describe_tiles(tiles: Iterable[Entry]) -> str:
    """Tile geometries in words, e.g. `224 px at 0.5 um/px`."""
    return " or ".join(f"{t['size']} px at {t['mpp']:g} um/px" for t in tiles)


def tiles_fit(entry: Entry, tiles: Entry) -> bool:
    """Whether tiles (`size` px, `mpp` um/px) are among those that an encoder is meant for; true where it names none."""
    allowed = entry.get("tiles")
    same = (t["size"] == tiles["size"] and abs(t["mpp"] / tiles["mpp"] - 1) < 1e-6 for t in allowed or [])
    return not allowed or any(same)


def tile_problem(name: str, entry: Entry, tiles: Entry) -> Problem | None:
    """The problem of an encoder that is meant for other tiles than the study's; None where there is none.

    Args:
        name: The encoder's name.
        entry: Its entry.
        tiles: The study's tiles, `size` in px and `mpp` in um/px.
    """
    if entry.get("allow_other_tiles") or tiles_fit(entry, tiles):
        return None
    what = f"is meant for tiles of {describe_tiles(entry['tiles'])}, the study's are {describe_tiles([tiles])}"
    return Problem(
        f"encoder {name}", what, "change `tiles`, or set `allow_other_tiles: true`, which every store records"
    )
