"""Packed bags: the tiles of several slides one after the other, as every model takes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch


@dataclass(frozen=True)
class PackedBags:
    """Tiles of several slides, one after the other: nothing is padded, no slide is cut.

    Attributes:
        features: float16, bfloat16 or float32 (n_tiles, dim).
        offsets: int64 (n_slides + 1,); slide i has the rows `offsets[i]` to `offsets[i + 1]`.
        covariates: float32 (n_slides, n_covariates), unscaled; None for models without.
    """

    features: torch.Tensor
    offsets: torch.Tensor
    covariates: torch.Tensor | None = None

    @property
    def n_slides(self) -> int:
        """Number of slides."""
        return len(self.offsets) - 1

    @property
    def n_tiles(self) -> int:
        """Number of tiles of all slides."""
        return len(self.features)

    @cached_property
    def lengths(self) -> torch.Tensor:
        """Tiles of each slide, int64 (n_slides,)."""
        return self.offsets.diff()

    @cached_property
    def segment(self) -> torch.Tensor:
        """The slide of each tile, int64 (n_tiles,)."""
        slides = torch.arange(self.n_slides, device=self.offsets.device)
        return torch.repeat_interleave(slides, self.lengths, output_size=self.n_tiles)

    def to(self, device: torch.device | str) -> PackedBags:
        """The same bags on a device."""
        covariates = None if self.covariates is None else self.covariates.to(device)
        return replace(self, features=self.features.to(device), offsets=self.offsets.to(device), covariates=covariates)

    def bags(self) -> Iterator[torch.Tensor]:
        """The slides' tiles, each (n, dim), as views."""
        yield from self.features.split(self.lengths.tolist())

    def alone(self) -> PackedBags:
        """Every tile as a slide of its own, with the covariates of the slide it is from."""
        offsets = torch.arange(self.n_tiles + 1, device=self.offsets.device)
        covariates = None if self.covariates is None else self.covariates[self.segment]
        return PackedBags(self.features, offsets, covariates)


def pack(bags: Sequence[torch.Tensor], covariates: torch.Tensor | None = None) -> PackedBags:
    """Packs the tiles of slides.

    Args:
        bags: Each slide's features (n, dim), n at least 1, of one dim and dtype.
        covariates: float32 (n_slides, n_covariates), or None.

    Raises:
        ValueError: There is no bag, one has no tiles, or the shapes do not go together.
    """
    if not bags:
        raise ValueError("no bags to pack")
    empty = [i for i, bag in enumerate(bags) if len(bag) == 0]
    if empty:
        raise ValueError(f"bags {empty} have no tiles")
    if covariates is not None and (covariates.ndim != 2 or len(covariates) != len(bags)):
        raise ValueError(f"covariates of shape {tuple(covariates.shape)} do not go with {len(bags)} bags")
    lengths = torch.tensor([0, *(len(bag) for bag in bags)])
    features = bags[0] if len(bags) == 1 else torch.cat(list(bags))
    return PackedBags(features, lengths.cumsum(0).to(features.device), covariates)


class MilOutput(NamedTuple):
    """What a model says of packed slides.

    Attributes:
        slide: Raw outputs (n_slides, n_outputs): logits; of ECTIL the logit of the fraction; of Cox the risk.
        tile_logits: The output of every tile alone, as a bag of one with its slide's covariates,
            (n_tiles, n_outputs). NaN where only `MilModel.score_tiles` gives it (models with context).
        attention_logits: Before the softmax over the slide's tiles, (n_tiles,); zeros where the pooling has none.
        attention: Sums to 1 within each slide, (n_tiles,). NaN where the model defines none.
        pooled: The slide's vector before the head, (n_slides, width), for contrastive losses; None without.
        objectives: What the task's loss is applied to instead of `slide`, summed: pairs of outputs (n, n_outputs)
            and the slide of each row, int64 (n,). None: `slide` itself.
        instances: What the model's own `instance_loss` needs, in training only; None without.
    """

    slide: torch.Tensor
    tile_logits: torch.Tensor
    attention_logits: torch.Tensor
    attention: torch.Tensor
    pooled: torch.Tensor | None = None
    objectives: tuple[tuple[torch.Tensor, torch.Tensor], ...] | None = None
    instances: tuple[PackedBags, torch.Tensor, torch.Tensor] | None = None
