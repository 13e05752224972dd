"""The two sides of a shift, with bootstrap samples of the patients of each, and the rows that are measured on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from statsmodels.stats.proportion import proportion_confint

from slidestudy.statistics import MIN_PATIENTS, PatientDraws, with_interval

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Statistic = Callable[[Array, Array], Array]
"""A function of the weights of the development (b, n_reference) and of the external slides (b, n) that returns (b,)."""

COLUMNS = [
    "encoder", "cohort", "measure", "value", "ci_low", "ci_high", "expected", "expected_low", "expected_high", "n",
    "n_reference", "n_patients", "detail", "undefined_reason",
]  # fmt: skip
SPLITS = 200
"""Random splits of the development patients that show what a measure is where nothing is shifted (our choice)."""


@dataclass(frozen=True)
class Expected:
    """What a measure is where nothing is shifted.

    Attributes:
        value: Its value, or None where not known.
        low: Lower end of the range over splits, or None where there is only a value.
        high: Upper end, or None.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Sides:
    """Development and external slides.

    Attributes:
        development: One row per slide, with `patient_id`.
        external: The same of one external cohort.
        development_draws: Bootstrap samples of the development patients.
        external_draws: Bootstrap samples of the external patients.
        confidence: Coverage of the intervals.
        seed: Seed of the splits.
    """

    development: pd.DataFrame
    external: pd.DataFrame
    development_draws: PatientDraws
    external_draws: PatientDraws
    confidence: float
    seed: int

    @classmethod
    def of(cls, development: pd.DataFrame, external: pd.DataFrame, settings: Any) -> Sides:
        """Draws the samples; settings `bootstrap confidence seed`."""
        replicates, seed = settings["bootstrap"], settings["seed"]
        # Two seeds: equal numbers of patients would otherwise be drawn alike on both sides.
        draws = [PatientDraws(t["patient_id"], replicates, seed + i) for i, t in enumerate((development, external))]
        return cls(development, external, draws[0], draws[1], settings["confidence"], seed)


