"""Figures of decisions at every threshold: ROC and precision-recall curves with their bands, one panel per cohort."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from slidestudy.statistics import MIN_PATIENTS, Array, PatientDraws
from slidestudy.validation.canvas import GREY, STYLE, colour, draw_text, headline, line, panels, plt, save
from slidestudy.validation.metrics import draws_of
from slidestudy.validation.target_figures import MOST_PANELS
from slidestudy.validation.views import Cut, View, cuts, views

LEGEND: dict[str, Any] = {"fontsize": 7, "title_fontsize": 7, "edgecolor": "none", "handlelength": 2.6}
GRID = np.linspace(0, 1, 101)
"""Where the curves of bootstrap samples are compared: 1 - specificity, or recall."""
MOST_BANDS = 3
"""Most curves of a panel that have a band: more bands would hide each other."""
STEP = 200
"""Bootstrap samples that are held in memory at once."""


@dataclass(frozen=True)
class Kind:
    """A kind of curve.

    Attributes:
        name: In words.
        metric: The metric in the legend, and its word.
        axes: Words of the axes.
        place: Where the legend stands.
        points: From truth, prediction and weights (b, n) the curve at GRID (b, 101), NaN with one class only.
        trace: From truth, prediction and weights (n,) the curve itself, x and y.
    """

    name: str
    metric: tuple[str, str]
    axes: tuple[str, str]
    place: str
    points: Callable[[Array, Array, Array], Array]
    trace: Callable[[Array, Array, Array], tuple[Array, Array]]


def _counts(positive: Array, score: Array, weights: Array) -> tuple[Array, Array]:
    """Weights of the positives and negatives at or above each distinct score, highest first, from none on.

    Args:
        positive: 0 or 1 (n,).
        score: (n,).
        weights: (b, n).

    Returns:
        Two arrays (b, groups + 1).
    """
    order = np.argsort(-score, kind="stable")
    ordered, drawn = score[order], weights[:, order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sums = (np.add.reduceat(drawn * side[order], starts, axis=1) for side in (positive, 1 - positive))
    hits, misses = (np.pad(np.cumsum(side, axis=1), ((0, 0), (1, 0))) for side in sums)
    return hits, misses


def roc_points(positive: Array, score: Array, weights: Array) -> Array:
    """Sensitivity at each 1 - specificity of GRID, straight between the thresholds (Fawcett 2006, Pattern Recognit Lett
    27:861), for each row of weights (b, 101).

    Where the curve rises straight up its upper end is meant.
    """
    hits, misses = _counts(positive, score, weights)
    found = np.full((len(weights), len(GRID)), np.nan)
    for row in np.flatnonzero((hits[:, -1] > 0) & (misses[:, -1] > 0)):
        found[row] = np.interp(GRID, misses[row] / misses[row, -1], hits[row] / hits[row, -1])
    return found


def pr_points(positive: Array, score: Array, weights: Array) -> Array:
    """Precision at the first threshold that reaches each recall of GRID, for each row of weights (b, 101).

    Steps, as average precision sums them: straight lines would be too high (Davis & Goadrich 2006, ICML, 233).
    """
    hits, misses = _counts(positive, score, weights)
    found = np.full((len(weights), len(GRID)), np.nan)
    with np.errstate(invalid="ignore"):
        precision = hits / (hits + misses)
    for row in np.flatnonzero((hits[:, -1] > 0) & (misses[:, -1] > 0)):
        # Recall 0 is where the first positive is found; a step's own rounding must not miss it.
        reached = np.searchsorted(hits[row] / hits[row, -1], np.maximum(GRID, 1e-9) - 1e-12)
        found[row] = precision[row, np.minimum(reached, hits.shape[1] - 1)]
    return found


def _roc_trace(positive: Array, score: Array, weights: Array) -> tuple[Array, Array]:
    """The corners of a ROC curve."""
    hits, misses = (side[0] for side in _counts(positive, score, weights[None]))
    return misses / misses[-1], hits / hits[-1]


def _pr_trace(positive: Array, score: Array, weights: Array) -> tuple[Array, Array]:
    """The corners of a precision-recall curve, drawn as steps; only thresholds that gain recall count."""
    hits, misses = (side[0] for side in _counts(positive, score, weights[None]))
    gains = np.flatnonzero(np.diff(hits) > 0) + 1
    recall = np.r_[0.0, hits[gains] / hits[-1]]
    precision = hits[gains] / (hits[gains] + misses[gains])
    return np.repeat(recall, 2)[1:-1], np.repeat(precision, 2)


ROC = Kind("ROC", ("auroc", "AUROC"), ("1 - specificity", "sensitivity"), "lower right", roc_points, _roc_trace)
PR = Kind(
    "precision-recall", ("average_precision", "average precision"), ("recall (sensitivity)", "precision (PPV)"),
    "lower left", pr_points, _pr_trace,
)  # fmt: skip


def band(kind: Kind, cut: Cut, draws: PatientDraws, confidence: float) -> tuple[Array, Array] | None:
    """The pointwise band of a curve: percentiles over bootstrap samples of whole patients.

    Args:
        kind: ROC or PR.
        cut: The question, with the rows that have an answer.
        draws: The draws of patients that the metrics use too.
        confidence: Coverage at each point; the band as a whole covers less.

    Returns:
        Lower and upper ends at GRID; None with fewer than MIN_PATIENTS patients, or where most samples have one class.
    """
    patients = cut.table["patient_id"].to_numpy()
    if len(np.unique(patients)) < MIN_PATIENTS:
        return None
    positive, score, own = _arrays(cut)
    weights = draws.weights(patients) * own
    curves = np.concatenate(
        [kind.points(positive, score, weights[at : at + STEP]) for at in range(0, len(weights), STEP)]
    )
    known = curves[np.isfinite(curves[:, 0])]
    if len(known) < len(curves) / 2:
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(known, [tail, 1 - tail], axis=0)
    return low, high


def _arrays(cut: Cut) -> tuple[Array, Array, Array]:
    """Answers 0 or 1, predictions and weights of the rows."""
    weights: ArrayLike = np.ones(len(cut.table)) if cut.weights is None else cut.weights
    return cut.positive.to_numpy(float), cut.table["prediction"].to_numpy(float), np.asarray(weights, float)


def roc(
    cohorts: Mapping[str, pd.DataFrame], metrics: pd.DataFrame, settings: dict[str, Any], *paths: str | os.PathLike[str]
) -> None:
    """Draws ROC curves, one panel per cohort, one curve per cut-off, class or time; says so where there is none.

    Args:
        cohorts: Cohort -> predictions.
        metrics: Metrics of these cohorts.
        settings: `task target columns cutoffs cutoff_rule bootstrap confidence seed`.
        paths: The files, `.svg` or `.png`.
    """
    _draw(ROC, cohorts, metrics, settings, *paths)


def pr(
    cohorts: Mapping[str, pd.DataFrame], metrics: pd.DataFrame, settings: dict[str, Any], *paths: str | os.PathLike[str]
) -> None:
    """Draws precision-recall curves likewise; a dotted line is the share of positives, which is what guessing gives.

    Args:
        cohorts: Cohort -> predictions.
        metrics: Metrics of these cohorts.
        settings: `task target columns cutoffs cutoff_rule bootstrap confidence seed`.
        paths: The files, `.svg` or `.png`.
    """
    _draw(PR, cohorts, metrics, settings, *paths)


def _draw(
    kind: Kind,
    cohorts: Mapping[str, pd.DataFrame],
    metrics: pd.DataFrame,
    settings: dict[str, Any],
    *paths: str | os.PathLike[str],
) -> None:
    """A panel of curves for each cohort."""
    found = {name: views(table, settings) for name, table in cohorts.items()}
    if why := _why_no_curve(kind, found, settings):
        return draw_text(why, *paths)
    with plt.rc_context(STYLE):
        figure, axes = panels(len(found))
        for index, (axis, (name, of_cohort)) in enumerate(zip(axes, found.items(), strict=True)):
            if kind is ROC:
                axis.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle="--")
            curves = list(_curves(of_cohort, settings))
            draws = draws_of(of_cohort, settings)
            for place, (prefix, view, cut) in enumerate(curves):
                text = headline(metrics, name, kind.metric[0], cut.threshold, view.target)
                shown = band(kind, cut, draws, settings["confidence"]) if len(curves) <= MOST_BANDS else None
                _draw_curve(axis, kind, cut, place, f"{prefix}{text}", prefix, shown)
            axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xlabel=kind.axes[0])
            axis.set_ylabel(kind.axes[1] if index == 0 else "")
            slides = {slide for view in of_cohort for slide in view.table["slide_id"]}
            axis.set_title(f"{name}, n = {len(slides)}", fontsize=9)
            if of_cohort:
                axis.legend(title=kind.metric[1], **{**LEGEND, "loc": kind.place})
        return save(figure, *paths)


def _why_no_curve(kind: Kind, found: Mapping[str, list[View]], settings: dict[str, Any]) -> str:
    """Why a model has no such curve; empty if it has."""
    kinds = {view.kind for of_cohort in found.values() for view in of_cohort}
    most = max((len(of_cohort) for of_cohort in found.values()), default=0)
    if kind is PR and "survival" in kinds:
        return "precision of survival depends on the follow-up, so there is no precision-recall curve"
    if kinds <= {"binary"}:
        return "" if kinds else "no class is known"
    if not settings["cutoffs"]:
        words = f"no cut-off{' times' if 'survival' in kinds else 's'} are configured"
        return f"{words}, so there is no {kind.name} curve"
    many = f"{kind.name} curves of {most} targets are not drawn; metrics.tsv has their {kind.metric[1]}"
    return "" if most <= MOST_PANELS else many


def _curves(found: list[View], settings: dict[str, Any]) -> Iterator[tuple[str, View, Cut]]:
    """The curves of a cohort, each with the words before its metric."""
    for view in found:
        target = f"{view.target} " if view.target and view.kind == "continuous" else view.target
        for cut in cuts(view, settings):
            rule = {"survival": "event by", "continuous": settings["cutoff_rule"]}.get(view.kind, "")
            words = target if cut.threshold is None else f"{target}{rule} {cut.threshold:g}"
            yield f"{words}: " if words else "", view, cut


def _draw_curve(
    axis: Axes, kind: Kind, cut: Cut, place: int, text: str, prefix: str, shown: tuple[Array, Array] | None
) -> None:
    """One curve in its band, with its entry in the legend."""
    style: dict[str, Any] = {"color": colour(place), "linestyle": line(place)}
    if cut.positive.nunique() < 2:
        axis.plot([], [], label=f"{prefix}undefined (one class)", **style)
        return
    positive, score, weights = _arrays(cut)
    if shown is not None:
        step: Any = "pre" if kind is PR else None
        axis.fill_between(GRID, *shown, color=colour(place), alpha=0.13, linewidth=0, step=step)
    if kind is PR:
        axis.axhline(np.average(positive, weights=weights), color=colour(place), linewidth=0.7, linestyle=":")
    axis.plot(*kind.trace(positive, score, weights), linewidth=1.4, label=text, **style)
