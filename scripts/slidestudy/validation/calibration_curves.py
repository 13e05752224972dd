"""Calibration: whether labels are, on average, what was predicted, or as frequent as the probabilities say.

Bins of the predictions, a recalibrating line, and a smooth curve, each with intervals over draws of patients.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from statsmodels.nonparametric.smoothers_lowess import lowess
from statsmodels.stats.proportion import proportion_confint

from slidestudy import statistics
from slidestudy.statistics import Array, Estimate, Statistic
from slidestudy.validation.cohort_levels import ESTIMATE_COLUMNS, CohortLevel, Pairs
from slidestudy.validation.measuring import estimate_row
from slidestudy.validation.views import View
from slidestudy.validation.weighted_lines import logistic_line, logistic_shift, logits, straight_line

RANGE_BINS = 20
"""Bins of a target's range, as in ECTIL (2025, Lancet Digital Health): 5 % each of a percentage."""
PROBABILITY_BINS = 10
GRID = 101
"""Points of a curve, from the lowest prediction to the highest."""
CURVE_DRAWS = 300
"""Most draws of patients for the band of a curve."""
FEWEST_ROWS = 10
"""Fewest rows of which a curve is given."""
NEIGHBOURS = 2 / 3
"""Share of the rows that each point of a curve is fitted to: Cleveland's."""
BIN_COLUMNS = [
    "cohort", "role", "level", "target", "bin", "low", "high", "n", "n_patients", "mean_prediction", "mean_target",
    "ci_low", "ci_high", "undefined_reason",
]  # fmt: skip
CURVE_COLUMNS = ["cohort", "role", "level", "target", "prediction", "value", "ci_low", "ci_high"]
CALIBRATED_TASKS = ("regression", "classification", "multiclass")


@dataclass(frozen=True)
class Calibration:
    """The calibration of a model.

    Attributes:
        bins: Columns BIN_COLUMNS; of a regression without a target range no rows.
        fits: Columns ESTIMATE_COLUMNS, statistics `slope intercept in_the_large`.
        curves: Columns CURVE_COLUMNS.
    """

    bins: pd.DataFrame
    fits: pd.DataFrame
    curves: pd.DataFrame


def calibrate(levels: Sequence[CohortLevel], settings: Mapping[str, Any]) -> Calibration:
    """The calibration of a model on every cohort, per slide and per patient; no rows for other tasks.

    Args:
        levels: The cohorts' slides and patients.
        settings: `task confidence`, of a regression `target_range`.
    """
    bins: list[dict[str, Any]] = []
    fits: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    confidence = settings["confidence"]
    for of_level in levels if settings["task"] in CALIBRATED_TASKS else []:
        for view in of_level.views:
            pairs, keys = Pairs.of(view, of_level.draws), of_level.keys(view)
            edges, is_share = _edges(view, settings), view.kind == "binary"
            bins += [{**keys, **row} for row in bin_rows(pairs, edges, confidence, is_share)]
            for name, statistic in FITS[view.kind].items():
                found = pairs.measure(statistic, confidence, _why_no_line(view.kind, name, pairs))
                fits.append(estimate_row(found, **keys, statistic=name, n_patients=pairs.n_patients))
            curves += [{**keys, **row} for row in curve_rows(pairs, confidence, is_share)]
    return Calibration(
        pd.DataFrame(bins, columns=BIN_COLUMNS),
        pd.DataFrame(fits, columns=ESTIMATE_COLUMNS),
        pd.DataFrame(curves, columns=CURVE_COLUMNS),
    )


def _edges(view: View, settings: Mapping[str, Any]) -> Array:
    """Edges of the bins; none where the target has no range."""
    if view.kind == "binary":
        return np.linspace(0, 1, PROBABILITY_BINS + 1)
    span = settings["target_range"]
    return np.linspace(span[0], span[1], RANGE_BINS + 1) if span else np.empty(0)


def bin_rows(pairs: Pairs, edges: Array, confidence: float, is_share: bool) -> Iterator[dict[str, Any]]:
    """The mean label in equal bins of the prediction.

    A bin holds its lower edge, the last one its upper edge too. What is predicted beyond the range is in the end bins.

    Args:
        pairs: Labels and predictions.
        edges: Edges of the bins (bins + 1,), or none.
        confidence: Coverage of the intervals.
        is_share: Whether the label is 0 or 1.

    Yields:
        The columns of BIN_COLUMNS from `bin` on; values blank where a bin is empty.
    """
    place = np.clip(np.searchsorted(edges, pairs.prediction, side="right") - 1, 0, max(len(edges) - 2, 0))
    for number, (low, high) in enumerate(pairwise(edges)):
        inside = pairs.where(place == number)
        found = _mean_with_interval(inside, confidence, is_share)
        yield {
            "bin": number + 1,
            "low": low,
            "high": high,
            "n": found.n,
            "n_patients": inside.n_patients,
            "mean_prediction": float(inside.prediction.mean()) if found.n else None,
            "mean_target": found.value,
            "ci_low": found.ci_low,
            "ci_high": found.ci_high,
            "undefined_reason": found.undefined_reason,
        }


