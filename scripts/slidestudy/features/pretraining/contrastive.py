"""SimCLR: two views of a tile are drawn together, those of other tiles apart (Chen et al., ICML 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightly.loss import NTXentLoss
from lightly.models.modules.heads import SimCLRProjectionHead
from torch import Tensor, nn

from slidestudy.features.pretraining.backbone import Backbone
from slidestudy.features.pretraining.views import Views

PROJECTION = 128
"""Length of the vectors that are compared."""


class SimClr(nn.Module):
    """The backbone with SimCLR's projection head and loss.

    Args:
        backbone: The network that is trained.
        recipe: The configuration's section `pretraining`.
    """

    def __init__(self, backbone: Backbone, recipe: Mapping[str, Any]) -> None:
        super().__init__()
        self.backbone = backbone
        dim = backbone.width(recipe["crop"])
        self.head = SimCLRProjectionHead(dim, dim, PROJECTION)
        self.loss = NTXentLoss(temperature=recipe["temperature"])
        self._views = Views(recipe["crop"], (recipe["min_scale"], 1.0))

    @property
    def encoder(self) -> Backbone:
        """The network that is kept."""
        return self.backbone

    def views(self, tiles: Tensor) -> list[Tensor]:
        """The views of a batch, uint8 (n, 3, size, size), that a step compares."""
        return [self._views(tiles), self._views(tiles)]

    def step(self, views: list[Tensor]) -> Tensor:
        """The loss of a batch of views."""
        first, second = (self.head(self.backbone(view)) for view in views)
        return self.loss(first, second)

    def after_backward(self, epoch: int) -> None:
        """Nothing is held still."""

    def after_step(self, progress: float) -> None:
        """Nothing follows a step."""
