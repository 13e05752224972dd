"""Deals labelled slides into the folds of a scheme."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slidestudy.errors import Problem, StudyError
from slidestudy.labels import is_labelled, label_columns
from slidestudy.models.splits.checks import check_disjoint, check_labels, check_varied
from slidestudy.models.splits.groups import group_slides
from slidestudy.models.splits.random_parts import deal_parts
from slidestudy.models.splits.scheme import LEAVE_OUT, SplitScheme, held_out_names, named
from slidestudy.models.splits.split_tables import read_split_table
from slidestudy.models.splits.strata import label_strata

WHERE = "make_splits"
LEDGER = "look in slides/ledger.tsv for what was lost"
Parts = NDArray[np.object_]
"""The part of every slide; `none` where it is left out of the fold."""


def splits_for(
    labels: pd.DataFrame,
    settings: Mapping[str, Any],
    *,
    usable: Collection[str],
    lookalikes: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The splits of a model, by its settings; validation parts too must have slides of two classes.

    Args:
        labels: `slide_id patient_id cohort center` and the labels of all slides of the study.
        settings: The model's settings: `task seed`, `splits` (see SplitScheme.of), `columns` of the labels.
        usable: Development slides that have features.
        lookalikes: Pairs of slides that look alike, as admission writes them.

    Returns:
        As make_splits.
    """
    return make_splits(
        labels,
        task=settings["task"],
        seed=settings["seed"],
        scheme=SplitScheme.of(settings),
        columns=settings.get("columns"),
        lookalikes=lookalikes,
        usable=usable,
        labelled_parts=("train", "validation"),
    )


def make_splits(
    labels: pd.DataFrame,
    *,
    task: str,
    seed: int,
    scheme: SplitScheme | Mapping[str, Any] | None = None,
    folds: int = 5,
    group_by: str = "patient",
    columns: Sequence[str] | None = None,
    lookalikes: pd.DataFrame | None = None,
    usable: Collection[str] | None = None,
    labelled_parts: Collection[str] = ("train",),
) -> pd.DataFrame:
    """Deals labelled development slides into training, validation and test parts, fold by fold.

    Validation parts choose epochs and thresholds, so that a test part chooses nothing. Every slide stands in exactly
    one part of every fold, save where a given table leaves it out with the part `none`.

    Args:
        labels: `slide_id patient_id cohort center` and the labels. Slides without a label are left out; of several
            targets one is enough.
        task: Decides over what parts are balanced, see label_strata.
        seed: Seed of the dealing. Equal labels, options and seed give equal splits.
        scheme: The scheme or its options; None for k-fold by the next two arguments, look-alikes ignored.
        folds: Folds, where there is no scheme.
        group_by: What no two parts share, where there is no scheme.
        columns: The columns of the labels; None for `target`, of survival `time event`.
        lookalikes: `patient_id_a patient_id_b` of pairs of slides that look alike; needed where the scheme keeps
            them together.
        usable: Slides to deal; None for all of the labels.
        labelled_parts: Parts whose labels are checked, see check_labels.

    Returns:
        `patient_id slide_id fold part`, sorted by fold and slide.

    Raises:
        StudyError: Too few groups, labels without variety, a patient or centre in two parts, a table that does not fit.
    """
    if scheme is None:
        scheme = SplitScheme(folds=folds, group_by=group_by, lookalikes="ignore")
    elif not isinstance(scheme, SplitScheme):
        scheme = SplitScheme.of({"splits": scheme})
    if scheme.lookalikes == "ignore":
        lookalikes = None
    elif lookalikes is None:
        raise ValueError("look-alike slides are kept together, but no table of them was given")
    columns = label_columns(task, columns)
    chosen = labels[is_labelled(labels, task, columns)]
    chosen = chosen if usable is None else chosen[chosen["slide_id"].isin(list(usable))]
    chosen = chosen.sort_values("slide_id", ignore_index=True)
    if chosen.empty:
        raise StudyError("no usable slide has a label", WHERE, LEDGER)
    if scheme.group_by == "center" or scheme.scheme == "leave-one-center-out":
        _check_centers(chosen)
    check_varied(chosen, task, columns)
    dealer = _Dealer(scheme, labels, chosen, task, columns, seed, lookalikes)
    tables = [
        chosen[["patient_id", "slide_id"]].assign(fold=fold, part=parts) for fold, parts in enumerate(dealer.deal())
    ]
    splits = pd.concat(tables, ignore_index=True)
    splits = splits[splits["part"] != "none"].reset_index(drop=True)
    check_disjoint(splits, chosen, scheme.group_by, lookalikes, dealer.without_test)
    check_labels(splits, chosen, task, columns, labelled_parts)
    return splits


