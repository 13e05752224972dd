"""DTFD-MIL: pseudo-bags, whose distilled features make the slide (Zhang et al. 2022, arXiv 2203.12081)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from slidestudy.models.aggregators.attention import GatedAttention
from slidestudy.models.aggregators.base import MilModel, Shape, encoder_layer, joined_to
from slidestudy.models.packing import MilOutput, PackedBags
from slidestudy.models.segments import segment_rank, segment_softmax, weighted_sum

DISTILLATIONS = ("afs", "maxmin", "max")


class _Tier(NamedTuple):
    """Rows of the second tier: what each is made of, and its slide.

    Attributes:
        vectors: (n_rows, hidden).
        slide: Slide of each row, ascending, (n_rows,).
        row: For every tile taken, the row that it is in, (n_taken,).
        tile: That tile, (n_taken,).
        share: Its share of the row, (n_taken,).
    """

    vectors: torch.Tensor
    slide: torch.Tensor
    row: torch.Tensor
    tile: torch.Tensor
    share: torch.Tensor


class DtfdMil(MilModel):
    """Double-tier feature distillation MIL.

    The tiles of a slide are dealt into pseudo-bags. The first tier, gated attention and a classifier, learns the
    slide's label from every pseudo-bag (`objectives`). From each pseudo-bag features are distilled: `afs`, its
    attention-weighted mean; `max`, its tile with the largest class activation; `maxmin`, that and the one with the
    smallest. The second tier, gated attention and a classifier, makes the slide's output of them.

    While training, tiles are dealt at random. Otherwise they are dealt in turn by their attention in the first
    tier, so that a slide's output depends neither on chance nor on the order of tiles (our choice).

    A tile's attention is its share of the slide's vector: attention of its pseudo-bag x its share there, zero
    where it was not distilled. The attention logit is the first tier's. Class activation is that of the first
    output.

    Args:
        shape: What data and task decide.
        hidden: Width of the encoder layer.
        attention: Width of the attention layers.
        dropout: Dropout of hidden vectors.
        groups: Pseudo-bags per slide; fewer where it has fewer tiles.
        distillation: afs | maxmin | max.
    """

    def __init__(
        self,
        shape: Shape,
        hidden: int = 512,
        attention: int = 128,
        dropout: float = 0.25,
        groups: int = 8,
        distillation: str = "afs",
    ) -> None:
        super().__init__(shape)
        if distillation not in DISTILLATIONS:
            raise ValueError(f"unknown distillation '{distillation}', known are {', '.join(DISTILLATIONS)}")
        if groups < 1:
            raise ValueError(f"{groups} groups, at least 1 is needed")
        self.groups, self.distillation = groups, distillation
        self.post_encoder = encoder_layer(shape.dim, hidden).append(nn.Dropout(dropout))
        self.first_attention, self.first = GatedAttention(hidden, attention), self.head(hidden)
        self.attention, self.classifier = GatedAttention(hidden, attention), self.head(hidden)

    def forward(self, packed: PackedBags) -> MilOutput:
        """Scores packed bags."""
        hidden = self.post_encoder(self.standardiser(packed.features))
        logits = self.first_attention(hidden).squeeze(-1)
        order, pseudo, slide_of = self._deal(logits, packed)
        shares = segment_softmax(logits[order], pseudo)
        means = weighted_sum(hidden[order], shares, pseudo)
        tier = self._distil(hidden, means, shares, order, pseudo, slide_of)
        rows = _bags_of(tier.slide, packed.n_slides)
        weights = segment_softmax(self.attention(tier.vectors).squeeze(-1), rows)
        pooled = weighted_sum(tier.vectors, weights, rows)
        attention = torch.zeros_like(logits).index_add(0, tier.tile, weights[tier.row] * tier.share)
        covariates = self.scaled_covariates(packed)
        of_slides, of_tiles = joined_to(self.classifier, covariates, packed)
        of_pseudo = None if covariates is None else self.first.join(covariates)[slide_of]
        slide = self.classifier(pooled, of_slides)
        objectives = (
            (slide, torch.arange(packed.n_slides, device=slide.device)),
            (self.first(means, of_pseudo), slide_of),
        )
        # A tile alone is its own pseudo-bag, distilled to itself.
        return MilOutput(slide, self.classifier(hidden, of_tiles), logits, attention, pooled, objectives)

    def _deal(self, logits: torch.Tensor, packed: PackedBags) -> tuple[torch.Tensor, PackedBags, torch.Tensor]:
        """Deals tiles into pseudo-bags: the tiles in order of pseudo-bag, these as bags, and the slide of each."""
        turn = torch.rand(packed.n_tiles, device=logits.device) if self.training else logits
        key = packed.segment * self.groups + segment_rank(turn, packed) % self.groups
        order = torch.argsort(key, stable=True)
        counts = torch.bincount(key, minlength=packed.n_slides * self.groups)
        filled = counts.nonzero().squeeze(1)
        offsets = torch.cat([counts.new_zeros(1), counts[filled].cumsum(0)])
        return order, PackedBags(order.unsqueeze(1), offsets), filled // self.groups

    def _distil(
        self,
        hidden: torch.Tensor,
        means: torch.Tensor,
        shares: torch.Tensor,
        order: torch.Tensor,
        pseudo: PackedBags,
        slide_of: torch.Tensor,
    ) -> _Tier:
        """The rows of the second tier."""
        if self.distillation == "afs":
            return _Tier(means, slide_of, pseudo.segment, order, shares)
        activation = hidden[order] @ self.first.weight[0, : self.first.width]
        rank = segment_rank(activation, pseudo)
        taken = [order[rank == 0]]
        if self.distillation == "maxmin":
            taken.append(order[rank == pseudo.lengths[pseudo.segment] - 1])
        tiles = torch.stack(taken, 1).flatten()
        rows = torch.arange(len(tiles), device=tiles.device)
        return _Tier(hidden[tiles], slide_of.repeat_interleave(len(taken)), rows, tiles, torch.ones_like(shares[tiles]))


def _bags_of(slide: torch.Tensor, n_slides: int) -> PackedBags:
    """Rows whose slides ascend, as bags."""
    counts = torch.bincount(slide, minlength=n_slides)
    return PackedBags(slide.unsqueeze(1), torch.cat([counts.new_zeros(1), counts.cumsum(0)]))
