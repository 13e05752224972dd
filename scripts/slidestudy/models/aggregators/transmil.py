"""TransMIL of torchmil: Nystrom self-attention with a class token (Shao et al. 2021, arXiv 2106.00908)."""

from __future__ import annotations

import torch
from torch import nn

from slidestudy.models.aggregators.base import Shape
from slidestudy.models.aggregators.context import ContextModel


class TransMil(ContextModel):
    """TransMIL behind an encoder layer.

    Tiles are laid out as a square in the order of the store, and convolved: the order of tiles matters. Its
    approximate attention of the class token has signs and does not sum to 1. What is given as attention is that
    of the last layer, mean over heads, negative weights set to zero and the rest scaled to sum to 1; logits of
    it there are none (NaN). torchmil forms it as a matrix of tiles x tiles, so that it is given in evaluation
    mode and up to `attention_tiles` tiles; otherwise it is NaN.

    Args:
        shape: What data and task decide.
        hidden: Width of the hidden vectors, a multiple of heads.
        dropout: Dropout of the slide's vector.
        layers: Nystrom layers, at least 2.
        heads: Heads of each.
        landmarks: Landmarks of each (our choice; published: half of `hidden`, at which a tile alone costs many
            times more).
        attention_tiles: Most tiles of a slide for which attention is given.
    """

    def __init__(
        self,
        shape: Shape,
        hidden: int = 512,
        dropout: float = 0.25,
        layers: int = 2,
        heads: int = 8,
        landmarks: int = 64,
        attention_tiles: int = 2000,
    ) -> None:
        from torchmil.models import TransMIL

        super().__init__(shape, hidden, dropout)
        self.attention_tiles = attention_tiles
        self.network = TransMIL((hidden,), att_dim=hidden, n_layers=layers, n_heads=heads, n_landmarks=landmarks)
        # The head is ours: several outputs, and covariates.
        self.network.classifier = nn.Identity()

    def pool(self, hidden: torch.Tensor) -> torch.Tensor:
        """The vectors (n_bags, width) of bags of one length, (n_bags, n, width)."""
        # torchmil scales its pseudo-inverse by a maximum over the whole batch: each bag must be a batch of its own.
        vectors: torch.Tensor = torch.vmap(lambda bag: self.network(bag.unsqueeze(0)).squeeze(0))(hidden)
        return vectors

    def pool_with_attention(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The vector (1, width) of a bag (1, n, width), its attention logits (n,), NaN, and attention (n,)."""
        unknown = hidden.new_full((hidden.shape[1],), torch.nan)
        if self.training or hidden.shape[1] > self.attention_tiles:
            return self.network(hidden), unknown, unknown
        vector, weights = self.network(hidden, return_att=True)
        positive = weights[0].clamp(min=0)
        return vector, unknown, positive / positive.sum()
