"""What every aggregator shares: the interface, the scaling of features and covariates, and the head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from slidestudy.models.packing import MilOutput, PackedBags

CLIP = 10.0
"""Standard deviations beyond which a standardised value is cut (our choice)."""


class Standardiser(nn.Module):
    """Scales values by means and standard deviations that are saved with the weights.

    Until these are set, from the training part, they are 0 and 1.

    Args:
        dim: Length of a vector.
        clip: Standard deviations beyond which values are cut, so that one odd tile cannot rule a slide; None:
            nowhere.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, dim: int, clip: float | None = CLIP) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(dim))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Scales (n, dim), in float32."""
        # In place from here on: a batch of features is large, and memory once touched is cheap.
        scaled = (values.float() - self.mean).div_(self.deviation)
        return scaled if self.clip is None else scaled.clamp_(-self.clip, self.clip)


class Head(nn.Linear):
    """A linear head on vectors of tiles or slides, to which the slide's covariates are joined.

    Joined covariates add `covariates @ W'` to the output; the columns of W' stand behind those of the vectors.

    Args:
        width: Length of a vector; 0 for covariates alone.
        n_outputs: Number of outputs.
        n_covariates: Number of covariates.
        bias: Whether it has an intercept.
    """

    def __init__(self, width: int, n_outputs: int, n_covariates: int = 0, bias: bool = True) -> None:
        super().__init__(width + n_covariates, n_outputs, bias=bias)
        self.width = width

    def forward(self, vectors: torch.Tensor, joined: torch.Tensor | None = None) -> torch.Tensor:
        """Outputs.

        Args:
            vectors: (n, width).
            joined: What the covariates add, (n, n_outputs), of `join`; None without covariates.

        Returns:
            (n, n_outputs).
        """
        outputs = functional.linear(vectors, self.weight[:, : self.width], self.bias)
        return outputs if joined is None else outputs + joined

    def join(self, covariates: torch.Tensor) -> torch.Tensor:
        """What standardised covariates (n, n_covariates) add to the outputs, (n, n_outputs)."""
        return functional.linear(covariates, self.weight[:, self.width :])


@dataclass(frozen=True)
class Shape:
    """What the data and the task decide of every model, not the user.

    Attributes:
        dim: Length of a feature vector.
        n_outputs: Raw outputs per slide.
        n_covariates: Covariates per slide, joined at the head; 0 for none.
        clip: See Standardiser.
        n_modality: The last of the covariates that are a second modality, which fusing models take; 0 for none.
    """

    dim: int
    n_outputs: int = 1
    n_covariates: int = 0
    clip: float | None = CLIP
    n_modality: int = 0


class MilModel(nn.Module, ABC):
    """A multiple-instance model: packed bags in, outputs of slides and tiles and attention out.

    Args:
        shape: What data and task decide.

    Raises:
        ValueError: There is a second modality though the model takes none, or the other way round.
    """

    takes_modality: ClassVar[bool] = False
    """Whether the model fuses a second modality with the tiles."""
    set_by_study: ClassVar[tuple[str, ...]] = ()
    """Arguments beside the shape that the study decides, not the user's options."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        if self.takes_modality != (shape.n_modality > 0):
            raise ValueError("it needs a second modality" if self.takes_modality else "it takes no second modality")
        if shape.n_modality > shape.n_covariates:
            raise ValueError(f"{shape.n_modality} of {shape.n_covariates} covariates cannot be the second modality")
        self.dim, self.n_outputs, self.n_covariates = shape.dim, shape.n_outputs, shape.n_covariates
        self.n_modality = shape.n_modality
        self.standardiser = Standardiser(shape.dim, shape.clip)
        if shape.n_covariates:
            self.covariate_standardiser = Standardiser(shape.n_covariates)

    @abstractmethod
    def forward(self, packed: PackedBags) -> MilOutput:
        """Scores packed bags."""

    def head(self, width: int) -> Head:
        """A head on vectors of a width, with the model's outputs and covariates, the second modality's excepted."""
        return Head(width, self.n_outputs, self.n_covariates - self.n_modality)

    def scaled_covariates(self, packed: PackedBags) -> torch.Tensor | None:
        """The standardised covariates (n_slides, n_covariates); a missing one (NaN) counts as the training mean.

        Raises:
            ValueError: The bags have other covariates than the model.
        """
        found = 0 if packed.covariates is None else packed.covariates.shape[1]
        if found != self.n_covariates:
            raise ValueError(f"the bags have {found} covariates, the model takes {self.n_covariates}")
        if packed.covariates is None or not found:
            return None
        return torch.nan_to_num(self.covariate_standardiser(packed.covariates), nan=0.0)

    def clinical_and_modality(self, packed: PackedBags) -> tuple[torch.Tensor | None, torch.Tensor]:
        """The standardised covariates, of models that fuse a second modality.

        Returns:
            Those that join at the head (n_slides, n_covariates - n_modality), None without, and the second modality
            (n_slides, n_modality).

        Raises:
            ValueError: The bags have other covariates than the model, or the model takes no second modality.
        """
        scaled = self.scaled_covariates(packed)
        if scaled is None or not self.n_modality:
            raise ValueError("the model takes no second modality")
        clinical, modality = scaled.split([self.n_covariates - self.n_modality, self.n_modality], 1)
        return clinical if clinical.shape[1] else None, modality

    def score_tiles(self, packed: PackedBags, output: MilOutput) -> torch.Tensor:
        """The output of every tile alone, as a bag of one with its slide's covariates, (n_tiles, n_outputs).

        Args:
            packed: The bags.
            output: What the model said of them; most models have the answer there already.
        """
        return output.tile_logits

    def instance_loss(self, output: MilOutput, labels: torch.Tensor) -> torch.Tensor | None:
        """A loss on tiles that the method adds, weighted, to the task's loss while training; None without.

        Args:
            output: What the model said in training mode.
            labels: The slides' classes, int64 (n_slides,); negative where unknown.
        """
        return None


class HiddenModel(MilModel):
    """A model with an encoder layer, dropout of its vectors, and a head on them or on what is pooled of them.

    Args:
        shape: What data and task decide.
        hidden: Width of the encoder layer, Linear + ReLU.
        dropout: Dropout before the head.
    """

    def __init__(self, shape: Shape, hidden: int = 512, dropout: float = 0.4) -> None:
        super().__init__(shape)
        self.post_encoder = encoder_layer(shape.dim, hidden)
        self.dropout = nn.Dropout(dropout)
        self.classifier = self.head(hidden)


def encoder_layer(dim: int, hidden: int) -> nn.Sequential:
    """Linear + ReLU, from features to hidden vectors."""
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU())


def joined_to(head: Head, covariates: torch.Tensor | None, packed: PackedBags) -> tuple[torch.Tensor | None, ...]:
    """What covariates add to the outputs of slides (n_slides, n_outputs) and of tiles (n_tiles, n_outputs)."""
    if covariates is None:
        return None, None
    slides = head.join(covariates)
    return slides, slides[packed.segment]


def uniform_attention(packed: PackedBags) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention logits, zeros, and attention, 1 / n, of poolings that treat all tiles alike, each (n_tiles,)."""
    attention = (1.0 / packed.lengths.float())[packed.segment]
    return torch.zeros_like(attention), attention
