"""Answers: what a reader concluded about one patch, parsed from the last line of its text.

A reader (a vision-language model, or the morphometry reader) ends its answer with one line
``CONCLUSION=VERY HIGH``, ``HIGH NEAR BOUNDARY``, ``LOW NEAR BOUNDARY`` or ``VERY LOW``; the four words are
those of X2X (arXiv 2508.09205). ``CONCLUSION=ABSTAIN`` is our addition: a reader that cannot tell says so,
and is counted. Nothing is dropped in silence: every answer has a status, and keeps its full text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = ["ABSTAIN", "Answer", "AnswerStatus", "Conclusion", "answer_from_text", "parse_conclusion"]

ABSTAIN = "ABSTAIN"

_CONCLUSION_LINE = re.compile(r"^\W*CONCLUSION\W*[=:](?P<value>.*)$", re.IGNORECASE)
_NOT_A_WORD = re.compile(r"[^A-Z]+")


class Conclusion(StrEnum):
    """The four conclusions a reader may draw about the model's score of a patch."""

    VERY_HIGH = "VERY HIGH"
    HIGH_NEAR_BOUNDARY = "HIGH NEAR BOUNDARY"
    LOW_NEAR_BOUNDARY = "LOW NEAR BOUNDARY"
    VERY_LOW = "VERY LOW"

    @property
    def ordinal(self) -> int:
        """Rank of the conclusion: 3 for VERY HIGH down to 0 for VERY LOW."""
        return _ORDINALS[self]

    @property
    def high(self) -> bool:
        """Whether the conclusion puts the score above the model's threshold."""
        return self.ordinal >= 2


_ORDINALS = {
    Conclusion.VERY_HIGH: 3,
    Conclusion.HIGH_NEAR_BOUNDARY: 2,
    Conclusion.LOW_NEAR_BOUNDARY: 1,
    Conclusion.VERY_LOW: 0,
}


class AnswerStatus(StrEnum):
    """What became of one question put to a reader."""

    ANSWERED = "answered"
    """One of the four conclusions was drawn."""
    ABSTAINED = "abstained"
    """The reader said that it cannot tell."""
    UNPARSED = "unparsed"
    """Text came back, but not a conclusion that can be read."""
    FAILED = "failed"
    """No text came back; ``raw`` holds the reason."""


@dataclass(frozen=True)
class Answer:
    """One reader's answer about one patch."""

    patch_id: str
    status: AnswerStatus
    conclusion: Conclusion | None
    """Set when, and only when, the status is ``answered``."""
    raw: str
    """The reader's full text; for a failed call, the reason."""
    probability: float | None = None
    """How likely the reader finds a score above the model's threshold, 0 to 1; None where it gives none."""
    repeat: int = 0
    """Which asking of the same question this answers, from 0."""

    def __post_init__(self) -> None:
        if (self.conclusion is not None) != (self.status is AnswerStatus.ANSWERED):
            raise ValueError(f"{self.patch_id}: status {self.status} with conclusion {self.conclusion}")
        if self.probability is not None and not 0 <= self.probability <= 1:
            raise ValueError(f"{self.patch_id}: probability {self.probability}")

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as plain values in a fixed key order, ready for one line of JSON."""
        return {
            "patch_id": self.patch_id,
            "status": self.status.value,
            "conclusion": None if self.conclusion is None else self.conclusion.value,
            "raw": self.raw,
            "probability": self.probability,
            "repeat": self.repeat,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Answer:
        """Rebuild an answer from `to_dict`.

        Raises:
            KeyError: a key is missing.
            ValueError: a status or conclusion is unknown, the two contradict each other, or a probability is none.
        """
        conclusion, probability = values["conclusion"], values.get("probability")
        return cls(
            patch_id=str(values["patch_id"]),
            status=AnswerStatus(values["status"]),
            conclusion=None if conclusion is None else Conclusion(conclusion),
            raw=str(values["raw"]),
            probability=None if probability is None else float(probability),
            repeat=int(values.get("repeat", 0)),
        )


def parse_conclusion(text: str) -> tuple[Conclusion | None, AnswerStatus]:
    """Read the conclusion from the last ``CONCLUSION=`` line of a reader's text.

    Case, spaces, markdown stars, quotes and trailing punctuation do not matter. Earlier conclusion lines (a
    reader that thinks aloud) are ignored. A last line with anything beside one of the known conclusions is
    unparsed: a hedge such as ``VERY HIGH or VERY LOW`` is never taken for an answer.

    Args:
        text: the reader's full text.

    Returns:
        The conclusion (None unless answered) and the status: answered, abstained or unparsed.
    """
    matches = [match for line in text.splitlines() if (match := _CONCLUSION_LINE.match(line))]
    if not matches:
        return None, AnswerStatus.UNPARSED
    value = _NOT_A_WORD.sub(" ", matches[-1]["value"].upper()).strip()
    if value == ABSTAIN:
        return None, AnswerStatus.ABSTAINED
    try:
        return Conclusion(value), AnswerStatus.ANSWERED
    except ValueError:
        return None, AnswerStatus.UNPARSED


def answer_from_text(patch_id: str, text: str) -> Answer:
    """Wrap a reader's text as an `Answer`, with the status and conclusion that its last line gives."""
    conclusion, status = parse_conclusion(text)
    return Answer(patch_id=patch_id, status=status, conclusion=conclusion, raw=text)
