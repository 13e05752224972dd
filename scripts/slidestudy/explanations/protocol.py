"""What a reader is given, and what it must be able to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from slidestudy.explanations.answers import Answer


@dataclass(frozen=True)
class Patch:
    """One patch of the frozen sample."""

    patch_id: str
    rgb: npt.NDArray[np.uint8]
    """uint8, shape (height, width, 3)."""
    mpp: float
    """Micrometres per pixel of `rgb`."""


class Reader(Protocol):
    """Whoever reads patches and explanations."""

    name: str
    is_vlm: bool

    def describe_patches(self, images: Sequence[Patch]) -> list[str]:
        """Describe every patch of the sample; the i-th text is of the i-th patch."""
        ...

    def answer(self, patch_id: str, description: str, explanation: str) -> Answer:
        """Predict the model's score of a patch from the two texts and nothing else."""
        ...
