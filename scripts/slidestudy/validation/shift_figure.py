"""The figure of a shift: stain, distances of slides, and the Fréchet distance beside that of splits."""

from __future__ import annotations

import math
import os

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from slidestudy.validation.canvas import GREY, MARKERS, STYLE, colour, plt, save

STAIN = {
    "smd_brightness": "brightness",
    "smd_saturation": "saturation",
    "smd_stain_density": "stain density",
    "smd_haematoxylin": "haematoxylin",
    "smd_eosin": "eosin",
    "smd_focus": "focus",
}
DEVELOPMENT = "development"


def draw_shift(measures: pd.DataFrame, slides: pd.DataFrame, limit: float, *paths: str | os.PathLike[str]) -> None:
    """Draws three panels: differences of stain, distances of all slides, and the Fréchet distances.

    Args:
        measures: `cohort measure value ci_low ci_high expected expected_low expected_high n undefined_reason`.
        slides: `cohort role distance` of every slide.
        limit: The distance beyond which a slide is out of distribution; NaN where there is none.
        paths: SVG or PNG files.
    """
    cohorts = list(dict.fromkeys(measures["cohort"]))
    rows = len(cohorts) + 1
    with plt.rc_context(STYLE):
        height = max(2.9, 0.9 + 0.16 * len(STAIN) * len(cohorts), 1.1 + 0.34 * rows)
        figure, axes = plt.subplots(1, 3, figsize=(10.5, height), layout="constrained", width_ratios=[1.1, 1.2, 0.9])
        _draw_stain(axes[0], measures, cohorts)
        _draw_distances(axes[1], measures, slides, limit, cohorts)
        _draw_frechet(axes[2], measures, cohorts)
        save(figure, *paths)


def _row(measures: pd.DataFrame, cohort: str, measure: str) -> pd.Series:
    return measures[(measures["cohort"] == cohort) & (measures["measure"] == measure)].iloc[0]


def _note(axis: Axes, text: str) -> None:
    """Says why a panel is empty."""
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", fontsize=8, color="#555555")


def _draw_stain(axis: Axes, measures: pd.DataFrame, cohorts: list[str]) -> None:
    """Standardised mean differences with their intervals, a row for each measure."""
    axis.set_title("Stain: difference from development", fontsize=9)
    shown = measures[measures["measure"].isin(list(STAIN)) & measures["value"].notna()]
    if shown.empty:
        axis.set_axis_off()
        _note(axis, "no slide's stain was measured")
        return
    axis.axvline(0, color=GREY, linewidth=0.8, linestyle="--")
    for place, measure in enumerate(STAIN):
        for index, cohort in enumerate(cohorts):
            row = _row(measures, cohort, measure)
            if pd.isna(row["value"]):
                continue
            y = place + 0.6 * ((index + 0.5) / len(cohorts) - 0.5)
            label = f"{cohort}, n = {row['n']}" if place == 0 else None
            if pd.notna(row["ci_low"]):
                axis.plot([row["ci_low"], row["ci_high"]], [y, y], color=colour(index), linewidth=1.3)
            marker = MARKERS[index % len(MARKERS)]
            axis.plot(row["value"], y, marker, color=colour(index), markersize=4.5, linewidth=0, label=label)
    axis.set_yticks(range(len(STAIN)), list(STAIN.values()))
    axis.set_ylim(len(STAIN) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("standard deviations of development slides")
    axis.legend(fontsize=7, edgecolor="none", loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)


def _draw_distances(axis: Axes, measures: pd.DataFrame, slides: pd.DataFrame, limit: float, cohorts: list[str]) -> None:
    """A row of slides for development and for each cohort, with quartiles, and the limit."""
    axis.set_title("Slides: distance to development tiles", fontsize=9)
    groups = [(DEVELOPMENT, slides[slides["role"] == DEVELOPMENT])]
    groups += [(cohort, slides[slides["cohort"] == cohort]) for cohort in cohorts]
    labels = []
    for place, (name, table) in enumerate(groups):
        values = np.sort(table["distance"].dropna().to_numpy(float))
        shade = GREY if place == 0 else colour(place - 1)
        # Spread by the golden ratio along the order, so that neighbours do not hide each other.
        spread = 0.5 * ((np.arange(len(values)) * 0.618034) % 1 - 0.5)
        axis.scatter(values, place + spread, s=10, color=shade, alpha=0.7, linewidths=0)
        if len(values):
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
            axis.plot([low, high], [place, place], color="black", linewidth=2.2)
            axis.plot(middle, place, "o", color="white", markeredgecolor="black", markersize=4)
        labels.append(f"{name}\nn = {len(values)}")
        if place:
            row = _row(measures, name, "ood_share")
            text = "undefined" if pd.isna(row["value"]) else f"{row['value']:.0%} beyond"
            axis.text(1.01, place, text, transform=axis.get_yaxis_transform(), fontsize=7, va="center", clip_on=False)
    if math.isfinite(limit):
        axis.axvline(limit, color=GREY, linewidth=0.8, linestyle="--")
    axis.set_yticks(range(len(labels)), labels, fontsize=8)
    axis.set_ylim(len(groups) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("mean distance to the nearest tile (standardised)")


def _draw_frechet(axis: Axes, measures: pd.DataFrame, cohorts: list[str]) -> None:
    """Fréchet distances with their intervals, on the range over splits of the development patients."""
    axis.set_title("Tiles: Fréchet distance", fontsize=9)
    for place, cohort in enumerate(cohorts):
        row, shade = _row(measures, cohort, "frechet"), colour(place)
        if pd.isna(row["value"]):
            axis.text(0.02, place, "undefined", transform=axis.get_yaxis_transform(), fontsize=7, va="center")
            continue
        if pd.notna(row["expected_low"]):
            label = "splits of development" if place == 0 else None
            span = [row["expected_low"], row["expected_high"]]
            axis.fill_betweenx([place - 0.28, place + 0.28], *span, color="#d5d5d5", linewidth=0, label=label)
            axis.plot([row["expected"]] * 2, [place - 0.28, place + 0.28], color="#777777", linewidth=1.2)
        if pd.notna(row["ci_low"]):
            axis.plot([row["ci_low"], row["ci_high"]], [place, place], color=shade, linewidth=1.4)
        axis.plot(row["value"], place, MARKERS[place % len(MARKERS)], color=shade, markersize=5)
    axis.set_yticks(range(len(cohorts)), cohorts, fontsize=8)
    axis.set_ylim(len(cohorts) - 0.5, -0.5)
    axis.set_xlim(left=0)
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("squared, in development variances")
    if axis.get_legend_handles_labels()[1]:
        axis.legend(fontsize=7, edgecolor="none", loc="upper center", bbox_to_anchor=(0.5, -0.2))
