"""Errors that a user can mend, and the short codes of why a slide or a patient leaves a study."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a slide or a patient leaves the study (column `code` of the ledger)."""

    UNREADABLE = "unreadable"
    TRUNCATED = "truncated"
    NOT_BRIGHTFIELD = "not_brightfield"
    MPP_MISSING = "mpp_missing"
    MPP_IMPLAUSIBLE = "mpp_implausible"
    MPP_CONFLICT = "mpp_conflict"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near_duplicate"
    NO_TISSUE = "no_tissue"
    TOO_FEW_TILES = "too_few_tiles"
    UNREADABLE_TILES = "unreadable_tiles"
    FEATURES_MISSING = "features_missing"
    FEATURES_UNUSABLE = "features_unusable"
    FEATURES_MISMATCH = "features_mismatch"
    LABEL_MISSING = "label_missing"
    NO_SLIDE = "no_slide"


@dataclass(frozen=True)
class Problem:
    """One mistake in a user's input.

    Attributes:
        where: File, and within it the row, column or key.
        what: What is wrong.
        remedy: How to mend it.
    """

    where: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n    remedy: {self.remedy}" if self.remedy else text


class StudyError(Exception):
    """A mistake that the user can mend: shown as a message, never as a traceback.

    Args:
        what: What is wrong, in one sentence.
        where: File, row, column, key or slide.
        remedy: How to mend it.
    """

    def __init__(self, what: str, where: str = "", remedy: str = "") -> None:
        self.problems = [Problem(where, what, remedy)]
        super().__init__(str(self.problems[0]))

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> StudyError:
        """Makes one error of all the problems found, so that all can be mended at once."""
        listed = list(problems)
        if not listed:
            raise ValueError("an error needs at least one problem")
        error = cls(listed[0].what, listed[0].where, listed[0].remedy)
        error.problems = listed
        lines = "\n".join(f"  {i}. {p}" for i, p in enumerate(listed, 1))
        error.args = (f"{len(listed)} problem{'s' if len(listed) > 1 else ''} in the study:\n{lines}",)
        return error


class SlideError(StudyError):
    """A slide that cannot be used, with its reason code; the study goes on without it.

    Args:
        reason: The ledger's code.
        what: What was found.
        slide: The slide's id or path.
        remedy: How it could be used after all.
    """

    def __init__(self, reason: Reason, what: str, slide: str = "", remedy: str = "") -> None:
        super().__init__(what, slide, remedy)
        self.reason = reason
        self.remedy = remedy
        self.what = what

    @property
    def message(self) -> str:
        """What was found and, where known, what would help."""
        return f"{self.what} ({self.remedy})" if self.remedy else self.what
