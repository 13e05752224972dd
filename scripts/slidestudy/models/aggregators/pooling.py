"""Poolings without attention: mean, max, and a linear probe on the mean of the features."""

from __future__ import annotations

import torch

from slidestudy.models.aggregators.base import Head, HiddenModel, MilModel, Shape, joined_to, uniform_attention
from slidestudy.models.packing import MilOutput, PackedBags
from slidestudy.models.segments import segment_max, segment_mean, segment_softmax


class LinearProbe(MilModel):
    """A linear model of the mean of the slide's standardised features.

    On bags of one row, such as a slide encoder's vectors, it is a linear probe of these.

    Args:
        shape: What data and task decide.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.classifier = self.head(shape.dim)

    def forward(self, packed: PackedBags) -> MilOutput:
        """Scores packed bags."""
        return _mean_pooled(self, self.standardiser(packed.features), packed, self.classifier)


class MeanPool(HiddenModel):
    """The mean of hidden vectors, Linear + ReLU, is classified."""

    def forward(self, packed: PackedBags) -> MilOutput:
        """Scores packed bags."""
        hidden = self.dropout(self.post_encoder(self.standardiser(packed.features)))
        return _mean_pooled(self, hidden, packed, self.classifier)


def _mean_pooled(model: MilModel, vectors: torch.Tensor, packed: PackedBags, head: Head) -> MilOutput:
    """The output of mean pooling of tiles' vectors."""
    of_slides, of_tiles = joined_to(head, model.scaled_covariates(packed), packed)
    pooled = segment_mean(vectors, packed)
    return MilOutput(head(pooled, of_slides), head(vectors, of_tiles), *uniform_attention(packed), pooled)


class MaxPool(HiddenModel):
    """The slide is its highest tile: the largest tile logit of each output (Campanella et al. 2019).

    Attention is 1 at the highest tile of the first output, in equal parts where tiles tie; its logits are the
    tile logits, of which it is the limit of a softmax ever sharper. Covariates, which a maximum of tiles has no
    vector to join to, add a linear term to the slide's outputs.
    """

    def forward(self, packed: PackedBags) -> MilOutput:
        """Scores packed bags."""
        hidden = self.dropout(self.post_encoder(self.standardiser(packed.features)))
        _, of_tiles = joined_to(self.classifier, self.scaled_covariates(packed), packed)
        # Covariates add the same to all tiles of a slide: the highest stays the highest.
        logits = self.classifier(hidden, of_tiles)
        slide = segment_max(logits, packed)
        first = logits[:, 0].detach()
        highest = (first == slide.detach()[packed.segment, 0]).float()
        attention = segment_softmax(highest.log(), packed)
        return MilOutput(slide, logits, first, attention)