def _check_centers(labels: pd.DataFrame) -> None:
    """Refuses patients without a centre, and patients of several: one would stand in two parts."""
    blank = labels["center"].isna() | (labels["center"] == "")
    spread = labels.groupby("patient_id")["center"].nunique()
    problems = []
    if blank.any():
        what = f"patient {named(set(labels.loc[blank, 'patient_id']))} has no centre"
        problems.append(Problem(WHERE, what, "fill in the column center of patients.tsv"))
    if (spread > 1).any():
        what = f"patient {named(spread.index[spread > 1])} has slides of two centres"
        problems.append(Problem(WHERE, what, "give a patient one centre"))
    if problems:
        raise StudyError.of(problems)


class _Dealer:
    """Deals one table of slides by one scheme.

    Attributes:
        without_test: Folds whose test part may be empty, known once all are dealt.
    """

    def __init__(
        self,
        scheme: SplitScheme,
        labels: pd.DataFrame,
        chosen: pd.DataFrame,
        task: str,
        columns: Sequence[str],
        seed: int,
        lookalikes: pd.DataFrame | None,
    ) -> None:
        self.scheme, self.chosen, self.task, self.columns = scheme, chosen, task, columns
        self.seed = seed
        # Labels are given of external cohorts too; no slide of theirs can be dealt.
        known = labels["cohort"].isin(set(chosen["cohort"])) if "cohort" in labels else slice(None)
        self.development = labels[known]
        self.groups = group_slides(chosen, scheme.group_by, lookalikes)
        self.without_test: set[int] = set()

    def deal(self) -> Iterator[Parts]:
        """The parts of every fold in turn."""
        if self.scheme.scheme == "table":
            return self._given()
        if self.scheme.scheme == "monte-carlo":
            return self._monte_carlo()
        return self._leave_one_out() if self.scheme.scheme in LEAVE_OUT else self._k_fold()

    def _k_fold(self) -> Iterator[Parts]:
        """Fold k tests on the k-th share of the groups, validates on the next share and trains on the rest."""
        folds = self.scheme.folds
        repeats = self.scheme.repeats if self.scheme.scheme == "repeated-k-fold" else 1
        if (count := self.groups.nunique()) < folds:
            own = self.chosen["patient_id" if self.scheme.group_by == "patient" else "center"].nunique()
            joined = f", joined by look-alike slides into {count} groups" if count < own else ""
            what = f"{own} {self.scheme.group_by}s have usable slides with a label{joined}, {folds} folds need as many"
            raise StudyError(what, WHERE, f"use fewer folds, or {LEDGER}")
        for repeat in range(repeats):
            share = self._shares(folds, self.seed if repeat == 0 else _mixed(self.seed, repeat))
            for fold in range(folds):
                yield np.where(
                    share == fold, "test", np.where(share == (fold + 1) % folds, "validation", "train")
                ).astype(object)

    def _shares(self, folds: int, seed: int) -> NDArray[np.int64]:
        """The share of every slide, balanced over strata as far as whole groups allow."""
        from sklearn.model_selection import StratifiedGroupKFold

        dealer = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
        strata = label_strata(self.chosen, self.task, self.columns, folds)
        share = np.empty(len(self.chosen), np.int64)
        with warnings.catch_warnings():
            # A class that does not reach every fold is no mistake; check_labels sees to the training parts.
            warnings.filterwarnings("ignore", message="The least populated class")
            for k, (_, rows) in enumerate(dealer.split(self.chosen, strata, self.groups)):
                share[rows] = k
        return share

    def _draw(self, rows: NDArray[np.bool_], shares: dict[str, float], *keys: int) -> Parts:
        """The parts of some slides, drawn at random; `none` for the others."""
        parts = np.full(len(self.chosen), "none", dtype=object)
        strata = label_strata(self.chosen[rows].reset_index(drop=True), self.task, self.columns, len(shares))
        rng = np.random.default_rng([self.seed, *keys])
        parts[rows] = deal_parts(self.groups[rows], strata, shares, rng)
        return parts

    def _monte_carlo(self) -> Iterator[Parts]:
        """Every fold is a random draw of its own."""
        scheme = self.scheme
        shares = {"train": 1 - scheme.validation_share - scheme.test_share, "validation": scheme.validation_share}
        if scheme.test_share:
            shares["test"] = scheme.test_share
        else:
            self.without_test = set(range(scheme.folds))
        for fold in range(scheme.folds):
            yield self._draw(np.ones(len(self.chosen), bool), shares, fold)

    def _leave_one_out(self) -> Iterator[Parts]:
        """Every fold tests on one centre or cohort; the others are dealt into training and validation parts."""
        column, share = LEAVE_OUT[self.scheme.scheme], self.scheme.validation_share
        listed = self.development if self.scheme.held_out else self.chosen
        for number, name in enumerate(held_out_names(self.scheme, listed)):
            tested = (self.chosen[column] == name).to_numpy()
            if self.groups[~tested].nunique() < 2:
                what = f"with {column} {name} held out, fewer than two groups are left to train and validate on"
                raise StudyError(what, WHERE, "hold out others, or group by patient")
            for repeat in range(self.scheme.repeats):
                if not tested.any():
                    # All slides of a centre that the study names were lost: its fold still trains.
                    self.without_test.add(number * self.scheme.repeats + repeat)
                parts = self._draw(~tested, {"train": 1 - share, "validation": share}, number, repeat)
                yield np.where(tested, "test", parts)

    def _given(self) -> Iterator[Parts]:
        """The parts of the given table."""
        path = str(self.scheme.table)
        table = read_split_table(path)
        key = "slide_id" if "slide_id" in table else "patient_id"
        folds = [rows.set_index(key)["part"] for _, rows in table.groupby("fold", sort=True)]
        if problems := self._unmatched(table, key, folds):
            raise StudyError.of(problems)
        self.without_test = {fold for fold, parts in enumerate(folds) if "test" not in set(parts)}
        for parts in folds:
            yield self.chosen[key].map(parts).to_numpy(object)

    def _unmatched(self, table: pd.DataFrame, key: str, folds: Sequence[pd.Series]) -> list[Problem]:
        """What the table and the labels do not agree on."""
        path, noun = str(self.scheme.table), key.removesuffix("_id")
        problems = []
        if unknown := set(table[key]) - set(self.development[key]):
            what = f"names {len(unknown)} {noun}s that the development cohorts do not have: {named(unknown)}"
            problems.append(Problem(path, what, f"use the {key}s of the study's tables, or remove those lines"))
        for fold, parts in enumerate(folds):
            if missing := set(self.chosen[key]) - set(parts.index):
                what = f"gives {len(missing)} labelled {noun}s no part in fold {fold}: {named(missing)}"
                problems.append(Problem(path, what, "give each a part; `none` leaves one out of the fold"))
        if key == "slide_id" and "patient_id" in table:
            owner = self.development.set_index("slide_id")["patient_id"]
            known = table[table["slide_id"].isin(owner.index)]
            wrong = set(known.loc[known["patient_id"] != known["slide_id"].map(owner), "slide_id"])
            if wrong:
                problems.append(Problem(path, f"names another patient for slide {named(wrong)}", "correct it"))
        return problems


def _mixed(seed: int, repeat: int) -> int:
    """A seed of its own for every repeat."""
    return int(np.random.SeedSequence([seed, repeat]).generate_state(1)[0])
