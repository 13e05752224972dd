"""What the report says of a model in groups of slides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slidestudy.report.collect import Results
from slidestudy.report.inline import inline_svg
from slidestudy.report.layout import (
    METRIC_NAMES,
    Cell,
    Column,
    Drawing,
    Table,
    Value,
    first_row,
    interval,
    interval_note,
    is_missing,
    make_table,
    number,
    plural,
)
from slidestudy.validation.metrics import MAIN_METRIC

MEAN_DIFFERENCE = "mean_difference"
DECIMALS = {MEAN_DIFFERENCE: "mae"}
"""Statistic -> the metric whose decimals it is written with."""


def subgroups_parts(name: str, results: Results) -> list[Drawing | Table]:
    """The figure of the groups and the table of tests; nothing where no groups are configured."""
    files = results.models[name].subgroups
    main = MAIN_METRIC[results.settings["models"][name]["task"]]
    parts: list[Drawing | Table] = []
    if files.figure:
        words = f"{name}: in groups of slides, {METRIC_NAMES[main]} per slide with its interval; in brackets numbers"
        words += " of slides and patients; development cohorts are hollow, the dashed line is the whole cohort."
        parts.append(Drawing(inline_svg(files.figure, f"subgroups-{name}", words), words))
    tests = files.tests[(files.tests["level"] == "slide") & (files.tests["test"] == "wald")]
    tests = tests[tests["threshold"].isna()]
    if tests.empty:
        return parts
    cohorts = [cohort for cohort in results.settings["cohorts"] if cohort in set(tests["cohort"])]
    names = {main: METRIC_NAMES[main], MEAN_DIFFERENCE: "Prediction less label"}
    rows: list[Sequence[Value]] = [
        [
            Cell(column, names[metric]),
            *[_cell(first_row(tests, column=column, cohort=c, metric=metric)) for c in cohorts],
        ]
        for column in dict.fromkeys(tests["column"])
        for metric in names
        if first_row(tests, column=column, metric=metric)
    ]
    caption = (
        f"{name}: do groups of slides differ? Wald tests per slide, p corrected after Holm over the columns; then the "
        "highest value less the lowest, which is above zero by chance alone. Many tests on small groups find little. "
        + interval_note(results.models[name].intervals, percentile=True)
    )
    return [*parts, make_table(caption, [Column("Groups by"), *[Column(c, numeric=True) for c in cohorts]], rows)]


def _cell(row: dict[str, Any] | None) -> Cell:
    """A p-value, and below it the largest difference."""
    if row is None:
        return Cell("\N{EN DASH}", muted=True)
    if is_missing(row["p_holm"]):
        return Cell("undefined", str(row["undefined_reason"]), muted=True)
    p = float(row["p_holm"])
    said = interval(
        float(row["largest_difference"]), row["ci_low"], row["ci_high"], DECIMALS.get(row["metric"], row["metric"])
    )
    size = f"{plural(int(row['groups']), 'group')}, {plural(int(row['n']), 'slide')}"
    note = f"{row['highest']} less {row['lowest']}: {said}; {size}"
    return Cell("p < 0.001" if p < 0.001 else f"p = {number(p, 3)}", note)
