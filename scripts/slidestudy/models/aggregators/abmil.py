"""Attention-based MIL: an encoder layer, attention, and a linear classifier of the weighted mean."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from slidestudy.models.aggregators.attention import GatedAttention, PlainAttention
from slidestudy.models.aggregators.base import CLIP, Head, MilModel, joined_to
from slidestudy.models.packing import MilOutput, PackedBags
from slidestudy.models.segments import segment_softmax, weighted_sum


class AttentionModel(MilModel):
    """What the models of this family share: scaling, an encoder layer, attention, dropouts and a head.

    Args:
        dim: Length of a feature vector.
        hidden: Width of the encoder layer.
        attention: Width of the attention layer.
        dropout: Dropout of hidden vectors; attention is computed before it.
        tile_dropout: Dropout1d, which drops the hidden vectors of whole tiles.
        gated: Whether attention is gated.
        n_outputs: Raw outputs per slide.
        n_covariates: Covariates joined at the head.
        clip: See Standardiser.
    """

    attention: nn.Module

    def __init__(
        self,
        dim: int,
        hidden: int = 512,
        attention: int = 128,
        dropout: float = 0.4,
        tile_dropout: float = 0.1,
        gated: bool = True,
        n_outputs: int = 1,
        n_covariates: int = 0,
        clip: float | None = CLIP,
    ) -> None:
        super().__init__(dim, n_outputs, n_covariates, clip)
        self.post_encoder = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU())
        self.attention = GatedAttention(hidden, attention) if gated else PlainAttention(hidden, attention)
        self.dropout, self.tile_dropout = nn.Dropout(dropout), nn.Dropout1d(tile_dropout)
        self.classifier = Head(hidden, n_outputs, n_covariates)

    def embed(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden vectors after dropout (n_tiles, hidden), and attention logits (n_tiles,)."""
        hidden = self.post_encoder(self.standardiser(features))
        attention_logits = self.attention(hidden).squeeze(-1)
        # Dropout1d zeroes rows of its second-to-last dimension: here whole tiles' vectors.
        return self.tile_dropout(self.dropout(hidden).unsqueeze(0)).squeeze(0), attention_logits


class GatedAbmil(AttentionModel):
    """Gated attention-based MIL (Ilse et al. 2018): the attention-weighted mean of hidden vectors is classified."""

    def __init__(
        self,
        dim: int,
        hidden: int = 512,
        attention: int = 128,
        dropout: float = 0.4,
        tile_dropout: float = 0.1,
        n_outputs: int = 1,
        n_covariates: int = 0,
        clip: float | None = CLIP,
    ) -> None:
        super().__init__(dim, hidden, attention, dropout, tile_dropout, True, n_outputs, n_covariates, clip)

    def forward(self, packed: PackedBags) -> MilOutput:
        """Scores packed bags."""
        return pool_by_attention(self, packed, self.classifier)


class Abmil(AttentionModel):
    """Plain attention-based MIL (Ilse et al. 2018, eq. 8), with the head of the CRC prognostic model on request.

    Args:
        dim: Length of a feature vector.
        hidden: Width of the encoder layer.
        attention: Width of the attention layer.
        dropout: Dropout of hidden vectors.
        tile_dropout: Dropout1d of whole tiles.
        batch_norm: Batch normalisation of the pooled vector before the classifier, and dropout there instead of
            on tiles, as in X2X's CRC model. Training it needs at least two slides in every pack, whose moments
            it takes.
        n_outputs: Raw outputs per slide.
        n_covariates: Covariates joined at the head.
        clip: See Standardiser.
    """

    def __init__(
        self,
        dim: int,
        hidden: int = 512,
        attention: int = 128,
        dropout: float = 0.4,
        tile_dropout: float = 0.1,
        batch_norm: bool = False,
        n_outputs: int = 1,
        n_covariates: int = 0,
        clip: float | None = CLIP,
    ) -> None:
        on_tiles = 0.0 if batch_norm else dropout
        super().__init__(dim, hidden, attention, on_tiles, tile_dropout, False, n_outputs, n_covariates, clip)
        if batch_norm:
            self.norm, self.slide_dropout = nn.BatchNorm1d(hidden), nn.Dropout(dropout)
        self.batch_norm = batch_norm

    def forward(self, packed: PackedBags) -> MilOutput:
        """Scores packed bags."""
        if not self.batch_norm:
            return pool_by_attention(self, packed, self.classifier)
        hidden, attention_logits = self.embed(packed.features)
        attention = segment_softmax(attention_logits, packed)
        pooled = weighted_sum(hidden, attention, packed)
        of_slides, of_tiles = joined_to(self.classifier, self.scaled_covariates(packed), packed)
        slide = self.classifier(self.slide_dropout(self.norm(pooled)), of_slides)
        # A tile alone is scaled by the running moments: it is no batch to take moments from.
        alone = functional.batch_norm(
            hidden, self.norm.running_mean, self.norm.running_var, self.norm.weight, self.norm.bias, eps=self.norm.eps
        )
        return MilOutput(slide, self.classifier(alone, of_tiles), attention_logits, attention, pooled)


def pool_by_attention(model: AttentionModel, packed: PackedBags, head: Head) -> MilOutput:
    """Classifies the attention-weighted mean of hidden vectors.

    A tile alone is a bag of one, whose attention is 1: its pooled vector is its own hidden vector.
    """
    hidden, attention_logits = model.embed(packed.features)
    attention = segment_softmax(attention_logits, packed)
    pooled = weighted_sum(hidden, attention, packed)
    of_slides, of_tiles = joined_to(head, model.scaled_covariates(packed), packed)
    return MilOutput(head(pooled, of_slides), head(hidden, of_tiles), attention_logits, attention, pooled)
