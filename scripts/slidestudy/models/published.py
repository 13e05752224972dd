"""Published weights under their own names: ECTIL's checkpoints and the prognostic model of colorectal cancer of X2X.

They are read into this package's aggregators, and can be laid down as a fold, so that whatever is done with a model
trained here can be done with them.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save_file

from slidestudy.errors import StudyError
from slidestudy.features.store import common_recipe, read_attributes
from slidestudy.files import atomic_path, file_digest, versions, write_json
from slidestudy.models.cohort import usable_stores
from slidestudy.models.mil import MilModel, build_model
from slidestudy.models.training import HISTORY
from slidestudy.published_checks import tile_problem
from slidestudy.published_kinds import PUBLISHED
from slidestudy.tables import write_table


def load_published(kind: str, path: str | os.PathLike[str]) -> tuple[MilModel, dict[str, Any]]:
    """Reads published weights.

    Args:
        kind: A key of `published_kinds.PUBLISHED`.
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
    settings: Mapping[str, Any] | None = None,
    tiles: Mapping[str, Any] | None = None,
    fold: int = 0,
) -> None:
    """Lays published weights down as a fold, `model.safetensors` and `model.json`, as if trained here.

    Its `history.tsv` has no rows: nothing was trained. No patient of a study was in its training unless the study
    says so; whoever uses it answers for that.

    Args:
        kind: A key of `published_kinds.PUBLISHED`.
        path: The file.
        encoder_recipe: Recipe digest of the features that it is to be applied to.
        folder: `models/<model>/fold-<k>`.
        settings: The model's settings, of which `name encoder target columns` are used; none: the model has the
            kind's name.
        tiles: `size` (px) and `mpp` (um/px) of the tiles that it is to be applied to, where known.
        fold: The fold's number: ECTIL has five.

    Raises:
        StudyError: See `load_published`.
    """
    said = settings or {}
    model, card = load_published(kind, path)
    if said.get("columns"):
        card["task_card"] = {**card["task_card"], "columns": list(said["columns"])}
    card["published"]["trained_on"] = [{"size": size, "mpp": mpp} for size, mpp in PUBLISHED[kind].tiles]
    if tiles is not None:
        other = not PUBLISHED[kind].fits(tiles["size"], tiles["mpp"])
        card["published"] |= {"applied_to": {key: tiles[key] for key in ("size", "mpp")}, "other_tiles": other}
    card |= {"name": said.get("name", kind), "fold": fold, "encoder": said.get("encoder"), "recipe": encoder_recipe}
    card |= {"target": said.get("target"), "covariates": []}
    card |= {"members": 1, "seed": None, "best_epoch": None, "calibration": None}
    with atomic_path(folder) as partial:
        partial.mkdir()
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, partial / "model.safetensors")
        write_json(partial / "model.json", {**card, "software": versions("torch", "safetensors")})
        write_table(partial / "history.tsv", pd.DataFrame(columns=HISTORY))


def adopt_weights(
    settings: Mapping[str, Any],
    path: str | os.PathLike[str],
    stores: Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    fold: int,
) -> None:
    """Lays a file of a study's published weights down as a fold that goes with the study's features.

    Args:
        settings: The model's settings: `name encoder target columns published`.
        path: The file.
        stores: Feature stores of the encoder, of all cohorts that are to be predicted.
        folder: `models/<model>/fold-<k>`.
        fold: The fold's number.

    Raises:
        StudyError: No slide has features, their recipes differ, their length is not the one that the weights take, or
            their tiles are others and these are not allowed; besides, see `load_published`.
    """
    kind, where = settings["published"]["kind"], f"models.{settings['name']}"
    usable = list(usable_stores(stores).values())
    if not usable:
        what = f"no slide has usable features of the encoder {settings['encoder']}"
        raise StudyError(what, where, "look in slides/ledger.tsv for the reasons")
    recipe, attributes = common_recipe(usable), read_attributes(usable[0])
    dim, wanted = attributes["encoder"]["dim"], PUBLISHED[kind].architecture["dim"]
    if dim != wanted:
        what = f"the encoder {settings['encoder']} gives {dim} features, the {kind} weights take {wanted}"
        raise StudyError(what, where, "give the model the encoder that the weights were trained on")
    tiles = attributes["tiles"]
    misfit = tile_problem(settings["published"], tiles, where)
    if misfit is not None:
        raise StudyError.of([misfit])
    publish_as_fold(kind, path, recipe, folder, settings=settings, tiles=tiles, fold=fold)


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
