"""Weakly supervised fine-tuning: every tile takes its slide's label (KimiaNet, Riasatian et al., MedIA 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

from slidestudy import statistics
from slidestudy.errors import StudyError
from slidestudy.features.pretraining.adaptation import choose_trainable, freeze_statistics, merged
from slidestudy.features.pretraining.backbone import Backbone, resized
from slidestudy.features.pretraining.optimisation import (
    Log,
    Trained,
    apply_step,
    batches,
    half_precision,
    make_deterministic,
    optimiser_of,
    refuse_nan,
)
from slidestudy.features.pretraining.sampling import TileSet
from slidestudy.features.pretraining.views import Views

VALIDATION = 0.15
"""Share of the patients that choose the epoch."""
BATCH = 128
SCORES = {"classification": "validation_auroc", "regression": "validation_pearson"}


def fine_tune(tiles: TileSet, spec: Mapping[str, Any], recipe: Mapping[str, Any], seed: int, log: Log) -> Trained:
    """Trains the backbone with a linear head on the slides' labels; the head is thrown away.

    Patients of the validation part, whose tiles are not trained on, choose the epoch by its loss.

    Args:
        tiles: The tiles, `targets` as in the table; those of slides without a label are left out.
        spec: The encoder's entry, with its `name`.
        recipe: The configuration's section `pretraining`.
        seed: Seed of weights, split, order and views.
        log: Where progress is told.

    Raises:
        StudyError: Too few patients with labels, or nothing that could be trained.
    """
    name, task = str(spec["name"]), recipe["task"]
    labelled = tiles.rows(np.isfinite(tiles.targets))
    labelled.targets = scaled_targets(labelled.targets, task, recipe["target_range"], name)
    train, validation = split_patients(labelled, task, seed, name)
    device = make_deterministic(seed, recipe["threads"])
    backbone = Backbone(spec, recipe["start"], seed)
    side = int(spec.get("input_size") or tiles.tiles.shape[1])
    dim = backbone.width(side)
    backbone.width(recipe["crop"])
    frozen = choose_trainable(backbone, recipe, name)
    model = nn.Sequential(backbone, nn.Linear(dim, 1)).to(device)
    loss = _Loss(task, _positive_weight(train.targets) if task == "classification" else 1.0).to(device)
    rows, epoch = _fit(model, backbone, frozen, (train, validation), loss, side, recipe, log)
    columns = ["epoch", "loss", "learning_rate", "validation_loss", SCORES[task], "best"]
    history = pd.DataFrame(rows, columns=columns).astype({"epoch": int, "best": int})
    curves = {"loss": ["loss", "validation_loss"], "score": [SCORES[task]]}
    facts = _facts(tiles, labelled, train, validation, recipe, epoch)
    return Trained(half_precision(merged(backbone), name), dim, epoch, history, curves, facts)


def _fit(
    model: nn.Sequential,
    backbone: Backbone,
    frozen: set[str],
    parts: tuple[TileSet, TileSet],
    loss: _Loss,
    side: int,
    recipe: Mapping[str, Any],
    log: Log,
) -> tuple[list[list[float]], int]:
    """Runs all epochs and leaves the best weights in the backbone; returns the history's rows and the best epoch."""
    train, validation = parts
    device, views = loss.weight.device, Views(recipe["crop"], (recipe["min_scale"], 1.0))
    pixels, targets = _pixels(train), torch.from_numpy(train.targets).float()
    optimiser, scheduler = optimiser_of(model, recipe, max(1, len(train) // recipe["batch_size"]))
    rows: list[list[float]] = []
    lowest, best, kept = np.inf, 0, deepcopy(backbone.state_dict())
    for epoch in range(1, recipe["epochs"] + 1):
        model.train()
        freeze_statistics(backbone, frozen)
        losses = []
        for chosen in batches(len(train), recipe["batch_size"]):
            step_loss = loss(model(views(pixels[chosen]).to(device)).flatten(), targets[chosen].to(device))
            refuse_nan(step_loss, epoch, backbone.name)
            rate = float(scheduler.get_last_lr()[0])
            losses.append(apply_step(step_loss, model, optimiser, scheduler))
        found, score = _validate(model, validation, side, loss)
        improved = found < lowest
        if improved:
            lowest, best, kept = found, epoch, deepcopy(backbone.state_dict())
        rows.append([epoch, float(np.mean(losses)), rate, found, score, int(improved)])
        log(f"epoch {epoch} loss {rows[-1][1]:.4g} validation_loss {found:.4g} {SCORES[loss.task]} {score:.4g}")
    backbone.load_state_dict(kept)
    return rows, best


def _facts(
    tiles: TileSet,
    labelled: TileSet,
    train: TileSet,
    validation: TileSet,
    recipe: Mapping[str, Any],
    epoch: int,
) -> dict[str, str]:
    """What the card says of the labels, the parts and the epoch."""
    parts = f"{len(set(train.patients))} patients trained, {len(set(validation.patients))} chose the epoch"
    without = len(set(tiles.slides)) - len(set(labelled.slides))
    return {
        "labels": f"{recipe['target']} ({recipe['task']}), given to every tile of a slide; {without} slides have none",
        "parts": parts,
        "trainable": {
            "blocks": f"the last {recipe['blocks']} blocks",
            "lora": f"adapters of rank {recipe['lora_rank']}, merged into the weights",
            "all": "all weights",
        }[recipe["trainable"]],
        "kept": f"the weights of epoch {epoch}, which has the lowest validation loss",
        "score": f"{SCORES[recipe['task']]} is of patients, over the mean of their tiles",
    }


def scaled_targets(
    targets: NDArray[np.float64], task: str, target_range: list[float], encoder: str
) -> NDArray[np.float64]:
    """Labels as 0..1.

    Args:
        targets: As in the table, (n,), without blanks.
        task: regression or classification.
        target_range: Lowest and highest possible target of a regression.
        encoder: Its name, for messages.

    Raises:
        StudyError: A label lies outside its range.
    """
    low, high = target_range if task == "regression" else (0.0, 1.0)
    scaled = (targets - low) / (high - low)
    wrong = (scaled < 0) | (scaled > 1) | ((task == "classification") & (scaled % 1 != 0))
    if wrong.any():
        allowed = "0 or 1" if task == "classification" else f"between {low} and {high}"
        what = f"the target {targets[wrong][0]:g} is not {allowed}"
        raise StudyError(what, f"encoder {encoder}, pretraining.target", "correct the labels, task or target_range")
    return scaled


def split_patients(tiles: TileSet, task: str, seed: int, encoder: str) -> tuple[TileSet, TileSet]:
    """Training and validation tiles, which share no patient; classes are spread over both.

    Args:
        tiles: Labelled tiles.
        task: regression or classification.
        seed: Seed of the split.
        encoder: Its name, for messages.

    Raises:
        StudyError: Too few patients.
    """
    patients = np.unique(tiles.patients)
    # A patient with slides of both classes is on the side of the positive one.
    highest = np.array([tiles.targets[tiles.patients == p].max() for p in patients])
    classes = (highest > 0.5).astype(int) if task == "classification" else np.zeros(len(patients), int)
    needed = 2 if task == "classification" else 1
    if len(patients) < 2 or (task == "classification" and min(np.bincount(classes, minlength=2)) < 2):
        what = f"{len(patients)} patients with labels are too few to fine-tune on"
        remedy = "give slides of at least two patients (classification: of each class) in the pretraining cohorts"
        raise StudyError(what, f"encoder {encoder}", remedy)
    size = max(needed, int(np.ceil(VALIDATION * len(patients))))
    _, held = train_test_split(
        patients, test_size=size, random_state=seed, stratify=classes if task == "classification" else None
    )
    inside = np.isin(tiles.patients, held)
    return tiles.rows(~inside), tiles.rows(inside)


class _Loss(nn.Module):
    """MSE of the sigmoid for a score, cross-entropy with the rarer class weighted up for a label."""

    def __init__(self, task: str, weight: float) -> None:
        super().__init__()
        self.task = task
        self.weight: Tensor
        self.register_buffer("weight", torch.tensor(weight))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.task == "regression":
            return functional.mse_loss(torch.sigmoid(logits), targets)
        return functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=self.weight)


def _positive_weight(targets: NDArray[np.float64]) -> float:
    """Negative tiles per positive one."""
    positive = int((targets > 0.5).sum())
    return (len(targets) - positive) / positive if 0 < positive < len(targets) else 1.0


def _pixels(tiles: TileSet) -> Tensor:
    return torch.from_numpy(tiles.tiles).permute(0, 3, 1, 2)


@torch.no_grad()
def _validate(model: nn.Sequential, tiles: TileSet, side: int, loss: _Loss) -> tuple[float, float]:
    """The loss over tiles, and the score over patients, each the mean of its tiles."""
    model.eval()
    pixels, device, interpolation = _pixels(tiles), loss.weight.device, str(model[0].interpolation)
    chunks = [resized(pixels[i : i + BATCH], side, interpolation) for i in range(0, len(pixels), BATCH)]
    logits = torch.cat([model(chunk.to(device)).flatten().cpu() for chunk in chunks])
    found = float(loss(logits.to(device), torch.from_numpy(tiles.targets).float().to(device)))
    frame = pd.DataFrame({"patient": tiles.patients, "predicted": logits.double().numpy(), "truth": tiles.targets})
    patients = frame.groupby("patient").mean()
    statistic = statistics.pearson if loss.task == "regression" else statistics.auroc
    truth = patients["truth"].to_numpy()
    if loss.task != "regression":
        truth = (truth > 0.5).astype(np.float64)
    score = statistic(truth, patients["predicted"].to_numpy(), np.ones((1, len(patients))))
    return found, float(score[0])
