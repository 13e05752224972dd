"""What every method shares: seeds, the optimiser with its schedule, and what a step may fail with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from lightly.utils.scheduler import CosineWarmupScheduler
from timm.optim import create_optimizer_v2
from torch import Tensor, nn

from slidestudy.errors import StudyError

GRADIENT_CLIP = 3.0
"""Largest norm of the gradient (as DINO's)."""
Log = Callable[[str], None]


@dataclass(frozen=True)
class Trained:
    """A trained encoder.

    Attributes:
        state: The backbone's weights in fp16, other buffers as they are.
        dim: Length of its vectors.
        epoch: The epoch whose weights these are, from 1.
        history: One row per epoch; blank (NaN) where nothing was measured.
        curves: Panel title -> columns of the history that it shows.
        facts: What the model card says of the training, name -> text.
    """

    state: dict[str, Tensor]
    dim: int
    epoch: int
    history: pd.DataFrame
    curves: dict[str, list[str]]
    facts: dict[str, str]


def make_deterministic(seed: int, threads: int) -> torch.device:
    """Seeds torch, asks for kernels that give the same bytes each time, and picks the device: a GPU if there is one."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    # Some GPU kernels have no deterministic form: torch then says so in the log.
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def batches(count: int, size: int) -> Iterator[Tensor]:
    """Rows of the batches of one epoch, in a new random order; what does not fill a batch waits for the next."""
    order = torch.randperm(count)
    size = min(size, count)
    for start in range(0, count - size + 1, size):
        yield order[start : start + size]


def optimiser_of(
    model: nn.Module, recipe: Mapping[str, Any], steps_per_epoch: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW without decay of biases and norms, its rate rising and then falling as a cosine.

    Args:
        model: What is trained; weights that are frozen are left out.
        recipe: `learning_rate weight_decay epochs warmup_epochs`; a warm-up of all epochs is cut to half of them.
        steps_per_epoch: Batches of an epoch.
    """
    rate, decay = recipe["learning_rate"], recipe["weight_decay"]
    optimiser = create_optimizer_v2(model, opt="adamw", lr=rate, weight_decay=decay)
    epochs = recipe["epochs"]
    warmup = min(recipe["warmup_epochs"], epochs // 2)
    scheduler = CosineWarmupScheduler(optimiser, warmup * steps_per_epoch, epochs * steps_per_epoch)
    return optimiser, scheduler


def apply_step(
    loss: Tensor,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    after_backward: Callable[[], None] = lambda: None,
) -> float:
    """One update of the weights; returns the loss."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    after_backward()
    nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], GRADIENT_CLIP)
    optimiser.step()
    scheduler.step()
    return float(loss.detach())


def refuse_nan(loss: Tensor, epoch: int, encoder: str) -> None:
    """Ends a training whose loss is no number.

    Raises:
        StudyError: It is NaN or infinite.
    """
    if not torch.isfinite(loss):
        raise StudyError(
            f"the loss is {float(loss.detach())} at epoch {epoch}",
            f"encoder {encoder}",
            "lower pretraining.learning_rate, or lengthen warmup_epochs",
        )


@contextmanager
def memory_of(recipe: Mapping[str, Any], encoder: str) -> Iterator[None]:
    """Says what to do where a batch does not fit the GPU.

    Raises:
        StudyError: In place of torch's own error.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        what = f"the GPU has not enough memory for batches of {recipe['batch_size']} tiles"
        remedy = "lower pretraining.batch_size or crop: another batch would be another recipe, so it is not halved here"
        raise StudyError(what, f"encoder {encoder}", remedy) from None


def half_precision(model: nn.Module, encoder: str) -> dict[str, Tensor]:
    """The weights of a model as they are published: fp16, contiguous.

    Raises:
        StudyError: A weight is beyond what fp16 holds.
    """
    state = {}
    for key, value in model.state_dict().items():
        value = value.detach().cpu()
        value = value.half() if value.is_floating_point() else value
        if not torch.isfinite(value).all():
            raise StudyError(f"the weight {key} is not finite in fp16", f"encoder {encoder}", "lower the learning rate")
        state[key] = value.contiguous(memory_format=torch.contiguous_format).clone()
    return state
