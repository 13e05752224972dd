"""A cohort as a model meets it: labels joined with the feature stores that can be used."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from slidestudy.errors import StudyError
from slidestudy.features.store import common_recipe, read_attributes
from slidestudy.models.bags import Bag, read_bag
from slidestudy.models.calibration import combine
from slidestudy.models.checkpoint import Member
from slidestudy.models.epochs import Part
from slidestudy.models.loading import StoreSource
from slidestudy.models.prediction import SlidePrediction, predict_slide
from slidestudy.models.splits import predicting_folds, splits_for, testing_folds
from slidestudy.models.targets import Task
from slidestudy.models.tasks import fit_task, task_of
from slidestudy.models.tile_scores import write_tile_scores

PREDICTIONS = ["slide_id", "patient_id", "center", "fold", "prediction", "target", "prediction_sd"]
"""Columns of the table of predictions; `prediction_sd` is the spread over the models, blank of one model."""
ENSEMBLE = "ensemble"


def usable_stores(paths: Sequence[str | os.PathLike[str]]) -> dict[str, Path]:
    """The stores of slides that were not excluded at the tissue or feature stage, by slide id."""
    usable = {}
    for path in paths:
        attributes = read_attributes(path)
        if attributes["status"] == "admitted":
            usable[attributes["slide_id"]] = Path(path)
    return usable


def split_development(
    labels: pd.DataFrame,
    stores: Sequence[str],
    settings: Mapping[str, Any],
    lookalikes: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Parts of the development slides that have features and a label.

    Args:
        labels: `slide_id patient_id cohort center` and the task's columns.
        stores: Feature stores of the development cohorts.
        settings: The model's settings.
        lookalikes: Pairs of patients with look-alike slides.
    """
    return splits_for(labels, settings, usable=usable_stores(stores), lookalikes=lookalikes)


def fold_parts(
    splits: pd.DataFrame, labels: pd.DataFrame, stores: Sequence[str], fold: int, settings: Mapping[str, Any]
) -> tuple[dict[str, Part], Task]:
    """The training and validation parts of a fold, and the task fitted to the former; the test part is not even read.

    Args:
        splits: `slide_id fold part`.
        labels: `slide_id`, the task's columns and the covariates.
        stores: Feature stores of the development cohorts.
        fold: The fold.
        settings: The model's settings: `task target_range columns time_bins covariates`.

    Raises:
        StudyError: A slide of the fold has no usable features, the stores differ in recipe, or the labels do not go
            with the task.
    """
    usable = usable_stores(stores)
    common_recipe(usable.values())
    rows = splits[splits["fold"] == fold]
    missing = sorted(set(rows.loc[rows["part"] != "test", "slide_id"]) - set(usable))
    if missing:
        what = f"slides {', '.join(missing)} of fold {fold} have no usable features"
        raise StudyError(what, "splits", "make the splits anew")
    by_slide = labels.set_index("slide_id", drop=False)
    chosen = {name: by_slide.loc[rows.loc[rows["part"] == name, "slide_id"]] for name in ("train", "validation")}
    task = fit_task(settings, chosen["train"])
    parts = {}
    for name, table in chosen.items():
        source = StoreSource({slide: usable[slide] for slide in table["slide_id"]})
        parts[name] = Part(source, task.encode(table), _covariates(table, settings))
    return parts, task


def _covariates(table: pd.DataFrame, settings: Mapping[str, Any]) -> torch.Tensor | None:
    """The covariates of slides, float32 (n_slides, n_covariates), NaN where missing; None without."""
    names = list(settings.get("covariates") or [])
    return torch.tensor(table[names].to_numpy(float), dtype=torch.float32) if names else None


def predict_cohort(
    folds: Sequence[Sequence[Member]],
    splits: pd.DataFrame,
    labels: pd.DataFrame,
    stores: Sequence[str],
    folder: Path,
    lookalikes: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Predicts a cohort and writes the tile scores of every slide.

    A slide whose patient stands in the splits is predicted by the mean of the folds that tested on the patient; any
    other by the mean of the folds that have not seen its patient (see `splits.predicting_folds`). Each fold counts
    with the models of all its seeds. A slide that every fold has seen is left out.

    Args:
        folds: The folds by number, each with its models and their `model.json`.
        splits: The model's splits.
        labels: `slide_id patient_id cohort center`, the task's columns and the covariates.
        stores: Feature stores of the cohort.
        folder: Where `<slide>.zarr` are written.
        lookalikes: Pairs of patients with look-alike slides; None where they do not count.

    Returns:
        The columns of PREDICTIONS, in the target's unit, then those of several targets, classes or times.
    """
    card = folds[0][0][1]
    task = task_of(card["task_card"])
    by_slide = labels.set_index("slide_id")
    usable = usable_stores(stores)
    chosen = predicting_folds(splits, by_slide.loc[sorted(usable), "patient_id"].unique(), lookalikes)
    tested = testing_folds(splits)
    rows: list[dict[str, Any]] = []
    for slide, path in sorted(usable.items()):
        label = by_slide.loc[slide]
        members = [member for fold in chosen[label["patient_id"]] for member in folds[fold]]
        if not members:
            print(f"{slide} has no prediction: every fold was trained or validated on its patient")
            continue
        bag = read_bag(path, slide, card["recipe"])
        covariates = label[card["covariates"]].to_numpy(np.float32) if card.get("covariates") else None
        found = predict_slide([model for model, _ in members], bag, link=task.link, covariates=covariates)
        numbers = chosen[label["patient_id"]]
        name = "+".join(map(str, numbers)) if label["patient_id"] in tested else ENSEMBLE
        attributes = {"slide_id": slide, "model": card["name"], "fold": name, "recipe": card["recipe"]}
        write_tile_scores(folder / f"{slide}.zarr", _tile_arrays(bag, found), attributes)
        means, spread = combine([c for _, c in members], [raw[None] for raw in found.raw])
        said = {"slide_id": slide, "patient_id": label["patient_id"], "center": label["center"], "fold": name}
        predicted = {column: values[0] for column, values in means.items()}
        known = {column: label[column] for column in task.columns or ("target",) if column in label}
        rows.append({**said, **predicted, **known, "prediction_sd": spread[0]})
    table = pd.DataFrame(rows, columns=None if rows else PREDICTIONS)
    first = [column for column in PREDICTIONS if column in table]
    return table[first + [column for column in table if column not in first]]


def _tile_arrays(bag: Bag, found: SlidePrediction) -> dict[str, NDArray[Any]]:
    """The arrays of a tile-score store."""
    return {"coords": bag.coords, "tissue_fraction": bag.tissue_fraction, **found.arrays()}
