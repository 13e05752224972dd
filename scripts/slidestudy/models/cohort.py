"""A cohort as a model meets it: labels joined with the feature stores that can be used."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from slidestudy.features.store import common_recipe, read_attributes
from slidestudy.models.bags import Bag, read_bag
from slidestudy.models.prediction import SlidePrediction, predict_slide
from slidestudy.models.splits import make_splits
from slidestudy.models.tile_scores import write_tile_scores
from slidestudy.models.training import Example

PREDICTIONS = ["slide_id", "patient_id", "center", "fold", "prediction", "target"]
ENSEMBLE = "ensemble"


def usable_stores(paths: Sequence[str | os.PathLike[str]]) -> dict[str, Path]:
    """The stores of slides that were not excluded at the tissue or feature stage, by slide id."""
    usable = {}
    for path in paths:
        attributes = read_attributes(path)
        if attributes["status"] == "admitted":
            usable[attributes["slide_id"]] = Path(path)
    return usable


def split_development(labels: pd.DataFrame, stores: Sequence[str], settings: Mapping[str, Any]) -> pd.DataFrame:
    """Folds over the development slides that have features and a label.

    Args:
        labels: `slide_id patient_id cohort center target`.
        stores: Feature stores of the development cohorts.
        settings: The model's settings.
    """
    usable = usable_stores(stores)
    chosen = labels[labels["slide_id"].isin(usable) & labels["target"].notna()]
    keys = ("task", "folds", "group_by", "seed")
    return make_splits(chosen, **{key: settings[key] for key in keys})


def scale_target(value: float, target_range: Sequence[float]) -> float:
    """A target as a fraction of its range."""
    low, high = target_range
    return (value - low) / (high - low)


def unscale_target(fraction: float, target_range: Sequence[float]) -> float:
    """A fraction of a range in the target's unit."""
    low, high = target_range
    return low + fraction * (high - low)


def fold_examples(
    splits: pd.DataFrame, labels: pd.DataFrame, stores: Sequence[str], fold: int, target_range: Sequence[float]
) -> tuple[dict[str, list[Example]], str]:
    """The training and validation examples of a fold; the test part is not even read.

    Returns:
        Part -> examples, in the order of the splits, and the recipe of their features.
    """
    usable = usable_stores(stores)
    recipe = common_recipe(usable.values())
    targets = labels.set_index("slide_id")["target"]
    rows = splits[splits["fold"] == fold]
    parts: dict[str, list[Example]] = {}
    for part in ("train", "validation"):
        slides = rows.loc[rows["part"] == part, "slide_id"]
        parts[part] = [
            Example(read_bag(usable[s], s, recipe), scale_target(float(targets[s]), target_range)) for s in slides
        ]
    return parts, recipe


def predict_cohort(
    models: Sequence[Any],
    cards: Sequence[Mapping[str, Any]],
    splits: pd.DataFrame,
    labels: pd.DataFrame,
    stores: Sequence[str],
    folder: Path,
) -> pd.DataFrame:
    """Predicts a cohort and writes the tile scores of every slide.

    A slide whose patient stands in the splits is predicted by the one fold that tested on the patient. Any
    other is predicted by the mean of all folds, none of which has seen its patient.

    Args:
        models: The folds' models, by fold.
        cards: Their `model.json`.
        splits: The model's splits.
        labels: `slide_id patient_id cohort center target`.
        stores: Feature stores of the cohort.
        folder: Where `<slide>.zarr` are written.

    Returns:
        The columns of PREDICTIONS, in the target's unit.
    """
    tests = splits[splits["part"] == "test"].drop_duplicates("patient_id")
    fold_of = dict(zip(tests["patient_id"], tests["fold"], strict=True))
    by_slide = labels.set_index("slide_id")
    rows = []
    for slide, path in sorted(usable_stores(stores).items()):
        label = by_slide.loc[slide]
        bag = read_bag(path, slide, cards[0]["recipe"])
        fold = fold_of.get(label["patient_id"])
        found = predict_slide(models if fold is None else [models[fold]], bag)
        name = ENSEMBLE if fold is None else str(fold)
        attributes = {"slide_id": slide, "model": cards[0]["name"], "fold": name, "recipe": cards[0]["recipe"]}
        write_tile_scores(folder / f"{slide}.zarr", _tile_arrays(bag, found), attributes)
        prediction = unscale_target(found.output, cards[0]["target_range"])
        rows.append([slide, label["patient_id"], label["center"], name, prediction, label["target"]])
    return pd.DataFrame(rows, columns=PREDICTIONS)


def _tile_arrays(bag: Bag, found: SlidePrediction) -> dict[str, NDArray[Any]]:
    """The arrays of a tile-score store."""
    return {
        "coords": bag.coords,
        "tissue_fraction": bag.tissue_fraction,
        "score": found.tile_score,
        "logit": found.tile_logit,
        "attention": found.attention,
        "attention_logit": found.attention_logit,
    }
