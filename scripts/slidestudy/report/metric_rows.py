"""The rows of a table of metrics: which there are, what they are called, and which are shown of very many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from slidestudy.binary_statistics import DECISIONS
from slidestudy.labels import is_survival
from slidestudy.report.layout import METRIC_NAMES, Cell, estimate_cell, first_row, is_missing, plural
from slidestudy.validation.metrics import MAIN_METRIC, SUMMARIES

MOST_ROWS = 40
"""Most rows of a table that are all shown."""
ENDS = 20
"""How many of the highest and of the lowest targets are shown where there are more."""


UNTIL = ("c_index_uno", "integrated_brier")
"""Metrics whose threshold is the time up to which they speak."""


def sign_of(task: str, rule: str) -> str:
    """What stands before a cut-off."""
    return "event by" if is_survival(task) else {">=": "≥"}.get(rule, rule)


def is_decision(table: pd.DataFrame, task: str) -> pd.Series:
    """Which rows of a table of metrics speak of decisions, not of scores; a mean over classes is a summary."""
    found = table["metric"].isin(list(DECISIONS))
    return found & (table["target"] != "") if task == "multiclass" else found


def threshold_words(target: str, threshold: float | None, task: str, rule: str) -> str:
    """What is decided, e.g. `> 30`, `at 0.41`, or the class."""
    sign = "at" if task == "classification" else sign_of(task, rule)
    return (
        " ".join(filter(None, [target, "" if is_missing(threshold) else f"{sign} {threshold:.3g}"])) or "no threshold"
    )


@dataclass(frozen=True)
class MetricRow:
    """A row of a table of metrics.

    Attributes:
        metric: The metric.
        target: The target or class; empty for a model's only one and for a summary.
        threshold: The cut-off, or None.
    """

    metric: str
    target: str
    threshold: float | None

    def label(self, task: str, rule: str) -> str:
        """What it is called, e.g. `AUROC, > 30`."""
        name = METRIC_NAMES.get(self.metric, self.metric)
        sign = "until" if self.metric in UNTIL else sign_of(task, rule)
        cutoff = "" if self.threshold is None else f"{sign} {self.threshold:g}"
        return ", ".join(filter(None, [name, " ".join(filter(None, [self.target, cutoff]))]))

    def cell(self, table: pd.DataFrame, cohort: str, task: str) -> Cell:
        """Its value in a cohort, with the number of positives, events or targets where it has one."""
        at = table[table["threshold"].isna() if self.threshold is None else table["threshold"] == self.threshold]
        row = first_row(at, cohort=cohort, metric=self.metric, target=self.target)
        return estimate_cell(row, self.metric, note=_note(row, task))


def _note(row: dict[str, Any] | None, task: str) -> str:
    if row is None:
        return ""
    if not is_missing(row["n_targets"]):
        several = ("class", "classes") if task == "multiclass" else ("target", "targets")
        return f"of {plural(int(row['n_targets']), *several)}"
    if is_missing(row["n_positive"]):
        return ""
    positive = int(row["n_positive"])
    return plural(positive, "event") if is_survival(task) else f"{positive} positive"


def chosen_rows(table: pd.DataFrame, task: str) -> tuple[list[MetricRow], str]:
    """The rows that are shown.

    Of a model of many targets these are the summaries and, of the metric that is the headline's, the targets that
    are highest and lowest in the first cohort.

    Args:
        table: The metrics of a level.
        task: The model's task.

    Returns:
        The rows, and a sentence on those that are not shown (empty if all are).
    """
    keys = zip(table["metric"], table["target"], table["threshold"], strict=True)
    rows = [MetricRow(*key) for key in dict.fromkeys((m, t, None if is_missing(c) else float(c)) for m, t, c in keys)]
    if len(rows) <= MOST_ROWS:
        return rows, ""
    headline = next((m for m, mean in SUMMARIES.get(task, {}).items() if mean == MAIN_METRIC[task]), MAIN_METRIC[task])
    of_targets = [row for row in rows if row.target and row.metric == headline and row.threshold is None]
    shown, some = _ends(of_targets, table)
    which = f"the {ENDS} highest and the {ENDS} lowest of {len(of_targets)} targets in the first cohort" if some else ""
    name = METRIC_NAMES.get(headline, headline)
    note = f"Of single targets the {name} is shown{f', of {which}' if which else ''}; metrics.tsv has all."
    return [row for row in rows if not row.target] + shown, note


def _ends(rows: Sequence[MetricRow], table: pd.DataFrame) -> tuple[list[MetricRow], bool]:
    """The rows with the highest and lowest values in the first cohort, and whether some are left out."""
    if len(rows) <= 2 * ENDS:
        return list(rows), False
    at = table[(table["cohort"] == table["cohort"].iloc[0]) & (table["metric"] == rows[0].metric)]
    values = at[at["threshold"].isna()].set_index("target")["value"].astype(float)
    ordered = sorted(rows, key=lambda row: -values.get(row.target, float("nan")))
    known = [row for row in ordered if not is_missing(values.get(row.target))]
    kept = known if len(known) > 2 * ENDS else list(rows)
    return [*kept[:ENDS], *kept[-ENDS:]], True
