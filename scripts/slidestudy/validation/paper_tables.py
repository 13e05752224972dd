"""The tables of a paper, from the tables of a validation: a row for each metric, a column for each cohort."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from slidestudy.binary_statistics import DECISIONS
from slidestudy.files import write_text
from slidestudy.labels import is_survival, target_text
from slidestudy.validation.metric_names import METRIC_NAMES, UNBOUNDED
from slidestudy.validation.metrics import MAIN_METRIC
from slidestudy.validation.paper_format import DASH, PaperCell, PaperTable, to_latex, to_markdown

Row = Mapping[str, Any]
MOST_ROWS = 40
"""Most rows of a table; of a model of more targets or classes only the summaries over them are shown."""
UNTIL = ("c_index_uno", "integrated_brier")
"""Metrics whose threshold is the time up to which they speak."""
SMALL_P = 0.001
LARGE = 1000
ABSENT = "not in this cohort"


def write_paper_tables(
    folder: str | os.PathLike[str], found: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]
) -> None:
    """Writes `<name>.md` and `<name>.tex` of each table.

    Args:
        folder: The folder, which is there.
        found: What there is of `metrics cox comparison subgroups shift`.
        settings: The model's validation settings: `model task target cutoff_rule bootstrap confidence interval`.
    """
    made: dict[str, list[PaperTable]] = {
        "metrics": metric_tables(found["metrics"], settings),
        "decisions": decision_tables(found["metrics"], settings),
    }
    makers = {"cox": cox_tables, "comparison": comparison_tables, "subgroups": subgroup_tables, "shift": shift_tables}
    made |= {name: make(found[name], settings) for name, make in makers.items() if name in found}
    for name, tables in made.items():
        if tables:
            write_text(Path(folder) / f"{name}.md", to_markdown(tables))
            write_text(Path(folder) / f"{name}.tex", to_latex(tables, str(settings["model"])))


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def number(value: float, metric: str = "") -> str:
    """Two decimals; of a metric in the target's unit, and of 1,000 or more, three significant digits; no minus zero."""
    if metric not in UNBOUNDED and abs(value) >= LARGE:
        return f"{value:.3g}"
    decimals = 2
    if metric in UNBOUNDED and value != 0:
        decimals = min(4, max(0, 2 - math.floor(math.log10(abs(value)))))
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if not float(text) else text


def p_text(p: float) -> str:
    """A p value, e.g. `p = 0.012` or `p < 0.001`."""
    return f"p < {SMALL_P:g}" if p < SMALL_P else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def value_cell(row: Row | None, column: str = "value", p: str | None = None, size: int | None = None) -> PaperCell:
    """An estimate as `0.71 (0.45 to 0.87)`; a dash with the reason where it is undefined.

    Args:
        row: `ci_low ci_high undefined_reason metric n` and the value's column; None where there is no such row.
        column: The value's column.
        p: The column of its p value, if that is to stand behind it.
        size: The rows of the column; `n` is told where it differs.
    """
    if row is None:
        return PaperCell(DASH, ABSENT)
    reason = "" if _is_missing(row.get("undefined_reason")) else str(row["undefined_reason"])
    if _is_missing(row[column]):
        return PaperCell(DASH, reason or "undefined")
    metric = str(row.get("metric", ""))
    parts = [number(row[column], metric)]
    if not _is_missing(row["ci_low"]) and not _is_missing(row["ci_high"]):
        parts[0] += f" ({number(row['ci_low'], metric)} to {number(row['ci_high'], metric)})"
    if p is not None and not _is_missing(row.get(p)):
        parts.append(p_text(float(row[p])))
    if size is not None and not _is_missing(row["n"]) and int(row["n"]) != size:
        parts.append(f"n = {int(row['n'])}")
    return PaperCell(", ".join(parts), reason)


def _first(table: pd.DataFrame) -> Row | None:
    """The first row, or None."""
    rows = table.to_dict("records")
    return {str(key): value for key, value in rows[0].items()} if rows else None


