"""What the report shows of scores and survival: hazard ratios, their tests and concordance, Kaplan-Meier curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from slidestudy.report.collect import Results
from slidestudy.report.inline import inline_svg
from slidestudy.report.kaplan_meier import kaplan_meier_parts
from slidestudy.report.layout import (
    Cell,
    Column,
    Drawing,
    Table,
    Value,
    estimate_cell,
    first_row,
    is_missing,
    make_table,
    number,
)
from slidestudy.report.survival_files import SurvivalFiles

UNIVARIABLE, COVARIATES, MULTIVARIABLE = "univariable", "covariates only", "multivariable"


def survival_parts(name: str, results: Results) -> list[Drawing | Table]:
    """Figures and tables of a model in the order of the page; empty where there is nothing.

    Args:
        name: The model.
        results: The results folder.
    """
    files = results.models[name].survival
    parts: list[Drawing | Table] = []
    if files.figure and len(files.cox):
        words = (
            f"{name}: hazard ratios of Cox models with {_coverage(files)}intervals; filled the score alone, hollow "
            "adjusted for the covariates. All scores of an endpoint on the same patients, whose numbers it says."
        )
        parts.append(Drawing(inline_svg(files.figure, f"hazard-ratios-{name}", words), words))
    for endpoint, own in files.cox.groupby("endpoint", sort=False):
        tests = files.tests[files.tests["endpoint"] == endpoint]
        parts += [_ratio_table(name, str(endpoint), own, tests, files), _test_table(name, str(endpoint), tests, files)]
    return [*parts, *kaplan_meier_parts(name, files.kaplan_meier)]


def _coverage(files: SurvivalFiles) -> str:
    """The coverage of the intervals, where it is known, and a space."""
    known = files.kaplan_meier.confidence
    return "" if known is None else f"{known:.0%} "


def _ratio_table(name: str, endpoint: str, own: pd.DataFrame, tests: pd.DataFrame, files: SurvivalFiles) -> Table:
    """A row for each cohort, analysis and term."""
    rows: list[Sequence[Value]] = []
    for row in own.to_dict("records"):
        hazards = tests[(tests["test"] == "proportional_hazards") & (tests["term"] == row["term"])]
        keys = {key: str(row[key]) for key in ("cohort", "score", "analysis")}
        dropped = f"{int(row['n_dropped'])} left out" if row["n_dropped"] else ""
        rows.append([
            Cell(str(row["cohort"]), _kind(row)), _term_cell(row), Cell(f"{int(row['n']):,}", dropped),
            int(row["n_events"]), estimate_cell(row, "hazard_ratio", "hazard_ratio", _text(row["warning"])),
            _p_cell(row["p"]), _p_cell((first_row(hazards, **keys) or {"p": None})["p"]),
        ])  # fmt: skip
    return make_table(_caption(name, endpoint, own, files), _RATIO_HEADS, rows)


_RATIO_HEADS: list[str | Column] = [
    Column("Cohort"), Column("Term"), "#Patients", "#Events", Column("Hazard ratio", numeric=True),
    Column("p", numeric=True), Column("p", "of proportional hazards", numeric=True),
]  # fmt: skip


def _caption(name: str, endpoint: str, own: pd.DataFrame, files: SurvivalFiles) -> str:
    first = own.iloc[0]
    words = f"{name}: {endpoint}, hazard ratios of Cox models with {_coverage(files)}intervals"
    words += ", cluster-robust" if first["standard_errors"] == "cluster-robust" else ""
    words += f", stratified by {first['strata']}" if _text(first["strata"]) else ""
    most = own["imputations"].max()
    if first["missing"] == "imputation" and not is_missing(most) and most > 0:
        words += f"; blank covariates imputed {int(most)} times"
    needed = "one of the scores" if first["missing"] == "imputation" else "one of the scores or covariates"
    return f"{words}. Patients without time, event or {needed} are left out of all analyses of a cohort."


def _kind(row: dict[str, Any]) -> str:
    """Which analysis a row is of."""
    if row["analysis"] == MULTIVARIABLE:
        return f"{row['score']} and covariates"
    return "covariates only" if row["analysis"] == COVARIATES else "alone"


def _term_cell(row: dict[str, Any]) -> Cell:
    """A term, with what its hazard ratio is for."""
    if _text(row["level"]):
        return Cell(f"{row['term']}: {row['level']}", f"against {row['reference']}")
    if is_missing(row["per"]):
        return Cell(str(row["term"]))
    amount = f"{float(row['per']):.3g}"
    return Cell(str(row["term"]), f"per SD ({amount})" if row["scale"] == "sd" else f"per {amount}")


def _test_table(name: str, endpoint: str, tests: pd.DataFrame, files: SurvivalFiles) -> Table:
    """A row for each cohort and score: what it adds, and how well it ranks the patients."""
    adjusted = bool((tests["analysis"] == MULTIVARIABLE).any())
    rows: list[Sequence[Value]] = []
    for (cohort, score), own in tests[tests["score"] != ""].groupby(["cohort", "score"], sort=False):
        alone = own[own["analysis"] == UNIVARIABLE]
        both = own[own["analysis"] == MULTIVARIABLE]
        concordance = first_row(alone, test="c_index")
        against = None if concordance is None or is_missing(concordance["p"]) else _p(concordance["p"])
        first = own.iloc[0]
        row: list[Value] = [
            Cell(str(cohort), str(score)), int(first["n"]), int(first["n_events"]), _added_cell(alone),
            estimate_cell(concordance, "c_index", "statistic", f"{against} against 0.5" if against else ""),
        ]  # fmt: skip
        if adjusted:
            covariates = tests[(tests["cohort"] == cohort) & (tests["analysis"] == COVARIATES)]
            row += [
                _added_cell(both),
                estimate_cell(first_row(covariates, test="c_index"), "c_index", "statistic"),
                estimate_cell(first_row(both, test="c_index"), "c_index", "statistic"),
                estimate_cell(first_row(both, test="c_index_difference"), "c_index", "statistic"),
            ]
        rows.append(row)
    heads: list[str | Column] = [Column("Cohort", "score"), "#Patients", "#Events"]
    heads += [Column("Score alone", "p", numeric=True), Column("C-index", "of the score", numeric=True)]
    if adjusted:
        heads += [
            Column("Added to covariates", "p", numeric=True),
            Column("C-index", "of the covariates", numeric=True),
        ]
        heads += [
            Column("C-index", "of both", numeric=True),
            Column("Difference", "both less covariates", numeric=True),
        ]
    caption = (
        f"{name}: {endpoint}, what each score adds, by likelihood ratio unless another test is named, and Harrell's C "
        f"with {_coverage(files)}percentile intervals over patients. The C of a score is below 0.5 where high scores "
        "go with long survival; that of a fitted model is apparent, on the patients it was fitted to."
    )
    return make_table(caption, heads, rows)


def _added_cell(own: pd.DataFrame) -> Value:
    """The test of what a score adds."""
    row = first_row(own, test="likelihood_ratio") or first_row(own, test="wald")
    if row is None:
        return None
    if is_missing(row["p"]):
        return Cell("undefined", str(row["undefined_reason"]), muted=True)
    name = "Wald, " if row["test"] == "wald" else ""
    return Cell(_p(row["p"]), f"{name}χ² = {number(float(row['statistic']), 1)}")


def _p_cell(p: Any) -> Value:
    return None if is_missing(p) else _p(p).removeprefix("p = ").removeprefix("p ")


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {number(float(p), 3)}"


def _text(value: Any) -> str:
    """A cell of text, blank where there is none."""
    return "" if is_missing(value) else str(value)
