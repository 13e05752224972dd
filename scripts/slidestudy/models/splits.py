"""Cross-validation folds in which no patient, or no centre, stands in two parts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from slidestudy.errors import StudyError

STRATA = 4
"""Quantile groups of a continuous target over which folds are balanced (our choice)."""
PARTS = ("train", "validation", "test")


def _strata(labels: pd.DataFrame, task: str, folds: int) -> pd.Series:
    """The class, or the quantile group of a continuous target; one stratum where none could reach every fold."""
    if task == "classification":
        classes = labels["target"].astype(int)
        return classes if classes.value_counts().max() >= folds else classes * 0
    ranks = labels["target"].rank(method="first")
    return pd.qcut(ranks, min(STRATA, len(labels) // folds), labels=False)


def make_splits(labels: pd.DataFrame, *, task: str, folds: int, group_by: str, seed: int) -> pd.DataFrame:
    """Deals labelled development slides into folds.

    Fold k tests on the k-th share of the groups, validates (chooses epochs and thresholds) on the next share
    and trains on the rest, so that a test share chooses nothing.

    Args:
        labels: `slide_id patient_id center target` of the development slides that have features and a label.
        task: `regression` or `classification`; decides over what folds are balanced.
        folds: Number of folds, at least 3.
        group_by: `patient` or `center`.
        seed: Seed of the dealing.

    Returns:
        `patient_id slide_id fold part`, sorted by fold and slide.

    Raises:
        StudyError: Fewer groups than folds.
    """
    labels = labels.sort_values("slide_id", ignore_index=True)
    groups = labels["patient_id" if group_by == "patient" else "center"]
    if groups.nunique() < folds:
        what = f"{groups.nunique()} {group_by}s have usable slides with a label, {folds} folds need as many"
        raise StudyError(what, "make_splits", "use fewer folds, or look in slides/ledger.tsv for what was lost")
    if group_by == "center":
        # A patient seen at two centres would stand in two parts.
        spread = labels.groupby("patient_id")["center"].nunique()
        if (spread > 1).any():
            raise StudyError(
                f"patient {spread.idxmax()} has slides of two centres", "make_splits", "give a patient one centre"
            )
    dealer = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    share = np.empty(len(labels), int)
    for k, (_, rows) in enumerate(dealer.split(labels, _strata(labels, task, folds), groups)):
        share[rows] = k
    tables = []
    for fold in range(folds):
        part = np.where(share == fold, "test", np.where(share == (fold + 1) % folds, "validation", "train"))
        tables.append(labels[["patient_id", "slide_id"]].assign(fold=fold, part=part))
    splits = pd.concat(tables, ignore_index=True)
    check_disjoint(splits, labels, group_by)
    return splits


def check_disjoint(splits: pd.DataFrame, labels: pd.DataFrame, group_by: str) -> None:
    """Refuses splits in which a patient or a centre stands in two parts of a fold, or a part is empty.

    Args:
        splits: `patient_id slide_id fold part`.
        labels: `slide_id center`, for folds by centre.
        group_by: `patient` or `center`.

    Raises:
        StudyError: At the first overlap; this is a hard error, since results would leak.
    """
    table = splits.merge(labels[["slide_id", "center"]], on="slide_id", how="left")
    for column in {"patient": ["patient_id"], "center": ["patient_id", "center"]}[group_by]:
        parts = table.groupby(["fold", column])["part"].nunique()
        if (parts > 1).any():
            fold, group = parts.idxmax()
            raise StudyError(f"{column} {group} stands in two parts of fold {fold}", "splits", "make the splits anew")
    for fold, rows in table.groupby("fold"):
        missing = set(PARTS) - set(rows["part"])
        if missing:
            what = f"fold {fold} has no {' and no '.join(sorted(missing))} slides"
            raise StudyError(what, "splits", "use fewer folds, or more patients")
