"""A trained fold on disk: `model.safetensors`, `model.json`, `history.tsv`, `curves.svg`, a folder per further seed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from slidestudy.errors import StudyError
from slidestudy.files import atomic_path, read_json, write_json
from slidestudy.models.curves import draw_curves
from slidestudy.models.mil import MilModel, build_model
from slidestudy.models.training import Trained
from slidestudy.tables import write_table

Member = tuple[MilModel, dict[str, Any]]


def save_fold(folder: str | os.PathLike[str], trained: Trained | Sequence[Trained], card: dict[str, Any]) -> None:
    """Writes a trained fold, the folder as a whole.

    The model of the first seed lies in the folder itself, those of further seeds in `seed-1`, `seed-2` and so on.

    Args:
        folder: `models/<model>/fold-<k>`.
        trained: The fold, trained with one seed or with several.
        card: What else `model.json` says: name, fold, encoder, recipe digest, target.
    """
    members = [trained] if isinstance(trained, Trained) else list(trained)
    with atomic_path(folder) as partial:
        for number, member in enumerate(members):
            place = partial if number == 0 else partial / f"seed-{number}"
            place.mkdir()
            _save_member(place, member, {**card, "members": len(members)})
        draw_curves({member.seed: member.history for member in members}, partial / "curves.svg")


def _save_member(place: Path, trained: Trained, card: dict[str, Any]) -> None:
    state = {key: value.contiguous() for key, value in trained.state.items()}
    save_file(state, place / "model.safetensors")
    extra = {
        "seed": trained.seed,
        "architecture": trained.architecture,
        "task_card": trained.task_card,
        "thresholds": trained.thresholds,
        "calibration": trained.calibration,
        "best_epoch": trained.best_epoch,
    }
    write_json(place / "model.json", {**card, **extra})
    write_table(place / "history.tsv", trained.history)


def load_fold(folder: str | os.PathLike[str]) -> Member:
    """Reads a fold's model of the first seed, or of the seed whose folder it is, ready to score.

    Returns:
        The model in evaluation mode, and its `model.json`.

    Raises:
        StudyError: A file is missing or does not fit the architecture.
    """
    path = Path(folder)
    try:
        card = read_json(path / "model.json")
        model = build_model(card["architecture"])
        model.load_state_dict(load_file(path / "model.safetensors"))
    except (OSError, KeyError, RuntimeError, TypeError, ValueError, SafetensorError, StudyError) as error:
        raise StudyError(f"is no trained fold ({error})", str(path), "remove it; it will be trained anew") from None
    return model.eval().requires_grad_(False), card


def load_members(folder: str | os.PathLike[str]) -> list[Member]:
    """Reads a fold's models of all seeds, the first seed first."""
    first = load_fold(folder)
    others = [load_fold(Path(folder) / f"seed-{number}") for number in range(1, first[1].get("members", 1))]
    return [first, *others]


def load_ensemble(folders: Sequence[str]) -> list[list[Member]]:
    """Reads the folds of a model, each with the models of all its seeds; they must share one feature recipe."""
    folds = [load_members(folder) for folder in folders]
    recipes = {card["recipe"] for members in folds for _, card in members}
    if len(recipes) != 1:
        raise StudyError(
            f"the folds were trained on different feature recipes {sorted(recipes)}", str(folders[0]), "train them anew"
        )
    return folds
