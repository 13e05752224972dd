"""The course of a training as a figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd

matplotlib.use("Agg")
from matplotlib import pyplot as plt

STYLE: Any = {"svg.hashsalt": "slidestudy", "svg.fonttype": "none", "font.size": 9}
PANELS = {
    "loss": {"train_loss": "training", "validation_loss": "validation"},
    "score of the validation part": {"validation_score": ""},
    "learning rate": {"learning_rate": ""},
}


def draw_curves(histories: Mapping[int, pd.DataFrame], path: Path) -> None:
    """Draws losses, validation score and learning rate, with the epoch whose weights were kept.

    Args:
        histories: Seed -> history.
        path: The SVG file.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(PANELS), figsize=(3 * len(PANELS), 2.6), layout="constrained")
        for axis, (title, columns) in zip(axes, PANELS.items(), strict=True):
            for number, (seed, history) in enumerate(histories.items()):
                for style, (column, name) in zip(("-", "--"), columns.items(), strict=False):
                    label = " ".join(filter(None, [name, f"seed {seed}" if len(histories) > 1 else ""]))
                    axis.plot(history["epoch"], history[column], style, color=f"C{number}", linewidth=1.2, label=label)
                kept = history.loc[history["best"] == 1, "epoch"]
                axis.axvline(kept.iloc[-1], color=f"C{number}", linewidth=0.9, linestyle=":")
            axis.set(title=title, xlabel="epoch")
        axes[0].legend(frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})
        plt.close(figure)
