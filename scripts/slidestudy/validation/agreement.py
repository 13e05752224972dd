"""Agreement of predictions with labels by Bland and Altman: the mean difference and its limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from slidestudy.statistics import Array, Statistic
from slidestudy.validation.cohort_levels import ESTIMATE_COLUMNS, CohortLevel, Pairs
from slidestudy.validation.measuring import estimate_row
from slidestudy.validation.weighted_lines import straight_line

WIDTH_SD = 1.96
"""Half the distance of the limits of agreement, in standard deviations of the differences."""
COMPARED_TASKS = ("regression", "multi-regression")


def mean_difference(y: Array, p: Array, w: Array) -> Array:
    """Mean of prediction less label, in the target's unit."""
    return w @ (p - y) / w.sum(1)


def limit_of_agreement(side: int) -> Statistic:
    """A limit of agreement: the mean difference and 1.96 SD (n - 1) of the differences more or less.

    About 95 % of the differences lie between the limits if they are normal and do not depend on the mean (Bland &
    Altman 1999, Stat Methods Med Res 8:135, section 2).

    Args:
        side: -1 for the lower limit, 1 for the upper.
    """

    def statistic(y: Array, p: Array, w: Array) -> Array:
        gap = p - y
        centred = gap - (gap.mean() if len(gap) else 0.0)
        total = w.sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = np.maximum(w @ centred**2 - (w @ centred) ** 2 / total, 0) / (total - 1)
        return mean_difference(y, p, w) + side * WIDTH_SD * np.where(total > 1, np.sqrt(variance), np.nan)

    return statistic


def proportional_bias(y: Array, p: Array, w: Array) -> Array:
    """Slope of the difference on the mean of prediction and label (Bland & Altman 1999, section 3.2).

    Not on the label, on which a difference always depends where there is noise (Bland & Altman 1995, Lancet 346:1085).
    """
    return straight_line(p - y, (p + y) / 2, w)[1]


AGREEMENT: dict[str, Statistic] = {
    "mean_difference": mean_difference,
    "lower_limit": limit_of_agreement(-1),
    "upper_limit": limit_of_agreement(1),
    "proportional_bias": proportional_bias,
}


def agree(levels: Sequence[CohortLevel], settings: Mapping[str, Any]) -> pd.DataFrame:
    """Mean difference, limits of agreement and proportional bias of every target, per slide and per patient.

    Args:
        levels: The cohorts' slides and patients.
        settings: `task confidence`.

    Returns:
        The columns of ESTIMATE_COLUMNS; no rows for tasks other than COMPARED_TASKS.
    """
    rows = []
    for of_level in levels if settings["task"] in COMPARED_TASKS else []:
        for view in of_level.views:
            pairs, keys = Pairs.of(view, of_level.draws), of_level.keys(view)
            for name, statistic in AGREEMENT.items():
                found = pairs.measure(statistic, settings["confidence"], _why(name, len(pairs.truth)))
                rows.append(estimate_row(found, **keys, statistic=name, n_patients=pairs.n_patients))
    return pd.DataFrame(rows, columns=ESTIMATE_COLUMNS)


def _why(name: str, n: int) -> str:
    """The reason for a missing value, of what `statistics.why_undefined` cannot know."""
    if n < 2:
        return ""
    return "the mean of prediction and label is constant" if name == "proportional_bias" else ""