def _mean_with_interval(inside: Pairs, confidence: float, is_share: bool) -> Estimate:
    """The mean label of a bin.

    Where all labels are the same, no draw differs: a share then has Wilson's interval (1927, J Am Stat Assoc 22:209) of
    as many trials as there are patients, which is wide enough whether or not a patient's slides go together.
    """
    found = inside.measure(_mean_label, confidence)
    if found.value is None or found.ci_low is None or np.ptp(inside.truth) > 0:
        return found
    if not is_share:
        return Estimate(found.value, None, None, found.n, "no interval: all labels are the same")
    patients = inside.n_patients
    ends = proportion_confint(round(found.value) * patients, patients, alpha=1 - confidence, method="wilson")
    return Estimate(found.value, float(ends[0]), float(ends[1]), found.n)


def _mean_label(y: Array, p: Array, w: Array) -> Array:
    """Mean label; undefined where no row was drawn."""
    with np.errstate(invalid="ignore"):
        return w @ y / w.sum(1)


def _mean_difference(y: Array, p: Array, w: Array) -> Array:
    """Mean of label less prediction."""
    return _mean_label(y - p, p, w)


FITS: dict[str, dict[str, Statistic]] = {
    "continuous": {
        "slope": lambda y, p, w: straight_line(y, p, w)[1],
        "intercept": lambda y, p, w: straight_line(y, p, w)[0],
        "in_the_large": _mean_difference,
    },
    "binary": {
        "slope": lambda y, p, w: logistic_line(y, logits(p), w)[1],
        "intercept": lambda y, p, w: logistic_line(y, logits(p), w)[0],
        "in_the_large": lambda y, p, w: logistic_shift(y, logits(p), w),
    },
}
"""Kind of the label -> the statistics of its recalibration.

`slope` and `intercept`: of the label on the prediction, or of the log odds on the prediction's logit (Cox 1958); 1 and
0 if calibrated. `in_the_large`: the intercept if the slope is 1, whose sign says whether labels are higher (Steyerberg
2010, Epidemiology 21:128).
"""


def _why_no_line(kind: str, name: str, pairs: Pairs) -> str:
    """The reason for a missing value, of what `statistics.why_undefined` cannot know."""
    if len(pairs.truth) < 2 or (kind == "binary" and np.ptp(pairs.truth) == 0) or name == "in_the_large":
        return ""
    if np.ptp(pairs.prediction) == 0:
        return "constant prediction"
    return "the predictions of the classes do not overlap" if kind == "binary" else ""


def curve_rows(pairs: Pairs, confidence: float, is_share: bool) -> Iterator[dict[str, Any]]:
    """The mean label along the prediction, by local regression (LOWESS: Cleveland 1979, J Am Stat Assoc 74:829).

    Without robustness weights, since the mean is wanted, and of classes any label is an outlier (Austin & Steyerberg
    2014, Stat Med 33:517). The band is pointwise, over draws of patients; a draw counts between its own ends only.

    Args:
        pairs: Labels and predictions.
        confidence: Coverage of the band.
        is_share: Whether the label is 0 or 1, so that the curve stays between them.

    Yields:
        `prediction value ci_low ci_high` of GRID points; nothing with fewer than FEWEST_ROWS rows, or with predictions
        or labels that are all the same.
    """
    if len(pairs.truth) < FEWEST_ROWS or np.ptp(pairs.prediction) == 0 or np.ptp(pairs.truth) == 0:
        return
    order = np.argsort(pairs.prediction, kind="stable")
    x, y = pairs.prediction[order], pairs.truth[order]
    grid = np.linspace(x[0], x[-1], GRID)
    span = (0.0, 1.0) if is_share else (-np.inf, np.inf)
    value = _smooth(x, y, grid).clip(*span)
    counts = pairs.weights[:CURVE_DRAWS, order].astype(int)
    drawn = np.stack([_smooth(np.repeat(x, n), np.repeat(y, n), grid) for n in counts]).clip(*span)
    for at, point, column in zip(grid, value, drawn.T, strict=True):
        if not np.isfinite(point):
            continue
        has_interval = pairs.n_patients >= statistics.MIN_PATIENTS
        found = statistics.with_interval(point, column, confidence, len(x)) if has_interval else None
        ends = (found.ci_low, found.ci_high) if found else (None, None)
        yield {"prediction": at, "value": point, "ci_low": ends[0], "ci_high": ends[1]}


def _smooth(x: NDArray[np.float64], y: NDArray[np.float64], grid: Array) -> Array:
    """LOWESS of sorted points on a grid; NaN beyond the ends of the points, where it would be a guess."""
    if len(x) < 2 or x[0] == x[-1]:
        return np.full(len(grid), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = lowess(y, x, frac=NEIGHBOURS, it=0, xvals=grid, is_sorted=True)
    return np.where((grid >= x[0]) & (grid <= x[-1]), found, np.nan)
