"""What the report says of calibration, of agreement with the labels, and of metrics pooled over external cohorts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from slidestudy.report.collect import Results
from slidestudy.report.inline import inline_svg
from slidestudy.report.layout import (
    Cell,
    Column,
    Drawing,
    Table,
    Value,
    estimate_cell,
    first_row,
    interval,
    interval_note,
    is_missing,
    make_table,
    number,
    plural,
)
from slidestudy.report.metric_rows import MetricRow

MOST_TARGETS = 6
"""Most targets or classes that are shown one by one, as in the validation's figures."""
LINES = {
    "slope": ("Slope", "1 if calibrated", "pearson"),
    "intercept": ("Intercept", "of the same line", "mae"),
    "in_the_large": ("In the large", "0 if calibrated", "mae"),
}
"""Statistic -> its name, a note, and the metric whose decimals it is written with."""
LOG_ODDS = {key: (title, note, "pearson") for key, (title, note, _) in LINES.items()}
"""The same of classes, with two decimals throughout."""
DIFFERENCES = {
    "mean_difference": ("Mean difference", "prediction less label", "mae"),
    "lower_limit": ("Lower limit", "of agreement", "mae"),
    "upper_limit": ("Upper limit", "of agreement", "mae"),
    "proportional_bias": ("Proportional bias", "difference per unit of the mean", "pearson"),
}
EFFECTS = ("fixed", "random")


def agreement_parts(name: str, results: Results) -> list[Drawing | Table]:
    """Figures and tables of a model in the order of the page; empty where there is nothing."""
    files = results.models[name].agreement
    is_number = results.settings["models"][name]["task"] == "regression"
    fits, agreement = (_few(table) for table in (files.fits, files.agreement))
    note = interval_note(results.models[name].intervals, percentile=True)
    parts: list[Drawing | Table] = []
    if len(fits):
        words = "labels along the predictions per slide: bins, a smooth curve in its band, the dashed line is equality."
        parts += _drawing(name, files.calibration_figure, "calibration", words)
        unit = "the target's unit" if is_number else "log odds"
        caption = f"{name}: calibration per slide; intercepts in {unit}. {note}"
        parts.append(_statistics(caption, fits, LINES if is_number else LOG_ODDS, results))
    if len(agreement):
        words = "prediction less label against their mean per slide, with the mean difference and limits of agreement."
        parts += _drawing(name, files.agreement_figure, "bland-altman", words)
        caption = f"{name}: agreement with the labels per slide (Bland and Altman), in the target's unit. {note}"
        parts.append(_statistics(caption, agreement, DIFFERENCES, results))
    cohorts = results.models[name].metrics["cohort"].nunique()
    if cohorts > 1:
        words = "metrics of every cohort per slide; development cohorts are hollow."
        if len(files.pooled):
            words += " Diamonds are pooled over the external cohorts, thin lines are prediction intervals."
        parts += _drawing(name, files.forest_figure, "forest", words)
    return [*parts, *([_pooled(name, results)] if len(files.pooled) else [])]


def _few(table: pd.DataFrame) -> pd.DataFrame:
    """The rows per slide; none where there are too many targets."""
    return table[table["level"] == "slide"] if table["target"].nunique(dropna=False) <= MOST_TARGETS else table[:0]


def _drawing(name: str, figure: str, part: str, words: str) -> list[Drawing]:
    """A figure with its caption, where there is one."""
    if not figure:
        return []
    return [Drawing(inline_svg(figure, f"{part}-{name}", f"{name}: {words}"), f"{name}: {words}")]


def _statistics(
    caption: str, table: pd.DataFrame, names: Mapping[str, tuple[str, str, str]], results: Results
) -> Table:
    """A row for each cohort and target, a column for each statistic."""
    targets = table["target"].astype(object).fillna("").astype(str)
    rows: list[Sequence[Value]] = []
    for cohort in results.settings["cohorts"]:
        for target in dict.fromkeys(targets[table["cohort"] == cohort]):
            own = table[(table["cohort"] == cohort) & (targets == target)]
            cells = [estimate_cell(first_row(own, statistic=key), names[key][2]) for key in names]
            rows.append([Cell(cohort, target), int(own["n"].max()), *cells])
    heads = [Column(title, note, numeric=True) for title, note, _ in names.values()]
    return make_table(caption, [Column("Cohort"), "#Slides", *heads], rows)


def _pooled(name: str, results: Results) -> Table:
    """A row for each metric, at slide level."""
    model = results.settings["models"][name]
    table = results.models[name].agreement.pooled
    table = table[(table["level"] == "slide") & table["effect"].isin(EFFECTS)]
    rows: list[Sequence[Value]] = []
    for (metric, threshold), own in table.groupby(["metric", "threshold"], sort=False, dropna=False):
        found = {effect: first_row(own, effect=effect) for effect in EFFECTS}
        cutoff = None if is_missing(threshold) else float(threshold)
        label = MetricRow(str(metric), "", cutoff).label(model["task"], str(model.get("cutoff_rule", ">")))
        random = found["random"]
        rows.append([
            Cell(label, _size(random)), estimate_cell(_plain(found["fixed"]), str(metric)),
            estimate_cell(_plain(random), str(metric)), *_spread(random, str(metric)),
        ])  # fmt: skip
    confidence = float(results.models[name].intervals.get("confidence", 0.95))
    caption = (
        f"{name}: pooled over the external cohorts per slide, by inverse variance (fixed effect) and by DerSimonian "
        f"and Laird (random effects), with {confidence:.0%} intervals; with few cohorts these are too narrow."
    )
    heads = [Column(title, numeric=True) for title in ("Fixed effect", "Random effects", "I²", "τ²")]
    heads += [Column("Q", "p", numeric=True), Column("Expected", "in a further cohort", numeric=True)]
    return make_table(caption, [Column("Metric"), *heads], rows)


def _plain(row: dict[str, Any] | None) -> dict[str, Any] | None:
    """A row whose reason is of the value only: that of a missing prediction interval stands in its own column."""
    return row if row is None or is_missing(row["value"]) else {**row, "undefined_reason": ""}


def _size(row: dict[str, Any] | None) -> str:
    """How much was pooled."""
    return "" if row is None else f"{plural(int(row['n_cohorts']), 'cohort')}, {plural(int(row['n']), 'slide')}"


def _spread(row: dict[str, Any] | None, metric: str) -> list[Value]:
    """How much the cohorts differ, and what is expected of a further one."""
    if row is None or is_missing(row["value"]):
        return [None, None, None, None]
    p = "p < 0.001" if row["p"] < 0.001 else f"p = {number(float(row['p']), 3)}"
    expected: Value = Cell("undefined", str(row["undefined_reason"]), muted=True)
    if not is_missing(row["predicted_low"]):
        whole = interval(float(row["value"]), float(row["predicted_low"]), float(row["predicted_high"]), metric)
        expected = whole.partition("(")[2].rstrip(")")
    return [f"{float(row['i2']):.0%}", f"{float(row['tau2']):.3g}", Cell(number(float(row["q"]), 1), p), expected]
