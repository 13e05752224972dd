"""Sums, maxima and softmaxes over the tiles of each slide of packed bags, without a loop and without padding.

All are differentiable and, on a CPU, give the same bytes each time. They compute in float32 at least.
"""

from __future__ import annotations

import torch

from slidestudy.models.packing import PackedBags


def _float(values: torch.Tensor) -> torch.Tensor:
    """float32, or float64 where it is that already."""
    return values if values.dtype == torch.float64 else values.float()


def _reduce(values: torch.Tensor, packed: PackedBags, how: str) -> torch.Tensor:
    """Reduces the rows (n_tiles, ...) of each slide to one, (n_slides, ...)."""
    return torch.segment_reduce(_float(values).contiguous(), how, lengths=packed.lengths, axis=0, unsafe=True)


def segment_sum(values: torch.Tensor, packed: PackedBags) -> torch.Tensor:
    """Sum over each slide's tiles: (n_tiles, ...) to (n_slides, ...)."""
    return _reduce(values, packed, "sum")


def segment_mean(values: torch.Tensor, packed: PackedBags) -> torch.Tensor:
    """Mean over each slide's tiles: (n_tiles, ...) to (n_slides, ...)."""
    return _reduce(values, packed, "mean")


def segment_max(values: torch.Tensor, packed: PackedBags) -> torch.Tensor:
    """Maximum over each slide's tiles: (n_tiles, ...) to (n_slides, ...); tiles that tie share the gradient."""
    return _reduce(values, packed, "max")


def segment_softmax(logits: torch.Tensor, packed: PackedBags) -> torch.Tensor:
    """Softmax over each slide's tiles, (n_tiles, ...): sums to 1 within each slide."""
    logits = _float(logits)
    # The maximum only keeps the exponential in range: no gradient goes through it.
    scaled = (logits - segment_max(logits.detach(), packed)[packed.segment]).exp()
    return scaled / segment_sum(scaled, packed)[packed.segment]


def segment_logsumexp(values: torch.Tensor, packed: PackedBags) -> torch.Tensor:
    """Logarithm of the sum of exponentials over each slide's tiles: (n_tiles, ...) to (n_slides, ...)."""
    values = _float(values)
    top = segment_max(values.detach(), packed)
    return segment_sum((values - top[packed.segment]).exp(), packed).log() + top


def weighted_sum(values: torch.Tensor, weights: torch.Tensor, packed: PackedBags) -> torch.Tensor:
    """Weighted sum over each slide's tiles.

    Args:
        values: (n_tiles, width).
        weights: (n_tiles,), such as attention.
        packed: The bags.

    Returns:
        (n_slides, width).
    """
    return segment_sum(_float(values) * _float(weights).unsqueeze(-1), packed)


def segment_rank(values: torch.Tensor, packed: PackedBags) -> torch.Tensor:
    """The place of each tile within its slide, from 0 for the highest value, int64 (n_tiles,); ties by row."""
    by_value = torch.argsort(values.detach(), descending=True, stable=True)
    order = by_value[torch.argsort(packed.segment[by_value], stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(packed.n_tiles, device=values.device) - packed.offsets[packed.segment]
    return rank
