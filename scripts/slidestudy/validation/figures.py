"""The figure of prediction against label, one panel per cohort."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from slidestudy.labels import is_survival
from slidestudy.validation.canvas import GREY, STYLE, colour, headline, limits, marker, panels, plt, save
from slidestudy.validation.target_figures import draw_targets
from slidestudy.validation.task_figures import draw_confusion, draw_times
from slidestudy.validation.views import views

BINS = 20
"""Bars of a histogram beside an axis."""
BESIDE = {"top": (0.0, 1.02, 1.0, 0.13), "right": (1.02, 0.0, 0.13, 1.0)}
"""Where the histograms stand, in the panel's own unit: left, bottom, width, height."""


def scatter(
    cohorts: Mapping[str, pd.DataFrame],
    metrics: pd.DataFrame,
    settings: dict[str, Any],
    *paths: str | os.PathLike[str],
) -> None:
    """Draws prediction against label, one panel per cohort.

    Of a regression points, with histograms of the labels above and of the predictions on the right; of a classification
    a column of points for each class; of several classes the table of labels and predictions; of survival the risk
    against the time; of several targets points or their correlations.

    Args:
        cohorts: Cohort -> predictions.
        metrics: Metrics of these cohorts.
        settings: `task target columns`.
        paths: The files, `.svg` or `.png`.
    """
    task = settings["task"]
    if task == "multiclass":
        return draw_confusion(cohorts, metrics, settings, *paths)
    if task == "multi-regression":
        return draw_targets(cohorts, metrics, settings, *paths)
    if is_survival(task):
        return draw_times(cohorts, metrics, settings, *paths)
    return _draw_points({name: views(t, settings)[0].table for name, t in cohorts.items()}, metrics, settings, *paths)


def _draw_points(
    labelled: Mapping[str, pd.DataFrame],
    metrics: pd.DataFrame,
    settings: dict[str, Any],
    *paths: str | os.PathLike[str],
) -> None:
    """Points of a regression or a classification."""
    regression = settings["task"] == "regression"
    columns = ["truth", "prediction"] if regression else ["prediction"]
    values = np.concatenate([t[columns].to_numpy(float).ravel() for t in labelled.values()])
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    with plt.rc_context(STYLE):
        figure, axes = panels(len(labelled))
        for index, (axis, (name, table)) in enumerate(zip(axes, labelled.items(), strict=True)):
            x = table["truth"].to_numpy(float)
            if regression:
                axis.plot([low, high], [low, high], color=GREY, linewidth=0.8, linestyle="--")
                axis.set(xlim=limits(low, high), aspect="equal", xlabel=f"{settings['target']} (label)")
            else:
                # Points of a class are spread sideways by their rank, so that they do not hide each other.
                x = x + 0.5 * (table.groupby("truth")["prediction"].rank(pct=True).to_numpy(float) - 0.5)
                axis.set(xlim=(-0.5, 1.5), xticks=[0, 1], xlabel=f"{settings['target']} (label)")
            style: dict[str, Any] = {"color": colour(index), "marker": marker(index)}
            axis.scatter(x, table["prediction"], s=16, alpha=0.75, linewidths=0, **style)
            if regression:
                _draw_margins(axis, table, (low, high), colour(index))
            axis.set(ylim=limits(low, high), ylabel="prediction" if index == 0 else "")
            metric, word = ("pearson", "Pearson r") if regression else ("auroc", "AUROC")
            axis.set_title(f"{name}, n = {len(table)}\n{word} {headline(metrics, name, metric)}", fontsize=9)
        save(figure, *paths)


def _draw_margins(axis: Axes, table: pd.DataFrame, span: tuple[float, float], shade: str) -> None:
    """Histograms at both axes of a panel: of the labels above, of the predictions on the right, on the same bins."""
    edges = np.linspace(*limits(*span), BINS + 1)
    tops = []
    for side, column in (("top", "truth"), ("right", "prediction")):
        margin = axis.inset_axes(BESIDE[side])
        margin.set_axis_off()
        lying: Any = "vertical" if side == "top" else "horizontal"
        counts, _, _ = margin.hist(table[column], list(edges), orientation=lying, color=shade, alpha=0.6, rwidth=0.9)
        tops.append((margin, side, float(np.max(counts))))
    # The same scale on both sides: bars can be compared.
    highest = max(1.0, *(top for *_, top in tops))
    for margin, side, _ in tops:
        along, up = limits(*span), (0, highest)
        margin.set(xlim=along, ylim=up) if side == "top" else margin.set(xlim=up, ylim=along)
