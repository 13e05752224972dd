"""Co-attention of tiles with groups of a second modality: what its models share, and MCAT."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from slidestudy.models.aggregators.attention import GatedAttention
from slidestudy.models.aggregators.base import MilModel, Shape, encoder_layer
from slidestudy.models.aggregators.fusion import SelfNormalising
from slidestudy.models.packing import MilOutput, PackedBags
from slidestudy.models.segments import segment_logsumexp

ALONE = 4096
"""Tiles scored alone at once."""


class Coattended(NamedTuple):
    """What the groups make of the tiles.

    Attributes:
        tokens: The co-attended tokens (n_slides, n_groups, hidden).
        log_attention: Logarithm of each tile's attention (n_tiles,).
    """

    tokens: torch.Tensor
    log_attention: torch.Tensor


class TokenPool(nn.Module):
    """Tokens through transformer encoder layers and gated attention to one vector, Linear + ReLU + Dropout behind.

    Args:
        hidden: Length of a token, a multiple of heads.
        attention: Width of the gated attention.
        dropout: Dropout, of the encoder layers too.
        layers: Encoder layers.
        heads: Heads of each.
    """

    def __init__(self, hidden: int, attention: int, dropout: float, layers: int, heads: int) -> None:
        super().__init__()
        # Tokens stand first: torch's fast path in evaluation mode, whose rounding is another one, wants bags first.
        self.encoder = nn.Sequential(
            *(nn.TransformerEncoderLayer(hidden, heads, 2 * hidden, dropout) for _ in range(layers))
        )
        self.attention = GatedAttention(hidden, attention)
        self.output = encoder_layer(hidden, hidden).append(nn.Dropout(dropout))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Vectors (n_bags, hidden) of tokens (n_bags, n_tokens, hidden)."""
        seen = self.encoder(tokens.transpose(0, 1).contiguous())
        weights = torch.softmax(self.attention(seen), 0)
        vectors: torch.Tensor = self.output((weights * seen).sum(0))
        return vectors


