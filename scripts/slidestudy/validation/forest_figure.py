"""The forest plot of a model: its metrics in every cohort, and pooled over the external ones."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from slidestudy.labels import is_survival
from slidestudy.validation.canvas import COLOURS, GREY, STYLE, plt, save
from slidestudy.validation.metrics import MAIN_METRIC

WORDS = {
    "pearson": "Pearson r", "pearson_mean": "Pearson r, mean of targets", "auroc": "AUROC",
    "auroc_macro": "AUROC, mean of classes", "c_index": "C-index",
}  # fmt: skip
GUESSING = {"pearson": 0.0, "pearson_mean": 0.0}
"""What guessing gives, 0.5 where not named."""
MOST_ACROSS = 3
"""Most panels side by side."""
EFFECTS = {"fixed": "fixed effect", "random": "random effects"}
DARK = "#333333"
ROW_INCHES = 0.3


def draw_forest(
    metrics: pd.DataFrame, pooled: pd.DataFrame, settings: Mapping[str, Any], *paths: str | os.PathLike[str]
) -> None:
    """Draws the headline metric, and the AUROC at each cut-off, of every cohort per slide, the pooled ones below.

    Args:
        metrics: As `study.validate` gives them.
        pooled: As `pooling.pool_cohorts` gives them; without rows only the cohorts are drawn.
        settings: `task cutoffs cutoff_rule`.
        paths: The files, `.svg` or `.png`.
    """
    main = MAIN_METRIC[settings["task"]]
    slides = metrics[(metrics["level"] == "slide") & (metrics["target"].fillna("").astype(str) == "")]
    below = pooled[pooled["level"] == "slide"]
    several = settings["task"] in ("regression", "survival-cox", "survival-discrete")
    shown: list[tuple[str, float | None]] = [(main, None)]
    shown += [("auroc", cutoff) for cutoff in settings["cutoffs"]] if several else []
    cohorts = slides[["cohort", "role"]].drop_duplicates()
    names = [f"{row.cohort} ({row.role})" for row in cohorts.itertuples()]
    names += list(EFFECTS.values()) if len(below) else []
    across = min(MOST_ACROSS, len(shown))
    down = math.ceil(len(shown) / across)
    with plt.rc_context(STYLE):
        size = (1.5 + 2.9 * across, down * (1.0 + ROW_INCHES * len(names)))
        figure, axes = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained")
        for place, axis in enumerate(axes.ravel()):
            if place >= len(shown):
                axis.set_axis_off()
                continue
            metric, threshold = shown[place]
            own, found = (_of(table, metric, threshold) for table in (slides, below))
            for height, (name, role) in enumerate(cohorts.itertuples(index=False)):
                _draw_cohort(axis, own[own["cohort"] == name], role, height)
            for height, effect in enumerate(EFFECTS, len(cohorts)):
                _draw_pooled(axis, found[found["effect"] == effect], height)
            labels = names if place % across == 0 else [""] * len(names)
            _dress(axis, labels, len(cohorts), GUESSING.get(metric, 0.5))
            axis.set_title(_title(metric, threshold, found, settings), fontsize=9)
        save(figure, *paths)


def _of(table: pd.DataFrame, metric: str, threshold: float | None) -> pd.DataFrame:
    """The rows of a metric."""
    rows = table[table["metric"] == metric]
    return rows[rows["threshold"].isna() if threshold is None else rows["threshold"] == threshold]


def _title(metric: str, threshold: float | None, found: pd.DataFrame, settings: Mapping[str, Any]) -> str:
    """The metric, and how much the external cohorts differ."""
    rule = "event by" if is_survival(settings["task"]) else settings["cutoff_rule"]
    word = WORDS[metric] if threshold is None else f"{WORDS[metric]}, {rule} {threshold:g}"
    random = found[(found["effect"] == "random") & found["value"].notna()]
    if random.empty:
        return word
    row = random.iloc[0]
    return f"{word}\nI² = {row['i2']:.0%}, Q = {row['q']:.1f} (p = {row['p']:.2g})"


def _text(axis: Axes, height: int, text: str) -> None:
    """A value beside its row."""
    across = axis.get_yaxis_transform()
    axis.text(1.01, height, text, transform=across, fontsize=7, va="center", ha="left", color=DARK, clip_on=False)


def _says(row: pd.Series) -> str:
    ends = "" if pd.isna(row["ci_low"]) else f" ({row['ci_low']:.2f} to {row['ci_high']:.2f})"
    return f"{row['value']:.2f}{ends}"


def _draw_cohort(axis: Axes, rows: pd.DataFrame, role: str, height: int) -> None:
    """A cohort's value with its interval; a development cohort's is hollow."""
    if rows.empty or pd.isna(rows.iloc[0]["value"]):
        return _text(axis, height, "undefined")
    row, shade = rows.iloc[0], COLOURS[0]
    if pd.notna(row["ci_low"]):
        axis.plot([row["ci_low"], row["ci_high"]], [height, height], color=shade, linewidth=1.4)
    face = "white" if role == "development" else shade
    axis.plot(row["value"], height, "s", color=shade, markerfacecolor=face, markersize=5)
    return _text(axis, height, _says(row))


def _draw_pooled(axis: Axes, rows: pd.DataFrame, height: int) -> None:
    """A diamond as wide as the interval, on the prediction interval as a thin line."""
    if rows.empty:
        return None
    if pd.isna(rows.iloc[0]["value"]):
        return _text(axis, height, "not pooled")
    row = rows.iloc[0]
    if pd.notna(row["predicted_low"]):
        axis.plot([row["predicted_low"], row["predicted_high"]], [height, height], color=GREY, linewidth=0.9, zorder=1)
    x = [row["ci_low"], row["value"], row["ci_high"], row["value"]]
    axis.fill(x, [height, height - 0.28, height, height + 0.28], color=COLOURS[1], zorder=2)
    return _text(axis, height, _says(row))


def _dress(axis: Axes, labels: list[str], cohorts: int, guessing: float) -> None:
    """Row labels, the line of guessing, and a line between the cohorts and what is pooled."""
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0, labelsize=8)
    axis.axvline(guessing, color=GREY, linewidth=0.8, linestyle="--")
    axis.set_xlim(right=1.03)
    if len(labels) > cohorts:
        axis.axhline(cohorts - 0.5, color="#cccccc", linewidth=0.8)
