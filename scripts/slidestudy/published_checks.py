"""Checks of the models of a study that are published weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from slidestudy.encoder_entries import describe_tiles
from slidestudy.errors import Problem
from slidestudy.published_kinds import PUBLISHED
from slidestudy.settings import Config, fill_defaults
from slidestudy.tables import load_schema

MEANINGLESS = (
    "training",
    "options",
    "covariates",
    "modality",
    "splits",
    "folds",
    "group_by",
    "time_bins",
    "search",
    "label_efficiency",
)
"""Keys of a model that say how it is trained."""
FIXED = ("task", "aggregator", "target_range")
"""Keys of a model that the weights decide."""


def published_problems(config: Config, source: str) -> list[Problem]:
    """Problems of the models that are published weights, within the configuration and on disk.

    Args:
        config: The configuration, complete, its input paths absolute. A key that only training needs may have its
            default, which is not told from a key that is not given. `task`, `aggregator` and `target_range` may be
            absent, filled in from the kind, or as the user gave them.
        source: Its file, for the messages.
    """
    schema = load_schema("config")
    defaults = fill_defaults({}, schema["$defs"]["model"], schema)
    problems: list[Problem] = []
    for name, model in config["models"].items():
        # Predictions from a file are no weights: adopted_checks says so.
        if "published" in model and "predictions" not in model:
            where = f"{source}, key models.{name}"
            problems += _file_problems(model["published"]["files"], f"{where}.published.files")
            problems += _key_problems(model, defaults, where)
            problems += _feature_problems(model, config, where)
    return problems


def _file_problems(files: list[str], where: str) -> list[Problem]:
    """Files of weights that are not there."""
    remedy = "download it from its authors, or correct the path"
    return [Problem(where, f"{path} does not exist", remedy) for path in files if not Path(path).is_file()]


def _key_problems(model: Config, defaults: Config, where: str) -> Iterator[Problem]:
    """Keys that mean nothing of published weights, or that contradict them."""
    kind = PUBLISHED[model["published"]["kind"]]
    known = {**kind.card, "aggregator": kind.architecture["aggregator"]}
    for key in FIXED:
        if key in model and model[key] != known[key]:
            what = f"is {model[key]}, but the published {model['published']['kind']} weights have {known[key]}"
            yield Problem(f"{where}.{key}", what, "leave the key out")
    for key in MEANINGLESS:
        if key in model and model[key] != defaults.get(key):
            parts = _changed(model[key], defaults.get(key))
            said = f" ({', '.join(parts)})" if parts else ""
            what = f"says how a model is trained{said}, but published weights are used as they are"
            yield Problem(f"{where}.{key}", what, "leave the key out, or train a model of your own")


def _changed(value: Any, default: Any) -> list[str]:
    """The keys of a section that differ from its default."""
    if not isinstance(value, dict) or not isinstance(default, dict):
        return []
    return [key for key in value if value[key] != default.get(key)]


def _feature_problems(model: Config, config: Config, where: str) -> Iterator[Problem]:
    """Features of another length, and tiles of another geometry, than the weights were trained on."""
    kind, encoder = model["published"]["kind"], config["encoders"].get(model["encoder"], {})
    wanted, given = PUBLISHED[kind].architecture["dim"], encoder.get("dim")
    if given is not None and given != wanted:
        what = f"the encoder {model['encoder']} gives {given} features, the published {kind} weights take {wanted}"
        yield Problem(f"{where}.encoder", what, "name the encoder that the weights were trained on")
    misfit = tile_problem(model["published"], config["tiles"], f"{where}.published")
    if misfit is not None:
        yield misfit


def tile_problem(published: Mapping[str, Any], tiles: Mapping[str, Any], where: str) -> Problem | None:
    """The problem of published weights that were trained on other tiles; None where there is none.

    Args:
        published: The model's section `published`: `kind` and `allow_other_tiles`.
        tiles: `size` (px) and `mpp` (um/px) of the tiles that they are to be applied to.
        where: Their place, for the message.
    """
    kind = PUBLISHED[published["kind"]]
    if published["allow_other_tiles"] or kind.fits(tiles["size"], tiles["mpp"]):
        return None
    trained_on = describe_tiles({"size": size, "mpp": mpp} for size, mpp in kind.tiles)
    what = f"{published['kind']} was trained on tiles of {trained_on}, these are {describe_tiles([dict(tiles)])}"
    remedy = "change `tiles`, or set `published.allow_other_tiles: true`, which its model.json and the report then say"
    return Problem(where, what, remedy)
