"""What the report says of a model beside the other models of its target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from slidestudy.report.collect import Results
from slidestudy.report.layout import (
    Cell,
    Column,
    Drawing,
    Table,
    Value,
    count,
    estimate_cell,
    first_row,
    interval,
    interval_note,
    is_missing,
    make_table,
    number,
)
from slidestudy.report.metric_rows import MetricRow


def rivals_parts(name: str, results: Results) -> list[Drawing | Table]:
    """The table of differences per slide; nothing where the model has no rival."""
    table = results.models[name].rivals
    table = table[table["level"] == "slide"]
    if table.empty:
        return []
    rivals = list(dict.fromkeys(table["rival"]))
    cohorts = [cohort for cohort in results.settings["cohorts"] if cohort in set(table["cohort"])]
    rows: list[Sequence[Value]] = []
    for rival in rivals:
        own = table[table["rival"] == rival]
        cutoffs = [None if is_missing(value) else float(value) for value in own["threshold"]]
        keys = dict.fromkeys(zip(own["metric"], cutoffs, own["better"], strict=True))
        for metric, threshold, better in keys:
            at = own[own["threshold"].isna() if threshold is None else own["threshold"] == threshold]
            found = [first_row(at, cohort=cohort, metric=metric) for cohort in cohorts]
            note = " ".join([f"against {rival};" if len(rivals) > 1 else "", f"{better} is better"]).strip()
            rows.append([Cell(_label(name, metric, threshold, results), note), *[_cell(row, metric) for row in found]])
    heads = [Column(cohort, _slides(table[table["cohort"] == cohort]), numeric=True) for cohort in cohorts]
    others = f"model of its target, {rivals[0]}" if len(rivals) == 1 else "models of its target"
    caption = (
        f"{name}: against the other {others}, per slide: its value less the other's on the same slides and the same "
        "draws of patients. p two-sided, corrected after Holm; of AUROC that of DeLong's test too. "
        + interval_note(results.models[name].intervals, percentile=True)
    )
    return [make_table(caption, [Column("Metric"), *heads], rows)]


def _label(name: str, metric: str, threshold: float | None, results: Results) -> str:
    """A metric in words."""
    model = results.settings["models"][name]
    return MetricRow(metric, "", threshold).label(model["task"], str(model.get("cutoff_rule", ">")))


def _slides(table: pd.DataFrame) -> str:
    """How many slides are compared in a cohort, and how many only one of the models predicted."""
    left_out = int(table["n_left_out"].max())
    return f"{count(int(table['n'].max()))} slides" + (f", {count(left_out)} left out" if left_out else "")


def _cell(row: dict[str, Any] | None, metric: str) -> Cell:
    """A difference with its interval; below it both values and the p-values."""
    if row is None or is_missing(row["difference"]):
        return estimate_cell(row, metric, "difference")
    values = [interval(float(row[key]), None, None, metric) for key in ("value", "rival_value")]
    said = [" against ".join(values), _p("p", row["p_holm"]), _p("DeLong p", row["p_delong_holm"])]
    return estimate_cell(row, metric, "difference", "; ".join(filter(None, said)))


def _p(word: str, p: Any) -> str:
    """A p-value in words, blank where there is none."""
    if is_missing(p):
        return ""
    return f"{word} < 0.001" if float(p) < 0.001 else f"{word} = {number(float(p), 3)}"