def _sizes(table: pd.DataFrame, cohorts: Iterable[str], level: str) -> tuple[dict[str, int], list[PaperCell]]:
    """Most rows of each cohort, and the cells that say so, with the patients."""
    sizes, cells = {}, []
    for cohort in cohorts:
        rows = table[table["cohort"] == cohort].sort_values("n", ascending=False, kind="stable")
        sizes[cohort] = int(rows["n"].iloc[0])
        patients = int(rows["n_patients"].max())
        both = f"{sizes[cohort]} slides, {patients} patients"
        cells.append(PaperCell(both if level == "slide" else f"{patients} patients"))
    return sizes, cells


def _heads(table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Cohorts in the table's order, and their headings with their roles."""
    pairs = dict(zip(table["cohort"], table["role"], strict=True))
    return list(pairs), [f"{cohort} ({role})" for cohort, role in pairs.items()]


def _intervals(settings: Mapping[str, Any]) -> str:
    """How the intervals were made."""
    kind = {"bca": "BCa", "percentile": "percentile"}.get(str(settings.get("interval", "percentile")), "")
    samples = f"{settings['bootstrap']:,} bootstrap samples of whole patients"
    return f"{settings['confidence']:.0%} {kind} intervals from {samples}."


def _subject(settings: Mapping[str, Any]) -> str:
    """The model and what it predicts."""
    return f"Model {settings['model']} of {target_text(dict(settings))}"


def is_decision(table: pd.DataFrame, task: str) -> pd.Series:
    """Which rows speak of decisions of yes or no; a mean over classes does not."""
    found = table["metric"].isin(list(DECISIONS))
    return found & (table["target"] != "") if task == "multiclass" else found


def _named(metric: str, target: str, threshold: float | None, settings: Mapping[str, Any]) -> str:
    """What a row of metrics is called, e.g. `AUROC, > 30`."""
    task = settings["task"]
    sign = "until" if metric in UNTIL else "event by" if is_survival(task) else settings["cutoff_rule"]
    cutoff = "" if threshold is None else f"{sign} {threshold:g}"
    return ", ".join(filter(None, [METRIC_NAMES.get(metric, metric), f"{target} {cutoff}".strip()]))


def _with_text(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose blank targets are empty text."""
    return table.assign(target=table["target"].fillna("").astype(str)) if "target" in table else table.assign(target="")


def _keys(table: pd.DataFrame, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """The distinct values of some columns together, in the table's order; None where blank."""
    columns = ([None if _is_missing(value) else value for value in table[name].tolist()] for name in names)
    return list(dict.fromkeys(zip(*columns, strict=True)))


def _at(table: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """The rows with these values; None asks for a blank."""
    for name, value in wanted.items():
        table = table[table[name].isna() | (table[name] == "") if value is None else table[name] == value]
    return table


def metric_tables(metrics: pd.DataFrame, settings: Mapping[str, Any]) -> list[PaperTable]:
    """The metrics that are no decisions, per slide and per patient.

    Args:
        metrics: As `study.validate` gives them.
        settings: `model task target cutoff_rule bootstrap confidence interval`.
    """
    table = _with_text(metrics)
    chosen = table[~is_decision(table, settings["task"])]
    if len(_keys(chosen, ("metric", "target", "threshold"))) > MOST_ROWS:
        chosen = chosen[chosen["target"] == ""]
        said = "Means over the targets; metrics.tsv has each."
    else:
        said = ""
    tables = []
    for level in ("slide", "patient"):
        rows = chosen[chosen["level"] == level]
        if len(rows):
            caption = f"{_subject(settings)}: metrics per {level}. {_intervals(settings)} {said}".rstrip()
            tables.append(_metric_table(rows, f"metrics-{level}", caption, level, settings))
    return tables


def _metric_table(table: pd.DataFrame, name: str, caption: str, level: str, settings: Mapping[str, Any]) -> PaperTable:
    """A row for each metric, target and cut-off."""
    cohorts, heads = _heads(table)
    sizes, counts = _sizes(table, cohorts, level)
    rows = [("n", counts)]
    for metric, target, threshold in _keys(table, ("metric", "target", "threshold")):
        of_row = _at(table, metric=metric, target=target, threshold=threshold)
        cells = [value_cell(_first(_at(of_row, cohort=cohort)), size=sizes[cohort]) for cohort in cohorts]
        rows.append((_named(metric, target or "", threshold, settings), cells))
    return PaperTable(name, caption, ["Metric", *heads], rows)


def decision_tables(metrics: pd.DataFrame, settings: Mapping[str, Any]) -> list[PaperTable]:
    """What the decisions of yes or no are worth, per slide and per patient; none of tasks without decisions.

    A classification's threshold is the one frozen on the validation parts: the mean over the rows of a cohort stands
    in a row of its own.

    Args:
        metrics: As `study.validate` gives them.
        settings: `model task target cutoff_rule bootstrap confidence interval`.
    """
    table, task = _with_text(metrics), settings["task"]
    chosen = table[is_decision(table, task)]
    if len(_keys(chosen, ("metric", "target"))) > MOST_ROWS:
        return []
    tables = []
    for level in ("slide", "patient"):
        of_level = chosen[chosen["level"] == level]
        if of_level.empty:
            continue
        caption = f"{_subject(settings)}: decisions per {level}. {_intervals(settings)}"
        if task == "classification":
            tables.append(_frozen(of_level, f"decisions-{level}", caption, level, settings))
        else:
            tables.append(_metric_table(of_level, f"decisions-{level}", caption, level, settings))
    return tables


def _frozen(table: pd.DataFrame, name: str, caption: str, level: str, settings: Mapping[str, Any]) -> PaperTable:
    """Decisions whose threshold differs between cohorts."""
    cohorts = _heads(table)[0]
    thresholds = [_first(_at(table, cohort=cohort)) for cohort in cohorts]
    cells = [
        PaperCell(DASH, "no threshold") if row is None or _is_missing(row["threshold"])
        else PaperCell(f"{float(row['threshold']):.3g}")
        for row in thresholds
    ]  # fmt: skip
    made = _metric_table(table.assign(threshold=None), name, caption, level, settings)
    made.rows.insert(1, ("Threshold (mean)", cells))
    return made


def cox_tables(cox: pd.DataFrame, settings: Mapping[str, Any]) -> list[PaperTable]:
    """Hazard ratios of each endpoint: a row for each term of each analysis of each score.

    Args:
        cox: `endpoint cohort role score analysis term level reference per scale hazard_ratio ci_low ci_high p n
            n_events undefined_reason`.
        settings: `model confidence`.
    """
    names = ("score", "analysis", "term", "level", "reference", "scale")
    tables = []
    for (endpoint,) in _keys(cox, ("endpoint",)):
        table = _at(cox, endpoint=endpoint)
        cohorts, heads = _heads(table)
        rows = []
        for key in _keys(table, names):
            of_row = _at(table, **dict(zip(names, key, strict=True)))
            words = _term_words(of_row.to_dict("records")[0])
            cells = [_hazard_cell(_first(_at(of_row, cohort=cohort))) for cohort in cohorts]
            rows.append((f"{', '.join(filter(None, key[:2]))}: {words}", cells))
        caption = (
            f"Cox regression of {endpoint}: hazard ratios, {settings['confidence']:.0%} intervals and p values by Wald."
        )
        tables.append(PaperTable(f"cox-{endpoint}", caption, ["Analysis: term", *heads], rows))
    return tables


def _term_words(row: Mapping[Any, Any]) -> str:
    """A term with the amount, or the levels, that its hazard ratio compares."""
    if not _is_missing(row["level"]):
        return f"{row['term']} {row['level']} (to {row['reference']})"
    if row["scale"] == "sd":
        return f"{row['term']} per SD"
    return str(row["term"]) if _is_missing(row["per"]) else f"{row['term']} per {row['per']:g}"


def _hazard_cell(row: Row | None) -> PaperCell:
    """A hazard ratio with its p value and its patients and events."""
    cell = value_cell(row, "hazard_ratio", "p")
    if row is None or cell.text == DASH or _is_missing(row["n"]):
        return cell
    return PaperCell(f"{cell.text}; {int(row['n'])} patients, {int(row['n_events'])} events", cell.note)


def comparison_tables(comparison: pd.DataFrame, settings: Mapping[str, Any]) -> list[PaperTable]:
    """Differences to each rival on the same slides, and per patient.

    Args:
        comparison: `model rival cohort role level metric threshold difference ci_low ci_high p_holm n n_patients
            undefined_reason`.
        settings: `model task target cutoff_rule bootstrap confidence`.
    """
    tables = []
    for rival, level in _keys(comparison, ("rival", "level")):
        table = _with_text(_at(comparison, rival=rival, level=level))
        cohorts, heads = _heads(table)
        sizes, counts = _sizes(table, cohorts, level)
        rows = [("n", counts)]
        for metric, target, threshold in _keys(table, ("metric", "target", "threshold")):
            of_row = _at(table, metric=metric, target=target, threshold=threshold)
            cells = [
                value_cell(_first(_at(of_row, cohort=cohort)), "difference", "p_holm", sizes[cohort])
                for cohort in cohorts
            ]
            rows.append((_named(metric, target or "", threshold, settings), cells))
        caption = (
            f"{_subject(settings)} against {rival}, per {level}: differences ({settings['model']} minus {rival}) on "
            f"the same {level}s. {_intervals({**settings, 'interval': 'percentile'})} p values after Holm."
        )
        tables.append(PaperTable(f"comparison-{rival}-{level}", caption, ["Metric", *heads], rows))
    return tables


def subgroup_tables(subgroups: pd.DataFrame, settings: Mapping[str, Any]) -> list[PaperTable]:
    """The headline metric in each group of patients or slides.

    Args:
        subgroups: `column group` before the columns of the metrics.
        settings: `model task target bootstrap confidence interval`.
    """
    metric = MAIN_METRIC[settings["task"]]
    table = _with_text(subgroups)
    main = _at(table[table["threshold"].isna()], metric=metric, target=None)
    tables = []
    for level in ("slide", "patient"):
        of_level = main[main["level"] == level]
        if of_level.empty:
            continue
        cohorts, heads = _heads(of_level)
        rows = []
        for column, group in _keys(of_level, ("column", "group")):
            of_row = _at(of_level, column=column, group=group)
            cells = [value_cell(_first(_at(of_row, cohort=cohort)), size=-1) for cohort in cohorts]
            rows.append((str(group) if column == "cohort" else f"{column}: {group}", cells))
        name = METRIC_NAMES.get(metric, metric)
        caption = f"{_subject(settings)}: {name} in groups, per {level}. {_intervals(settings)}"
        tables.append(PaperTable(f"subgroups-{level}", caption, ["Group", *heads], rows))
    return tables


def shift_tables(shift: pd.DataFrame, settings: Mapping[str, Any]) -> list[PaperTable]:
    """How far each external cohort is from the development cohorts.

    Args:
        shift: `encoder cohort measure value ci_low ci_high expected n undefined_reason`.
        settings: `confidence`.
    """
    if shift.empty:
        return []
    cohorts = [cohort for (cohort,) in _keys(shift, ("cohort",))]
    rows = [("n", [PaperCell(f"{int(_at(shift, cohort=cohort)['n'].max())} slides") for cohort in cohorts])]
    for (measure,) in _keys(shift, ("measure",)):
        of_row = _at(shift, measure=measure)
        rows.append((str(measure).replace("_", " "), [_shift_cell(_first(_at(of_row, cohort=c))) for c in cohorts]))
    caption = (
        f"Shift of each cohort from the development cohorts, with {settings['confidence']:.0%} intervals over "
        "patients; expected: without any shift."
    )
    return [PaperTable("shift", caption, ["Measure", *cohorts], rows)]


def _shift_cell(row: Row | None) -> PaperCell:
    """A measure of shift with three significant digits, and what it would be without any shift."""
    plain = value_cell(row)
    if row is None or plain.text == DASH:
        return plain
    text = _three(row["value"])
    if not _is_missing(row["ci_low"]) and not _is_missing(row["ci_high"]):
        text += f" ({_three(row['ci_low'])} to {_three(row['ci_high'])})"
    return PaperCell(
        text if _is_missing(row["expected"]) else f"{text}; expected {_three(row['expected'])}", plain.note
    )


def _three(value: float) -> str:
    """Three significant digits; what rounding left of zero is zero."""
    return "0" if abs(value) < 1e-12 else f"{value:.3g}"
