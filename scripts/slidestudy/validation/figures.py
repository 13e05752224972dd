"""Figures of a validation: prediction against label, and ROC curves, one panel per cohort."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from sklearn.metrics import roc_curve

from slidestudy.labels import is_survival
from slidestudy.validation.canvas import COLOURS, GREY, STYLE, colour, draw_text, headline, limits, panels, plt, save
from slidestudy.validation.target_figures import MOST_PANELS, draw_targets
from slidestudy.validation.task_figures import draw_confusion, draw_times
from slidestudy.validation.views import Cut, View, cuts, views

LEGEND: dict[str, Any] = {"loc": "lower right", "fontsize": 7, "title_fontsize": 7, "edgecolor": "none"}


def scatter(
    cohorts: Mapping[str, pd.DataFrame],
    metrics: pd.DataFrame,
    settings: dict[str, Any],
    path: str | os.PathLike[str],
) -> None:
    """Draws prediction against label, one panel per cohort.

    Of a regression points; of a classification a column of points for each class; of several classes the table of
    labels and predictions; of survival the risk against the time; of several targets points or their correlations.

    Args:
        cohorts: Cohort -> predictions.
        metrics: Metrics of these cohorts.
        settings: `task target columns`.
        path: The SVG file.
    """
    task = settings["task"]
    if task == "multiclass":
        return draw_confusion(cohorts, metrics, settings, path)
    if task == "multi-regression":
        return draw_targets(cohorts, metrics, settings, path)
    if is_survival(task):
        return draw_times(cohorts, metrics, settings, path)
    return _draw_points({name: views(t, settings)[0].table for name, t in cohorts.items()}, metrics, settings, path)


def _draw_points(
    labelled: Mapping[str, pd.DataFrame],
    metrics: pd.DataFrame,
    settings: dict[str, Any],
    path: str | os.PathLike[str],
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
            axis.scatter(x, table["prediction"], s=16, alpha=0.75, color=colour(index), linewidths=0)
            axis.set(ylim=limits(low, high), ylabel="prediction" if index == 0 else "")
            metric, word = ("pearson", "Pearson r") if regression else ("auroc", "AUROC")
            axis.set_title(f"{name}, n = {len(table)}\n{word} {headline(metrics, name, metric)}", fontsize=9)
        save(figure, path)


def roc(
    cohorts: Mapping[str, pd.DataFrame], metrics: pd.DataFrame, settings: dict[str, Any], path: str | os.PathLike[str]
) -> None:
    """Draws ROC curves, one panel per cohort, one curve per cut-off, class or time; says so where there is none.

    Args:
        cohorts: Cohort -> predictions.
        metrics: Metrics of these cohorts.
        settings: `task target columns cutoffs cutoff_rule`.
        path: The SVG file.
    """
    found = {name: views(table, settings) for name, table in cohorts.items()}
    if why := _why_no_curve(found, settings):
        return draw_text(why, path)
    with plt.rc_context(STYLE):
        figure, axes = panels(len(found))
        for index, (axis, (name, of_cohort)) in enumerate(zip(axes, found.items(), strict=True)):
            axis.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle="--")
            for shade, (prefix, view, cut) in zip(cycle(COLOURS), _curves(of_cohort, settings), strict=False):
                text = headline(metrics, name, "auroc", cut.threshold, view.target)
                _draw_curve(axis, cut, shade, prefix, text)
            axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xlabel="1 - specificity")
            axis.set_ylabel("sensitivity" if index == 0 else "")
            slides = {slide for view in of_cohort for slide in view.table["slide_id"]}
            axis.set_title(f"{name}, n = {len(slides)}", fontsize=9)
            if of_cohort:
                axis.legend(title="AUROC", **LEGEND)
        return save(figure, path)


def _why_no_curve(found: Mapping[str, list[View]], settings: dict[str, Any]) -> str:
    """Why a model has no ROC curve; empty if it has."""
    kinds = {view.kind for of_cohort in found.values() for view in of_cohort}
    most = max((len(of_cohort) for of_cohort in found.values()), default=0)
    if kinds <= {"binary"}:
        return "" if kinds else "no class is known"
    if not settings["cutoffs"]:
        return f"no cut-off{' times' if 'survival' in kinds else 's'} are configured, so there is no ROC curve"
    return "" if most <= MOST_PANELS else f"ROC curves of {most} targets are not drawn; metrics.tsv has their AUROC"


def _curves(found: list[View], settings: dict[str, Any]) -> Iterator[tuple[str, View, Cut]]:
    """The curves of a cohort, each with the words before its AUROC."""
    for view in found:
        target = f"{view.target} " if view.target and view.kind == "continuous" else view.target
        for cut in cuts(view, settings):
            rule = {"survival": "event by", "continuous": settings["cutoff_rule"]}.get(view.kind, "")
            words = target if cut.threshold is None else f"{target}{rule} {cut.threshold:g}"
            yield f"{words}: " if words else "", view, cut


def _draw_curve(axis: Axes, cut: Cut, shade: str, prefix: str, text: str) -> None:
    """One curve, with its entry in the legend."""
    if cut.positive.nunique() < 2:
        axis.plot([], [], color=shade, label=f"{prefix}undefined (one class)")
        return
    x, y, _ = roc_curve(cut.positive, cut.table["prediction"], sample_weight=cut.weights)
    axis.plot(x, y, color=shade, linewidth=1.4, label=f"{prefix}{text}")
