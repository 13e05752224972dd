"""Figures of classes and of survival: labels and predictions in a table, and risk against time."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from slidestudy.labels import class_name
from slidestudy.validation.canvas import STYLE, WIDTH, colour, draw_text, headline, limits, panels, plt, save
from slidestudy.validation.views import classes_of, views


def confusion(predictions: pd.DataFrame, labels: Sequence[str], classes: Sequence[str]) -> pd.DataFrame:
    """Labelled slides by their class (rows) and the predicted one (columns).

    Args:
        predictions: `prediction target`.
        labels: The rows.
        classes: The columns.

    Returns:
        Counts.
    """
    truth, predicted = predictions["target"].map(class_name), predictions["prediction"].map(class_name)
    return pd.crosstab(truth, predicted).reindex(index=list(labels), columns=list(classes), fill_value=0)


def draw_confusion(
    cohorts: Mapping[str, pd.DataFrame], metrics: pd.DataFrame, settings: dict[str, Any], *paths: str | os.PathLike[str]
) -> None:
    """Draws for each cohort which classes are taken for which: counts, shaded by their share of the label's slides.

    Args:
        cohorts: Cohort -> predictions.
        metrics: Metrics of these cohorts.
        settings: `target`.
        paths: The files, `.svg` or `.png`.
    """
    classes = list(dict.fromkeys(name for table in cohorts.values() for name in classes_of(table)))
    if not classes:
        return draw_text("no slide was predicted", *paths)
    found = {str(class_name(label)) for table in cohorts.values() for label in table["target"].dropna()}
    # Below the model's classes stand those that it does not know.
    labels = [*classes, *sorted(found - set(classes))]
    tables = {name: confusion(table, labels, classes) for name, table in cohorts.items()}
    most = max(max(table.shape) for table in tables.values())
    side = max(WIDTH, 0.42 * most + 1.4)
    with plt.rc_context(STYLE):
        figure, axes = panels(len(tables), side, side + 0.4)
        for index, (axis, (name, table)) in enumerate(zip(axes, tables.items(), strict=True)):
            _draw_table(axis, table)
            axis.set(xlabel="predicted", ylabel=f"{settings['target']} (label)" if index == 0 else "")
            said = f"mean AUROC {headline(metrics, name, 'auroc_macro')}"
            axis.set_title(f"{name}, n = {int(table.to_numpy().sum())}\n{said}", fontsize=9)
        return save(figure, *paths)


def _draw_table(axis: Axes, table: pd.DataFrame) -> None:
    """Cells with counts."""
    counts = table.to_numpy(float)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        text = f"{count:.0f}\n{share:.0%}" if count else "0"
        shade = "white" if share > 0.55 else "#333333"
        axis.text(column, row, text, ha="center", va="center", fontsize=7, color=shade)
    turned = max((len(str(name)) for name in table.columns), default=0) > 6
    style: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if turned else {}
    axis.set_xticks(range(table.shape[1]), [str(name) for name in table.columns], **style)
    axis.set_yticks(range(table.shape[0]), [str(name) for name in table.index])
    axis.tick_params(length=0, labelsize=8)


def draw_times(
    cohorts: Mapping[str, pd.DataFrame], metrics: pd.DataFrame, settings: dict[str, Any], *paths: str | os.PathLike[str]
) -> None:
    """Draws risk against time, one panel per cohort; events are filled, censored times are hollow.

    Args:
        cohorts: Cohort -> predictions.
        metrics: Metrics of these cohorts.
        settings: `task target`.
        paths: The files, `.svg` or `.png`.
    """
    tables = {name: views(table, settings)[0].table for name, table in cohorts.items()}
    every = pd.concat(tables.values())
    risks, times = (every[c].to_numpy(float) if len(every) else np.array([0.0, 1.0]) for c in ("prediction", "truth"))
    target = settings["target"]
    word = target if isinstance(target, str) or not target else target[0]
    with plt.rc_context(STYLE):
        figure, axes = panels(len(tables))
        for index, (axis, (name, table)) in enumerate(zip(axes, tables.items(), strict=True)):
            event, shade = table["event"].to_numpy() == 1, colour(index)
            for label, rows, face in (("event", event, shade), ("censored", ~event, "none")):
                at = table[rows]
                axis.scatter(
                    at["truth"], at["prediction"], s=18, facecolors=face, edgecolors=shade, linewidths=0.9, label=label
                )
            axis.set(xlim=limits(0.0, times.max()), ylim=limits(risks.min(), risks.max()), xlabel=f"{word or 'time'}")
            axis.set_ylabel("risk" if index == 0 else "")
            axis.legend(loc="upper right", fontsize=7, frameon=True, framealpha=0.8, edgecolor="none")
            said = f"{name}, n = {len(table)}, {int(event.sum())} with an event"
            axis.set_title(f"{said}\nC-index {headline(metrics, name, 'c_index')}", fontsize=9)
        save(figure, *paths)
