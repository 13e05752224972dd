"""What an encoder is, and what a feature store must say of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class EncoderIdentity:
    """What a feature store must say of its encoder.

    Attributes:
        name: The study's name for it.
        backend: The library that builds it, `stain-texture`, or `imported`.
        architecture: The model's name, or the version of the hand-crafted features.
        dim: Length of a feature vector.
        weights: Where the weights come from, in words; says so where they are untrained.
        weights_digest: SHA-256 of the weights, first 16 hex digits.
        precision: Arithmetic, e.g. `fp32`.
        preprocessing: Input size, mean and SD, where the encoder has them.
    """

    name: str
    backend: str
    architecture: str
    dim: int
    weights: str
    weights_digest: str
    precision: str
    preprocessing: dict[str, Any]


class Encoder(Protocol):
    """Anything that turns tiles into feature vectors."""

    @property
    def identity(self) -> EncoderIdentity:
        """What the store says of the encoder."""

    def encode(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encodes tiles, uint8 (n, size, size, 3), as float32 (n, dim)."""
