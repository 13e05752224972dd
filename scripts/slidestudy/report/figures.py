"""Figures drawn for the page itself: the attrition diagram, training curves, and explanation scores."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import matplotlib
import pandas as pd

from slidestudy.report.attrition import Branch, Step
from slidestudy.report.layout import count, first_row, interval, is_missing, plural

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

# A fixed salt and no date make equal figures equal text; letters stay letters, and `$` is no formula.
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "slidestudy",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
INK, GREY, BLUE, RED = "#1f2933", "#8a939c", "#1b5e8c", "#a63d1e"
COHORTS_ABREAST = 3
COLUMN, BOX, LINE, PAD = 3.2, 2.95, 0.165, 0.09
"""Inches: a cohort's column, its boxes, a line of text, the space inside a box."""
LONGEST_NAME = 24
FOLDS_ABREAST = 5
SUBSET_STYLES = {"X": ("o", 0.0, 1.0), "X1": ("s", 0.24, 0.62), "X3": ("D", 0.42, 0.62)}
"""Subset -> marker, offset below the row's middle, and opacity."""


def figure_svg(figure: Figure) -> str:
    """A figure as SVG text, the same each time."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    return buffer.getvalue()


def _short(name: str) -> str:
    """A name cut to what fits into a box."""
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _box_lines(branch: Branch) -> str:
    """What stands in a box of one branch."""
    name = f"{_short(branch.name)}: " if branch.name else ""
    return f"{name}{plural(branch.slides, 'slide')}, {plural(branch.patients, 'patient')}"


def _loss_lines(step: Step) -> list[str]:
    """What stands beside the arrow to a step."""
    several = len(step.branches) > 1
    return [
        f"−{count(slides)} {code.replace('_', ' ')}{f' ({_short(branch.name)})' if several else ''}"
        for branch in step.branches
        for code, slides in branch.lost.items()
    ]


def attrition(flows: Mapping[str, list[Step]]) -> str:
    """Draws the flow of every cohort from the tables to the models, side by side.

    Args:
        flows: Cohort -> its steps; a cohort that only trains encoders has fewer.

    Returns:
        SVG text.
    """
    names = list(flows)
    bands = [names[i : i + COHORTS_ABREAST] for i in range(0, len(names), COHORTS_ABREAST)]
    levels = [[step for step in level if step] for level in zip_longest(*flows.values())]
    heights = [max(len(step.branches) for step in level) * LINE + LINE + 2 * PAD for level in levels]
    gaps = [0.0] + [max(0.24, max(len(_loss_lines(step)) for step in level) * LINE + 0.12) for level in levels[1:]]
    band = 0.3 + sum(heights) + sum(gaps) + 0.15
    width, height = COLUMN * max(len(b) for b in bands), band * len(bands)
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(width, height))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        for row, cohorts in enumerate(bands):
            for column, cohort in enumerate(cohorts):
                _draw_flow(axes, cohort, flows[cohort], (column * COLUMN + 0.02, row * band), heights, gaps)
        return figure_svg(figure)


def _draw_flow(
    axes: Axes, cohort: str, steps: list[Step], corner: tuple[float, float], heights: list[float], gaps: list[float]
) -> None:
    """Draws one cohort's column; the corner is its upper left one, in inches."""
    left, y = corner
    axes.text(left, y + 0.18, cohort, fontsize=11, fontweight="bold", color=INK, va="center")
    y += 0.3
    for step, height, gap in zip(steps, heights, gaps, strict=False):
        if gap:
            arrow = {"arrowstyle": "-|>", "color": GREY, "linewidth": 1, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (left + 0.2, y + gap), (left + 0.2, y), arrowprops=arrow)
            for line, text in enumerate(_loss_lines(step)):
                axes.text(left + 0.34, y + 0.06 + (line + 0.5) * LINE, text, fontsize=8.5, color=RED, va="center")
            y += gap
        shape = "round,pad=0,rounding_size=0.05"
        axes.add_patch(FancyBboxPatch((left, y), BOX, height, boxstyle=shape, fc="#f3f6f9", ec=GREY, lw=0.8))
        axes.text(left + 0.1, y + PAD + LINE / 2, step.title, fontweight="bold", color=INK, va="center")
        for line, branch in enumerate(step.branches, 1):
            axes.text(left + 0.1, y + PAD + (line + 0.5) * LINE, _box_lines(branch), color=INK, va="center")
        y += height


