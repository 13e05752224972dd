"""A second modality beside the tiles: a self-normalising network of it, and ABMIL with its embedding joined."""

from __future__ import annotations

import torch
from torch import nn

from slidestudy.models.aggregators.abmil import AttentionModel
from slidestudy.models.aggregators.base import Head, Shape, joined_to
from slidestudy.models.packing import MilOutput, PackedBags


class SelfNormalising(nn.Sequential):
    """A self-normalising network (Klambauer et al. 2017, arXiv 1706.02515) of two layers.

    Each layer is Linear, ELU and AlphaDropout, as in MCAT's published network (the paper's activation is SELU), its
    weights drawn with a variance of 1 / width and its intercepts zero.

    Args:
        width: Length of an input.
        hidden: Width of both layers.
        dropout: Share of values dropped.
    """

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        layers: list[nn.Module] = []
        for incoming in (width, hidden):
            linear = nn.Linear(incoming, hidden)
            nn.init.normal_(linear.weight, std=incoming**-0.5)
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.ELU(), nn.AlphaDropout(dropout)]
        super().__init__(*layers)


class ConcatAbmil(AttentionModel):
    """Gated attention-based MIL whose slide vector is joined by an embedding of the second modality.

    The head is linear, so that the output is a sum of what the tiles say and what the modality says: an interaction
    of both is beyond it.

    Args:
        shape: What data and task decide.
        hidden: Width of the encoder layer and of the embedding.
        attention: Width of the attention layer.
        dropout: Dropout of hidden vectors and AlphaDropout of the embedding.
        tile_dropout: Dropout1d of whole tiles.
    """

    takes_modality = True

    def __init__(
        self,
        shape: Shape,
        hidden: int = 512,
        attention: int = 128,
        dropout: float = 0.25,
        tile_dropout: float = 0.0,
    ) -> None:
        super().__init__(shape, hidden, attention, dropout, tile_dropout)
        self.modality = SelfNormalising(self.n_modality, hidden, dropout)
        # The embedding is joined as covariates are: it adds the same to the slide and to each of its tiles.
        self.classifier = Head(hidden, self.n_outputs, hidden + self.n_covariates - self.n_modality)

    def forward(self, packed: PackedBags) -> MilOutput:
        """Classifies the attention-weighted mean of hidden vectors with the embedding and the clinical covariates."""
        clinical, modality = self.clinical_and_modality(packed)
        embedding = self.modality(modality)
        hidden, logits, attention, pooled = self.attend(packed)
        joined = embedding if clinical is None else torch.cat([embedding, clinical], 1)
        of_slides, of_tiles = joined_to(self.classifier, joined, packed)
        slide, tiles = self.classifier(pooled, of_slides), self.classifier(hidden, of_tiles)
        return MilOutput(slide, tiles, logits, attention, torch.cat([pooled, embedding], 1))
