"""A transformer encoder before plain attention: TransformerABMIL of torchmil."""

from __future__ import annotations

import torch
from torch import nn

from slidestudy.models.aggregators.base import Shape
from slidestudy.models.aggregators.context import ContextModel


class TransformerMil(ContextModel):
    """Transformer ABMIL (Castro-Macias et al. 2024, arXiv 2410.03276, as torchmil has it) behind an encoder layer.

    Time grows with the square of a slide's tiles. There are no positions: the order of tiles does not matter.
    Attention is the pooling's, over hidden vectors that have seen the other tiles.

    Args:
        shape: What data and task decide.
        hidden: Width of the hidden vectors, a multiple of heads.
        attention: Width of the pooling's attention.
        dropout: Dropout of the slide's vector.
        layers: Transformer layers.
        heads: Heads of each.
    """

    def __init__(
        self,
        shape: Shape,
        hidden: int = 512,
        attention: int = 128,
        dropout: float = 0.25,
        layers: int = 1,
        heads: int = 8,
    ) -> None:
        from torchmil.models import TransformerABMIL

        super().__init__(shape, hidden, dropout)
        self.network = TransformerABMIL(
            (hidden,),
            pool_att_dim=attention,
            transf_att_dim=hidden,
            transf_n_layers=layers,
            transf_n_heads=heads,
        )
        # The head is ours: several outputs, and covariates.
        self.network.last_layer = nn.Identity()

    def pool(self, hidden: torch.Tensor) -> torch.Tensor:
        """The vectors (n_bags, width) of bags of one length, (n_bags, n, width)."""
        vectors: torch.Tensor = self.network(hidden)
        return vectors

    def pool_with_attention(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The vector (1, width) of a bag (1, n, width), its attention logits (n,) and attention (n,)."""
        vector, logits = self.network(hidden, return_att=True)
        return vector, logits[0], torch.softmax(logits[0], 0)
