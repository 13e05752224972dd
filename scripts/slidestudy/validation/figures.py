"""Figures of a validation: prediction against target, and ROC curves, one panel per cohort."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import cycle
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from slidestudy.files import atomic_path
from slidestudy.validation.metrics import positives

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# A fixed salt and no date make equal figures equal files; text stays text.
STYLE: Any = {
    "svg.hashsalt": "slidestudy",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
COLOURS = ["#1b5e8c", "#c2571a", "#2e7d4f", "#7b3f99", "#8c6d1f"]


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Saves a figure as SVG, atomically, the same bytes each time."""
    with atomic_path(path) as partial:
        figure.savefig(partial, format="svg", metadata={"Date": None})
    plt.close(figure)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    figure, axes = plt.subplots(1, count, figsize=(3.3 * count, 3.5), squeeze=False, layout="compressed")
    return figure, list(axes[0])


def _headline(metrics: pd.DataFrame, cohort: str, metric: str, threshold: float | None = None) -> str:
    """A metric of a cohort with its interval, for a panel's title or legend."""
    rows = metrics[(metrics["cohort"] == cohort) & (metrics["level"] == "slide") & (metrics["metric"] == metric)]
    rows = rows[rows["threshold"].isna()] if threshold is None else rows[rows["threshold"] == threshold]
    if rows.empty or pd.isna(rows.iloc[0]["value"]):
        return "undefined"
    row = rows.iloc[0]
    interval = "" if pd.isna(row["ci_low"]) else f" ({row['ci_low']:.2f} to {row['ci_high']:.2f})"
    return f"{row['value']:.2f}{interval}"


def scatter(
    cohorts: Mapping[str, pd.DataFrame],
    metrics: pd.DataFrame,
    settings: dict[str, Any],
    path: str | os.PathLike[str],
) -> None:
    """Draws prediction against target, one panel per cohort; a class is a column of points.

    Args:
        cohorts: Cohort -> `prediction target`.
        metrics: Metrics of these cohorts.
        settings: `task target`.
        path: The SVG file.
    """
    regression = settings["task"] == "regression"
    labelled = {name: t[t["target"].notna()] for name, t in cohorts.items()}
    columns = ["target", "prediction"] if regression else ["prediction"]
    values = np.concatenate([t[columns].to_numpy(float).ravel() for t in labelled.values()])
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    margin = 0.05 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    with plt.rc_context(STYLE):
        figure, axes = _panels(len(cohorts))
        for index, (axis, (name, table)) in enumerate(zip(axes, labelled.items(), strict=True)):
            x = table["target"].to_numpy(float)
            if regression:
                axis.plot([low, high], [low, high], color="#999999", linewidth=0.8, linestyle="--")
                axis.set(xlim=limits, aspect="equal", xlabel=f"{settings['target']} (label)")
            else:
                # Points of a class are spread sideways by their rank, so that they do not hide each other.
                x = x + 0.5 * (table.groupby("target")["prediction"].rank(pct=True).to_numpy(float) - 0.5)
                axis.set(xlim=(-0.5, 1.5), xticks=[0, 1], xlabel=f"{settings['target']} (label)")
            axis.scatter(x, table["prediction"], s=16, alpha=0.75, color=COLOURS[index % len(COLOURS)], linewidths=0)
            axis.set(ylim=limits, ylabel="prediction" if index == 0 else "")
            metric, word = ("pearson", "Pearson r") if regression else ("auroc", "AUROC")
            axis.set_title(f"{name}, n = {len(table)}\n{word} {_headline(metrics, name, metric)}", fontsize=9)
        save(figure, path)


def roc(
    cohorts: Mapping[str, pd.DataFrame], metrics: pd.DataFrame, settings: dict[str, Any], path: str | os.PathLike[str]
) -> None:
    """Draws ROC curves, one panel per cohort, one curve per cut-off.

    Args:
        cohorts: Cohort -> `prediction target`.
        metrics: Metrics of these cohorts.
        settings: `task target cutoffs cutoff_rule`.
        path: The SVG file.
    """
    regression = settings["task"] == "regression"
    cutoffs = settings["cutoffs"] if regression else [0.5]
    with plt.rc_context(STYLE):
        figure, axes = _panels(len(cohorts))
        for index, (axis, (name, table)) in enumerate(zip(axes, cohorts.items(), strict=True)):
            known = table[table["target"].notna()]
            axis.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle="--")
            for colour, cutoff in zip(cycle(COLOURS), cutoffs, strict=False):
                label = positives(known["target"], cutoff, settings["cutoff_rule"])
                text = _headline(metrics, name, "auroc", cutoff if regression else None)
                prefix = f"{settings['cutoff_rule']} {cutoff:g}: " if regression else ""
                if label.nunique() == 2:
                    x, y, _ = roc_curve(label, known["prediction"])
                    axis.plot(x, y, color=colour, linewidth=1.4, label=f"{prefix}{text}")
                else:
                    axis.plot([], [], color=colour, label=f"{prefix}undefined (one class)")
            axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xlabel="1 - specificity")
            axis.set_ylabel("sensitivity" if index == 0 else "")
            axis.set_title(f"{name}, n = {len(known)}", fontsize=9)
            if cutoffs:
                axis.legend(title="AUROC", loc="lower right", fontsize=7, title_fontsize=7, frameon=False)
        save(figure, path)
