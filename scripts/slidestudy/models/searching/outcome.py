"""The outcome of a search of hyper-parameters: on disk, and as part of a recipe."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from slidestudy.errors import StudyError
from slidestudy.files import atomic_path, read_json, write_json, write_text
from slidestudy.search_space import recipe_schemas
from slidestudy.tables import write_table
from slidestudy.yaml_files import dump_yaml, load_yaml


@dataclass(frozen=True)
class SearchResult:
    """What a search found in one fold.

    Attributes:
        best: The best setting, by key.
        value: Its score, mean over the inner test parts.
        number: Its trial.
        trials: `number state value`, a column per key, `score.<inner fold>`, `best` (1 or 0) and `reason`.
    """

    best: dict[str, Any]
    value: float
    number: int
    trials: pd.DataFrame

    def card(self) -> dict[str, Any]:
        """What `search.json` and `model.json` say of it."""
        failed = int((self.trials["state"] == "failed").sum())
        return {
            "best": self.best,
            "value": self.value,
            "number": self.number,
            "trials": len(self.trials),
            "failed": failed,
        }


def save_search(folder: str | os.PathLike[str], result: SearchResult, said: Mapping[str, Any]) -> None:
    """Writes `best.yaml`, `trials.tsv` and `search.json`, the folder as a whole.

    Args:
        folder: `models/<model>/search/fold-<k>`.
        result: The outcome.
        said: What else `search.json` says: sampler, seed, space, inner folds, software.
    """
    with atomic_path(folder) as partial:
        partial.mkdir()
        write_text(partial / "best.yaml", dump_yaml(result.best))
        write_table(partial / "trials.tsv", result.trials)
        write_json(partial / "search.json", {**result.card(), **said})


def load_search(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads the outcome of a search: `best value number trials failed`, as a trained fold's `model.json` tells it.

    Raises:
        StudyError: A file is missing or damaged.
    """
    path = Path(folder)
    try:
        said = read_json(path / "search.json")
        return {"best": load_yaml(path / "best.yaml"), **{k: said[k] for k in ("value", "number", "trials", "failed")}}
    except (OSError, KeyError, ValueError, StudyError) as error:
        raise StudyError(f"is no finished search ({error})", str(path), "remove it; it will be made anew") from None


def with_setting(settings: Mapping[str, Any], setting: Mapping[str, Any]) -> dict[str, Any]:
    """A model's settings with the values of a setting in its recipe.

    Args:
        settings: The model's settings, with the section `training` and in it `options` of the aggregator.
        setting: Keys of the recipe, or options of the aggregator.
    """
    training = dict(settings["training"])
    options = dict(training.get("options", {}))
    for key, value in setting.items():
        # An option that is given outranks the recipe's key of that name.
        target = options if key in options or key not in recipe_schemas() else training
        target[key] = value
    return {**settings, "training": {**training, "options": options}}
