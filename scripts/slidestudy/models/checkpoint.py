"""A trained fold on disk: `model.safetensors`, `model.json`, `history.tsv`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from slidestudy.errors import StudyError
from slidestudy.files import atomic_path, read_json, write_json
from slidestudy.models.mil import GatedMil, build_model
from slidestudy.models.training import Trained
from slidestudy.tables import write_table


def save_fold(folder: str | os.PathLike[str], trained: Trained, card: dict[str, Any]) -> None:
    """Writes a trained fold, the folder as a whole.

    Args:
        folder: `models/<model>/fold-<k>`.
        trained: The fold.
        card: What else `model.json` says: name, fold, encoder, recipe digest, target, seed.
    """
    with atomic_path(folder) as partial:
        partial.mkdir()
        state = {key: value.contiguous() for key, value in trained.state.items()}
        save_file(state, partial / "model.safetensors")
        extra = {
            "architecture": trained.architecture,
            "thresholds": trained.thresholds,
            "best_epoch": trained.best_epoch,
        }
        write_json(partial / "model.json", {**card, **extra})
        write_table(partial / "history.tsv", trained.history)


def load_fold(folder: str | os.PathLike[str]) -> tuple[GatedMil, dict[str, Any]]:
    """Reads a trained fold, ready to score.

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
    except (OSError, KeyError, RuntimeError, TypeError, ValueError, SafetensorError) as error:
        raise StudyError(f"is no trained fold ({error})", str(path), "remove it; it will be trained anew") from None
    return model.eval().requires_grad_(False), card


def load_ensemble(folders: list[str]) -> tuple[list[torch.nn.Module], list[dict[str, Any]]]:
    """Reads the folds of a model, which must share one feature recipe."""
    loaded = [load_fold(folder) for folder in folders]
    recipes = {card["recipe"] for _, card in loaded}
    if len(recipes) != 1:
        raise StudyError(
            f"the folds were trained on different feature recipes {sorted(recipes)}", str(folders[0]), "train them anew"
        )
    return [model for model, _ in loaded], [card for _, card in loaded]
