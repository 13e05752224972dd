"""Attribution of a frozen sample of patches: maps, pictures, and how faithful the maps are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from slidestudy.attribution_kinds import ATTENTION, GRADCAM, OUTPUT, method_for
from slidestudy.errors import StudyError
from slidestudy.explanations.attribution.faithfulness import measure_maps
from slidestudy.explanations.attribution.grad_cam import grad_cam_maps
from slidestudy.explanations.attribution.maps import BLUR, Maps
from slidestudy.explanations.attribution.occlusion import occlusion_maps
from slidestudy.explanations.attribution.pictures import write_pictures
from slidestudy.explanations.attribution.scorer import TileScorer
from slidestudy.explanations.attribution.summary import summarise
from slidestudy.explanations.protocol import Patch
from slidestudy.features.identity import Encoder
from slidestudy.features.normalisation import Normaliser
from slidestudy.files import write_json
from slidestudy.models.checkpoint import Member
from slidestudy.models.tasks import task_of
from slidestudy.tables import write_table


def choose_patches(table: pd.DataFrame, most: int | None) -> pd.DataFrame:
    """At most so many patches of a sample, spread evenly over its logits, in the sample's order."""
    if most is None or most >= len(table):
        return table.reset_index(drop=True)
    order = np.argsort(table["logit"].to_numpy(), kind="stable")
    places = np.linspace(0, len(table) - 1, most).round().astype(int)
    return table.iloc[np.sort(order[places])].reset_index(drop=True)


def member_weights(
    folds: Sequence[Sequence[Member]], chosen: Mapping[str, Sequence[int]], patients: Sequence[str]
) -> NDArray[np.float64]:
    """The weight of every member in the mean of every patch, (n, n_members): the folds that predict its patient.

    Args:
        folds: The folds, each with the models of all its seeds.
        chosen: Patient -> folds (`splits.predicting_folds`).
        patients: The patient of each patch.

    Raises:
        StudyError: A patient is predicted by no fold.
    """
    owner = np.array([number for number, fold in enumerate(folds) for _ in fold])
    rows = []
    for patient in patients:
        allowed = np.isin(owner, list(chosen[patient]))
        if not allowed.any():
            what = f"no fold may predict the patient {patient}: each was trained or validated on it"
            raise StudyError(what, "attribute_patches", "draw the sample anew")
        rows.append(allowed / allowed.sum())
    return np.stack(rows)


def attribute(
    folder: Path,
    table: pd.DataFrame,
    patches: Sequence[Patch],
    encoder: Encoder,
    normaliser: Normaliser | None,
    folds: Sequence[Sequence[Member]],
    weights: NDArray[np.float64],
    settings: Mapping[str, Any],
    covariates: torch.Tensor | None = None,
) -> None:
    """Attributes patches, and writes the folder of it.

    Args:
        folder: The folder to make.
        table: The patches' rows of the sample.
        patches: The patches.
        encoder: The model's encoder.
        normaliser: What stands before the encoder, if anything.
        folds: The model's folds.
        weights: See `member_weights`.
        settings: The settings of the stage.
        covariates: Of each patch's patient, for models that take them.
    """
    rgb = np.stack([patch.rgb for patch in patches])
    tiles = rgb if normaliser is None else normaliser.apply(rgb)[0]
    members = [member for fold in folds for member in fold]
    link = task_of(members[0][1]["task_card"]).link
    scorer = TileScorer(encoder, [model for model, _ in members], link, tiles, weights, covariates)
    method = method_for(settings["method"], encoder.identity.backend)
    if method == GRADCAM:
        maps = grad_cam_maps(scorer)
    else:
        maps = occlusion_maps(scorer, settings["occlusion_window"], settings["occlusion_stride"])
    folder.mkdir(parents=True)
    for index, patch in enumerate(patches):
        seen = None if normaliser is None else tiles[index]
        write_pictures(folder / patch.patch_id, rgb[index], seen, maps, index)
    arrays: dict[str, Any] = {f"{method}_{target}": raw for target, raw in maps.raw.items()}
    np.savez(folder / "maps.npz", patch_id=np.array([patch.patch_id for patch in patches]), **arrays)
    told = {"output": scorer.intact[OUTPUT].double().numpy(), "attention": scorer.intact[ATTENTION].double().numpy()}
    kept = ["patch_id", "slide_id", "patient_id", "stratum", "logit"]
    write_table(folder / "patches.tsv", table[kept].assign(**told))
    _write_faithfulness(folder, table, scorer, maps, settings)
    write_json(folder / "attribution.json", _card(table, told["output"], encoder, maps, settings))


def _write_faithfulness(
    folder: Path, table: pd.DataFrame, scorer: TileScorer, maps: Maps, settings: Mapping[str, Any]
) -> None:
    """Measures some of the patches, and writes the values of each and their summary."""
    measured = choose_patches(table, settings["faithfulness_patches"])["patch_id"]
    places = np.flatnonzero(table["patch_id"].isin(measured))
    found = measure_maps(scorer, maps, places, {key: settings[key] for key in ("steps", "perturbations", "seed")})
    rows = pd.DataFrame(
        [
            (table["patch_id"][r.patch], table["patient_id"][r.patch], r.target, r.measure, r.value, r.random)
            for r in found
        ],
        columns=["patch_id", "patient_id", "target", "measure", "value", "random_value"],
    )
    each = rows.assign(map=[f"{maps.method}_{target}" for target in rows["target"]])
    columns = ["patch_id", "patient_id", "map", "measure", "value", "random_value"]
    write_table(folder / "faithfulness_patches.tsv", each[columns])
    write_table(folder / "faithfulness.tsv", summarise(rows, maps.method, maps.undefined, settings))


def _card(
    table: pd.DataFrame, output: NDArray[np.float64], encoder: Encoder, maps: Maps, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What `attribution.json` says."""
    away = np.abs(output - table["logit"].to_numpy(float))
    return {
        "method": maps.method,
        "place": maps.place,
        "baseline": f"the patch, blurred with an SD of {BLUR:g} of its side",
        "encoder": encoder.identity.name,
        "weights_digest": encoder.identity.weights_digest,
        "patches": len(table),
        "undefined": maps.undefined,
        # The patches are JPEG, the tiles that were scored are not: how much that moves the output.
        "median_distance_from_tile_logit": float(np.median(away)),
        "largest_distance_from_tile_logit": float(away.max()),
        **{key: settings[key] for key in ("steps", "perturbations", "seed")},
    }
