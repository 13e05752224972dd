"""The forest plot of a model's groups: the headline metric in each, one panel per cohort."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from slidestudy.validation.canvas import COLOURS, GREY, STYLE, draw_text, limits, plt, save
from slidestudy.validation.forest_figure import DARK, GUESSING, WORDS
from slidestudy.validation.metrics import MAIN_METRIC
from slidestudy.validation.subgroup_tests import WALD
from slidestudy.validation.subgroups import WHOLE

ROW_INCHES, HEAD_INCHES, PANEL_INCHES = 0.21, 0.75, 7.0
MOST_LETTERS = 28
"""Longest name of a group that is written out."""


def draw_subgroups(
    found: pd.DataFrame, tests: pd.DataFrame, settings: Mapping[str, Any], *paths: str | os.PathLike[str]
) -> None:
    """Draws the headline metric per slide of each group, with n and the p-value of each column's test.

    Args:
        found: As `subgroups.measure_subgroups` gives them.
        tests: The tests of the same.
        settings: `task`.
        paths: The SVG or PNG files.
    """
    metric = MAIN_METRIC[settings["task"]]
    keep = (found["level"] == "slide") & (found["metric"] == metric) & found["threshold"].isna()
    rows = found[keep & (found["target"].fillna("").astype(str) == "")]
    main = tests[(tests["level"] == "slide") & (tests["metric"] == metric) & (tests["test"] == WALD)]
    main = main[main["threshold"].isna()]
    cohorts = list(dict.fromkeys(rows["cohort"]))
    if not cohorts:
        return draw_text("no slide was predicted, so there are no groups", *paths)
    lines = {cohort: _lines(rows[rows["cohort"] == cohort], main[main["cohort"] == cohort]) for cohort in cohorts}
    heights = [HEAD_INCHES + ROW_INCHES * len(lines[cohort]) for cohort in cohorts]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(cohorts), 1, figsize=(PANEL_INCHES, sum(heights)), squeeze=False, layout="constrained", sharex=True,
            height_ratios=heights,
        )  # fmt: skip
        for axis, cohort in zip(axes[:, 0], cohorts, strict=True):
            role = rows.loc[rows["cohort"] == cohort, "role"].iloc[0]
            _draw_cohort(axis, lines[cohort], role, GUESSING.get(metric, 0.5))
            axis.set_title(f"{cohort} ({role})", fontsize=9, loc="left")
            axis.tick_params(axis="x", labelbottom=True)
        known = rows[["value", "ci_low", "ci_high"]].to_numpy(float)
        if np.isfinite(known).any():
            axes[-1, 0].set_xlim(*limits(min(np.nanmin(known), GUESSING.get(metric, 0.5)), np.nanmax(known)))
        axes[-1, 0].set_xlabel(f"{WORDS[metric]} per slide; in brackets slides and patients; p: do the groups differ?")
        return save(figure, *paths)


def _lines(rows: pd.DataFrame, tests: pd.DataFrame) -> list[tuple[str, str, pd.Series | None]]:
    """The lines of a panel: label, note, and the row of a group; a column's heading has none."""
    lines: list[tuple[str, str, pd.Series | None]] = []
    for column in dict.fromkeys(rows["column"]):
        if column != WHOLE["column"]:
            lines.append((column, _p(tests[tests["column"] == column]), None))
        for _, row in rows[rows["column"] == column].iterrows():
            name = str(row["group"])
            short = name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 3]}..."
            lines.append((f"{short}  ({row['n']}, {row['n_patients']})", _says(row), row))
    return lines


def _p(tests: pd.DataFrame) -> str:
    """The p-value of a column's test, blank where there is none."""
    if tests.empty or pd.isna(tests["p"].iloc[0]):
        return ""
    p = float(tests["p"].iloc[0])
    return "p < 0.001" if p < 0.001 else "p > 0.99" if p > 0.99 else f"p = {p:.2g}"


def _says(row: pd.Series) -> str:
    """A group's value with its interval, or why it has none."""
    if pd.isna(row["value"]):
        return str(row["undefined_reason"])
    ends = "" if pd.isna(row["ci_low"]) else f" ({row['ci_low']:.2f} to {row['ci_high']:.2f})"
    return f"{row['value']:.2f}{ends}"


def _draw_cohort(axis: Axes, lines: list[tuple[str, str, pd.Series | None]], role: str, guessing: float) -> None:
    """A line for each group, hollow in a development cohort."""
    across = axis.get_yaxis_transform()
    face = "white" if role == "development" else COLOURS[0]
    for height, (_, note, row) in enumerate(lines):
        shade = GREY if row is not None and pd.isna(row["value"]) else DARK
        style: dict[str, Any] = {"weight": "bold" if row is None else "normal", "color": shade}
        axis.text(1.01, height, note, transform=across, fontsize=7, va="center", clip_on=False, **style)
        if row is None or pd.isna(row["value"]):
            continue
        if pd.notna(row["ci_low"]):
            axis.plot([row["ci_low"], row["ci_high"]], [height, height], color=COLOURS[0], linewidth=1.4)
        axis.plot(row["value"], height, "s", color=COLOURS[0], markerfacecolor=face, markersize=4.5)
    axis.set_yticks(range(len(lines)), [label for label, _, _ in lines])
    for tick, (_, _, row) in zip(axis.get_yticklabels(), lines, strict=True):
        tick.set(fontweight="bold" if row is None else "normal", fontsize=8 if row is None else 7.5)
    axis.set_ylim(len(lines) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.axvline(guessing, color=GREY, linewidth=0.8, linestyle=":")
    whole = [row["value"] for _, _, row in lines if row is not None and row["column"] == WHOLE["column"]]
    if whole and pd.notna(whole[0]):
        axis.axvline(whole[0], color=COLOURS[1], linewidth=0.8, linestyle="--", zorder=0)
