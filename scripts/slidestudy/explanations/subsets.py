"""The patches on which explanations are scored: the frozen sample or an imported set, and the subsets X, X1 and X3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slidestudy import statistics
from slidestudy.statistics import Estimate, PatientDraws, Statistic

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

FROZEN = "frozen sample"
"""What the column `patches` says of the sample that was drawn; imported patches are told by their set's name."""


@dataclass(frozen=True)
class Subset:
    """Patches on which explanations are scored together.

    Attributes:
        name: X (all), X1 or X3 (farther from the threshold).
        rows: Which patches belong to it, bool (n,).
        weights: How often each patch was drawn in each bootstrap sample (b, n), 0 outside the subset; the same for all
            that is measured on it.
    """

    name: str
    rows: Bools
    weights: Array


@dataclass(frozen=True)
class Patches:
    """A set of patches with what the model makes of them.

    Attributes:
        name: FROZEN, or the name of an imported set.
        table: `patch_id slide_id patient_id logit ...`, one row per patch.
        threshold: The logit that divides high from low.
        digest: Digest of the patches.
        parts: The subsets X, X1 and X3.
    """

    name: str
    table: pd.DataFrame
    threshold: float
    digest: str
    parts: list[Subset]

    @property
    def logits(self) -> Array:
        """The model's logit of each patch (n,)."""
        return self.table["logit"].to_numpy(float)

    @property
    def label(self) -> Array:
        """1 where the logit is above the threshold, else 0 (n,)."""
        return (self.logits > self.threshold).astype(float)

    @property
    def patients(self) -> NDArray[Any]:
        """The patient of each patch (n,): patches of one patient are drawn together."""
        return self.table["patient_id"].to_numpy()


def make_patches(
    name: str, table: pd.DataFrame, digest: str, frozen: Mapping[str, Any], settings: Mapping[str, Any]
) -> Patches:
    """A set of patches with its subsets.

    Args:
        name: FROZEN, or the name of an imported set.
        table: Its patches.
        digest: Digest of the patches.
        frozen: `threshold spread` of the frozen sample, which hold for imported patches too.
        settings: `bootstrap seed x1 x3 unit`.
    """
    threshold = float(frozen["threshold"])
    return Patches(name, table, threshold, digest, subsets(table, threshold, float(frozen["spread"]), settings))


def subsets(table: pd.DataFrame, threshold: float, spread: float, settings: Mapping[str, Any]) -> list[Subset]:
    """X, X1 and X3 of X2X (arXiv 2508.09205).

    Args:
        table: `logit patient_id`.
        threshold: The logit that divides high from low.
        spread: SD of the reference tiles' logits.
        settings: `x1 x3 unit bootstrap seed`; distances are in logits, or in SD of the reference tiles.
    """
    distance = np.abs(table["logit"].to_numpy(float) - threshold) / (1.0 if settings["unit"] == "logit" else spread)
    chosen = {"X": np.ones(len(table), bool), "X1": distance > settings["x1"], "X3": distance > settings["x3"]}
    patients, found = table["patient_id"].to_numpy(), []
    for name, rows in chosen.items():
        weights = np.zeros((settings["bootstrap"], len(table)))
        drawn = PatientDraws(patients[rows], settings["bootstrap"], settings["seed"])
        weights[:, rows] = drawn.weights(patients[rows])
        found.append(Subset(name, rows, weights))
    return found


def over_rows(statistic: Statistic, truth: Array, rows: Array, usable: Bools) -> Callable[[Array], Array]:
    """A statistic of one row of answers, or of several shufflings of it.

    The value of several is their mean, but each bootstrap draw takes one of them in turn: so the interval is that of a
    single shuffling, and tells how far chance alone goes.

    Args:
        statistic: A weighted statistic.
        truth: Truth (n,).
        rows: Answers (k, n).
        usable: Which can be used (k, n).

    Returns:
        A function of the weights (b, n) of the bootstrap draws, or (1, n) for the value.
    """
    pairs = list(zip(rows, usable, strict=True))

    def value(weights: Array) -> Array:
        return np.mean([statistic(truth[keep], row[keep], weights[:, keep]) for row, keep in pairs], axis=0)

    def draws(weights: Array) -> Array:
        if len(weights) == 1:
            return value(weights)
        found = np.full(len(weights), np.nan)
        for k, (row, keep) in enumerate(pairs):
            found[k :: len(pairs)] = statistic(truth[keep], row[keep], weights[k :: len(pairs)][:, keep])
        return found

    return draws


def estimate(
    statistic: Callable[[Array], Array], used: Bools, part: Subset, patients: NDArray[Any], confidence: float
) -> Estimate:
    """A statistic with the percentile interval of its patient-clustered bootstrap draws.

    Args:
        statistic: From weights of all patches (b, n) to its values (b,).
        used: The patches that it uses (n,).
        part: Their subset.
        patients: Patient of every patch (n,).
        confidence: Coverage of the interval.

    Returns:
        The estimate; `undefined` is the reason where the statistic has no value.
    """
    n, count = int(used.sum()), len(np.unique(patients[used]))
    value = float(statistic(used.astype(float)[None])[0]) if n else np.nan
    if not np.isfinite(value):
        return Estimate(None, None, None, n, "undefined" if n else "no rows")
    if count < statistics.MIN_PATIENTS:
        return Estimate(value, None, None, n, f"no interval: {count} patients")
    return statistics.with_interval(value, statistic(part.weights), confidence, n)
