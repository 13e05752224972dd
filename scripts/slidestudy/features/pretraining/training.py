"""Self-supervised training: the loop, its checks, and which method does what the configuration asks for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import pandas as pd
import torch
from torch import Tensor

from slidestudy.errors import StudyError
from slidestudy.features.pretraining.backbone import Backbone
from slidestudy.features.pretraining.checks import Check, Checker, chance, measure_name, refuse_collapse
from slidestudy.features.pretraining.contrastive import SimClr
from slidestudy.features.pretraining.distillation import Dino
from slidestudy.features.pretraining.fine_tuning import fine_tune
from slidestudy.features.pretraining.optimisation import (
    Log,
    Trained,
    apply_step,
    batches,
    half_precision,
    make_deterministic,
    memory_of,
    optimiser_of,
    refuse_nan,
)
from slidestudy.features.pretraining.sampling import TileSet
from slidestudy.features.pretraining.views import Views

HISTORY = ["epoch", "loss", "learning_rate", "knn", "feature_spread", "effective_rank"]
SETTLED_STEPS = 50
"""Steps before which collapse is not judged: running means of batch norms begin at 0 and are not yet the data's."""
CURVES = {"loss": ["loss"], "nearest neighbours": ["knn"], "spread": ["feature_spread"], "rank": ["effective_rank"]}

METHODS: dict[str, type[SimClr] | type[Dino]] = {"simclr": SimClr, "dino": Dino}
"""The self-supervised methods; each is a `Method`."""


class Method(Protocol):
    """What a self-supervised method gives the loop."""

    @property
    def encoder(self) -> Backbone:
        """The network that is kept."""

    def views(self, tiles: Tensor) -> list[Tensor]:
        """The views of a batch, uint8 (n, 3, size, size), each float32 (n, 3, side, side)."""

    def step(self, views: list[Tensor]) -> Tensor:
        """The loss of a batch of views."""

    def after_backward(self, epoch: int) -> None:
        """Called between the gradient and the update."""

    def after_step(self, progress: float) -> None:
        """Called after each update; `progress` is the share of the training that is done."""


def train_encoder(
    tiles: TileSet, spec: Mapping[str, Any], recipe: Mapping[str, Any], seed: int, log: Log = print
) -> Trained:
    """Trains an encoder as the configuration asks for.

    Args:
        tiles: The tiles.
        spec: The encoder's entry, with its `name`.
        recipe: The configuration's section `pretraining`.
        seed: Seed of weights, order and views.
        log: Where progress is told.

    Returns:
        The weights and the history. Equal arguments give equal bytes on one machine.

    Raises:
        StudyError: The model cannot be made, the data do not suffice, or the training came to nothing.
    """
    train = fine_tune if recipe["method"] == "fine-tune" else _self_supervise
    with memory_of(recipe, str(spec["name"])):
        return train(tiles, spec, recipe, seed, log)


def _self_supervise(tiles: TileSet, spec: Mapping[str, Any], recipe: Mapping[str, Any], seed: int, log: Log) -> Trained:
    """SimCLR or DINO over all tiles; the weights of the last epoch are kept."""
    name = str(spec["name"])
    if len(tiles) < 2:
        raise StudyError("one tile is too few to learn from", f"encoder {name}", "give more slides")
    device = make_deterministic(seed, recipe["threads"])
    backbone = Backbone(spec, recipe["start"], seed)
    method = METHODS[recipe["method"]](backbone, recipe).to(device)
    side = int(spec.get("input_size") or tiles.tiles.shape[1])
    dim = method.encoder.width(side)
    label, views = recipe["check_label"], Views(recipe["crop"], (recipe["min_scale"], 1.0))
    checker = Checker(tiles, side, views, check_label=label, neighbours=recipe["neighbours"], seed=seed)
    rows = [_row(0, float("nan"), 0.0, checker(method.encoder))]
    rows += _epochs(method, tiles, recipe, checker, name, log)
    history = pd.DataFrame(rows, columns=HISTORY)
    facts = {
        "kept": f"the weights of the last epoch ({recipe['epochs']})",
        "knn": f"{measure_name(label)}; guessing gives {chance(tiles, label):.3g}",
    }
    state = half_precision(method.encoder.model, name)
    return Trained(state, dim, recipe["epochs"], history, CURVES, facts)


def _epochs(
    method: SimClr | Dino, tiles: TileSet, recipe: Mapping[str, Any], checker: Checker, name: str, log: Log
) -> list[list[float]]:
    """Runs all epochs; returns their rows of the history."""
    device = method.encoder.mean.device
    pixels = torch.from_numpy(tiles.tiles).permute(0, 3, 1, 2)
    per_epoch = max(1, len(tiles) // recipe["batch_size"])
    optimiser, scheduler = optimiser_of(method, recipe, per_epoch)
    total, done = per_epoch * recipe["epochs"], 0
    rows = []
    for epoch in range(1, recipe["epochs"] + 1):
        method.train()
        losses = []
        for chosen in batches(len(tiles), recipe["batch_size"]):
            loss = method.step([view.to(device) for view in method.views(pixels[chosen])])
            refuse_nan(loss, epoch, name)
            rate = float(scheduler.get_last_lr()[0])
            losses.append(apply_step(loss, method, optimiser, scheduler, partial(method.after_backward, epoch)))
            done += 1
            method.after_step(done / total)
        check = None
        if epoch % recipe["check_every"] == 0 or epoch == recipe["epochs"]:
            check = checker(method.encoder)
        rows.append(_row(epoch, sum(losses) / len(losses), rate, check))
        log(" ".join(f"{column} {value:.4g}" for column, value in zip(HISTORY, rows[-1], strict=True)))
        if check and (done >= SETTLED_STEPS or epoch == recipe["epochs"]):
            refuse_collapse(check, epoch, name)
    return rows


def _row(epoch: int, loss: float, rate: float, check: Check | None) -> list[float]:
    """A row of the history."""
    blank = float("nan")
    found = (check.knn, check.feature_spread, check.effective_rank) if check else (blank, blank, blank)
    return [epoch, loss, rate, *found]
