"""What the figures of a validation share: their look, their panels, and how a metric stands in them."""

from __future__ import annotations

import os
from typing import Any

import matplotlib
import pandas as pd

from slidestudy.files import atomic_path

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
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"]
"""Of Okabe & Ito (2008, Color Universal Design): told apart by people with any kind of colour blindness."""
LINES: tuple[Any, ...] = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
"""Line styles beside the colours, for a print in grey."""
MARKERS = ("o", "s", "^", "D", "v", "P")
GREY = "#999999"
WIDTH, HEIGHT = 3.3, 3.5
"""Inches of a panel."""
PNG_DPI = 200
"""Pixels per inch of a PNG."""
PNG_COMPRESSION = 3
"""Zlib's level: a third of the time of the usual 6, for a tenth more bytes."""


def save(figure: Figure, *paths: str | os.PathLike[str]) -> None:
    """Saves a figure atomically and closes it, the same bytes each time.

    Args:
        figure: The figure.
        paths: One file or several: PNG where the name ends in `.png`, SVG otherwise.
    """
    for path in paths:
        with atomic_path(path) as partial:
            if os.fspath(path).endswith(".png"):
                options: Any = {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": PNG_COMPRESSION}}
                figure.savefig(partial, format="png", dpi=PNG_DPI, **options)
            else:
                figure.savefig(partial, format="svg", metadata={"Date": None})
    plt.close(figure)


def panels(count: int, width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, list[Axes]]:
    """Panels side by side."""
    figure, axes = plt.subplots(1, count, figsize=(width * count, height), squeeze=False, layout="compressed")
    return figure, list(axes[0])


def draw_text(text: str, *paths: str | os.PathLike[str]) -> None:
    """A figure that says why there is nothing to draw."""
    with plt.rc_context(STYLE):
        figure, axes = panels(1, width=2 * WIDTH, height=0.8)
        axes[0].set_axis_off()
        axes[0].text(0.5, 0.5, text, ha="center", va="center", color="#555555", transform=axes[0].transAxes)
        save(figure, *paths)


def colour(index: int) -> str:
    """The colour of a cohort, a class or a curve, by its place."""
    return COLOURS[index % len(COLOURS)]


def line(index: int) -> Any:
    """The line style of a cohort, a class or a curve, by its place."""
    return LINES[index % len(LINES)]


def marker(index: int) -> str:
    """The mark of a cohort, by its place."""
    return MARKERS[index % len(MARKERS)]


def headline(metrics: pd.DataFrame, cohort: str, metric: str, threshold: float | None = None, target: str = "") -> str:
    """A metric of a cohort per slide with its interval, for a panel's title or legend."""
    keep = (metrics["cohort"] == cohort) & (metrics["level"] == "slide") & (metrics["metric"] == metric)
    rows = metrics[keep & (metrics["target"].fillna("").astype(str) == target)]
    rows = rows[rows["threshold"].isna()] if threshold is None else rows[rows["threshold"] == threshold]
    if rows.empty or pd.isna(rows.iloc[0]["value"]):
        return "undefined"
    row = rows.iloc[0]
    interval = "" if pd.isna(row["ci_low"]) else f" ({row['ci_low']:.2f} to {row['ci_high']:.2f})"
    return f"{row['value']:.2f}{interval}"


def limits(low: float, high: float) -> tuple[float, float]:
    """An axis's limits about the data, with a margin."""
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin
