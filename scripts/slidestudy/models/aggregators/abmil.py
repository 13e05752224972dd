"""Attention-based MIL: an encoder layer, attention, and a linear classifier of the weighted mean."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from slidestudy.models.aggregators.attention import GatedAttention, PlainAttention
from slidestudy.models.aggregators.base import MilModel, Shape, encoder_layer, joined_to
from slidestudy.models.packing import MilOutput, PackedBags
from slidestudy.models.segments import segment_softmax, weighted_sum


class Attended(NamedTuple):
    """What attention makes of packed bags.

    Attributes:
        hidden: Hidden vectors after dropout (n_tiles, hidden).
        logits: Attention before the softmax (n_tiles,).
        attention: After it (n_tiles,).
        pooled: The attention-weighted mean of the hidden vectors (n_slides, hidden).
    """

    hidden: torch.Tensor
    logits: torch.Tensor
    attention: torch.Tensor
    pooled: torch.Tensor


class AttentionModel(MilModel):
    """What the models of this family share: scaling, an encoder layer, attention, dropouts and a head.

    Args:
        shape: What data and task decide.
        hidden: Width of the encoder layer.
        attention: Width of the attention layer.
        dropout: Dropout of hidden vectors; attention is computed before it.
        tile_dropout: Dropout1d, which drops the hidden vectors of whole tiles.
    """

    attention_network: ClassVar[type[GatedAttention | PlainAttention]] = GatedAttention

    def __init__(
        self,
        shape: Shape,
        hidden: int = 512,
        attention: int = 128,
        dropout: float = 0.4,
        tile_dropout: float = 0.1,
    ) -> None:
        super().__init__(shape)
        self.post_encoder = encoder_layer(shape.dim, hidden)
        self.attention = self.attention_network(hidden, attention)
        self.dropout, self.tile_dropout = nn.Dropout(dropout), nn.Dropout1d(tile_dropout)
        self.classifier = self.head(hidden)

    def attend(self, packed: PackedBags) -> Attended:
        """Embeds the tiles, weighs them, and pools them slide by slide."""
        hidden = self.post_encoder(self.standardiser(packed.features))
        logits = self.attention(hidden).squeeze(-1)
        # Dropout1d zeroes rows of its second-to-last dimension: here whole tiles' vectors.
        hidden = self.tile_dropout(self.dropout(hidden).unsqueeze(0)).squeeze(0)
        attention = segment_softmax(logits, packed)
        return Attended(hidden, logits, attention, weighted_sum(hidden, attention, packed))

    def forward(self, packed: PackedBags) -> MilOutput:
        """Classifies the attention-weighted mean of hidden vectors.

        A tile alone is a bag of one, whose attention is 1: its pooled vector is its own hidden vector.
        """
        hidden, logits, attention, pooled = self.attend(packed)
        of_slides, of_tiles = joined_to(self.classifier, self.scaled_covariates(packed), packed)
        slide, tiles = self.classifier(pooled, of_slides), self.classifier(hidden, of_tiles)
        return MilOutput(slide, tiles, logits, attention, pooled)


class GatedAbmil(AttentionModel):
    """Gated attention-based MIL (Ilse et al. 2018): the attention-weighted mean of hidden vectors is classified."""


class Abmil(AttentionModel):
    """Plain attention-based MIL (Ilse et al. 2018, eq. 8), with the head of the CRC prognostic model on request.

    Args:
        shape: What data and task decide.
        hidden: Width of the encoder layer.
        attention: Width of the attention layer.
        dropout: Dropout of hidden vectors.
        tile_dropout: Dropout1d of whole tiles.
        batch_norm: Batch normalisation of the pooled vector before the classifier, and dropout there instead of
            on tiles, as in X2X's CRC model. Training it needs at least two slides in every pack, whose moments
            it takes.
    """

    attention_network = PlainAttention

    def __init__(
        self,
        shape: Shape,
        hidden: int = 512,
        attention: int = 128,
        dropout: float = 0.4,
        tile_dropout: float = 0.1,
        batch_norm: bool = False,
    ) -> None:
        super().__init__(shape, hidden, attention, 0.0 if batch_norm else dropout, tile_dropout)
        if batch_norm:
            self.norm, self.slide_dropout = nn.BatchNorm1d(hidden), nn.Dropout(dropout)
        self.batch_norm = batch_norm

    def forward(self, packed: PackedBags) -> MilOutput:
        """Scores packed bags."""
        if not self.batch_norm:
            return super().forward(packed)
        hidden, logits, attention, pooled = self.attend(packed)
        of_slides, of_tiles = joined_to(self.classifier, self.scaled_covariates(packed), packed)
        slide = self.classifier(self.slide_dropout(self.norm(pooled)), of_slides)
        # A tile alone is scaled by the running moments: it is no batch to take moments from.
        alone = functional.batch_norm(
            hidden, self.norm.running_mean, self.norm.running_var, self.norm.weight, self.norm.bias, eps=self.norm.eps
        )
        return MilOutput(slide, self.classifier(alone, of_tiles), logits, attention, pooled)
