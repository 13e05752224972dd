"""Encoders and models made by hand, whose maps are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import timm
import torch
from torch import nn

from slidestudy.explanations.attribution.scorer import TileScorer
from slidestudy.features.torch_encoder import TorchEncoder
from slidestudy.models.aggregators.abmil import GatedAbmil
from slidestudy.models.aggregators.base import MilModel, Shape
from slidestudy.models.packing import MilOutput, PackedBags

SIZE = 64
CORNER = slice(8, 24)
"""Where the bright square of a patch lies, in y and x."""


def planted(count: int = 3, size: int = SIZE, seed: int = 0) -> np.ndarray:
    """Patches of dim noise with one bright square."""
    tiles = np.random.default_rng(seed).integers(60, 100, (count, size, size, 3)).astype(np.uint8)
    tiles[:, CORNER, CORNER] = 240
    return tiles


def network(architecture: str, size: int = SIZE, **arguments: Any) -> TorchEncoder:
    """An untrained network of timm as the study's encoder."""
    spec = {
        "name": "net", "backend": "timm", "architecture": architecture, "weights": "none", "arguments": arguments,
        "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25],
    }  # fmt: skip
    return TorchEncoder(spec, size, 1, 1)


class Brightness(nn.Module):
    """A convolution that passes what is brighter than half, and its mean: the feature is how much is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 8, stride=8)
        nn.init.constant_(self.conv.weight, 1 / 192)
        nn.init.constant_(self.conv.bias, -0.2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.relu(self.conv(images)).mean((2, 3))


def bright_encoder(monkeypatch: Any, size: int = SIZE) -> TorchEncoder:
    """An encoder whose one feature is how much of the patch is bright."""
    from slidestudy.features import torch_encoder
    from slidestudy.features.backends.vision import Vision

    module = Brightness()
    vision = Vision(module, module, (0.5,) * 3, (0.5,) * 3)
    monkeypatch.setattr(torch_encoder, "_build", lambda *_: (vision, "made by hand"))
    return TorchEncoder({"name": "bright", "backend": "timm", "architecture": "by hand"}, size, 1, 1)


class Reads(MilModel):
    """Its output is a multiple of the first feature, and its attention minus another."""

    def __init__(self, dim: int, factor: float = 1.0, attends: float | None = -1.0) -> None:
        super().__init__(Shape(dim))
        self.factor, self.attends = factor, attends

    def forward(self, packed: PackedBags) -> MilOutput:
        feature = self.standardiser(packed.features)[:, :1]
        zeros = torch.zeros(len(feature))
        attention = zeros if self.attends is None else self.attends * feature[:, 0]
        return MilOutput(self.factor * feature, self.factor * feature, attention, torch.ones(len(feature)))


def abmil(dim: int, seed: int = 0) -> MilModel:
    """An untrained attention model."""
    torch.manual_seed(seed)
    return GatedAbmil(Shape(dim), hidden=16, attention=8).eval().requires_grad_(False)


def scorer_of(encoder: Any, members: list[MilModel], tiles: np.ndarray, weights: Any = None) -> TileScorer:
    """The scorer of members that all count alike."""
    if weights is None:
        weights = np.full((len(tiles), len(members)), 1 / len(members))
    return TileScorer(encoder, members, "identity", tiles, np.asarray(weights, float))


def make_timm(architecture: str, **arguments: Any) -> nn.Module:
    """A network of timm."""
    return timm.create_model(architecture, num_classes=0, **arguments).eval()