def training_curves(histories: Mapping[int, pd.DataFrame]) -> str:
    """Draws training and validation loss of every fold, with the epoch whose weights were kept.

    Args:
        histories: Fold -> `epoch train_loss validation_loss best`.

    Returns:
        SVG text.
    """
    columns = min(FOLDS_ABREAST, len(histories))
    rows = -(-len(histories) // columns)
    with plt.rc_context(STYLE):
        size = (9.5 if columns > 2 else 3.4 * columns, 0.35 + 2.0 * rows)
        figure, grid = plt.subplots(
            rows, columns, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
        )
        panels = list(grid.flat)
        for axis in panels[len(histories) :]:
            axis.set_axis_off()
        for axis, (fold, history) in zip(panels, histories.items(), strict=False):
            axis.plot(history["epoch"], history["train_loss"], color=BLUE, linewidth=1.2, label="training")
            axis.plot(
                history["epoch"],
                history["validation_loss"],
                color=RED,
                linewidth=1.2,
                linestyle="--",
                label="validation",
            )
            kept = history.loc[history["best"] == 1, "epoch"]
            if len(kept):
                axis.axvline(kept.iloc[-1], color=GREY, linewidth=0.9, linestyle=":", label="epoch kept")
            axis.set_title(f"fold {fold}", fontsize=9)
        for axis in grid[-1]:
            axis.set_xlabel("epoch")
        for axis in grid[:, 0]:
            axis.set_ylabel("loss")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
        return figure_svg(figure)


def forest(scores: pd.DataFrame, explanations: Sequence[str]) -> str:
    """Draws the AUROC of every explanation with its interval, on all patches and on those farther from the threshold.

    Args:
        scores: Rows of one metric, `explanation kind subset value ci_low ci_high undefined_reason`.
        explanations: Their order, from top to bottom.

    Returns:
        SVG text.
    """
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(9.2, 0.75 + 0.62 * len(explanations)), layout="constrained")
        axis.axvline(0.5, color=GREY, linewidth=0.9, linestyle="--")
        labels, colours = [], []
        for place, name in enumerate(explanations):
            rows = {subset: first_row(scores, explanation=name, subset=subset) for subset in SUBSET_STYLES}
            kind = next((str(row["kind"]) for row in rows.values() if row), "text")
            colour = BLUE if kind == "text" else GREY
            # A control of a text stands below that text's name, one of no text by itself.
            text = name.removesuffix(f".{kind}").removesuffix("control")
            labels.append("\n".join(filter(None, [_short(text), "" if kind == "text" else f"control, {kind}"])))
            colours.append(INK if kind == "text" else "#5b6570")
            for subset, row in rows.items():
                if row is not None:
                    _draw_score(axis, place, row, subset, colour, hollow=kind != "text")
        axis.set(xlim=(-0.01, 1.01), ylim=(len(explanations) - 0.3, -0.5), xlabel="AUROC (0.5: no better than chance)")
        axis.set_yticks(range(len(labels)), labels)
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
        for tick, colour in zip(axis.get_yticklabels(), colours, strict=True):
            tick.set_color(colour)
        handles = [
            plt.Line2D([], [], color=INK, marker=marker, linestyle="", alpha=alpha, markersize=6, label=subset)
            for subset, (marker, _, alpha) in SUBSET_STYLES.items()
        ]
        figure.legend(handles=handles, loc="outside upper right", ncols=3, frameon=False)
        return figure_svg(figure)


def _draw_score(axis: Axes, place: int, row: dict[str, Any], subset: str, colour: str, *, hollow: bool) -> None:
    """Draws one score with its interval; the one on all patches with its numbers beside it."""
    marker, offset, alpha = SUBSET_STYLES[subset]
    y, main = place + offset, subset == "X"
    if is_missing(row["value"]):
        if main:
            axis.text(1.03, y, "undefined", va="center", color=INK, transform=axis.get_yaxis_transform())
        return
    if not is_missing(row["ci_low"]):
        axis.plot([row["ci_low"], row["ci_high"]], [y, y], color=colour, linewidth=2 if main else 1.1, alpha=alpha)
    face = "white" if hollow else colour
    size = 7 if main else 4.5
    axis.plot(
        row["value"], y, marker=marker, markersize=size, color=colour, markerfacecolor=face, alpha=alpha, linestyle=""
    )
    if main:
        text = interval(row["value"], row["ci_low"], row["ci_high"], "auroc")
        axis.text(1.03, y, text, va="center", color=INK, transform=axis.get_yaxis_transform())
