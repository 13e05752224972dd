"""Training one fold: the recipe, the choice of the epoch on the validation part, and frozen thresholds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_curve
from torch import nn
from torch.nn import functional

from slidestudy import statistics
from slidestudy.models.bags import Bag, feature_moments
from slidestudy.models.mil import build_model

HISTORY = ["epoch", "train_loss", "validation_loss", "validation_score", "best"]


@dataclass(frozen=True)
class Example:
    """A labelled bag.

    Attributes:
        bag: The slide's tiles.
        target: The label scaled to 0..1.
    """

    bag: Bag
    target: float


@dataclass(frozen=True)
class Trained:
    """A trained fold.

    Attributes:
        state: The weights of the best epoch.
        architecture: What `build_model` needs.
        history: One row per epoch.
        thresholds: Decision thresholds, chosen on the validation part; empty for regression.
        best_epoch: The epoch whose weights were kept, from 1.
    """

    state: Mapping[str, torch.Tensor]
    architecture: dict[str, Any]
    history: pd.DataFrame
    thresholds: dict[str, float]
    best_epoch: int


def make_deterministic(seed: int, threads: int) -> None:
    """Seeds torch and asks for kernels that give the same bytes each time."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)


def _sample(features: torch.Tensor, most: int, generator: torch.Generator) -> torch.Tensor:
    """All tiles, or a random draw of the most that a step may hold."""
    if len(features) <= most:
        return features
    return features[torch.randperm(len(features), generator=generator)[:most]]


def _loss(outputs: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor, task: str, weight: float) -> torch.Tensor:
    """MSE of fractions (ECTIL), or cross-entropy with the rarer class weighted up."""
    if task == "regression":
        return functional.mse_loss(outputs, targets)
    return functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=torch.tensor(weight))


def _positive_weight(examples: Sequence[Example]) -> float:
    """Negatives per positive of the training part; 1 where a class is missing."""
    positive = sum(e.target > 0.5 for e in examples)
    return (len(examples) - positive) / positive if 0 < positive < len(examples) else 1.0


@torch.inference_mode()
def _evaluate(
    model: nn.Module, examples: Sequence[Example], task: str, weight: float
) -> tuple[float, NDArray[np.float64]]:
    """Loss and slide outputs on a part, without dropout."""
    model.eval()
    results = [model(e.bag.features) for e in examples]
    slides, logits = torch.stack([r.slide for r in results]), torch.stack([r.slide_logit for r in results])
    targets = torch.tensor([e.target for e in examples])
    return float(_loss(slides, logits, targets, task, weight)), slides.double().numpy()


def _score(truth: NDArray[np.float64], predicted: NDArray[np.float64], loss: float, task: str) -> float:
    """What the epoch is chosen by: explained variance (ECTIL) or AUROC; the negative loss where undefined."""
    statistic = statistics.explained_variance if task == "regression" else statistics.auroc
    score = float(statistic(truth, predicted, np.ones((1, len(truth))))[0])
    return score if np.isfinite(score) else -loss


def youden_threshold(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> float | None:
    """The threshold with the largest sensitivity + specificity (Youden 1950); None with one class only."""
    if len(np.unique(truth)) < 2:
        return None
    false_positive, true_positive, thresholds = roc_curve(truth, predicted, drop_intermediate=False)
    finite = np.isfinite(thresholds)
    return float(thresholds[finite][np.argmax((true_positive - false_positive)[finite])])


def _train_epoch(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    examples: Sequence[Example],
    task: str,
    weight: float,
    recipe: dict[str, Any],
    generator: torch.Generator,
) -> float:
    """One pass over the training part; returns its mean loss."""
    model.train()
    order = torch.randperm(len(examples), generator=generator).tolist()
    total = 0.0
    for start in range(0, len(order), recipe["batch_size"]):
        batch = [examples[i] for i in order[start : start + recipe["batch_size"]]]
        results = [model(_sample(e.bag.features, recipe["max_tiles"], generator)) for e in batch]
        targets = torch.tensor([e.target for e in batch])
        loss = _loss(
            torch.stack([r.slide for r in results]),
            torch.stack([r.slide_logit for r in results]),
            targets,
            task,
            weight,
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe["gradient_clip"])
        optimiser.step()
        total += float(loss.detach()) * len(batch)
    return total / len(examples)


def train_fold(
    train: Sequence[Example],
    validation: Sequence[Example],
    *,
    task: str,
    aggregator: str,
    recipe: dict[str, Any],
    seed: int,
) -> Trained:
    """Trains a model on one fold; the test part is not seen.

    Args:
        train: Training examples.
        validation: Examples that choose the epoch and the threshold.
        task: `regression` or `classification`.
        aggregator: A key of AGGREGATORS.
        recipe: The configuration's section `training`.
        seed: Seed of weights, order, dropout and tile draws.

    Returns:
        The weights of the best epoch, with the history.
    """
    make_deterministic(seed, recipe["threads"])
    architecture = {"aggregator": aggregator, "dim": train[0].bag.features.shape[1]}
    architecture |= {key: recipe[key] for key in ("hidden", "attention", "dropout", "tile_dropout")}
    model = build_model(architecture)
    if recipe["standardise"]:
        model.standardiser.mean, model.standardiser.deviation = feature_moments([e.bag for e in train])
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe["learning_rate"], weight_decay=recipe["weight_decay"])
    generator = torch.Generator().manual_seed(seed)
    weight = _positive_weight(train)
    truth = np.array([e.target for e in validation])
    best: tuple[float, int, dict[str, torch.Tensor], NDArray[np.float64]] | None = None
    rows: list[list[float]] = []
    for epoch in range(1, recipe["epochs"] + 1):
        train_loss = _train_epoch(model, optimiser, train, task, weight, recipe, generator)
        validation_loss, predicted = _evaluate(model, validation, task, weight)
        score = _score(truth, predicted, validation_loss, task)
        improved = best is None or score > best[0]
        if improved:
            best = (score, epoch, deepcopy(model.state_dict()), predicted)
        rows.append([epoch, train_loss, validation_loss, score, int(improved)])
        if best is not None and epoch - best[1] >= recipe["patience"]:
            break
    assert best is not None
    thresholds = {}
    if task == "classification" and (threshold := youden_threshold(truth, best[3])) is not None:
        thresholds["youden"] = threshold
    history = pd.DataFrame(rows, columns=HISTORY).astype({"epoch": int, "best": int})
    return Trained(best[2], architecture, history, thresholds, best[1])
