"""What the report says of encoders side by side, and of what the features of whole cohorts look like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from slidestudy.report.collect import Results
from slidestudy.report.feature_files import ComparisonFiles, SummaryFiles
from slidestudy.report.inline import inline_svg
from slidestudy.report.layout import (
    METRIC_NAMES,
    Cell,
    Column,
    Drawing,
    Table,
    Value,
    count,
    estimate_cell,
    first_row,
    interval_note,
    is_missing,
    make_table,
    number,
)
from slidestudy.validation.metrics import MAIN_METRIC

PROBES = {"linear": "linear", "neighbours": "nearest neighbours"}
SCOPES = {"development": "development cohorts", "all": "all cohorts"}
MOST_DUPLICATES = 20
"""Pairs of slides with near-duplicate tiles that the page lists; the file has all."""
ROBUSTNESS_NOTE = (
    "The robustness index divides the neighbours of the same class by those of the same centre, slides of the same "
    "patient left out: above 1 biology dominates. Its value where neighbours are random stands below it."
)


def comparison_sections(results: Results) -> list[dict[str, Any]]:
    """One section for each comparison of encoders."""
    return [
        {
            "name": name,
            "metrics": _metrics_table(name, files, results),
            "differences": _difference_table(name, files, results),
            "robustness": _comparison_robustness(name, files),
            "figure": _drawing(files.figure, f"comparison-{name}", f"{name}: every encoder, probe and cohort"),
        }
        for name, files in results.comparisons.items()
    ]


def summary_sections(results: Results) -> list[dict[str, Any]]:
    """One section for each encoder whose features were summarised."""
    return [
        {
            "name": name,
            "shift": _shift_table(name, files),
            "robustness": _summary_robustness(name, files),
            "duplicates": _duplicate_table(name, files),
            "figure": _drawing(files.figure, f"map-{name}", f"{name}: map of tiles drawn from every slide"),
        }
        for name, files in results.summaries.items()
    ]


def _drawing(svg: str, name: str, label: str) -> Drawing | None:
    return Drawing(inline_svg(svg, name, label), f"{label}.") if svg else None


def _by_encoder(
    table: pd.DataFrame, metric: str, results: Results, cell: Callable[[dict[str, Any] | None], Cell]
) -> tuple[list[str], list[Sequence[Value]]]:
    """A metric per slide, one row for each encoder and probe, one cell for each of the cohorts, which come first."""
    table = table[(table["level"] == "slide") & (table["metric"] == metric)]
    cohorts = [name for name in results.settings["cohorts"] if (table["cohort"] == name).any()]
    rows: list[Sequence[Value]] = []
    for candidate, probe in dict.fromkeys(zip(table["candidate"], table["probe"], strict=True)):
        found = [first_row(table, candidate=candidate, probe=probe, cohort=cohort) for cohort in cohorts]
        rows.append([Cell(candidate, PROBES.get(probe, probe)), *[cell(row) for row in found]])
    return cohorts, rows


def _metrics_table(name: str, files: ComparisonFiles, results: Results) -> Table | None:
    """The main metric of every encoder and probe on every cohort, per slide."""
    options = results.settings["comparisons"][name]
    metric = MAIN_METRIC[options["task"]]
    cohorts, rows = _by_encoder(files.metrics, metric, results, lambda row: estimate_cell(row, metric))
    if not rows:
        return None
    at = files.metrics[(files.metrics["level"] == "slide") & (files.metrics["metric"] == metric)]
    columns = [Column("Encoder and probe"), *[_cohort_column(at, cohort) for cohort in cohorts]]
    caption = (
        f"{name}: {METRIC_NAMES[metric]} of {options['target']} per slide, by probes on slide vectors over the same "
        f"folds. {interval_note(files.record.get('settings', {}))}"
    )
    return make_table(caption, columns, rows)


def _cohort_column(table: pd.DataFrame, cohort: str) -> Column:
    """A cohort with its role and number of slides."""
    row = table[table["cohort"] == cohort].iloc[0]
    return Column(cohort, f"{row['role']}; {count(int(row['n']))} slides", numeric=True)


def _difference_table(name: str, files: ComparisonFiles, results: Results) -> Table | None:
    """Paired differences from the reference in the main metric, per slide."""
    metric = MAIN_METRIC[results.settings["comparisons"][name]["task"]]
    cohorts, rows = _by_encoder(
        files.differences, metric, results, lambda row: estimate_cell(row, metric, "difference", _p_note(row))
    )
    if not rows:
        return None
    columns = [Column("Encoder and probe"), *[Column(cohort, numeric=True) for cohort in cohorts]]
    caption = (
        f"{name}: {METRIC_NAMES[metric]} minus that of {files.differences['reference'].iloc[0]}, on the same bootstrap "
        "samples of patients; p two-sided, corrected after Holm."
    )
    return make_table(caption, columns, rows)


def _p_note(row: dict[str, Any] | None) -> str:
    """A corrected p-value in words."""
    if row is None or is_missing(row["p_holm"]):
        return ""
    return f"p = {float(row['p_holm']):.3f}" if float(row["p_holm"]) >= 0.001 else "p < 0.001"


def _robustness_cell(row: dict[str, Any] | None) -> Cell:
    """A robustness index, with the value that random neighbours would give."""
    random = "" if row is None or is_missing(row["at_random"]) else f"{number(float(row['at_random']), 2)} at random"
    return estimate_cell(row, "robustness", "index", random)


def _comparison_robustness(name: str, files: ComparisonFiles) -> Table | None:
    """The robustness index of every encoder."""
    table = files.robustness
    if table.empty:
        return None
    scopes = list(dict.fromkeys(table["scope"]))
    rows = [
        [candidate, *[_robustness_cell(first_row(table, candidate=candidate, scope=scope)) for scope in scopes]]
        for candidate in dict.fromkeys(table["candidate"])
    ]
    columns = [Column("Encoder"), *[Column(SCOPES.get(scope, scope), numeric=True) for scope in scopes]]
    caption = f"{name}: robustness index of slide vectors (classes: {table['classes'].iloc[0]}). {ROBUSTNESS_NOTE}"
    return make_table(caption, columns, rows)


def _summary_robustness(name: str, files: SummaryFiles) -> Table | None:
    """The robustness index of drawn tiles, over all cohorts and in each."""
    table = files.robustness
    if table.empty:
        return None
    rows = [
        [subset, int(row["n"]), _robustness_cell(row)]
        for subset in dict.fromkeys(table["subset"])
        if (row := first_row(table, subset=subset)) is not None
    ]
    caption = f"{name}: robustness index of tiles drawn from every slide. {ROBUSTNESS_NOTE}"
    return make_table(caption, ["Tiles of", "#Tiles", Column("Robustness index", numeric=True)], rows)


def _shift_table(name: str, files: SummaryFiles) -> Table | None:
    """How far the features of each two cohorts lie apart."""
    rows: list[Sequence[Value]] = []
    for row in files.shift.to_dict("records"):
        cohorts = f"{row['cohort_a']} and {row['cohort_b']}"
        if is_missing(row["median"]):
            rows.append([cohorts, Cell("undefined", str(row["undefined_reason"]), muted=True), None, None])
            continue
        values = [number(float(row[key]), 2) for key in ("median", "percentile_90")]
        rows.append([cohorts, *values, f"{float(row['share_shifted']):.0%}"])
    if not rows:
        return None
    columns: list[str | Column] = ["Cohorts"]
    columns += [Column(t, numeric=True) for t in ("Median", "90th percentile", "Dimensions from 0.2 on")]
    caption = f"{name}: absolute standardised difference of the features' means between cohorts, over the dimensions."
    return make_table(caption, columns, rows)


def _duplicate_table(name: str, files: SummaryFiles) -> Table:
    """Pairs of slides with near-duplicate tiles."""
    ordered = files.duplicates.sort_values(["n_pairs", "similarity"], ascending=False, kind="stable")
    pairs = ordered.drop_duplicates(["slide_id_a", "slide_id_b"])
    rows = [
        [row["slide_id_a"], row["slide_id_b"], int(row["n_pairs"]), number(float(row["similarity"]), 4)]
        for row in pairs.head(MOST_DUPLICATES).to_dict("records")
    ]
    more = f" The first {MOST_DUPLICATES} of {count(len(pairs))}." if len(pairs) > MOST_DUPLICATES else ""
    caption = f"{name}: pairs of slides with nearly the same tiles among those drawn.{more}"
    columns: list[str | Column] = [
        "Slide",
        "Slide",
        "#Pairs of tiles",
        Column("Highest cosine similarity", numeric=True),
    ]
    return make_table(caption, columns, rows)
