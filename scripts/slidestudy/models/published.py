"""Published weights under their own names: ECTIL's checkpoints and the prognostic model of colorectal cancer of X2X.

They are read into this package's aggregators, and can be laid down as a fold, so that whatever is done with a model
trained here can be done with them.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save_file

from slidestudy.errors import StudyError
from slidestudy.files import atomic_path, file_digest, versions, write_json
from slidestudy.models.mil import MilModel, build_model
from slidestudy.models.training import HISTORY
from slidestudy.tables import write_table


@dataclass(frozen=True)
class Published:
    """What is known of a kind of published weights.

    Attributes:
        architecture: Of `build_model`. Features go in as they are: neither scaled nor cut.
        names: Prefix of the file's keys -> prefix of ours.
        card: What `model.json` says of the model.
    """

    architecture: Mapping[str, Any]
    names: Mapping[str, str]
    card: Mapping[str, Any]


PUBLISHED: dict[str, Published] = {
    "ectil": Published(
        architecture={
            "aggregator": "ectil",
            "dim": 2048,
            "hidden": 512,
            "attention": 128,
            "dropout": 0.4,
            "tile_dropout": 0.1,
            "clip": None,
        },
        names={
            "net.post_encoder.2.": "post_encoder.0.",
            "net.classifier.2.": "classifier.",
            "net.attention.attention.": "attention.attention.",
            "net.attention.gate.0.": "attention.gate.0.",
            "net.attention.attention_hidden.0.": "attention.attention_hidden.0.",
        },
        card={
            "task": "regression",
            "target_range": [0, 100],
            "task_card": {"name": "regression", "columns": [], "target_range": [0, 100]},
            "thresholds": {},
            "published": {
                "title": "ECTIL: stromal TILs of breast cancer, %",
                "source": "https://github.com/NKI-AI/ectil; Lancet Digital Health 2025; arXiv 2501.14379",
                "licence": "Apache-2.0 of the repository; none stated beside the files",
                "tiles": "512 px at 0.5 um/px, RetCCL, ImageNet mean and SD",
            },
        },
    ),
    "crc-prognosis": Published(
        architecture={
            "aggregator": "abmil",
            "dim": 2048,
            "hidden": 256,
            "attention": 128,
            # Not stated; without effect but in training.
            "dropout": 0.5,
            "tile_dropout": 0.0,
            "batch_norm": True,
            "clip": None,
        },
        names={
            "encoder.0.": "post_encoder.0.",
            "attention.0.": "attention.0.",
            "attention.2.": "attention.2.",
            "head.1.": "norm.",
            "head.3.": "classifier.",
        },
        card={
            "task": "survival-cox",
            "target_range": None,
            "task_card": {"name": "survival-cox", "columns": []},
            # Of the raw output, as X2X uses it (arXiv 2508.09205).
            "thresholds": {"published": -0.135},
            "published": {
                "title": "Risk of colorectal cancer patients",
                "source": "https://github.com/KatherLab/crc-models-2022; Jiang et al., Lancet Digital Health 2024, "
                "PIIS2589-7500(23)00208-X; explained in X2X, arXiv 2508.09205",
                "licence": "MIT",
                "tiles": "224 px at 1.14 um/px, Macenko-normalised, RetCCL, ImageNet mean and SD",
            },
        },
    ),
}


def load_published(kind: str, path: str | os.PathLike[str]) -> tuple[MilModel, dict[str, Any]]:
    """Reads published weights.

    Args:
        kind: A key of PUBLISHED.
        path: The file, a state dict of torch.

    Returns:
        The model in evaluation mode, and its card: architecture, task, thresholds, source, licence, file digest.

    Raises:
        StudyError: The kind is unknown, the file cannot be read, or its keys or shapes are not the model's.
    """
    if kind not in PUBLISHED:
        raise StudyError(f"unknown published model '{kind}'", "model", f"known are: {', '.join(PUBLISHED)}")
    known = PUBLISHED[kind]
    model = build_model(dict(known.architecture))
    model.load_state_dict(_renamed(_read(path), known.names, model.state_dict(), f"{path}", kind))
    card = {
        **known.card,
        "architecture": dict(known.architecture),
        "published": {**known.card["published"], "kind": kind, "file": Path(path).name, "sha256": file_digest(path)},
    }
    return model.eval().requires_grad_(False), card


def publish_as_fold(
    kind: str,
    path: str | os.PathLike[str],
    encoder_recipe: str,
    folder: str | os.PathLike[str],
    *,
    name: str | None = None,
    encoder: str | None = None,
    fold: int = 0,
) -> None:
    """Lays published weights down as a fold, `model.safetensors` and `model.json`, as if trained here.

    Its `history.tsv` has no rows: nothing was trained. No patient of a study was in its training unless the study
    says so; whoever uses it answers for that.

    Args:
        kind: A key of PUBLISHED.
        path: The file.
        encoder_recipe: Recipe digest of the features that it is to be applied to.
        folder: `models/<model>/fold-<k>`.
        name: The model's name in the study; default the kind.
        encoder: The encoder's name in the study.
        fold: The fold's number: ECTIL has five.

    Raises:
        StudyError: See `load_published`.
    """
    model, card = load_published(kind, path)
    card |= {"name": name or kind, "fold": fold, "encoder": encoder, "recipe": encoder_recipe, "target": None}
    card |= {"members": 1, "seed": None, "best_epoch": None, "calibration": None}
    with atomic_path(folder) as partial:
        partial.mkdir()
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, partial / "model.safetensors")
        write_json(partial / "model.json", {**card, "software": versions("torch", "safetensors")})
        write_table(partial / "history.tsv", pd.DataFrame(columns=HISTORY))


def _read(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """The tensors of a file of torch, whether they lie in it bare or under `state_dict`."""
    remedy = "download it again from its authors"
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise StudyError(f"cannot be read as weights ({why})", str(path), remedy) from None
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise StudyError("holds no state dict", str(path), remedy)
    return found


def _renamed(
    found: Mapping[str, torch.Tensor],
    names: Mapping[str, str],
    expected: Mapping[str, torch.Tensor],
    where: str,
    kind: str,
) -> dict[str, torch.Tensor]:
    """The file's tensors under our names, with our scaling of nothing.

    Raises:
        StudyError: Keys are missing, too many, or of another shape; all of them are named.
    """
    theirs = {
        published + key.removeprefix(ours): key
        for published, ours in names.items()
        for key in expected
        if key.startswith(ours)
    }
    problems = [f"{key} is missing" for key in theirs if key not in found]
    problems += [f"{key} is not of this model" for key in found if key not in theirs]
    for key, ours in theirs.items():
        if key in found and found[key].shape != expected[ours].shape:
            problems.append(f"{key} is {tuple(found[key].shape)}, not {tuple(expected[ours].shape)}")
        elif key in found and not bool(torch.isfinite(found[key]).all()):
            problems.append(f"{key} has values that are not finite")
    if problems:
        raise StudyError(
            f"is no {kind} model: {'; '.join(problems)}", where, f"give the file of {', '.join(PUBLISHED)} that fits"
        )
    return {**expected, **{ours: found[key].to(expected[ours].dtype) for key, ours in theirs.items()}}
