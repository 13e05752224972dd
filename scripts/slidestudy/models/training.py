"""Training one fold: the recipe, the choice of the epoch on the validation part, and what is frozen there."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from slidestudy.errors import StudyError
from slidestudy.files import digest
from slidestudy.models.calibration import fit_calibration, frozen_thresholds
from slidestudy.models.epochs import Diverged, Part, Trainer
from slidestudy.models.loading import seed_of
from slidestudy.models.mil import MilModel, aggregator_options, build_model, study_arguments
from slidestudy.models.optimisation import DEFAULTS, pick_device
from slidestudy.models.resuming import load_state, resume_folder, save_state
from slidestudy.models.targets import Array, Task

HISTORY = ["epoch", "train_loss", "validation_loss", "validation_score", "learning_rate", "best"]
MEMBER = 103
"""Key of the draw of further seeds."""
UNSEEN_KEYS = ("memory_gb", "share_load")
"""Parts of a recipe that change nothing but where features are kept."""
BAR = 20
"""Width of the bar of progress."""
Log = Callable[[str], None]


@dataclass(frozen=True)
class Trained:
    """A trained fold, of one seed.

    Attributes:
        state: The weights of the best epoch.
        architecture: What `build_model` needs.
        history: One row per epoch.
        thresholds: Decision thresholds, chosen on the validation part; empty but for classification.
        best_epoch: The epoch whose weights were kept, from 1.
        seed: The seed.
        task_card: The task with what it learnt from the training part (`targets.task_of`).
        calibration: How raw outputs are calibrated (`calibration.calibrated`); None for not.
    """

    state: Mapping[str, torch.Tensor]
    architecture: dict[str, Any]
    history: pd.DataFrame
    thresholds: dict[str, float]
    best_epoch: int
    seed: int = 0
    task_card: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] | None = None

    def model(self) -> MilModel:
        """The model, ready to score."""
        model = build_model(self.architecture)
        model.load_state_dict(dict(self.state))
        return model.eval().requires_grad_(False)


@dataclass
class _Course:
    """How far a training has come."""

    rows: list[list[float]] = field(default_factory=list)
    best_score: float = -math.inf
    best_epoch: int = 0
    best_state: dict[str, torch.Tensor] = field(default_factory=dict)
    best_raw: torch.Tensor = field(default_factory=lambda: torch.zeros(0))

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return len(self.rows)

    def ended(self, recipe: Mapping[str, Any]) -> bool:
        """Whether all epochs, or the patience, are spent."""
        return self.epoch >= recipe["epochs"] or (self.epoch > 0 and self.epoch - self.best_epoch >= recipe["patience"])


def make_deterministic(seed: int, threads: int) -> None:
    """Seeds torch and asks for kernels that give the same bytes each time."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)


def check_parts(parts: Mapping[str, Part], task: Task, where: str) -> None:
    """Refuses what no model can be trained on, before training starts.

    Raises:
        StudyError: With every problem: no slides, slides without tiles or labels, a constant target, one class only,
            features of another recipe than the training part's.
    """
    found = []
    for name, part in parts.items():
        if not part.source.slide_ids:
            found.append(f"the {name} part has no slides")
            continue
        empty = [s for s, n in zip(part.source.slide_ids, part.source.lengths, strict=True) if n == 0]
        if empty:
            found.append(f"the {name} slides {', '.join(empty)} have no tiles")
        found += task.problems(part.targets, name)
        if (part.source.recipe, part.source.dim) != (parts["train"].source.recipe, parts["train"].source.dim):
            found.append(f"the {name} features have recipe {part.source.recipe}, not {parts['train'].source.recipe}")
    if found:
        raise StudyError("; ".join(found), where, "use fewer folds, or mend the labels or the slides named")


def train_fold(
    train: Part,
    validation: Part,
    *,
    task: Task,
    aggregator: str,
    recipe: Mapping[str, Any],
    seed: int,
    where: str = "fold",
    resume: Path | None = None,
    log: Log = print,
) -> Trained:
    """Trains a model on one fold; the test part is not seen.

    Args:
        train: The training part.
        validation: The part that chooses the epoch, the threshold and the calibration.
        task: The task, fitted to the training part.
        aggregator: A name that `build_model` knows.
        recipe: The configuration's section `training`; `optimisation.DEFAULTS` fills what it leaves out. The
            aggregator's options (`mil.aggregator_options`) are taken from it and from its `options`.
        seed: Seed of weights, order, dropout and tile draws.
        where: The fold, for messages.
        resume: File from which a killed training goes on, and that is written after each epoch; None for neither.
        log: Takes a line for each epoch.

    Returns:
        The weights of the best epoch, with the history.

    Raises:
        StudyError: The parts cannot be trained on, or the training diverged.
    """
    full = {**DEFAULTS, **recipe}
    check_parts({"train": train, "validation": validation}, task, where)
    make_deterministic(seed, full["threads"])
    architecture = _architecture(train, task, aggregator, full)
    trainer = Trainer(train, validation, task, architecture, full, seed, where)
    course, mark = _Course(), _fingerprint(train, validation, task, architecture, full, seed)
    if resume is not None and (state := load_state(resume, mark)) is not None:
        course = _restore(state, trainer)
        log(f"{where}: goes on after epoch {course.epoch}")
    else:
        trainer.prepare()
    while not course.ended(full):
        start = time.perf_counter()
        _one_epoch(trainer, course, where)
        if resume is not None:
            save_state(resume, {**vars(course), "trainer": trainer.state()}, mark)
        log(_progress(where, course, full, time.perf_counter() - start))
    raw = course.best_raw.double().numpy()
    return _finish(course, raw, architecture, task, validation, full, seed)


