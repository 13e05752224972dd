"""The figure of agreement: difference against mean, as Bland and Altman draw it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from slidestudy.validation.agreement import COMPARED_TASKS
from slidestudy.validation.canvas import GREY, STYLE, colour, draw_text, limits, plt, save
from slidestudy.validation.target_figures import MOST_PANELS
from slidestudy.validation.views import View, views

LINES = (("mean_difference", "-"), ("lower_limit", "--"), ("upper_limit", "--"))
"""The statistics that are drawn, with their line styles."""
DARK = "#333333"


def draw_agreement(
    cohorts: Mapping[str, pd.DataFrame], agreement: pd.DataFrame, settings: Mapping[str, Any],
    *paths: str | os.PathLike[str],
) -> None:  # fmt: skip
    """Draws the difference of prediction and label against their mean per slide; a row of panels for each target.

    Args:
        cohorts: Cohort -> predictions.
        agreement: As `agreement.agree` gives it.
        settings: `task columns`.
        paths: The files, `.svg` or `.png`.
    """
    if settings["task"] not in COMPARED_TASKS:
        return draw_text("limits of agreement are of numbers; this model predicts none that its labels hold", *paths)
    found = {name: views(table, settings) for name, table in cohorts.items()}
    targets = [view.target for view in next(iter(found.values()))]
    if len(targets) > MOST_PANELS:
        return draw_text(f"agreement of {len(targets)} targets is not drawn; agreement.tsv has it", *paths)
    slides = agreement[agreement["level"] == "slide"]
    with plt.rc_context(STYLE):
        size = (3.4 * len(found), 2.9 * len(targets))
        figure, axes = plt.subplots(len(targets), len(found), figsize=size, squeeze=False, layout="compressed")
        for row, target in enumerate(targets):
            of_target = {name: of_cohort[row] for name, of_cohort in found.items()}
            spans = _spans(of_target, slides[slides["target"] == target])
            for column, (name, view) in enumerate(of_target.items()):
                rows = slides[(slides["cohort"] == name) & (slides["target"] == target)].set_index("statistic")
                axis, last = axes[row, column], row == len(targets) - 1
                _draw_panel(axis, view, rows, colour(column))
                axis.set(xlim=spans[0], ylim=spans[1], xlabel="mean of prediction and label" if last else "")
                words = f"{target}: prediction - label" if target else "prediction - label"
                axis.set_ylabel(words if column == 0 else "")
                axis.set_title(f"{name}, n = {len(view.table)}", fontsize=9)
        return save(figure, *paths)


def _points(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Means and differences of prediction and label."""
    truth, prediction = (view.table[name].to_numpy(float) for name in ("truth", "prediction"))
    return (truth + prediction) / 2, prediction - truth


def _spans(of_target: Mapping[str, View], rows: pd.DataFrame) -> tuple[tuple[float, float], tuple[float, float]]:
    """Limits of both axes, the same for all cohorts of a target."""
    points = [_points(view) for view in of_target.values()]
    means, gaps = (np.concatenate([point[side] for point in points]) for side in (0, 1))
    drawn = rows[rows["statistic"] != "proportional_bias"][["ci_low", "ci_high", "value"]].to_numpy(float).ravel()
    gaps = np.concatenate([gaps, drawn[np.isfinite(drawn)], [0.0]])
    across = (float(means.min()), float(means.max())) if len(means) else (0.0, 1.0)
    return limits(*across), limits(float(gaps.min()), float(gaps.max()))


def _draw_panel(axis: Axes, view: View, rows: pd.DataFrame, shade: str) -> None:
    """Points, the line of no difference, and the mean difference and its limits with their intervals."""
    axis.axhline(0, color=GREY, linewidth=0.8, linestyle=":")
    means, gaps = _points(view)
    axis.scatter(means, gaps, s=14, alpha=0.7, color=shade, linewidths=0)
    for name, style in LINES:
        if name not in rows.index or pd.isna(rows.loc[name, "value"]):
            continue
        row = rows.loc[name]
        if pd.notna(row["ci_low"]):
            axis.axhspan(row["ci_low"], row["ci_high"], color=DARK, alpha=0.1, linewidth=0)
        axis.axhline(row["value"], color=DARK, linewidth=1.1, linestyle=style)
        box: dict[str, Any] = {"fontsize": 7, "ha": "right", "va": "bottom", "color": DARK}
        axis.text(0.995, row["value"], f"{row['value']:.3g}", transform=axis.get_yaxis_transform(), **box)
