"""The figure of an encoder comparison: a forest plot, one row per candidate and cohort."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from slidestudy.validation.canvas import STYLE, colour, marker, plt, save

HEADLINE = {"regression": ("pearson", "Pearson r", 0.0), "classification": ("auroc", "AUROC", 0.5)}
"""Metric, its name in words, and what guessing gives."""
PROBE_NAMES = {"linear": "linear probe", "neighbours": "nearest neighbours"}
SCOPE_NAMES = {"development": "development cohorts", "all": "all cohorts"}
GREY, DARK = "#888888", "#333333"
ROW_INCHES = 0.24

Heights = Mapping[tuple[str, str], float]


def _heights(candidates: Sequence[str], groups: Sequence[str], step: float) -> Heights:
    """Height of each row, from the top: candidates `step` apart, their cohorts or scopes together."""
    return {(c, g): -(i * step + k) for i, c in enumerate(candidates) for k, g in enumerate(groups)}


def _draw_row(axis: Axes, row: pd.Series, column: str, height: float, colour: str, marker: str) -> None:
    """A point with its interval; the word `undefined` where there is none."""
    if pd.isna(row[column]):
        across = axis.get_yaxis_transform()
        axis.text(0.03, height, "undefined", transform=across, fontsize=7, va="center", color=GREY)
        return
    if pd.notna(row["ci_low"]):
        axis.plot([row["ci_low"], row["ci_high"]], [height, height], color=colour, linewidth=1.4)
    axis.plot(row[column], height, marker, color=colour, markersize=5)


def _dress(axis: Axes, heights: Heights, bottom: float, labels: Mapping[str, str], reference: float) -> None:
    """Row labels, grid and the line of no effect."""
    axis.set(ylim=(bottom - 0.8, 1.1), yticks=list(heights.values()))
    axis.set_yticklabels([labels.get(group, "") for _, group in heights])
    axis.tick_params(axis="y", length=0, labelsize=7)
    axis.tick_params(axis="x", labelsize=8)
    axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.axvline(reference, color=GREY, linewidth=0.8, linestyle="--")


def _draw_probe(axis: Axes, shown: pd.DataFrame, heights: Heights, cohorts: Sequence[str]) -> None:
    """The rows of one probe."""
    for _, row in shown.iterrows():
        index = list(cohorts).index(row["cohort"])
        style = (colour(index), marker(index))
        _draw_row(axis, row, "value", heights[row["candidate"], row["cohort"]], *style)


def _draw_robustness(axis: Axes, robustness: pd.DataFrame, heights: Heights) -> None:
    """The robustness index, with a bar at what neighbours drawn at random would give."""
    for _, row in robustness.iterrows():
        height = heights[row["candidate"], row["scope"]]
        if pd.notna(row["at_random"]):
            axis.plot(row["at_random"], height, "|", color=GREY, markersize=9)
        _draw_row(axis, row, "index", height, DARK, "o")


def _name_candidates(axis: Axes, heights: Heights) -> None:
    """Writes each candidate's name above its rows."""
    for candidate in dict.fromkeys(c for c, _ in heights):
        top = max(height for (c, _), height in heights.items() if c == candidate)
        style: dict[str, Any] = {"fontsize": 8, "fontweight": "bold", "va": "center"}
        axis.text(0.02, top + 0.65, candidate, transform=axis.get_yaxis_transform(), **style)


def _limits(shown: pd.DataFrame, guessing: float) -> tuple[float, float]:
    """Limits of the metric's axis, which both probes share."""
    lowest = shown[["value", "ci_low"]].min().min()
    return (guessing if pd.isna(lowest) else min(guessing, float(lowest))) - 0.04, 1.04


def draw_comparison(
    metrics: pd.DataFrame, robustness: pd.DataFrame, settings: Mapping[str, Any], *paths: str | os.PathLike[str]
) -> None:
    """Draws the headline metric at slide level of both probes, and the robustness index, with their intervals.

    Args:
        metrics: `candidate probe cohort role level metric value ci_low ci_high n`.
        robustness: `candidate scope index ci_low ci_high at_random`.
        settings: `task target confidence neighbours`.
        paths: The files, `.svg` or `.png`.
    """
    metric, word, guessing = HEADLINE[settings["task"]]
    shown = metrics[(metrics["metric"] == metric) & (metrics["level"] == "slide")]
    candidates = list(shown["candidate"].unique())
    cohorts = shown.drop_duplicates("cohort").set_index("cohort")
    labels = {str(name): f"{name} ({row['role']}), n = {row['n']}" for name, row in cohorts.iterrows()}
    step = max(len(labels), len(SCOPE_NAMES)) + 1.2
    rows, scopes = _heights(candidates, list(labels), step), _heights(candidates, list(SCOPE_NAMES), step)
    bottom = min(*rows.values(), *scopes.values())
    with plt.rc_context(STYLE):
        size = (10.2, 1.2 + ROW_INCHES * (1.9 - bottom))
        figure, axes = plt.subplots(1, 3, figsize=size, layout="constrained", width_ratios=[1, 1, 0.8])
        for axis, (probe, name) in zip(axes, PROBE_NAMES.items(), strict=False):
            _draw_probe(axis, shown[shown["probe"] == probe], rows, list(labels))
            _dress(axis, rows, bottom, labels if probe == "linear" else {}, guessing)
            axis.set(xlim=_limits(shown, guessing), xlabel=f"{word} of {settings['target']}")
            axis.set_title(name, fontsize=9)
            _name_candidates(axis, rows)
        _draw_robustness(axes[2], robustness, scopes)
        _dress(axes[2], scopes, bottom, SCOPE_NAMES, 1)
        axes[2].set(xlabel="same class / same centre")
        axes[2].set_title(f"robustness index, {settings['neighbours']} neighbours", fontsize=9)
        _name_candidates(axes[2], scopes)
        note = f"{settings['confidence']:.0%} intervals by bootstrap of patients; |: neighbours drawn at random"
        figure.supxlabel(note, fontsize=8)
        save(figure, *paths)