@dataclass(frozen=True)
class Counted:
    """The slides of both sides that a measure is taken on.

    Attributes:
        sides: All slides.
        development: Which of the development slides count.
        external: Which of the external slides count.
    """

    sides: Sides
    development: Mask
    external: Mask

    @property
    def counts(self) -> dict[str, int]:
        """`n n_reference n_patients`."""
        return {
            "n": int(self.external.sum()),
            "n_reference": int(self.development.sum()),
            "n_patients": int(self.sides.external["patient_id"][self.external].nunique()),
        }

    def splits(self) -> tuple[Array, Array]:
        """Random splits of the development patients: weights of the larger and the smaller part, (SPLITS, n_reference).

        The smaller part has as many patients as the external cohort, at most half of them. No rows where the larger
        part would have fewer than three patients.
        """
        codes, own, other = self._patient_counts()
        size = min(other, own // 2)
        if size == 0 or own - size < MIN_PATIENTS:
            return np.zeros((0, len(codes))), np.zeros((0, len(codes)))
        rng = np.random.default_rng([self.sides.seed, own, size])
        chosen = np.zeros((SPLITS, own))
        for row in chosen:
            row[rng.permutation(own)[:size]] = 1
        return 1 - chosen[:, codes], chosen[:, codes]

    def expected(self, squares: Array) -> Expected:
        """What a squared distance is where nothing is shifted: the median and the range over the splits.

        A part of a split has fewer patients than the cohort that it stands for. By chance alone a squared distance is
        of the order of 1 / n + 1 / m, where n and m are the patients of its sides, so it is made smaller accordingly.

        Args:
            squares: The squared distance of the parts of each split, (SPLITS,), or none.
        """
        found = squares[np.isfinite(squares)]
        if len(found) < SPLITS / 2:
            return Expected()
        _, own, other = self._patient_counts()
        size = min(other, own // 2)
        factor = (1 / own + 1 / other) / (1 / (own - size) + 1 / size)
        tail = (1 - self.sides.confidence) / 2
        low, middle, high = factor * np.quantile(found, [tail, 0.5, 1 - tail])
        return Expected(float(middle), float(low), float(high))

    def _patient_counts(self) -> tuple[NDArray[np.int64], int, int]:
        """The patient of each development slide as a number, and the patients of both sides."""
        codes, patients = pd.factorize(self.sides.development["patient_id"][self.development], sort=True)
        return codes.astype(np.int64), len(patients), self.counts["n_patients"]

    def row(
        self,
        measure: str,
        statistic: Statistic,
        expected: Expected,
        why: str,
        *,
        detail: str = "",
        is_distance: bool = False,
        is_share: bool = False,
    ) -> dict[str, Any]:
        """A measure with its interval over patients of both sides.

        Args:
            measure: Its name.
            statistic: The measure, of the slides that count.
            expected: What it is where nothing is shifted.
            why: Why it has no value, if it has none.
            detail: What else to say.
            is_distance: Whether chance can only make it larger: its samples are then moved so that their mean is the
                value, as a sample of patients adds to it once more what a cohort's own chance has added already.
            is_share: Whether it is a share of the external slides; where no sample differs it has Wilson's interval
                (1927, J Am Stat Assoc 22:209) of as many trials as there are patients.

        Returns:
            The columns COLUMNS but `encoder` and `cohort`.
        """
        ones = [np.ones((1, int(mask.sum()))) for mask in (self.development, self.external)]
        value = float(statistic(*ones)[0]) if ones[1].size else np.nan
        if not np.isfinite(value):
            return self.undefined(measure, why, detail)
        ends, reason = self._interval(value, statistic, is_distance, is_share)
        spread = {"expected": expected.value, "expected_low": expected.low, "expected_high": expected.high}
        missing = f"nothing to compare with: {self._patient_counts()[1]} development patients"
        reasons = [reason, missing if expected.value is None else ""]
        return {
            "measure": measure,
            "value": value,
            "ci_low": ends[0],
            "ci_high": ends[1],
            **spread,
            **self.counts,
            "detail": detail,
            "undefined_reason": "; ".join(filter(None, reasons)),
        }

    def undefined(self, measure: str, why: str, detail: str = "") -> dict[str, Any]:
        """The row of a measure that cannot be taken."""
        blank = dict.fromkeys(("value", "ci_low", "ci_high", "expected", "expected_low", "expected_high"))
        return {"measure": measure, **blank, **self.counts, "detail": detail, "undefined_reason": why}

    def weights(self) -> tuple[Array, Array]:
        """The bootstrap weights of the slides that count, (b, n_reference) and (b, n)."""
        return (
            self.sides.development_draws.weights(self.sides.development["patient_id"][self.development]),
            self.sides.external_draws.weights(self.sides.external["patient_id"][self.external]),
        )

    def _interval(
        self, value: float, statistic: Statistic, is_distance: bool, is_share: bool
    ) -> tuple[tuple[float | None, float | None], str]:
        """The interval's ends, or why there is none."""
        _, own, patients = self._patient_counts()
        if patients < MIN_PATIENTS or own < MIN_PATIENTS:
            few = f"{patients} patients" if patients < MIN_PATIENTS else f"{own} development patients"
            return (None, None), f"no interval: {few}"
        draws, confidence = statistic(*self.weights()), self.sides.confidence
        if is_share and np.all(draws[np.isfinite(draws)] == value):
            low, high = proportion_confint(round(value * patients), patients, alpha=1 - confidence, method="wilson")
            return (float(low), float(high)), ""
        if is_distance:
            draws = np.maximum(draws - np.nanmean(draws) + value, 0) if np.isfinite(draws).any() else draws
        found = with_interval(value, draws, confidence, len(self.external))
        return (found.ci_low, found.ci_high), found.undefined_reason


def weighted_quantile(values: Array, weights: Array, share: float) -> Array:
    """A quantile, interpolated as numpy does, of values (n,) that stand as often as weights (b, n) say, (b,)."""
    order = np.argsort(values, kind="stable")
    ordered, passed = values[order], np.cumsum(weights[:, order], axis=1)
    place = (passed[:, -1] - 1) * share
    low, high = (
        ordered[np.argmax(passed > np.maximum(at, 0)[:, None], axis=1)] for at in (np.floor(place), np.ceil(place))
    )
    return np.where(passed[:, -1] > 0, low + (high - low) * (place - np.floor(place)), np.nan)


def weighted_share(hits: Mask, weights: Array) -> Array:
    """The share of hits, of one row (n,) or of a row for each sample (b, n), (b,); NaN where nothing was drawn."""
    total = weights.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weights * hits).sum(1) / total
