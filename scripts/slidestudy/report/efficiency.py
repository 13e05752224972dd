"""What the report says of label efficiency: models trained on ever more of the patients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from slidestudy.report.collect import Results
from slidestudy.report.inline import inline_svg
from slidestudy.report.layout import (
    METRIC_NAMES,
    Cell,
    Column,
    Drawing,
    Table,
    Value,
    estimate_cell,
    first_row,
    interval_note,
    is_missing,
    make_table,
    number,
    plural,
)
from slidestudy.report.predicted import HOW_PREDICTED


def efficiency_figure(name: str, results: Results) -> Drawing | None:
    """The curves of a model that was trained on shares of the patients; None for others."""
    figure = results.models[name].label_efficiency_figure
    if not figure or not _is_wanted(name, results):
        return None
    label = f"{name}: the headline metric per slide against the number of patients in the training part"
    caption = f"{label}. Training on all of them is the model itself."
    return Drawing(inline_svg(figure, f"label-efficiency-{name}", label), caption)


def efficiency_table(name: str, results: Results) -> Table | None:
    """The headline metric per slide, one row for each share of the patients; None where no share was trained on."""
    files = results.models[name]
    table = files.label_efficiency[files.label_efficiency["level"] == "slide"]
    if table.empty or not _is_wanted(name, results):
        return None
    metric = str(table["metric"].iloc[0])
    cohorts = [cohort for cohort in results.settings["cohorts"] if (table["cohort"] == cohort).any()]
    most = {cohort: int(table.loc[table["cohort"] == cohort, "n"].max()) for cohort in cohorts}
    rows: list[Sequence[Value]] = []
    for _, at in table.groupby("fraction", sort=True):
        cells = [_estimate_cell(first_row(at, cohort=cohort), metric, most[cohort]) for cohort in cohorts]
        rows.append([_share_cell(at.iloc[0]), *cells])
    columns = [Column("Share of the patients"), *[_cohort_column(table, cohort, most[cohort]) for cohort in cohorts]]
    caption = (
        f"{name}: {METRIC_NAMES.get(metric, metric)} per slide when trained on shares of the training part's patients, "
        f"judged on the same slides. {interval_note(files.intervals, percentile=True)}"
    )
    return make_table(caption, columns, rows)


def _is_wanted(name: str, results: Results) -> bool:
    """Whether the study still asks for it: files of an earlier configuration may be left over."""
    return "label_efficiency" in results.settings["models"][name]


def _share_cell(row: pd.Series) -> Cell:
    """A share with its patients and slides, and what could not be trained."""
    patients, slides = (number(float(row[key]), 0) for key in ("train_patients", "train_slides"))
    failed = int(row["failed"])
    flag = f"{failed} of {int(row['trainings'])} trainings failed" if failed else ""
    note = f"{patients} patients, {slides} slides (mean over folds)"
    return Cell(f"{float(row['fraction']):.3g}", f"{note}; {row['failures']}" if failed else note, flag)


def _estimate_cell(row: dict[str, Any] | None, metric: str, most: int) -> Cell:
    """A metric, with its spread over the draws of patients, and its slides where other shares have more."""
    if row is None:
        return estimate_cell(row, metric)
    notes = []
    if 0 < int(row["n"]) < most:
        notes.append(f"only {plural(int(row['n']), 'slide')}")
    if not is_missing(row["repeat_sd"]):
        notes.append(f"SD {number(float(row['repeat_sd']), 2)} over {plural(int(row['repeats']), 'draw')}")
    return estimate_cell(row, metric, note="; ".join(notes))


def _cohort_column(table: pd.DataFrame, cohort: str, slides: int) -> Column:
    """A cohort with how it was predicted and its slides."""
    role = str(table.loc[table["cohort"] == cohort, "role"].iloc[0])
    return Column(cohort, f"{HOW_PREDICTED.get(role, role)}; {plural(slides, 'slide')}", numeric=True)
