"""A cohort as a model meets it: labels joined with the feature stores that can be used."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from slidestudy.errors import StudyError
from slidestudy.features.store import common_recipe, read_attributes
from slidestudy.models.bags import Bag, read_bag
from slidestudy.models.calibration import combine, frozen_threshold
from slidestudy.models.checkpoint import Member
from slidestudy.models.epochs import Part
from slidestudy.models.loading import Source, StoreSource
from slidestudy.models.modality import Modality, modality_values, read_columns, read_modality
from slidestudy.models.prediction import SlidePrediction, predict_slide
from slidestudy.models.splits import predicting_folds, splits_for, testing_folds
from slidestudy.models.survival import DiscreteSurvival, common_times
from slidestudy.models.targets import Task
from slidestudy.models.tasks import fit_task, task_of
from slidestudy.models.tile_scores import write_tile_scores
from slidestudy.prediction_files import PREDICTIONS

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
    splits: pd.DataFrame,
    labels: pd.DataFrame,
    stores: Sequence[str],
    fold: int,
    settings: Mapping[str, Any],
    *,
    names: Sequence[str] = ("train", "validation"),
    open_source: Callable[[dict[str, Path]], Source] = StoreSource,
) -> tuple[dict[str, Part], Task]:
    """The training and validation parts of a fold, and the task fitted to the former; the test part is not even read.

    Args:
        splits: `slide_id fold part`.
        labels: `slide_id`, the task's columns and the covariates.
        stores: Feature stores of the development cohorts.
        fold: The fold.
        settings: The model's settings: `task target_range columns time_bins covariates modality`.
        names: The parts that are wanted, `train` among them.
        open_source: Makes a part's source of its stores by slide id.

    Raises:
        StudyError: A slide of the fold has no usable features, the stores differ in recipe, the labels do not go
            with the task, or no training patient has a row in the table of the second modality.
    """
    usable = usable_stores(stores)
    common_recipe(usable.values())
    rows = splits[splits["fold"] == fold]
    missing = sorted(set(rows.loc[rows["part"].isin(names), "slide_id"]) - set(usable))
    if missing:
        what = f"slides {', '.join(missing)} of fold {fold} have no usable features"
        raise StudyError(what, "splits", "make the splits anew")
    by_slide = labels.set_index("slide_id", drop=False)
    chosen = {name: by_slide.loc[rows.loc[rows["part"] == name, "slide_id"]] for name in names}
    task = fit_task(settings, chosen["train"])
    modality = _modality_of(settings)
    if modality is not None and not chosen["train"]["patient_id"].isin(modality.table.index).any():
        where = settings["modality"]["table"]
        raise StudyError("no training patient has a row", where, "write patient_id as in patients.tsv")
    parts = {}
    for name, table in chosen.items():
        source = open_source({slide: usable[slide] for slide in table["slide_id"]})
        parts[name] = Part(source, task.encode(table), covariates_of(table, settings, modality), modality)
    return parts, task


def covariates_of(
    table: pd.DataFrame, settings: Mapping[str, Any], modality: Modality | None = None
) -> torch.Tensor | None:
    """The covariates of slides, float32 (n_slides, n_covariates), NaN where missing; None without.

    Args:
        table: `patient_id` and the covariates.
        settings: The model's settings: `covariates` and `modality`.
        modality: The second modality, whose columns stand behind the covariates; None: it is read as the settings say.
    """
    modality = modality or _modality_of(settings)
    names = list(settings.get("covariates") or [])
    found = [table[names].to_numpy(np.float32)] if names else []
    if modality is not None:
        found.append(modality_values(modality, table["patient_id"]))
    return torch.from_numpy(np.concatenate(found, 1)) if found else None


def patient_covariates(
    labels: pd.DataFrame,
    slides: Sequence[str],
    card: Mapping[str, Any],
    modality: str | os.PathLike[str] | None = None,
) -> torch.Tensor | None:
    """The covariates that a trained model takes, of some slides, which may come several times.

    Args:
        labels: `slide_id patient_id` and the covariates.
        slides: The slides.
        card: The model's `model.json`.
        modality: The table of the second modality, for models that take one.

    Returns:
        float32 (n_slides, n_covariates), NaN where missing; None without.
    """
    rows = labels.set_index("slide_id", drop=False).loc[list(slides)]
    return covariates_of(rows, card, trained_modality(card, modality))


def _modality_of(settings: Mapping[str, Any]) -> Modality | None:
    """The second modality that a model's settings name, if they do."""
    spec = settings.get("modality")
    return read_modality(spec["table"], spec.get("columns", ["*"]), spec.get("groups")) if spec else None