class CoattentionModel(MilModel):
    """What the models share in which groups of a second modality attend to tiles.

    A self-normalising network of each group's columns gives a token. Each group's token makes a token of the tiles
    (`coattend`). The tokens of the tiles and those of the modality are pooled apart (`TokenPool`), the two vectors
    fused by two layers, Linear + ReLU, and classified with the clinical covariates.

    `tile_logits` are NaN in the output: a tile alone is a pass through all behind the co-attention, which
    `score_tiles` makes, for prediction.

    Args:
        shape: What data and task decide.
        hidden: Width of hidden vectors and tokens, a multiple of heads.
        attention: Width of the gated attention that pools tokens.
        dropout: Dropout, AlphaDropout of the modality's networks.
        layers: Transformer encoder layers of either side.
        heads: Heads of each.
        groups: The columns of each group, numbered within the modality; a column may be in several. None: all are
            one group.
    """

    takes_modality = True
    set_by_study = ("groups",)

    def __init__(
        self,
        shape: Shape,
        hidden: int = 256,
        attention: int = 256,
        dropout: float = 0.25,
        layers: int = 2,
        heads: int = 8,
        groups: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__(shape)
        if layers < 1:
            raise ValueError(f"{layers} layers, at least 1 is needed")
        self.groups = _checked(groups, self.n_modality)
        self.post_encoder = encoder_layer(shape.dim, hidden).append(nn.Dropout(dropout))
        self.modality = nn.ModuleList(SelfNormalising(len(group), hidden, dropout) for group in self.groups)
        self.pools = nn.ModuleDict(
            {side: TokenPool(hidden, attention, dropout, layers, heads) for side in ("tiles", "modality")}
        )
        self.fusion = encoder_layer(2 * hidden, hidden).extend(encoder_layer(hidden, hidden))
        self.classifier = self.head(hidden)
        self.make_projections(hidden)

    def make_projections(self, hidden: int) -> None:
        """Makes the layers of the co-attention itself, of models that have any.

        Args:
            hidden: Width of hidden vectors and tokens.
        """

    @abstractmethod
    def coattend(self, hidden: torch.Tensor, queries: torch.Tensor, packed: PackedBags) -> Coattended:
        """The groups' view of the tiles.

        Args:
            hidden: Hidden vectors (n_tiles, hidden).
            queries: The groups' tokens (n_slides, n_groups, hidden).
            packed: The bags.
        """

    @abstractmethod
    def token_of(self, hidden: torch.Tensor) -> torch.Tensor:
        """What every group makes of a tile alone, whose co-attention is 1: (n, hidden) to (n, hidden)."""

    def forward(self, packed: PackedBags) -> MilOutput:
        """Scores packed bags; the tiles' own outputs are NaN, see `score_tiles`."""
        clinical, modality = self.clinical_and_modality(packed)
        hidden, queries = self._hidden(packed.features), self._tokens(modality)
        tokens, log_attention = self.coattend(hidden, queries, packed)
        pooled = self.fusion(torch.cat([self.pools["tiles"](tokens), self.pools["modality"](queries)], 1))
        slide = self.classifier(pooled, None if clinical is None else self.classifier.join(clinical))
        unknown = slide.new_full((packed.n_tiles, self.n_outputs), torch.nan)
        return MilOutput(slide, unknown, log_attention, log_attention.exp(), pooled)

    def score_tiles(self, packed: PackedBags, output: MilOutput) -> torch.Tensor:
        """The output of every tile alone, with its slide's covariates and modality, (n_tiles, n_outputs).

        All groups make the same token of a tile alone, and tokens that are alike are pooled as one of them.

        Args:
            packed: The bags.
            output: What the model said of them; not used.
        """
        clinical, modality = self.clinical_and_modality(packed)
        of_modality = self.pools["modality"](self._tokens(modality))
        joined = None if clinical is None else self.classifier.join(clinical)
        found = []
        for features, slide in zip(packed.features.split(ALONE), packed.segment.split(ALONE), strict=True):
            of_tiles = self.pools["tiles"](self.token_of(self._hidden(features)).unsqueeze(1))
            fused = self.fusion(torch.cat([of_tiles, of_modality[slide]], 1))
            found.append(self.classifier(fused, None if joined is None else joined[slide]))
        return torch.cat(found)

    def _hidden(self, features: torch.Tensor) -> torch.Tensor:
        """Hidden vectors of tiles."""
        hidden: torch.Tensor = self.post_encoder(self.standardiser(features))
        return hidden

    def _tokens(self, modality: torch.Tensor) -> torch.Tensor:
        """The groups' tokens (n_slides, n_groups, hidden) of the scaled modality (n_slides, n_modality)."""
        embedded = zip(self.modality, self.groups, strict=True)
        return torch.stack([network(modality[:, group]) for network, group in embedded], 1)


class Mcat(CoattentionModel):
    """Multimodal co-attention transformer (Chen et al., ICCV 2021).

    The co-attention of groups G with tiles H is softmax(G Wq (H Wk)' / sqrt(hidden)) H Wv, the softmax over the
    slide's tiles. A tile's attention is its mean over the groups, its attention logit the logarithm of that.
    """

    def make_projections(self, hidden: int) -> None:
        """Wq, Wk and Wv."""
        self.query, self.key, self.value = (nn.Linear(hidden, hidden, bias=False) for _ in range(3))

    def coattend(self, hidden: torch.Tensor, queries: torch.Tensor, packed: PackedBags) -> Coattended:
        """Softmax attention, see `CoattentionModel.coattend`."""
        # Keys and values of single tiles are never formed: the products are taken in the order that costs least.
        keyed = (self.query(queries) @ self.key.weight).transpose(1, 2) / math.sqrt(hidden.shape[1])
        bags = hidden.split(packed.lengths.tolist())
        logits = torch.cat([bag @ query for bag, query in zip(bags, keyed, strict=True)])
        log_shares = logits - segment_logsumexp(logits, packed)[packed.segment]
        tokens = self.value(weighted_means(bags, log_shares.exp(), packed))
        return Coattended(tokens, log_shares.logsumexp(1) - math.log(len(self.groups)))

    def token_of(self, hidden: torch.Tensor) -> torch.Tensor:
        """The tile's value."""
        value: torch.Tensor = self.value(hidden)
        return value


def weighted_means(bags: Sequence[torch.Tensor], shares: torch.Tensor, packed: PackedBags) -> torch.Tensor:
    """Means (n_slides, n_groups, hidden) of slides' vectors, by shares (n_tiles, n_groups) that sum to 1."""
    weights = shares.split(packed.lengths.tolist())
    return torch.stack([weight.T @ bag for weight, bag in zip(weights, bags, strict=True)])


def _checked(groups: Sequence[Sequence[int]] | None, count: int) -> list[list[int]]:
    """The groups' columns, of which there are so many.

    Raises:
        ValueError: A group is empty, or the groups are not of these columns, all of them.
    """
    if groups is None:
        return [list(range(count))]
    held = {column for group in groups for column in group}
    if not all(groups) or held != set(range(count)):
        raise ValueError(f"groups {groups} do not hold the {count} columns of the modality")
    return [list(group) for group in groups]
