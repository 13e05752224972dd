"""Answers as numbers: one column per patch, so that every explanation is scored in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from slidestudy.errors import StudyError
from slidestudy.explanations.answers import Answer, AnswerStatus
from slidestudy.explanations.naming import kind_of

Array = NDArray[np.float64]

ABSTAINED = 1.5
"""Ordinal of an abstention: half way between high and low, so that it says nothing either way."""
SHUFFLINGS = 100
"""Shufflings over which the control `shuffled` is averaged: one alone would be a draw from a wide distribution."""


@dataclass(frozen=True)
class Reading:
    """The answers from one explanation.

    Attributes:
        name: The explanation or control.
        ordinals: VERY LOW 0 to VERY HIGH 3, an abstention 1.5, the mean over repeats; NaN where no answer can be used.
            One row (1, n), or one per shuffling (k, n).
        probabilities: The reader's probability of a high score, the mean over repeats, as `ordinals`; NaN where none.
        repeats: The ordinals of every repeat (r, n).
        counts: Status -> answers of each patch that have it (n,).
        reader: Who answered; blank where nobody was asked.
        is_vlm: Whether that was a vision-language model.
        unasked: Why nobody was asked; blank otherwise.
    """

    name: str
    ordinals: Array
    probabilities: Array
    repeats: Array
    counts: Mapping[AnswerStatus, NDArray[np.int64]]
    reader: str
    is_vlm: bool
    unasked: str = ""

    @property
    def kind(self) -> str:
        """`text`, `without`, `imported`, or which control it is."""
        return kind_of(self.name)


def as_reading(name: str, answers: Sequence[Answer], patch_ids: Sequence[str], reader: str, is_vlm: bool) -> Reading:
    """The numbers behind some answers.

    Args:
        name: The explanation.
        answers: One per patch and repeat.
        patch_ids: The sample's patches.
        reader: Who answered.
        is_vlm: Whether that was a vision-language model.

    Raises:
        StudyError: The answers belong to another sample.
    """
    by_repeat: dict[int, list[Answer]] = {}
    for answer in answers:
        by_repeat.setdefault(answer.repeat, []).append(answer)
    for listed in by_repeat.values():
        if [answer.patch_id for answer in listed] != list(patch_ids):
            raise StudyError("the answers belong to another sample", f"explanation {name}", "remove the answers folder")
    rows = [by_repeat[repeat] for repeat in sorted(by_repeat)]
    repeats = np.array([[_ordinal(answer) for answer in row] for row in rows], float)
    given = [[np.nan if a.probability is None else a.probability for a in row] for row in rows]
    counts = {
        status: np.sum([[answer.status is status for answer in row] for row in rows], axis=0) for status in AnswerStatus
    }
    means = _mean(repeats), _mean(np.array(given, float))
    return Reading(name, *means, repeats, counts, reader, is_vlm)


def _ordinal(answer: Answer) -> float:
    """The ordinal of an answer, NaN where it cannot be used."""
    if answer.status is AnswerStatus.ABSTAINED:
        return ABSTAINED
    return np.nan if answer.conclusion is None else float(answer.conclusion.ordinal)


def _mean(values: Array) -> Array:
    """The mean over repeats of what is there, (1, n)."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (np.where(there, values, 0).sum(0) / there.sum(0))[None]


def not_asked(name: str, patches: int, reason: str) -> Reading:
    """A control that the reader cannot answer: no numbers, and the reason."""
    nothing = np.full((1, patches), np.nan)
    zeros = {status: np.zeros(patches, np.int64) for status in AnswerStatus}
    return Reading(name, nothing, nothing, nothing, zeros, "", False, reason)


def shuffle_answers(name: str, reading: Reading, seed: int, shufflings: int = SHUFFLINGS) -> Reading:
    """The control `shuffled`: every patch is given the answer to another one, several times over.

    The answers' distribution stays as it was; what is left of a score is what that distribution alone gives.

    Args:
        name: The control's name.
        reading: The answers to the text.
        seed: Seed of the shufflings, the same for every text.
        shufflings: How many.
    """
    rng = np.random.default_rng(seed)
    count = reading.ordinals.shape[1]
    orders = np.array([derangement(rng, count) for _ in range(shufflings)])
    ordinals, probabilities = reading.ordinals[0][orders], reading.probabilities[0][orders]
    return replace(reading, name=name, ordinals=ordinals, probabilities=probabilities)


def derangement(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """A random order in which nothing stays in its place, each equally likely; as it was where there is but one."""
    order = np.arange(count)
    # About one permutation in e has no fixed point.
    while count > 1 and np.any(order == np.arange(count)):
        order = rng.permutation(count)
    return order
