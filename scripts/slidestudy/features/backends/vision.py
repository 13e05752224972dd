"""What every backend gives: a network, its weights loaded, and how it makes one vector per tile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Vision:
    """A network that encodes tiles.

    Attributes:
        module: The network, on the CPU; it holds all weights that `features` uses.
        features: Normalised tiles (n, 3, s, s) -> vectors (n, d).
        mean: Per-channel mean that the weights expect; None where nothing says it.
        std: Per-channel SD, likewise.
    """

    module: nn.Module
    features: Callable[[torch.Tensor], torch.Tensor]
    mean: Triple | None
    std: Triple | None
