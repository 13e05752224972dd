"""From splits, labels and feature stores to a fold's files: one fold by itself, or all folds with one reading."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from slidestudy.files import versions
from slidestudy.models.checkpoint import save_fold
from slidestudy.models.cohort import fold_parts, usable_stores
from slidestudy.models.loading import StoreSource
from slidestudy.models.resuming import forget
from slidestudy.models.searching.outcome import load_search, with_setting
from slidestudy.models.sharing import SharedSource, share_stores
from slidestudy.models.training import train_members

SAID = ("name", "task", "target", "target_range", "encoder", "group_by", "covariates", "training")
"""Keys of a model's settings that stand in `model.json`."""


def train_to_files(
    settings: Mapping[str, Any],
    splits: pd.DataFrame,
    labels: pd.DataFrame,
    stores: Sequence[str],
    fold: int,
    output: str | os.PathLike[str],
    *,
    search: str | None = None,
    shared: SharedSource | None = None,
) -> None:
    """Trains a fold with each of its seeds and writes it; what a resumed training needs stays beside the output.

    Args:
        settings: The model's settings.
        splits: `slide_id fold part`.
        labels: `slide_id patient_id`, the task's columns and the covariates.
        stores: Feature stores of the development cohorts.
        fold: The fold.
        output: `models/<model>/fold-<k>`.
        search: The fold's search of hyper-parameters, if there was one; its best setting is taken.
        shared: The slides of all folds, where they share one reading.

    Raises:
        StudyError: The fold cannot be trained.
    """
    found = None if search is None else load_search(search)
    chosen = settings if found is None else with_setting(settings, found["best"])
    open_source = StoreSource if shared is None else shared.choose
    parts, task = fold_parts(splits, labels, stores, fold, chosen, open_source=open_source)
    own = dict(chosen)
    if shared is not None:
        memory_gb = shared.loader_gb(part.source for part in parts.values())
        own["training"] = {**chosen["training"], "memory_gb": memory_gb}
    trained = train_members(parts, task, own, fold, output)
    card = {**{key: chosen[key] for key in SAID if key in chosen}, "fold": fold}
    if parts["train"].modality is not None:
        card["modality"] = parts["train"].modality.card()
    card |= {"recipe": parts["train"].source.recipe, "software": versions("torch", "safetensors", "scikit-learn")}
    if found is not None:
        card["search"] = found
    save_fold(output, trained, card)


def train_all_folds(
    settings: Mapping[str, Any],
    splits: pd.DataFrame,
    labels: pd.DataFrame,
    stores: Sequence[str],
    outputs: Mapping[int, str],
    searches: Mapping[int, str],
) -> None:
    """Trains the folds one after the other; features that fit `training.memory_gb` together are read once.

    What each fold's training left for a resumed one is forgotten only when all folds are there: were the job killed in
    the last one, the engine would remove the others too, and they would be there again in no time.

    Args:
        settings: The model's settings.
        splits: `slide_id fold part`.
        labels: `slide_id patient_id`, the task's columns and the covariates.
        stores: Feature stores of the development cohorts.
        outputs: Fold -> `models/<model>/fold-<k>`.
        searches: Fold -> its search of hyper-parameters, of those that have one.
    """
    usable, used = usable_stores(stores), splits.loc[splits["part"] != "test", "slide_id"].unique()
    shared = share_stores({slide: usable[slide] for slide in used if slide in usable}, settings["training"])
    for fold, output in outputs.items():
        train_to_files(settings, splits, labels, stores, fold, output, search=searches.get(fold), shared=shared)
    for output in outputs.values():
        forget(output)
