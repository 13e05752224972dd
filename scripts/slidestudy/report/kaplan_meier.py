"""What the report shows of the survival of groups of patients: curves, survival at given times and log-rank tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from slidestudy.report.inline import inline_svg
from slidestudy.report.kaplan_meier_files import KaplanMeierFiles
from slidestudy.report.layout import Cell, Column, Drawing, Table, Value, estimate_cell, is_missing, make_table, number

FIGURES = {
    "kaplan-meier": "Kaplan-Meier curves by the cut-offs of each score, or by its median where it has none",
    "kaplan-meier-median": "Kaplan-Meier curves below and above each cohort's median score, itself counted as above",
}
NOT_REACHED = "not reached"


def kaplan_meier_parts(name: str, files: KaplanMeierFiles) -> list[Drawing | Table]:
    """Figures and tables of a model in the order of the page; empty where there is nothing.

    Args:
        name: The model.
        files: Its files.
    """
    if files.survival.empty:
        return []
    parts: list[Drawing | Table] = []
    by_median_only = set(files.survival["split"]) == {"median"}
    figures = {"kaplan-meier": "" if by_median_only else files.figure, "kaplan-meier-median": files.median_figure}
    for part, figure in figures.items():
        if figure:
            ends = "" if files.confidence is None else f"{files.confidence:.0%} "
            words = f"{name}: {FIGURES[part]}; bands are pointwise {ends}intervals, ticks are censored patients."
            parts.append(Drawing(inline_svg(figure, f"{part}-{name}", words), words))
    for (endpoint, score), own in files.survival.groupby(["endpoint", "score"], sort=False):
        tests = files.tests[(files.tests["endpoint"] == endpoint) & (files.tests["score"] == score)]
        parts.append(_survival_table(name, own, tests, files))
    return parts


def _survival_table(name: str, own: pd.DataFrame, tests: pd.DataFrame, files: KaplanMeierFiles) -> Table:
    """A row for each cohort and group of one score: survival at each time, its median, and the test of the split."""
    endpoint, score = (str(own[key].iloc[0]) for key in ("endpoint", "score"))
    unit = files.units.get(endpoint, "")
    times = sorted(own["time"].dropna().unique())
    rows: list[Sequence[Value]] = []
    for (cohort, split), of_split in own.groupby(["cohort", "split"], sort=False):
        test = tests[(tests["cohort"] == cohort) & (tests["split"] == split)]
        said: Value = _test_cell(test)
        for group, of_group in of_split.groupby("group", sort=False):
            found = {row["time"]: row for row in of_group.to_dict("records")}
            first = of_group.iloc[0]
            at = [estimate_cell(found[time], "auroc", column="survival", note=_left(found[time])) for time in times]
            rows.append([
                Cell(str(cohort), "by the median" if split == "median" else "by cut-offs"),
                _shown(str(group)), int(first["n"]), int(first["n_events"]), *at,
                _median_cell(first), said,
            ])  # fmt: skip
            said = Cell("")
    heads = [Column(f"At {time:g}", unit, numeric=True) for time in times]
    columns: list[str | Column] = [Column("Cohort"), Column("Group", score), "#Patients", "#Events", *heads]
    columns += [Column("Median", unit, numeric=True), Column("Log-rank", "p of the split", numeric=True)]
    return make_table(_caption(name, endpoint, score, files), columns, rows)


def _caption(name: str, endpoint: str, score: str, files: KaplanMeierFiles) -> str:
    by = "" if score == name else f" by {score}"
    ends = "" if files.confidence is None else f" {files.confidence:.0%}"
    return (
        f"{name}: {endpoint}{by}, the share without the event at given times (Kaplan-Meier), pointwise{ends} log-log "
        "intervals. The p-values of the log-rank tests are not adjusted for their number."
    )


def _shown(group: str) -> str:
    """A group's name, not broken over lines."""
    return group.replace(">=", "\N{GREATER-THAN OR EQUAL TO}").replace(" ", "\N{NO-BREAK SPACE}")


def _left(row: dict[str, Any]) -> str:
    """How many are still followed."""
    return f"{int(row['at_risk'])} at risk" if not is_missing(row["survival"]) else ""


def _median_cell(row: pd.Series) -> Cell:
    """The median with its interval, whose upper end is often not reached."""
    if is_missing(row["median_survival"]):
        reason = "" if is_missing(row["median_undefined_reason"]) else str(row["median_undefined_reason"])
        low = "" if is_missing(row["median_low"]) else f"lower end of the interval {_short(row['median_low'])}"
        return Cell(NOT_REACHED if row["n"] else "undefined", low or ("" if row["n"] else reason), muted=True)
    ends = [NOT_REACHED if is_missing(row[key]) else _short(row[key]) for key in ("median_low", "median_high")]
    return Cell(f"{_short(row['median_survival'])} ({' to '.join(ends)})")


def _short(value: float) -> str:
    return f"{value:,.3g}" if abs(value) < 1000 else number(value, 0)


def _test_cell(test: pd.DataFrame) -> Value:
    """The log-rank test of a split."""
    if test.empty:
        return None
    row = test.iloc[0]
    if is_missing(row["p"]):
        return Cell("undefined", str(row["undefined_reason"]), muted=True)
    notes = [f"χ² = {number(float(row['statistic']), 1)}, df = {int(row['df'])}"]
    notes += [] if is_missing(row["strata"]) or not row["strata"] else [f"within {row['strata']}"]
    notes += [f"n = {int(row['n'])}"]
    notes += [] if is_missing(row["trend_p"]) else [f"trend {_p(row['trend_p'])}"]
    return Cell(_p(row["p"]), "; ".join(notes))


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {number(float(p), 3)}"
