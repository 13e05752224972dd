"""How slides are dealt into parts: the scheme, its options, and how many folds it makes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from slidestudy.errors import Problem, StudyError
from slidestudy.models.splits.split_tables import read_split_table
from slidestudy.tables import did_you_mean

LEAVE_OUT = {"leave-one-center-out": "center", "leave-one-cohort-out": "cohort"}
"""Scheme -> the column whose values are held out."""
SCHEMES = ("k-fold", "repeated-k-fold", "monte-carlo", *LEAVE_OUT, "table")
SHOWN = 20
"""Names that a message lists at most."""


def named(names: Iterable[object]) -> str:
    """Names, sorted and joined by commas; the last ones only counted where there are many."""
    listed = sorted(map(str, names))
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more


@dataclass(frozen=True)
class SplitScheme:
    """How slides are dealt into parts.

    Attributes:
        scheme: One of SCHEMES.
        folds: k-fold and repeated-k-fold: folds (of a repeat), at least 3. monte-carlo: random splits, at least 1.
        repeats: repeated-k-fold: times that all is dealt anew, at least 2. Leave-one-out: validation parts drawn
            for each test part, at least 1.
        test_share: monte-carlo: test part, fraction of all slides; 0 for splits without test parts.
        validation_share: monte-carlo: validation part, fraction of all slides. Leave-one-out: of the slides
            that are not held out.
        table: table: path of the table of parts.
        group_by: What no two parts of a fold share: `patient`, or `center` (and patient).
        lookalikes: `keep-together`: patients joined by look-alike slides stay in one part. `ignore`: they need not.
        held_out: Leave-one-out: the centres or cohorts that are test parts, in the order of their folds; empty for all.

    Raises:
        StudyError: With all options that do not fit.
    """

    scheme: str = "k-fold"
    folds: int = 5
    repeats: int = 1
    test_share: float = 0.2
    validation_share: float = 0.2
    table: str | None = None
    group_by: str = "patient"
    lookalikes: str = "keep-together"
    held_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "held_out", tuple(self.held_out))
        if problems := _problems(self):
            raise StudyError.of(problems)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> SplitScheme:
        """The scheme of a model's settings.

        Args:
            settings: With the section `splits`; `folds` and `group_by` outside it count where the section has none.
                Without a section: k-fold, look-alikes ignored.

        Raises:
            StudyError: An unknown key, or an option that does not fit.
        """
        outside = {key: settings[key] for key in ("folds", "group_by") if key in settings}
        if "splits" not in settings:
            return cls(**outside, lookalikes="ignore")
        section = {key: value for key, value in settings["splits"].items() if value is not None}
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(section) - set(known)):
            raise StudyError.of(Problem(f"splits.{key}", "unknown key", did_you_mean(key, known)) for key in unknown)
        return cls(**{**outside, **section})


def _problems(scheme: SplitScheme) -> list[Problem]:
    """What does not fit in a scheme's options."""
    name, found = scheme.scheme, []

    def need(holds: bool, key: str, what: str) -> None:
        if not holds:
            found.append(Problem(f"splits.{key}", f"is {getattr(scheme, key)!r}", what))

    need(name in SCHEMES, "scheme", f"give one of {', '.join(SCHEMES)}")
    need(scheme.group_by in ("patient", "center"), "group_by", "give patient or center")
    need(scheme.lookalikes in ("keep-together", "ignore"), "lookalikes", "give keep-together or ignore")
    if name in ("k-fold", "repeated-k-fold"):
        need(scheme.folds >= 3, "folds", "give at least 3: training, validation and test parts")
    if name == "repeated-k-fold":
        need(scheme.repeats >= 2, "repeats", "give at least 2, or use the scheme k-fold")
    if name == "monte-carlo":
        need(scheme.folds >= 1, "folds", "give at least 1")
        need(0 <= scheme.test_share < 1, "test_share", "give a fraction from 0 to below 1")
        need(0 < scheme.validation_share < 1 - scheme.test_share, "validation_share", "leave slides to train on")
    if name in LEAVE_OUT:
        need(scheme.repeats >= 1, "repeats", "give at least 1")
        need(0 < scheme.validation_share < 1, "validation_share", "give a fraction between 0 and 1")
        need(len(set(scheme.held_out)) == len(scheme.held_out), "held_out", "give each name once")
    if name == "table":
        need(bool(scheme.table), "table", "give the path of the table")
    return found


def held_out_names(scheme: SplitScheme, labels: pd.DataFrame) -> list[str]:
    """The centres or cohorts that a leave-one-out scheme tests on, in the order of their folds.

    Args:
        scheme: A scheme of LEAVE_OUT.
        labels: With the column `center` or `cohort`; all its values count where the scheme names none.

    Raises:
        StudyError: A name that the labels do not have.
    """
    column = LEAVE_OUT[scheme.scheme]
    present = sorted(set(labels[column].dropna()))
    if unknown := [name for name in scheme.held_out if name not in present]:
        remedy = did_you_mean(unknown[0], present)
        raise StudyError(f"no patient has the {column} {named(unknown)}", "splits.held_out", remedy)
    return list(scheme.held_out) or present


def count_folds(scheme: SplitScheme, labels: pd.DataFrame) -> int:
    """How many folds a scheme makes.

    Args:
        scheme: The scheme.
        labels: `center` or `cohort` of the development slides, for leave-one-out schemes that name no part.
    """
    if scheme.scheme in LEAVE_OUT:
        return len(held_out_names(scheme, labels)) * scheme.repeats
    if scheme.table and scheme.scheme == "table":
        return int(read_split_table(scheme.table)["fold"].nunique())
    return scheme.folds * (scheme.repeats if scheme.scheme == "repeated-k-fold" else 1)
