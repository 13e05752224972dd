"""Folds within a fold: what a search judges a setting on, without the fold's test part.

Nested cross-validation: Varma & Simon 2006, BMC Bioinformatics 7:91.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from slidestudy.errors import Problem, StudyError
from slidestudy.models.cohort import fold_parts, usable_stores
from slidestudy.models.epochs import Part
from slidestudy.models.loading import plan_packs, seed_of
from slidestudy.models.optimisation import PACK_TILES, pick_device
from slidestudy.models.packing import pack
from slidestudy.models.sharing import share_stores
from slidestudy.models.splits import PARTS, SplitScheme, make_splits
from slidestudy.models.targets import Array, Task
from slidestudy.models.training import Trained, check_parts, train_fold

DEALING, TRAINING = 201, 202
"""Keys of what is drawn: the inner folds, and the seed of the trainings in each."""


@dataclass(frozen=True)
class InnerFold:
    """One of the folds within a fold.

    Attributes:
        number: From 0.
        seed: Of its trainings; the same for every setting, so that settings differ by nothing else.
        parts: `train`, `validation` and `test`.
        task: The task, fitted to the training part.
        memory_gb: What a training's loaders may take, GB.
    """

    number: int
    seed: int
    parts: Mapping[str, Part]
    task: Task
    memory_gb: float


def inner_splits(
    splits: pd.DataFrame,
    labels: pd.DataFrame,
    fold: int,
    settings: Mapping[str, Any],
    count: int,
    lookalikes: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Deals the training and validation parts of a fold into folds of their own, k-fold by the model's own groups.

    Args:
        splits: `slide_id fold part`.
        labels: `slide_id patient_id cohort center` and the labels; those of the fold's test part are not looked at.
        fold: The fold.
        settings: The model's settings: `name task seed columns group_by splits`.
        count: Inner folds, at least 3.
        lookalikes: Pairs of patients with look-alike slides; needed where the model keeps them together.

    Returns:
        `patient_id slide_id fold part`.

    Raises:
        StudyError: The parts cannot be dealt so.
    """
    used = splits[(splits["fold"] == fold) & splits["part"].isin(("train", "validation"))]
    own = SplitScheme.of(settings)
    try:
        return make_splits(
            labels[labels["slide_id"].isin(used["slide_id"])],
            task=settings["task"],
            seed=seed_of(DEALING, settings["seed"], fold) % 2**31,
            scheme=SplitScheme(folds=count, group_by=own.group_by, lookalikes=own.lookalikes),
            columns=settings.get("columns"),
            lookalikes=lookalikes,
            labelled_parts=("train", "validation"),
        )
    except StudyError as error:
        where = f"inner folds of model {settings['name']}, fold {fold}"
        key = f"models.{settings['name']}.search.inner_folds"
        remedy = f"use fewer inner folds ({key}, at least 3), more folds, or more labelled patients"
        raise StudyError.of(Problem(where, problem.what, remedy) for problem in error.problems) from None


def open_inner_folds(
    inner: pd.DataFrame, labels: pd.DataFrame, stores: Sequence[str], fold: int, settings: Mapping[str, Any]
) -> list[InnerFold]:
    """The parts of all inner folds. Features are read once for all of them where `memory_gb` holds them.

    Args:
        inner: The inner splits.
        labels: `slide_id`, the labels and covariates.
        stores: Feature stores of the development cohorts, named by their slides; others than those of the inner
            splits are not opened.
        fold: The fold that they are within.
        settings: The model's settings.

    Raises:
        StudyError: A slide has no usable features, or a part can teach or judge nothing.
    """
    slides = set(inner["slide_id"])
    wanted = [path for path in stores if Path(path).stem in slides]
    usable = usable_stores(wanted)
    shared = share_stores({slide: usable[slide] for slide in sorted(slides & set(usable))}, settings["training"])
    found = []
    for number in range(inner["fold"].nunique()):
        parts, task = fold_parts(inner, labels, wanted, number, settings, names=PARTS, open_source=shared.choose)
        taught = {name: parts[name] for name in ("train", "validation")}
        check_parts(taught, task, f"model {settings['name']}, fold {fold}, inner fold {number}")
        seed = seed_of(TRAINING, settings["seed"], fold, number) % 2**31
        memory_gb = shared.loader_gb(part.source for part in taught.values())
        found.append(InnerFold(number, seed, parts, task, memory_gb))
    return found


def judge_setting(fold: InnerFold, settings: Mapping[str, Any], where: str, resume: Path) -> float:
    """Trains with a setting on an inner fold and scores its test part.

    Args:
        fold: The inner fold.
        settings: The model's settings, the setting among them.
        where: The place, for messages.
        resume: File from which a killed training goes on.

    Returns:
        The task's score of the uncalibrated outputs, higher is better; NaN where it is undefined.

    Raises:
        StudyError: The training diverged, or the model cannot be built.
    """
    recipe = {**settings["training"], "memory_gb": fold.memory_gb, "calibration": "none"}
    trained = train_fold(
        fold.parts["train"],
        fold.parts["validation"],
        task=fold.task,
        aggregator=settings["aggregator"],
        recipe=recipe,
        seed=fold.seed,
        where=where,
        resume=resume,
        log=lambda line: None,
    )
    raw = raw_outputs(trained, fold.parts["test"], recipe.get("pack_tiles"))
    if not np.isfinite(raw).all():
        raise StudyError("the model's outputs for the inner test part are no finite numbers", where)
    return fold.task.score(raw, fold.parts["test"].targets)


@torch.inference_mode()
def raw_outputs(trained: Trained, part: Part, pack_tiles: int | None = None) -> Array:
    """Raw outputs of a trained model for the slides of a part, (n_slides, n_outputs)."""
    device = pick_device()
    model = trained.model().to(device)
    found = []
    lengths = part.source.lengths
    for slides, _ in plan_packs([range(len(lengths))], lengths, pack_tiles or PACK_TILES[device.type]):
        covariates = None if part.covariates is None else part.covariates[slides]
        bags = pack([part.source.read(slide) for slide in slides], covariates)
        found.append(model(bags.to(device)).slide.double().cpu())
    return torch.cat(found).numpy()
