"""What a reader is given, and what it must be able to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from slidestudy.explanations.answers import Answer
from slidestudy.explanations.documents import Explanation


@dataclass(frozen=True)
class Patch:
    """One patch of the frozen sample."""

    patch_id: str
    rgb: npt.NDArray[np.uint8]
    """uint8, shape (height, width, 3)."""
    mpp: float
    """Micrometres per pixel of `rgb`."""
    normalised: npt.NDArray[np.uint8] | None = None
    """`rgb` with the stain normalised, same shape; None where there is none."""
    heatmaps: Mapping[str, npt.NDArray[np.uint8]] = field(default_factory=dict)
    """Attribution name, e.g. gradcam_output, -> overlay on the patch, uint8, shape (height, width, 3)."""


@dataclass(frozen=True)
class Question:
    """What a reader is asked: the model's score of one patch."""

    patch_id: str
    description: str
    """The reader's own text about the patch; blank where it is to look at the patch itself."""
    patch: Patch | None
    """The patch, where the reader needs it (`Reader.needs_images`, or the control image-only); else None."""
    repeat: int = 0
    """Which asking of the same question this is, from 0; each is asked anew."""


class Reader(Protocol):
    """Whoever reads patches and explanations."""

    name: str
    is_vlm: bool
    """Whether it is a vision-language model; only such a reader can be asked without an explanation."""
    needs_images: bool
    """Whether `answer_all` wants the patch in every question; image-only questions always carry it."""

    def describe_patches(self, patches: Sequence[Patch]) -> list[str]:
        """Describe every patch of the sample; the i-th text is of the i-th patch."""
        ...

    def answer_all(self, questions: Sequence[Question], explanation: Explanation) -> list[Answer]:
        """Predict the model's score of every patch from the question and the explanation, and nothing else.

        Args:
            questions: All questions of one explanation, so that they can be asked at the same time.
            explanation: What is answered from. If it is named `control.image-only`, its text is blank, and a
                vision-language model is shown the patch itself; other readers abstain.

        Returns:
            The i-th answer is to the i-th question.
        """
        ...
