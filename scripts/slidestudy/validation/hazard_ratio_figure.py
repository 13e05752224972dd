"""The forest of hazard ratios: each score alone and adjusted, in each cohort, the model's beside the pathologist's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, ScalarFormatter

from slidestudy.validation.canvas import GREY, STYLE, colour, draw_text, plt, save
from slidestudy.validation.cox_analyses import MULTIVARIABLE, UNIVARIABLE

ROW, HEAD = 0.23, 0.9
"""Inches of a line, and of what is above and below the lines."""


def draw_hazard_ratios(cox: pd.DataFrame, settings: Mapping[str, Any], *paths: str | os.PathLike[str]) -> None:
    """Draws a panel for each endpoint, a line for each cohort, score and analysis.

    Args:
        cox: The columns of `cox.COX_COLUMNS`.
        settings: `endpoints confidence`.
        paths: The files.
    """
    own = cox[cox["analysis"].isin([UNIVARIABLE, MULTIVARIABLE]) & (cox["term"] == cox["score"])]
    if not own["hazard_ratio"].notna().any():
        return draw_text("no hazard ratio is defined; cox.tsv says why", *paths)
    tables = {name: own[own["endpoint"] == name] for name in settings["endpoints"]}
    heights = [HEAD + ROW * (len(table) + table["cohort"].nunique()) for table in tables.values()]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(tables), 1, figsize=(7.6, sum(heights)), height_ratios=heights, squeeze=False, layout="compressed"
        )
        for axis, (name, table) in zip(axes[:, 0], tables.items(), strict=True):
            _draw_endpoint(axis, table, list(settings["endpoints"][name]["scores"]))
            axis.set_title(f"{name}, {settings['confidence']:.0%} intervals", loc="left", fontsize=9)
        return save(figure, *paths)


def _draw_endpoint(axis: Axes, table: pd.DataFrame, scores: list[str]) -> None:
    """One endpoint: cohorts as headings, below each its lines."""
    ticks: list[tuple[float, str]] = []
    place = 0.0
    for cohort, rows in table.groupby("cohort", sort=False):
        first = rows.iloc[0]
        words = f"{cohort} ({first['role']}), n = {first['n']}, {first['n_events']} events"
        axis.annotate(words, (0, place), (-4, 0), ("axes fraction", "data"), "offset points", fontsize=8,
                      fontweight="bold", ha="right", va="center")  # fmt: skip
        for _, row in rows.sort_values(["score"], key=lambda s: s.map(scores.index), kind="stable").iterrows():
            place += 1
            ticks.append((place, _label(row)))
            _draw_line(axis, row, place, colour(scores.index(row["score"])))
        place += 1
    axis.axvline(1, color=GREY, linewidth=0.8, linestyle="--")
    axis.set(xscale="log", ylim=(place - 0.4, -0.6), xlabel="hazard ratio")
    axis.set_yticks([at for at, _ in ticks], [text for _, text in ticks])
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    _ticks(axis, table)


def _label(row: pd.Series) -> str:
    """What a line is."""
    adjusted = ", adjusted" if row["analysis"] == MULTIVARIABLE else ""
    if pd.isna(row["per"]):
        return f"{row['score']}{adjusted}"
    unit = f"SD ({row['per']:.3g})" if row["scale"] == "sd" else f"{row['per']:g}"
    return f"{row['score']} per {unit}{adjusted}"


def _draw_line(axis: Axes, row: pd.Series, place: float, shade: str) -> None:
    """A hazard ratio on its interval, hollow where adjusted, and its numbers at the right."""
    across = axis.get_yaxis_transform()
    style: dict[str, Any] = {"va": "center", "fontsize": 8, "transform": across, "clip_on": False}
    if pd.isna(row["hazard_ratio"]):
        axis.text(1.02, place, "undefined", color="#555555", **style)
        return
    axis.plot([row["ci_low"], row["ci_high"]], [place, place], color=shade, linewidth=1.4)
    face = "white" if row["analysis"] == MULTIVARIABLE else shade
    axis.plot([row["hazard_ratio"]], [place], "o", color=shade, markerfacecolor=face, markersize=5)
    text = f"{row['hazard_ratio']:.2f} ({row['ci_low']:.2f} to {row['ci_high']:.2f})"
    axis.text(1.02, place, text, **style)


def _ticks(axis: Axes, table: pd.DataFrame) -> None:
    """Plain numbers, also where the intervals span less than a decade."""
    low, high = min(0.8, table["ci_low"].min()), max(1.25, table["ci_high"].max())
    low, high = max(low, 1e-3), min(high, 1e3)
    axis.set_xlim(low / 1.1, high * 1.1)
    wide = [0.001, 0.01, 0.1, 0.25, 0.5, 1, 2, 4, 10, 100, 1000]
    steps = wide if high / low > 6 else [0.25, 0.5, 0.8, 1, 1.25, 2, 4]
    axis.set_xticks([step for step in steps if low / 1.1 <= step <= high * 1.1])
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.xaxis.set_minor_formatter(NullFormatter())
