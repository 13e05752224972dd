"""Attention networks: hidden vectors of tiles in, attention logits out (Ilse et al. 2018, arXiv 1802.04712)."""

from __future__ import annotations

import torch
from torch import nn


class GatedAttention(nn.Module):
    """Gated attention (eq. 9): w'(tanh(Vh) * sigmoid(Uh)).

    Args:
        width: Length of a tile's hidden vector.
        hidden: Width of V and U.
        branches: Attention logits per tile.
    """

    def __init__(self, width: int, hidden: int, branches: int = 1) -> None:
        super().__init__()
        self.attention_hidden = nn.Sequential(nn.Linear(width, hidden), nn.Tanh())
        self.gate = nn.Sequential(nn.Linear(width, hidden), nn.Sigmoid())
        self.attention = nn.Linear(hidden, branches)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Attention logits (n_tiles, branches) of hidden vectors (n_tiles, width)."""
        logits: torch.Tensor = self.attention(self.attention_hidden(hidden) * self.gate(hidden))
        return logits


class PlainAttention(nn.Sequential):
    """Plain attention (eq. 8): w'tanh(Vh).

    Args:
        width: Length of a tile's hidden vector.
        hidden: Width of V.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 1))