def predict_cohort(
    folds: Sequence[Sequence[Member]],
    splits: pd.DataFrame,
    labels: pd.DataFrame,
    stores: Sequence[str],
    folder: Path,
    lookalikes: pd.DataFrame | None = None,
    modality: str | os.PathLike[str] | None = None,
) -> pd.DataFrame:
    """Predicts a cohort and writes the tile scores of every slide.

    A slide whose patient stands in the splits is predicted by the mean of the folds that tested on the patient; any
    other by the mean of the folds that have not seen its patient (see `splits.predicting_folds`). Each fold counts
    with the models of all its seeds. A slide that every fold has seen is left out. Published weights have no splits:
    all of them predict every slide.

    Args:
        folds: The folds by number, each with its models and their `model.json`.
        splits: The model's splits.
        labels: `slide_id patient_id cohort center`, the task's columns and the covariates.
        stores: Feature stores of the cohort.
        folder: Where `<slide>.zarr` are written.
        lookalikes: Pairs of patients with look-alike slides; None where they do not count.
        modality: The table of the second modality, for models that take one; they say which columns.

    Returns:
        The columns of PREDICTIONS, in the target's unit, then those of several targets, classes or times.

    Raises:
        StudyError: The models take a second modality whose table is not given, or lacks a column.
    """
    cards = [member_card for fold in folds for _, member_card in fold]
    card, task, times = cards[0], task_of(cards[0]["task_card"]), _common_times(cards)
    by_slide = labels.set_index("slide_id")
    usable = usable_stores(stores)
    patients = by_slide.loc[sorted(usable), "patient_id"].unique()
    chosen = predicting_folds(splits, patients, lookalikes, range(len(folds)))
    tested = testing_folds(splits)
    joined = covariates_of(by_slide.loc[sorted(usable)], card, trained_modality(card, modality))
    rows: list[dict[str, Any]] = []
    for place, (slide, path) in enumerate(sorted(usable.items())):
        label = by_slide.loc[slide]
        numbers = chosen[label["patient_id"]]
        members = [member for fold in numbers for member in folds[fold]]
        if not members:
            print(f"{slide} has no prediction: every fold was trained or validated on its patient")
            continue
        bag = read_bag(path, slide, card["recipe"])
        covariates = None if joined is None else joined[place].numpy()
        found = predict_slide([model for model, _ in members], bag, link=task.link, covariates=covariates)
        name = "+".join(map(str, numbers)) if label["patient_id"] in tested else ENSEMBLE
        attributes = {"slide_id": slide, "model": card["name"], "fold": name, "recipe": card["recipe"]}
        write_tile_scores(folder / f"{slide}.zarr", _tile_arrays(bag, found), attributes)
        means, spread = combine([c for _, c in members], [raw[None] for raw in found.raw], times)
        said = {"slide_id": slide, "patient_id": label["patient_id"], "center": label["center"], "fold": name}
        predicted = {column: values[0] for column, values in means.items()}
        known = {column: label[column] for column in task.columns or ("target",) if column in label}
        threshold = frozen_threshold([c for _, c in members])
        rows.append({**said, **predicted, **known, "prediction_sd": spread[0], "threshold": threshold})
    table = pd.DataFrame(rows, columns=None if rows else PREDICTIONS)
    first = [column for column in PREDICTIONS if column in table]
    return table[first + [column for column in table if column not in first]]


def _common_times(cards: Sequence[Mapping[str, Any]]) -> tuple[float, ...] | None:
    """The times at which the survival of all models is told; None for other tasks.

    Raises:
        StudyError: The models have different numbers of time bins.
    """
    tasks = [task for task in (task_of(card["task_card"]) for card in cards) if isinstance(task, DiscreteSurvival)]
    if not tasks:
        return None
    counts = sorted({task.n_outputs for task in tasks})
    if len(counts) > 1:
        what = f"the folds have {counts[0]} to {counts[-1]} time bins, since many events are at the same time"
        raise StudyError(what, f"model {cards[0]['name']}", f"set time_bins: {counts[0]}, or task: survival-cox")
    return common_times(tasks)


def trained_modality(card: Mapping[str, Any], table: str | os.PathLike[str] | None) -> Modality | None:
    """The columns of a table that a model was trained on, None for a model without a second modality.

    Raises:
        StudyError: There is no table, or it lacks a column.
    """
    if not card.get("modality"):
        return None
    if table is None:
        what = f"model {card['name']} needs a second modality"
        raise StudyError(what, "modality.table", "name the table of it in the model's section")
    return read_columns(table, card["modality"]["columns"])


def _tile_arrays(bag: Bag, found: SlidePrediction) -> dict[str, NDArray[Any]]:
    """The arrays of a tile-score store."""
    return {"coords": bag.coords, "tissue_fraction": bag.tissue_fraction, **found.arrays()}
