"""Multiple-instance models: a bag of tile features in, a slide's output and every tile's score and attention out."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn

from slidestudy.errors import StudyError


class MilOutput(NamedTuple):
    """What a model says of one slide.

    Attributes:
        slide: The slide's output as a probability or fraction in 0..1, scalar tensor.
        slide_logit: The same before the sigmoid where there is one; otherwise the logit of `slide`.
        tile_logits: Output logit of every tile alone, as a bag of one, (n_tiles,).
        attention_logits: Attention before the softmax, (n_tiles,).
    """

    slide: torch.Tensor
    slide_logit: torch.Tensor
    tile_logits: torch.Tensor
    attention_logits: torch.Tensor


class Standardiser(nn.Module):
    """Scales features by means and standard deviations that are saved with the weights.

    Args:
        dim: Length of a feature vector.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(dim))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Scales (n_tiles, dim); values beyond 10 SD are cut, so that one odd tile cannot rule a slide."""
        return ((features.float() - self.mean) / self.deviation).clamp(-10, 10)


class GatedAttention(nn.Module):
    """Gated attention of Ilse et al. 2018 (arXiv 1802.04712, eq. 9): w'(tanh(Vh) * sigmoid(Uh)).

    Args:
        width: Length of a tile's hidden vector.
        hidden: Width of V and U.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.attention_hidden = nn.Sequential(nn.Linear(width, hidden), nn.Tanh())
        self.gate = nn.Sequential(nn.Linear(width, hidden), nn.Sigmoid())
        self.attention = nn.Linear(hidden, 1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Attention logits (n_tiles,) of hidden vectors (n_tiles, width)."""
        return self.attention(self.attention_hidden(hidden) * self.gate(hidden)).squeeze(-1)


class GatedMil(nn.Module):
    """What both aggregators share: scaling, an encoder layer, gated attention, dropout and a linear classifier.

    Args:
        dim: Length of a feature vector.
        hidden: Width of the encoder layer.
        attention: Width of the attention layer.
        dropout: Dropout of hidden features.
        tile_dropout: Dropout1d, which drops the hidden vectors of whole tiles.
    """

    def __init__(
        self, dim: int, hidden: int = 512, attention: int = 128, dropout: float = 0.4, tile_dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.standardiser = Standardiser(dim)
        self.post_encoder = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU())
        self.attention = GatedAttention(hidden, attention)
        self.dropout, self.tile_dropout = nn.Dropout(dropout), nn.Dropout1d(tile_dropout)
        self.classifier = nn.Linear(hidden, 1)

    def embed(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden vectors after dropout (n_tiles, hidden), and attention logits (n_tiles,), of a bag."""
        hidden = self.post_encoder(self.standardiser(features))
        attention_logits = self.attention(hidden)
        # Dropout1d zeroes rows of its second-to-last dimension: here whole tiles' vectors.
        return self.tile_dropout(self.dropout(hidden).unsqueeze(0)).squeeze(0), attention_logits


class Ectil(GatedMil):
    """ECTIL (arXiv 2501.14379): a slide's TIL fraction as the attention-weighted mean of tile fractions.

    Linear + ReLU; gated attention with a softmax over tiles; per tile Dropout, Dropout1d, Linear and sigmoid;
    slide score = sum of attention x tile score. Published widths and dropouts are the defaults.
    """

    def forward(self, features: torch.Tensor) -> MilOutput:
        """Scores one bag (n_tiles, dim)."""
        hidden, attention_logits = self.embed(features)
        tile_logits = self.classifier(hidden).squeeze(-1)
        slide = (torch.softmax(attention_logits, 0) * torch.sigmoid(tile_logits)).sum()
        return MilOutput(slide, torch.logit(slide, 1e-6), tile_logits, attention_logits)


class GatedAbmil(GatedMil):
    """Gated attention-based MIL (arXiv 1802.04712): the attention-weighted mean of hidden vectors is classified."""

    def forward(self, features: torch.Tensor) -> MilOutput:
        """Scores one bag (n_tiles, dim)."""
        hidden, attention_logits = self.embed(features)
        pooled = (torch.softmax(attention_logits, 0).unsqueeze(-1) * hidden).sum(0)
        logit = self.classifier(pooled).squeeze(-1)
        # A tile alone is a bag of one, whose attention is 1: its pooled vector is its own.
        tile_logits = self.classifier(hidden).squeeze(-1)
        return MilOutput(torch.sigmoid(logit), logit, tile_logits, attention_logits)


AGGREGATORS: dict[str, type[GatedMil]] = {"ectil": Ectil, "gated-abmil": GatedAbmil}


def build_model(architecture: dict[str, Any]) -> GatedMil:
    """Makes a model from what `model.json` says of its architecture.

    Args:
        architecture: `aggregator dim hidden attention dropout tile_dropout`.

    Raises:
        StudyError: The aggregator is unknown.
    """
    arguments = dict(architecture)
    name = arguments.pop("aggregator")
    if name not in AGGREGATORS:
        raise StudyError(f"unknown aggregator '{name}'", "model", f"known are: {', '.join(AGGREGATORS)}")
    return AGGREGATORS[name](**arguments)
