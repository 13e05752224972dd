"""The figure of label efficiency: a line per cohort over the number of training patients."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from slidestudy.labels import target_text
from slidestudy.statistics import Array
from slidestudy.validation.canvas import GREY, STYLE, colour, line, marker, plt, save

WORDS = {
    "pearson": ("Pearson r", 0.0),
    "auroc": ("AUROC", 0.5),
    "auroc_macro": ("AUROC, mean over classes", 0.5),
    "pearson_mean": ("Pearson r, mean over targets", 0.0),
    "c_index": ("Harrell's C", 0.5),
}
"""Headline metric -> its name, and what guessing gives."""
HOW = {"development": "cross-validated", "external": "external"}
MOST_SAID = 40
"""Longest reason in the legend."""
ROOM = 0.055
"""Least distance of two labels of the x axis, as a share of it."""
SPREAD = 0.006
"""Distance between the bars of two cohorts at one share, likewise."""


def draw_label_efficiency(table: pd.DataFrame, settings: dict[str, Any], *paths: str | os.PathLike[str]) -> None:
    """Draws the metric per slide against the training patients, one line per cohort, with its intervals.

    Where some trainings failed the mark is hollow; where the metric is undefined a cross stands below the curves.

    Args:
        table: As `label_efficiency.summarise` gives it.
        settings: `model target confidence`.
        paths: The files, `.svg` or `.png`.
    """
    rows = table[table["level"] == "slide"]
    word, guessing = WORDS[rows["metric"].iloc[0]]
    sizes = np.sort(rows["train_patients"].unique())
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.6, 4.2), layout="constrained")
        axis.set_xscale("log")
        axis.axhline(guessing, color=GREY, linewidth=0.8, linestyle="--", zorder=0)
        low, high = _y_limits(rows, guessing)
        left, right = _x_limits(sizes)
        axis.set(xlim=(left, right), ylim=(low - 0.04 * (high - low), high), ylabel=f"{word}, per slide")
        shifts = np.log(right / left) * SPREAD * np.arange(rows["cohort"].nunique())
        for index, (_, of_cohort) in enumerate(rows.groupby("cohort", sort=False)):
            _draw_cohort(axis, of_cohort.sort_values("fraction"), index, low, np.exp(shifts[index] - shifts.mean()))
        axis.text(left, guessing, " guessing", color="#666666", fontsize=7, va="bottom", ha="left")
        axis.set_xlabel("patients in the training part (mean over folds)")
        _label_sizes(axis, sizes, left, right)
        confidence = f"bands: {settings['confidence']:.0%} intervals over patients"
        spread = "; bars: lowest to highest draw of patients" if rows["repeat_low"].notna().any() else ""
        axis.set_title(f"{settings['model']}: {target_text(settings)}\n{confidence}{spread}", fontsize=9, loc="left")
        _explain_marks(axis, rows)
        figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False, handlelength=3.5)
        save(figure, *paths)


def _y_limits(rows: pd.DataFrame, guessing: float) -> tuple[float, float]:
    """Limits that show every interval and what guessing gives; none of these metrics passes 1."""
    shown = rows[["value", "ci_low", "ci_high", "repeat_low", "repeat_high"]].to_numpy(float)
    low = float(np.nanmin([guessing, *shown[np.isfinite(shown)]]))
    return low - 0.04, 1.02


def _x_limits(sizes: Array) -> tuple[float, float]:
    """Limits about the sizes on a logarithmic axis."""
    margin = max((sizes[-1] / sizes[0]) ** 0.05, 1.05)
    return sizes[0] / margin, sizes[-1] * margin


def _draw_cohort(axis: Axes, rows: pd.DataFrame, index: int, floor: float, shift: float) -> None:
    """The line, band and marks of one cohort.

    Args:
        axis: The panel.
        rows: The cohort's rows, fractions rising.
        index: Its place, which decides colour, line and mark.
        floor: Where undefined points are marked.
        shift: Factor that keeps the bars of the cohorts apart.
    """
    ink, mark = colour(index), marker(index)
    x = rows["train_patients"].to_numpy(float)
    value, low, high = (rows[name].to_numpy(float) for name in ("value", "ci_low", "ci_high"))
    first = rows.iloc[0]
    label = f"{first['cohort']}, {HOW.get(first['role'], first['role'])} ({int(rows['n'].max())} slides)"
    axis.fill_between(x, low, high, color=ink, alpha=0.13, linewidth=0)
    alone = _alone(~np.isnan(low))
    axis.vlines(x[alone], low[alone], high[alone], color=ink, alpha=0.25, linewidth=5)
    axis.plot(
        x,
        value,
        color=ink,
        linewidth=1.5,
        linestyle=line(index),
        marker=mark,
        markersize=5.5,
        label=label,
    )
    spread = rows[["repeat_low", "repeat_high"]].to_numpy(float)
    axis.vlines(x * shift, spread[:, 0], spread[:, 1], color=ink, linewidth=1.0)
    some = (rows["failed"] > 0).to_numpy()
    axis.plot(x[some], value[some], " ", marker=mark, markersize=5.5, color=ink, markerfacecolor="white")
    nothing = np.isnan(value)
    axis.plot(x[nothing] * shift, np.full(nothing.sum(), floor), " ", marker="x", markersize=6, color=ink)


def _alone(known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Points with an interval whose neighbours have none: no band would show theirs."""
    around = np.r_[False, known, False]
    return known & ~around[:-2] & ~around[2:]


def _explain_marks(axis: Axes, rows: pd.DataFrame) -> None:
    """Entries of the legend for the marks of failed trainings and of undefined points, where there are any."""
    undefined = rows["value"].isna()
    if ((rows["failed"] > 0) & ~undefined).any():
        axis.plot([], [], " ", marker="o", color="#555555", markerfacecolor="white", label="some trainings failed")
    if undefined.any():
        reasons = "; ".join(dict.fromkeys(rows.loc[undefined, "undefined_reason"].astype(str)))
        said = reasons if len(reasons) <= MOST_SAID else "the table says why"
        axis.plot([], [], " ", marker="x", color="#555555", label=f"undefined ({said})")


def _label_sizes(axis: Axes, sizes: Array, left: float, right: float) -> None:
    """A tick at each size, with a label where there is room, the largest first."""
    labels, last = [], np.inf
    for size in sizes[::-1]:
        room = np.log(last / size) / np.log(right / left)
        whole = size >= 10 or float(size).is_integer()
        labels.append((f"{size:.0f}" if whole else f"{size:.1f}") if room >= ROOM else "")
        last = size if labels[-1] else last
    axis.set_xticks(sizes, labels[::-1])
    axis.minorticks_off()
