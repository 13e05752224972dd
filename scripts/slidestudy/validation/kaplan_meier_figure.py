"""The figure of Kaplan-Meier curves: a panel for each score and cohort, with the numbers at risk below."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from slidestudy.validation.canvas import STYLE, colour, line, plt, save
from slidestudy.validation.kaplan_meier import CUTOFFS, MEDIAN, Group, Split

PANEL, RISK_ROW, HEADS = 2.5, 0.17, 1.2
"""Inches: the height of the curves, of a row of numbers at risk, and of titles and labels."""
ACROSS = 3.9
"""Inches of a panel's width."""
DARK = "#333333"
BEHIND: dict[str, Any] = {"edgecolor": "none", "framealpha": 0.6}
"""The ground of a legend: curves show through it."""
Rows = dict[tuple[str, str], list[Split]]


def draw_kaplan_meier(splits: Sequence[Split], kind: str, *paths: str | os.PathLike[str]) -> None:
    """Draws the curves of one kind of split; of a score without cut-offs those of the median split in any case.

    A curve has its pointwise intervals as a band, a tick for each censored patient, and ends with the last follow-up.

    Args:
        splits: Splits of all endpoints, as `kaplan_meier.make_splits` gives them.
        kind: CUTOFFS or MEDIAN.
        paths: The files, SVG or PNG.
    """
    rows = _chosen(splits, kind)
    across = max(len(own) for own in rows.values())
    risk = [RISK_ROW * max(len(split.groups) for split in own) for own in rows.values()]
    size = (0.6 + ACROSS * across, sum(risk) + (PANEL + HEADS) * len(rows))
    with plt.rc_context(STYLE):
        # The last number at risk of a panel and the first group's name of the next need room.
        figure = plt.figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.16))
        heights = [inches for below in risk for inches in (PANEL, below)]
        grid = figure.add_gridspec(2 * len(rows), across, height_ratios=heights)
        for row, ((endpoint, score), own) in enumerate(rows.items()):
            longest = _longest(splits, endpoint)
            for column, split in enumerate(own):
                axes = [figure.add_subplot(grid[2 * row + below, column]) for below in (0, 1)]
                _draw_panel(axes[0], split, longest)
                _draw_risk(axes[1], split, axes[0])
                axes[0].set_ylabel(f"{score}\n{endpoint}" if column == 0 else "")
        figure.align_ylabels()
        save(figure, *paths)


def _chosen(splits: Sequence[Split], kind: str) -> Rows:
    """The splits of a kind by endpoint and score; the median's where a score has no cut-offs."""
    found: Rows = {}
    for split in splits:
        has_cutoffs = any(
            other.kind == CUTOFFS and (other.endpoint, other.score) == (split.endpoint, split.score) for other in splits
        )
        if split.kind == (kind if has_cutoffs else MEDIAN):
            found.setdefault((split.endpoint, split.score), []).append(split)
    return found


def _longest(splits: Sequence[Split], endpoint: str) -> float:
    """The longest follow-up of an endpoint in any cohort, so that its panels have one scale."""
    ends = [g.time.max() for split in splits if split.endpoint == endpoint for g in split.groups if len(g.time)]
    return float(max(ends, default=0)) or 1.0


def _draw_panel(axis: Axes, split: Split, longest: float) -> None:
    """The curves of a split, with the test in the title."""
    for index, group in enumerate(split.groups):
        _draw_group(axis, group, index)
    axis.set(xlim=(0, 1.02 * longest), ylim=(-0.02, 1.04))
    axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.set_xlabel(f"time ({split.unit})", fontsize=8, labelpad=1)
    axis.tick_params(labelsize=8)
    axis.legend(loc="best", fontsize=7, borderaxespad=0.2, handlelength=2.6, **BEHIND)
    n, events = (sum(values) for values in zip(*map(_size, split.groups), strict=True))
    size = f"n = {n}, {events} events"
    axis.set_title(f"{split.cohort} ({split.role}), {size}\n{log_rank_words(split)}", fontsize=9)


def log_rank_words(split: Split) -> str:
    """The log-rank test of a split, and the trend of more than two groups, in words."""
    test = split.test
    if test.p is None:
        return f"log-rank undefined: {test.undefined_reason}"
    within = f" within {', '.join(split.strata)}" if split.strata else ""
    trend = "" if test.trend_p is None else f", trend {_p(test.trend_p)}"
    return f"log-rank{within} {_p(test.p)}{trend}"


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _size(group: Group) -> tuple[int, int]:
    return len(group.time), int(group.event.sum())


def _shown(group: Group) -> str:
    return group.name.replace(">=", "\N{GREATER-THAN OR EQUAL TO}")


def _draw_group(axis: Axes, group: Group, index: int) -> None:
    """One curve with its band and a tick for each censored patient; its entry in the legend where it is empty too."""
    look: dict[str, Any] = {"color": colour(index), "linestyle": line(index), "linewidth": 1.5}
    n, events = _size(group)
    label = f"{_shown(group)}: n = {n}, {events} events"
    if not len(group.time):
        axis.plot([], [], label=label, **look)
        return
    end = float(group.time.max())
    x = np.append(group.curve["time"].to_numpy(), end)
    survival, low, high = (
        np.append(group.curve[name].to_numpy(), group.curve[name].iloc[-1])
        for name in ("survival", "ci_low", "ci_high")
    )
    # Corners by hand: with `step` a stretch that ends where no interval is would have none itself.
    corners = np.repeat(x, 2)[1:]
    bottom, top = (np.repeat(side, 2)[:-1] for side in (low, high))
    axis.fill_between(corners, bottom, top, color=colour(index), alpha=0.15, linewidth=0)
    axis.plot(x, survival, drawstyle="steps-post", label=label, **look)
    censored = np.unique(group.time[group.event == 0])
    at = np.searchsorted(group.curve["time"].to_numpy(), censored, side="right") - 1
    ticks: dict[str, Any] = {"marker": "|", "markersize": 5, "markeredgewidth": 0.8, "linestyle": "none"}
    axis.plot(censored, survival[at], color=colour(index), **ticks)


def _draw_risk(axis: Axes, split: Split, above: Axes) -> None:
    """How many of each group are at risk at the times of the axis above."""
    axis.set(xlim=above.get_xlim(), ylim=(len(split.groups) - 0.4, -0.6))
    axis.set_title("at risk", fontsize=7, loc="left", pad=2, color=DARK)
    axis.set_xticks([])
    axis.set_yticks(range(len(split.groups)), [_shown(group) for group in split.groups], fontsize=7)
    axis.tick_params(length=0, pad=12)
    axis.spines[:].set_visible(False)
    low, high = above.get_xlim()
    for height, (group, label) in enumerate(zip(split.groups, axis.get_yticklabels(), strict=True)):
        label.set_color(colour(height))
        for at in above.get_xticks():
            if low <= at <= high:
                text = str(int((group.time >= at).sum()))
                axis.text(at, height, text, fontsize=7, ha="center", va="center", color=DARK, clip_on=False)
