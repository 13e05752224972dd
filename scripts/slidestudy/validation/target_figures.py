"""Figures of models of several targets: points of a few targets, or the correlation of each of many."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from slidestudy.validation.canvas import GREY, STYLE, WIDTH, colour, headline, limits, panels, plt, save
from slidestudy.validation.views import views

MOST_PANELS = 6
"""Most targets that have panels of their own."""
MOST_NAMED = 60
"""Most targets that are all named."""
ENDS = 10
"""How many of the best and of the worst are named where there are more."""


def draw_targets(
    cohorts: Mapping[str, pd.DataFrame], metrics: pd.DataFrame, settings: dict[str, Any], *paths: str | os.PathLike[str]
) -> None:
    """Draws prediction against label of a few targets, or Pearson r of each of many, one column per cohort.

    Args:
        cohorts: Cohort -> predictions.
        metrics: Metrics of these cohorts.
        settings: `task columns confidence`.
        paths: The files, `.svg` or `.png`.
    """
    if len(settings["columns"]) <= MOST_PANELS:
        _draw_grid(cohorts, metrics, settings, *paths)
    else:
        _draw_correlations(list(cohorts), metrics, settings, *paths)


def _draw_grid(
    cohorts: Mapping[str, pd.DataFrame], metrics: pd.DataFrame, settings: dict[str, Any], *paths: str | os.PathLike[str]
) -> None:
    """A row of panels for each target, all of a row with the same axes."""
    found = {name: views(table, settings) for name, table in cohorts.items()}
    targets = settings["columns"]
    with plt.rc_context(STYLE):
        size = (2.9 * len(found), 2.9 * len(targets) + 0.3)
        figure, axes = plt.subplots(len(targets), len(found), figsize=size, squeeze=False, layout="compressed")
        for row, target in enumerate(targets):
            tables = [of_cohort[row].table for of_cohort in found.values()]
            values = np.concatenate([t[["truth", "prediction"]].to_numpy(float).ravel() for t in tables])
            low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
            for index, (name, table) in enumerate(zip(found, tables, strict=True)):
                axis = axes[row, index]
                axis.plot([low, high], [low, high], color=GREY, linewidth=0.8, linestyle="--")
                axis.scatter(table["truth"], table["prediction"], s=11, alpha=0.75, color=colour(index), linewidths=0)
                axis.set(xlim=limits(low, high), ylim=limits(low, high), aspect="equal", xlabel=f"{target} (label)")
                axis.set_ylabel("prediction" if index == 0 else "")
                said = headline(metrics, name, "pearson", target=target)
                axis.set_title(f"{name}, n = {len(table)}\nPearson r {said}", fontsize=8)
        save(figure, *paths)


def _draw_correlations(
    cohorts: list[str], metrics: pd.DataFrame, settings: dict[str, Any], *paths: str | os.PathLike[str]
) -> None:
    """Pearson r of each target with its interval, each cohort's in its own order, the highest on top."""
    count = len(settings["columns"])
    rows = metrics[(metrics["level"] == "slide") & (metrics["metric"] == "pearson")]
    lowest = rows[["value", "ci_low"]].min().min()
    left = min(0.0, -0.05 if pd.isna(lowest) else float(lowest)) - 0.05
    named = count <= MOST_NAMED
    with plt.rc_context(STYLE):
        height = 1.2 + 0.16 * count if named else 6.0
        figure, axes = panels(len(cohorts), WIDTH + (0.8 if named else 0.5), height)
        for index, (axis, name) in enumerate(zip(axes, cohorts, strict=True)):
            of_cohort = rows[rows["cohort"] == name]
            shown = of_cohort[of_cohort["value"].notna()].sort_values(["value", "target"], ascending=[False, True])
            _draw_rows(axis, shown.reset_index(drop=True), colour(index), named)
            axis.axvline(0, color=GREY, linewidth=0.8, linestyle="--")
            axis.set(xlim=(left, 1.04), xlabel="Pearson r")
            size = int(of_cohort["n"].max()) if len(of_cohort) else 0
            mean = f"mean {headline(metrics, name, 'pearson_mean')}"
            axis.set_title(f"{name}, n = {size}, {len(shown)} of {count} targets\n{mean}", fontsize=9)
        save(figure, *paths)


def _draw_rows(axis: Axes, shown: pd.DataFrame, shade: str, named: bool) -> None:
    """A point and an interval for each row, from the top."""
    places = np.arange(1, len(shown) + 1)
    style: dict[str, Any] = {"linewidth": 1.2, "alpha": 1.0} if named else {"linewidth": 0.5, "alpha": 0.35}
    axis.hlines(places, shown["ci_low"].astype(float), shown["ci_high"].astype(float), color=shade, **style)
    axis.plot(shown["value"], places, "o", color=shade, markersize=3.5 if named else 1.5)
    axis.set_ylim(max(len(shown), 1) + 0.8, 0.2)
    if shown.empty:
        axis.set_yticks([])
        return
    if named:
        axis.set_yticks(places, shown["target"].astype(str))
        axis.tick_params(axis="y", length=0, labelsize=7)
        return
    axis.set_ylabel("rank")
    lines = [f"{row.target} {row.value:.2f}" for row in shown.itertuples()]
    box: dict[str, Any] = {"fontsize": 6.5, "transform": axis.transAxes, "linespacing": 1.25}
    # The highest lie at the top right and the lowest at the bottom left: the other two corners are free.
    axis.text(0.02, 0.985, "\n".join(["highest", *lines[:ENDS]]), ha="left", va="top", **box)
    axis.text(0.99, 0.015, "\n".join(["lowest", *lines[-ENDS:]]), ha="right", va="bottom", **box)
