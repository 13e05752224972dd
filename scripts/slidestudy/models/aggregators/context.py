"""What the models of torchmil share in which tiles see one another: slides one by one, tiles alone on request."""

from __future__ import annotations

from abc import abstractmethod

import torch

from slidestudy.models.aggregators.base import HiddenModel, joined_to
from slidestudy.models.packing import MilOutput, PackedBags

ALONE = 64
"""Tiles scored alone at once."""


class ContextModel(HiddenModel):
    """A model in which a tile's hidden vector depends on the other tiles of the slide.

    An encoder layer runs on all tiles at once. What follows, of torchmil, is of one slide at a time: padding to
    the longest slide would change TransMIL's output and cost the square of that slide's length for each of the
    others. Dropout is that of the slide's vector; torchmil's own dropouts are left at zero, since its
    self-attention drops in evaluation mode too.

    `tile_logits` are NaN in the output, because a tile alone is a forward pass of its own; `score_tiles` makes
    these passes, for prediction.
    """

    @abstractmethod
    def pool(self, hidden: torch.Tensor) -> torch.Tensor:
        """The vectors (n_bags, width) of bags of one length, (n_bags, n, width)."""

    @abstractmethod
    def pool_with_attention(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The vector (1, width) of a bag (1, n, width), its attention logits (n,) and attention (n,)."""

    def forward(self, packed: PackedBags) -> MilOutput:
        """Scores packed bags; the tiles' own outputs are NaN, see `score_tiles`."""
        hidden = self.post_encoder(self.standardiser(packed.features))
        parts = [self.pool_with_attention(bag.unsqueeze(0)) for bag in hidden.split(packed.lengths.tolist())]
        vectors, logits, attention = (torch.cat([part[i] for part in parts]) for i in range(3))
        of_slides, _ = joined_to(self.classifier, self.scaled_covariates(packed), packed)
        slide = self.classifier(self.dropout(vectors), of_slides)
        unknown = slide.new_full((packed.n_tiles, self.n_outputs), torch.nan)
        return MilOutput(slide, unknown, logits, attention, vectors)

    def score_tiles(self, packed: PackedBags, output: MilOutput) -> torch.Tensor:
        """The output of every tile alone, (n_tiles, n_outputs): a forward pass each, some at once.

        Args:
            packed: The bags.
            output: What the model said of them; not used.
        """
        _, of_tiles = joined_to(self.classifier, self.scaled_covariates(packed), packed)
        found = []
        for features in packed.features.split(ALONE):
            found.append(self.pool(self.post_encoder(self.standardiser(features)).unsqueeze(1)))
        return self.classifier(self.dropout(torch.cat(found)), of_tiles)
