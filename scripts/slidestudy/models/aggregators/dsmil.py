"""DSMIL: the highest tile, and attention by likeness to it (Li et al. 2021, arXiv 2011.08939)."""

from __future__ import annotations

import math

import torch
from torch import nn

from slidestudy.models.aggregators.base import MilModel, Shape, encoder_layer, joined_to
from slidestudy.models.packing import MilOutput, PackedBags
from slidestudy.models.segments import segment_max, segment_rank, segment_softmax, weighted_sum


class DsMil(MilModel):
    """Dual-stream MIL, behind an encoder layer (our addition, so that widths agree with the other models).

    First stream: the largest tile logit. Second: for each output, tiles are weighed by the product of their query
    with the query of the output's highest tile, and their values are summed and classified. The slide's output is
    the mean of both streams, each of which is trained by the task's loss (`objectives`). Covariates join the
    second stream. Attention is that of the first output.

    Args:
        shape: What data and task decide.
        hidden: Width of the encoder layer.
        attention: Width of the queries.
        dropout: Dropout of values.
    """

    def __init__(self, shape: Shape, hidden: int = 512, attention: int = 128, dropout: float = 0.0) -> None:
        super().__init__(shape)
        self.post_encoder = encoder_layer(shape.dim, hidden)
        self.query = nn.Linear(hidden, attention)
        self.value = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.ReLU())
        self.tile_classifier = nn.Linear(hidden, self.n_outputs)
        self.classifier = self.head(self.n_outputs * hidden)

    def forward(self, packed: PackedBags) -> MilOutput:
        """Scores packed bags."""
        hidden = self.post_encoder(self.standardiser(packed.features))
        query, value, logits = self.query(hidden), self.value(hidden), self.tile_classifier(hidden)
        likeness = torch.stack([self._likeness(query, column, packed) for column in logits.unbind(1)], 1)
        attention = segment_softmax(likeness, packed)
        pooled = torch.cat([weighted_sum(value, weight, packed) for weight in attention.unbind(1)], 1)
        of_slides, of_tiles = joined_to(self.classifier, self.scaled_covariates(packed), packed)
        of_bag, of_highest = self.classifier(pooled, of_slides), segment_max(logits, packed)
        # A tile alone is the highest for every output, and its value is all that is summed.
        alone = self.classifier(value.repeat(1, self.n_outputs), of_tiles)
        slides = torch.arange(packed.n_slides, device=pooled.device)
        return MilOutput(
            (of_bag + of_highest) / 2,
            (alone + logits) / 2,
            likeness[:, 0],
            attention[:, 0],
            pooled,
            ((of_bag, slides), (of_highest, slides)),
        )

    def _likeness(self, query: torch.Tensor, logits: torch.Tensor, packed: PackedBags) -> torch.Tensor:
        """Scaled product of every tile's query with that of its slide's highest tile, (n_tiles,)."""
        highest = query[segment_rank(logits, packed) == 0]
        return (query * highest[packed.segment]).sum(1) / math.sqrt(query.shape[1])
