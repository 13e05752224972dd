"""The figure of scores against answers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from slidestudy.explanations.answers import Conclusion
from slidestudy.report.figures import BLUE, GREY, INK, RED, STYLE, figure_svg, plt

COLUMNS = ("very low", "low near\nboundary", "abstained", "high near\nboundary", "very high")
ABREAST = 3


def draw_answers(panels: Mapping[str, pd.DataFrame], threshold: float) -> str:
    """Draws the model's logit of every patch by the answer to it, a panel for each text.

    Args:
        panels: Text -> `logit answer` (a Conclusion or None) and `abstained`, one row per patch.
        threshold: The logit that divides high from low.

    Returns:
        SVG text.
    """
    columns = min(ABREAST, len(panels))
    rows = -(-len(panels) // columns)
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(
            rows, columns, figsize=(3.6 * columns, 2.9 * rows), squeeze=False, sharey=True, layout="constrained"
        )
        axes = list(grid.flat)
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        for axis, (name, table) in zip(axes, panels.items(), strict=False):
            axis.axhline(threshold, color=GREY, linewidth=0.9, linestyle="--")
            for place, rows_of in enumerate(_by_answer(table)):
                # Evenly spread in a fixed order, so that equal logits stay apart and the figure the same.
                offsets = (np.arange(len(rows_of)) * 0.618 % 1 - 0.5) * 0.5
                colour = BLUE if place > 2 else RED if place < 2 else GREY
                axis.plot(place + offsets, rows_of, "o", color=colour, markersize=2.6, alpha=0.55, markeredgewidth=0)
                if len(rows_of):
                    middle = float(np.median(rows_of))
                    axis.plot([place - 0.32, place + 0.32], [middle, middle], color=INK, linewidth=1.4)
            counts = [len(found) for found in _by_answer(table)]
            names = [f"{title}\n{count}" for title, count in zip(COLUMNS, counts, strict=True)]
            axis.set_xticks(range(len(COLUMNS)), names, fontsize=7)
            axis.set_xlim(-0.6, len(COLUMNS) - 0.4)
            axis.set_title(name, fontsize=9)
        for axis in grid[:, 0]:
            axis.set_ylabel("model’s logit")
        return figure_svg(figure)


def _by_answer(table: pd.DataFrame) -> list[np.ndarray]:
    """The logits of each answer, in the order of COLUMNS."""
    order = [Conclusion.VERY_LOW, Conclusion.LOW_NEAR_BOUNDARY, None]
    order += [Conclusion.HIGH_NEAR_BOUNDARY, Conclusion.VERY_HIGH]
    masks = [table["abstained"].to_numpy(bool) if c is None else (table["answer"] == c).to_numpy() for c in order]
    return [table["logit"].to_numpy(float)[mask] for mask in masks]
