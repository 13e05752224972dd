"""What a killed training goes on from: a file beside the output, written after each epoch."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from slidestudy.files import remove


def resume_folder(output: str | os.PathLike[str]) -> Path:
    """The hidden folder beside a fold's output that holds its `seed-<k>.pt` while it is trained.

    It is not in the output, which the workflow engine removes when a job is killed and which appears as a whole.
    """
    path = Path(output)
    return path.with_name(f".{path.name}.training")


def save_state(path: Path, state: Mapping[str, Any], fingerprint: str) -> None:
    """Writes the state of a training, atomically: a kill at any time leaves the last or this one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as stream:
        torch.save({"fingerprint": fingerprint, **state}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def load_state(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """The state of a training that was begun with the same data, recipe and software; None without one."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
        return None
    return state if state.get("fingerprint") == fingerprint else None


def forget(output: str | os.PathLike[str]) -> None:
    """Removes what a finished fold's training left beside its output."""
    remove(resume_folder(output))
