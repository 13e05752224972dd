"""The optimiser, its learning rate in each step, and how a step is made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from slidestudy.errors import StudyError

DEFAULTS: dict[str, Any] = {
    "optimiser": "adam",
    "schedule": "constant",
    "warmup_epochs": 0,
    "ema": None,
    "precision": "fp32",
    "seeds": 1,
    "memory_gb": 4.0,
    "pack_tiles": None,
    "tiles_per_epoch": None,
    "class_weights": True,
    "contrastive_weight": 0.0,
    "contrastive_temperature": 0.1,
    "calibration": "none",
}
"""What a recipe may leave out; with ECTIL's values of the rest it is ECTIL's training."""
PACK_TILES = {"cpu": 1024, "cuda": 65_536}
"""Tiles of a pack unless the recipe says: on a CPU what stays in its caches (ECTIL on 2,048-d features is slower by a
tenth with 16,000), on a GPU what keeps it busy."""
OPTIMISERS: dict[str, type[torch.optim.Adam]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
SCHEDULES = ("constant", "cosine", "one-cycle")
ONE_CYCLE_RISE = 0.3
ONE_CYCLE_START, ONE_CYCLE_END = 1 / 25, 1 / 250_000
"""Of the one-cycle schedule: share of steps in which the rate rises, and the rates at both ends over the peak (the
defaults of torch's OneCycleLR)."""


def make_optimiser(model: nn.Module, recipe: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Adam (weight decay as an L2 penalty, ECTIL) or AdamW (decoupled)."""
    kind = OPTIMISERS[recipe["optimiser"]]
    return kind(model.parameters(), lr=recipe["learning_rate"], weight_decay=recipe["weight_decay"])


def rate_factor(schedule: str, step: int, steps: int, warmup: int) -> float:
    """The learning rate of a step as a fraction of the peak.

    A function of the step alone, so that a resumed training needs no state of it. One-cycle rises by itself (Smith
    and Topin 2019, without its cycling of momentum); the others rise linearly over the warm-up.

    Args:
        schedule: One of SCHEDULES.
        step: From 0.
        steps: Steps of all epochs.
        warmup: Steps of the warm-up.
    """
    if schedule == "one-cycle":
        peak = max(1.0, ONE_CYCLE_RISE * steps - 1)
        if step <= peak:
            return _cosine(ONE_CYCLE_START, 1.0, step / peak)
        return _cosine(1.0, ONE_CYCLE_END, min(1.0, (step - peak) / max(1.0, steps - 1 - peak)))
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "cosine":
        return _cosine(1.0, 0.0, (step - warmup) / max(1, steps - warmup))
    return 1.0


def _cosine(start: float, end: float, share: float) -> float:
    """From start to end along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def make_average(model: nn.Module, decay: float | None) -> AveragedModel | None:
    """The exponential moving average of a model's weights; None without a decay."""
    return None if decay is None else AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))


def pick_device() -> torch.device:
    """A GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_precision(precision: str, device: torch.device) -> None:
    """Refuses an arithmetic that the device does not have.

    Raises:
        StudyError: bf16 on a CPU without instructions for it, where it would be slower than fp32.
    """
    if precision != "bf16" or device.type != "cpu":
        return
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise StudyError("this CPU has no bf16 arithmetic", "training.precision", "use fp32, or a GPU")


def clip_and_step(model: nn.Module, optimiser: torch.optim.Optimizer, most: float | None) -> bool:
    """One update of the weights; False, and none, if the gradient is not finite."""
    limit = math.inf if most is None else most
    norm = nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], limit)
    if not bool(torch.isfinite(norm)):
        return False
    optimiser.step()
    return True