def _architecture(train: Part, task: Task, aggregator: str, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What `build_model` needs: what data and task decide, and the aggregator's options in the recipe.

    Raises:
        StudyError: An option is one that the study sets.
    """
    modality, taken = train.modality, study_arguments(aggregator)
    if given := sorted({"n_modality", *taken} & set(recipe.get("options", {}))):
        remedy = "take it out; the groups are those of the model's section modality"
        raise StudyError(f"{aggregator} has no option {', '.join(given)}", "options", remedy)
    architecture = {
        "aggregator": aggregator,
        "dim": train.source.dim,
        **{key: recipe[key] for key in aggregator_options(aggregator) if key in recipe},
        **recipe.get("options", {}),
        "n_outputs": task.n_outputs,
        "n_covariates": 0 if train.covariates is None else train.covariates.shape[1],
        "n_modality": 0 if modality is None else len(modality.names),
    }
    if modality is not None and modality.groups and "groups" in taken:
        architecture["groups"] = [list(columns) for columns in modality.groups.values()]
    if not recipe["standardise"]:
        # Features go in as they are: not cut at so many standard deviations either.
        architecture["clip"] = None
    return architecture


def train_members(
    parts: Mapping[str, Part], task: Task, settings: Mapping[str, Any], fold: int, output: str | os.PathLike[str]
) -> list[Trained]:
    """Trains a fold with each of its seeds.

    The first seed is the model's plus the fold; further ones are drawn from that.

    Args:
        parts: `train` and `validation`.
        task: The task.
        settings: The model's settings: `name aggregator seed training`.
        fold: The fold.
        output: The fold's output, beside which a killed training finds where it was.
    """
    recipe = {**DEFAULTS, **settings["training"]}
    first = settings["seed"] + fold
    trained = []
    for number in range(recipe["seeds"]):
        seed = first if number == 0 else seed_of(MEMBER, first, number) % 2**31
        where = f"model {settings['name']}, fold {fold}" + (f", seed {seed}" if recipe["seeds"] > 1 else "")
        trained.append(
            train_fold(
                parts["train"],
                parts["validation"],
                task=task,
                aggregator=settings["aggregator"],
                recipe=recipe,
                seed=seed,
                where=where,
                resume=resume_folder(output) / f"seed-{number}.pt",
                log=lambda line: print(line, flush=True),
            )
        )
    return trained


def _one_epoch(trainer: Trainer, course: _Course, where: str) -> None:
    """Trains an epoch, judges it, and keeps its weights if they are the best so far."""
    epoch = course.epoch + 1
    try:
        train_loss = trainer.train_epoch(epoch)
        raw = trainer.outputs()
        validation_loss, score = trainer.judge(raw)
    except Diverged as error:
        what = f"the training diverged in epoch {epoch}: {error}"
        remedy = "lower training.learning_rate or gradient_clip, add warmup_epochs, or set standardise: true"
        raise StudyError(what, where, remedy) from None
    improved = not course.best_epoch or score > course.best_score
    if improved:
        course.best_score, course.best_epoch = score, epoch
        course.best_state, course.best_raw = deepcopy(trainer.weights()), raw
    course.rows.append([epoch, train_loss, validation_loss, score, trainer.learning_rate, int(improved)])


def _restore(state: Mapping[str, Any], trainer: Trainer) -> _Course:
    """The course and the trainer as they were when the state was saved."""
    trainer.restore(state["trainer"])
    return _Course(**{key: state[key] for key in vars(_Course())})


def _progress(where: str, course: _Course, recipe: Mapping[str, Any], seconds: float) -> str:
    """A line on the epoch that is done."""
    epoch, train_loss, validation_loss, score, rate, _ = course.rows[-1]
    best = f"best {course.best_score:.4g} at epoch {course.best_epoch}"
    losses = f"loss {train_loss:.4g}, validation loss {validation_loss:.4g}, score {score:.4g} ({best})"
    done = round(BAR * epoch / recipe["epochs"])
    bar = f"[{'#' * done}{'-' * (BAR - done)}] epoch {epoch:.0f}/{recipe['epochs']}"
    left = timedelta(seconds=round(seconds * (recipe["epochs"] - epoch)))
    return f"{where} {bar}, {losses}, rate {rate:.3g}, {seconds:.1f} s, at most {left} left"


def _fingerprint(
    train: Part, validation: Part, task: Task, architecture: dict[str, Any], recipe: Mapping[str, Any], seed: int
) -> str:
    """What a training's course depends on."""
    parts = [
        [
            part.source.slide_ids,
            part.source.lengths,
            part.source.recipe,
            part.targets.values.tolist(),
            part.targets.mask.tolist(),
            None if part.covariates is None else hashlib.sha256(part.covariates.numpy().tobytes()).hexdigest(),
        ]
        for part in (train, validation)
    ]
    kept = {key: value for key, value in recipe.items() if key not in UNSEEN_KEYS}
    return digest([parts, task.card(), architecture, kept, seed, torch.__version__, str(pick_device())])


def _finish(
    course: _Course,
    raw: Array,
    architecture: dict[str, Any],
    task: Task,
    validation: Part,
    recipe: Mapping[str, Any],
    seed: int,
) -> Trained:
    """The trained fold, with what the validation part freezes."""
    calibration = fit_calibration(recipe["calibration"], task, raw, validation.targets)
    thresholds = frozen_thresholds(task, raw, validation.targets, calibration)
    history = pd.DataFrame(np.array(course.rows, float), columns=HISTORY).astype({"epoch": int, "best": int})
    return Trained(
        course.best_state, architecture, history, thresholds, course.best_epoch, seed, task.card(), calibration
    )
