"""A reader that compares patches with statements, by a model that puts images and texts into one space (CLIP).

Radford et al., Learning transferable visual models from natural language supervision, ICML 2021: a statement fits a
patch as well as the cosine of their vectors is large. What an explanation predicts of a patch is how well its
statements of what raises the score fit, less how well those of what lowers it do. Free text is not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slidestudy.explanations.answers import ABSTAIN, Answer, AnswerStatus, Conclusion, answer_from_text
from slidestudy.explanations.documents import Explanation
from slidestudy.explanations.naming import IMAGE_ONLY
from slidestudy.explanations.protocol import Patch, Question

__all__ = ["ClipReader", "ClipSettings", "classes_of"]

QUARTERS = (25.0, 50.0, 75.0)
BATCH = 32
ASCENDING = (Conclusion.VERY_LOW, Conclusion.LOW_NEAR_BOUNDARY, Conclusion.HIGH_NEAR_BOUNDARY, Conclusion.VERY_HIGH)
DESCRIPTION = "This reader describes nothing: it compares the patch itself with each statement of an explanation."

Vectors = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ClipSettings:
    """The model.

    Attributes:
        architecture: open_clip's name of it, hf-hub:owner/name, or local-dir:folder.
        weights: `hub`, `none` (untrained, for tests of the machinery), or a file with the state dict.
        device: `auto`, `cpu` or `cuda`.
        seed: Seed of untrained weights.
    """

    architecture: str
    weights: str
    device: str = "auto"
    seed: int = 0


class ClipReader:
    """Compares patches with the statements of an explanation.

    It looks and compares, but reads no text: without statements it abstains, and it counts as no vision-language
    model that could be asked about a patch alone.

    Args:
        settings: The model; it is loaded when the first patch is looked at.
    """

    is_vlm = False
    needs_images = True

    def __init__(self, settings: ClipSettings) -> None:
        self.name = f"clip:{settings.architecture.rsplit('/', 1)[-1]}"
        self._settings = settings
        self._model: Any = None

    def describe_patches(self, patches: Sequence[Patch]) -> list[str]:
        """Say of every patch that there is no description."""
        return [DESCRIPTION for _ in patches]

    def answer_all(self, questions: Sequence[Question], explanation: Explanation) -> list[Answer]:
        """Compare all patches with all statements, and rank the patches (`classes_of`).

        The contrast of a patch is the mean cosine with the statements that raise the score less the mean cosine with
        those that lower it; a missing side counts 0. Where there are both sides, the probability is that of the
        first in the model's own softmax over the two. Patches that all have the same contrast get no answer.

        Raises:
            StudyError: The model or its weights cannot be had.
        """
        if explanation.name == IMAGE_ONLY or not explanation.statements:
            return [
                _abstention(question, "The explanation has no statements to compare with.") for question in questions
            ]
        if not questions:
            return []
        images = {}
        for question in questions:
            if question.patch is None:
                raise ValueError(f"{question.patch_id}: this reader needs the patch")
            images[question.patch_id] = question.patch.rgb
        if self._model is None:
            from slidestudy.explanations.readers.clip_model import ClipModel

            self._model = ClipModel(self._settings)
        vectors = self._model.image_vectors(list(images.values()), BATCH)
        sides = [self._side(vectors, side) for side in (explanation.higher, explanation.lower)]
        contrast = sides[0] - sides[1]
        if np.ptp(contrast) == 0:
            return [_abstention(question, "All patches fit the statements alike.") for question in questions]
        probabilities = 1.0 / (1.0 + np.exp(-self._model.scale * contrast))
        both = bool(explanation.higher and explanation.lower)
        answers = {
            patch_id: Answer(
                patch_id,
                AnswerStatus.ANSWERED,
                conclusion,
                f"Fits what raises the score {high:.4f}, what lowers it {low:.4f} (mean cosines).\n"
                f"CONCLUSION={conclusion.value}",
                probability=float(probability) if both else None,
            )
            for patch_id, conclusion, high, low, probability in zip(
                images, classes_of(contrast), *sides, probabilities, strict=True
            )
        }
        return [_of_repeat(answers[question.patch_id], question.repeat) for question in questions]

    def _side(self, vectors: Vectors, statements: Sequence[str]) -> Vectors:
        """Mean cosine of every patch with some statements; 0 without any."""
        if not statements:
            return np.zeros(len(vectors))
        # Rounded, so that equal patches fit alike whatever batch they were in.
        return np.round((vectors @ self._model.text_vectors(list(statements)).T).mean(axis=1), 6)


def classes_of(contrast: Vectors) -> list[Conclusion]:
    """The four ordered classes: quarters of the patches by contrast.

    A cosine has no natural boundary, but the sample is balanced over the four strata of the score: a quarter of it
    belongs to each class (our choice). A patch at a quartile belongs below it.

    Args:
        contrast: Shape `(patches,)`.
    """
    ranks = np.searchsorted(np.percentile(contrast, QUARTERS), contrast, side="left")
    return [ASCENDING[rank] for rank in ranks]


def _of_repeat(answer: Answer, repeat: int) -> Answer:
    return Answer(answer.patch_id, answer.status, answer.conclusion, answer.raw, answer.probability, repeat)


def _abstention(question: Question, reason: str) -> Answer:
    return _of_repeat(answer_from_text(question.patch_id, f"{reason}\nCONCLUSION={ABSTAIN}"), question.repeat)
