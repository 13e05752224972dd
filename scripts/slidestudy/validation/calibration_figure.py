"""The figure of calibration: labels along the predictions, with bins, the smooth curve and the recalibrating line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from slidestudy.validation.calibration_curves import CALIBRATED_TASKS, Calibration
from slidestudy.validation.canvas import GREY, STYLE, colour, draw_text, plt, save
from slidestudy.validation.target_figures import MOST_PANELS

SIDE = 3.2
"""Inches of a panel."""
BARS = 0.15
"""Height of the tallest bar of the counts, of the panel's."""


def draw_calibration(
    found: Calibration, cohorts: Sequence[str], settings: Mapping[str, Any], *paths: str | os.PathLike[str]
) -> None:
    """Draws calibration per slide, a column of panels for each cohort and a row for each class.

    Args:
        found: The calibration.
        cohorts: The cohorts in their order.
        settings: `task target`, of a regression `target_range`.
        paths: The files, `.svg` or `.png`.
    """
    if settings["task"] not in CALIBRATED_TASKS:
        return draw_text(f"calibration is not drawn for task {settings['task']}", *paths)
    bins, fits, curves = (table[table["level"] == "slide"] for table in (found.bins, found.fits, found.curves))
    targets = list(dict.fromkeys(fits["target"]))
    if not targets:
        return draw_text("no slide was predicted", *paths)
    if len(targets) > MOST_PANELS:
        return draw_text(f"calibration of {len(targets)} classes is not drawn; calibration.tsv has it", *paths)
    low, high = _range(curves, settings)
    with plt.rc_context(STYLE):
        size = (SIDE * len(cohorts), (SIDE + 0.3) * len(targets))
        figure, axes = plt.subplots(len(targets), len(cohorts), figsize=size, squeeze=False, layout="compressed")
        for row, target in enumerate(targets):
            for column, cohort in enumerate(cohorts):
                axis, shade = axes[row, column], colour(column)
                axis.plot([low, high], [low, high], color=GREY, linewidth=0.8, linestyle="--")
                own = [t[(t["cohort"] == cohort) & (t["target"] == target)] for t in (bins, fits, curves)]
                _draw_counts(axis, own[0], low, high)
                _draw_curve(axis, own[2], shade)
                _draw_bins(axis, own[0], shade)
                margin = 0.03 * (high - low)
                span = (low - margin, high + margin)
                axis.set(xlim=span, ylim=span, aspect="equal", xlabel="prediction" if row == len(targets) - 1 else "")
                axis.set_ylabel(_label(target, settings) if column == 0 else "")
                axis.set_title(_title(cohort, own[1]), fontsize=8)
        return save(figure, *paths)


def _range(curves: pd.DataFrame, settings: Mapping[str, Any]) -> tuple[float, float]:
    """The limits of both axes."""
    if settings["task"] != "regression":
        return 0.0, 1.0
    if settings["target_range"]:
        return float(settings["target_range"][0]), float(settings["target_range"][1])
    if curves.empty:
        return 0.0, 1.0
    ends = curves[["prediction", "value"]].astype(float)
    return float(ends.min().min()), float(ends.max().max())


def _label(target: str, settings: Mapping[str, Any]) -> str:
    """What the upright axis says."""
    if settings["task"] == "regression":
        return f"{settings['target']} (mean label)"
    return f"share of slides with {target or settings['target']}"


def _title(cohort: str, fits: pd.DataFrame) -> str:
    """The cohort with its slope and its shift."""
    rows = fits.set_index("statistic")
    size = int(rows.loc["slope", "n"]) if len(rows) else 0
    words = (("slope", "slope"), ("in_the_large", "in the large"))
    lines = [f"{word} {_interval(rows.loc[name])}" for name, word in words if name in rows.index]
    return "\n".join([f"{cohort}, n = {size}", *lines])


def _interval(row: pd.Series) -> str:
    """An estimate in words."""
    if pd.isna(row["value"]):
        return "undefined"
    ends = "" if pd.isna(row["ci_low"]) else f" ({row['ci_low']:.2f} to {row['ci_high']:.2f})"
    return f"{row['value']:.2f}{ends}"


def _draw_counts(axis: Axes, bins: pd.DataFrame, low: float, high: float) -> None:
    """How many slides each bin has, as bars along the bottom."""
    most = bins["n"].max() if len(bins) else 0
    if most > 0:
        heights = bins["n"] / most * BARS * (high - low)
        widths = bins["high"] - bins["low"]
        axis.bar(bins["low"], heights, widths, bottom=low, align="edge", color="#dddddd", edgecolor="white", zorder=0)


def _draw_curve(axis: Axes, curve: pd.DataFrame, shade: str) -> None:
    """The smooth curve in its band."""
    names = ("prediction", "value", "ci_low", "ci_high")
    x, value, low, high = (curve[name].astype(float) for name in names)
    axis.fill_between(x, low, high, color=shade, alpha=0.18, linewidth=0)
    axis.plot(x, value, color=shade, linewidth=1.5)


def _draw_bins(axis: Axes, bins: pd.DataFrame, shade: str) -> None:
    """The bins that have slides, with their intervals."""
    there = bins[bins["mean_target"].notna()]
    x, low, high = (there[name].astype(float) for name in ("mean_prediction", "ci_low", "ci_high"))
    axis.vlines(x, low, high, color=shade, linewidth=0.9)
    axis.plot(x, there["mean_target"].astype(float), "o", color=shade, markersize=3.5)
