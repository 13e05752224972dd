"""The picture of a heatmap on its slide, with a colour bar and a scale bar."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from slidestudy.slides.reader import RGB, resize
from slidestudy.statistics import Array
from slidestudy.validation.canvas import PNG_DPI, STYLE, plt, save
from slidestudy.validation.heatmap_values import CELL, Scale

SIDE = 2000
"""Longer side of the slide in a picture, px."""
STRENGTH = 0.55
"""How much of a pixel is the heatmap's colour."""
TOP, RIGHT, EDGE = 90, 300, 24
"""Room for the words above, for the colour bar on the right, and around, px."""
SCALE_BAR = 0.2
"""Greatest length of the scale bar, of the picture's width."""


def blend(picture: RGB, values: Array, scale: Scale, extent: float, downsample: float) -> RGB:
    """Paints a heatmap over an overview; where there is no tile the overview stays.

    Args:
        picture: uint8 (height, width, 3).
        values: As `raster` gives them.
        scale: Their scale.
        extent: Side of a tile, level-0 px.
        downsample: Level-0 pixels per pixel of the overview.
    """
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * downsample / extent * CELL).astype(int), limit - 1)
        for n, limit in zip(picture.shape[:2], values.shape, strict=True)
    )
    painted = scale.paint(values)[np.ix_(rows, columns)]
    share = STRENGTH * (painted[..., 3:] > 0)
    mixed: NDArray[np.float64] = picture * (1 - share) + painted[..., :3] * share
    return np.round(mixed).astype(np.uint8)


def bar_length(width_um: float) -> float:
    """The longest of 1, 2, 5, 10, 20, ... um that is at most SCALE_BAR of a width."""
    most = width_um * SCALE_BAR
    power = 10.0 ** math.floor(math.log10(most))
    return next(factor * power for factor in (5, 2, 1) if factor * power <= most)


def draw_overlay(path: str | os.PathLike[str], picture: RGB, scale: Scale, mpp: float, words: Sequence[str]) -> None:
    """Draws a blended overview with its title, colour bar and scale bar as a PNG.

    Args:
        path: The file.
        picture: The overview with the heatmap, uint8 (height, width, 3).
        scale: The heatmap's scale.
        mpp: Micrometres per pixel of the picture.
        words: Lines above the picture.
    """
    factor = SIDE / max(picture.shape[:2])
    if factor > 1:
        height, width = (max(1, round(side * factor)) for side in picture.shape[:2])
        picture, mpp = resize(picture, width, height), mpp / factor
    height, width = picture.shape[:2]
    whole = (max(width, 3 * RIGHT) + RIGHT + 2 * EDGE, height + TOP + 2 * EDGE)
    with plt.rc_context({**STYLE, "font.size": 10}):
        figure = plt.figure(figsize=(whole[0] / PNG_DPI, whole[1] / PNG_DPI), dpi=PNG_DPI)

        def axes_at(left: float, bottom: float, across: float, up: float) -> Axes:
            return figure.add_axes((left / whole[0], bottom / whole[1], across / whole[0], up / whole[1]))

        axis = axes_at(EDGE, EDGE, width, height)
        axis.imshow(picture, interpolation="none", extent=(0, width, height, 0), aspect="auto")
        axis.set_axis_off()
        _draw_scale_bar(axis, width, height, mpp)
        # A bar longer than about 1,200 px would only be harder to read.
        bar = axes_at(EDGE + width + 50, EDGE, 46, min(height, 1200))
        norm = LogNorm(scale.low, scale.high) if scale.logarithmic else Normalize(scale.low, scale.high)
        colours = figure.colorbar(ScalarMappable(norm, scale.colours), cax=bar)
        if scale.logarithmic:
            colours.set_ticks([scale.low, 1.0, scale.high])
        else:
            colours.ax.yaxis.set_major_locator(MaxNLocator(5))
        colours.ax.yaxis.set_minor_locator(NullLocator())
        colours.ax.yaxis.set_minor_formatter(NullFormatter())
        colours.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        colours.set_label(scale.words, fontsize=9)
        title = "\n".join(words)
        figure.text(EDGE / whole[0], 1 - EDGE / whole[1], title, va="top", ha="left", fontsize=9, linespacing=1.35)
        save(figure, path)


def _draw_scale_bar(axis: Axes, width: int, height: int, mpp: float) -> None:
    """A bar at the bottom left, on white so that it can be read on any stain."""
    length = bar_length(width * mpp)
    across, left, bottom = length / mpp, 40.0, height - 40.0
    label = f"{length:g} \N{MICRO SIGN}m"
    room = max(across, 190) + 40
    axis.add_patch(Rectangle((left - 20, bottom - 70), room, 90, facecolor="white", alpha=0.85, linewidth=0))
    axis.add_patch(Rectangle((left, bottom - 6), across, 10, facecolor="black", linewidth=0))
    axis.text(left, bottom - 14, label, ha="left", va="bottom", fontsize=8, color="black")
