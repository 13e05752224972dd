"""What the report says of models and of their validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from slidestudy.binary_statistics import DECISIONS
from slidestudy.labels import CLASSES, is_labelled, label_columns
from slidestudy.report.collect import ModelFiles, Results
from slidestudy.report.figures import training_curves
from slidestudy.report.inline import inline_svg
from slidestudy.report.layout import (
    METRIC_NAMES,
    MINUS,
    Cell,
    Column,
    Drawing,
    Table,
    Value,
    estimate_cell,
    first_row,
    interval_note,
    make_table,
    plural,
)
from slidestudy.report.metric_rows import MOST_ROWS, chosen_rows, is_decision, threshold_words
from slidestudy.report.predicted import how_predicted, is_adopted, prediction_note
from slidestudy.validation.metrics import MAIN_METRIC

ENSEMBLE = "ensemble"
"""What stands for the fold of a slide that all folds predicted together."""

DECIDED = {
    "classification": "Thresholds were chosen on the validation parts; the one shown is the mean over the rows.",
    "multiclass": "The most probable class is the one predicted; each class against the rest.",
    "regression": "Label and prediction are cut at the same value.",
}
"""Task -> how its decisions are made."""
SCATTER_CAPTIONS = {
    "regression": "prediction against label per slide; the dashed line is equality.",
    "classification": "prediction against label per slide.",
    "multiclass": "slides by their label and the predicted class, with the share of the label's slides.",
    "multi-regression": "predictions against labels of each target, or the correlation of each of many, per slide.",
}


def curves(name: str, files: ModelFiles) -> Drawing | None:
    """The training curves of a model, if it has any; published weights have none."""
    histories = {fold: table for fold, table in files.histories.items() if len(table)}
    if not histories:
        return None
    label = f"Training and validation loss of {plural(len(histories), 'fold')} of the model {name}"
    caption = f"{name}: loss per epoch. The dotted line is the epoch whose weights were kept."
    return Drawing(inline_svg(training_curves(histories), f"curves-{name}", label), caption)


def prediction_table(name: str, results: Results) -> Table:
    """How many slides of each cohort were predicted."""
    rows: list[Sequence[Value]] = []
    model = results.settings["models"][name]
    for cohort, table in results.models[name].predictions.items():
        role = results.settings["cohorts"][cohort]["role"]
        labelled, ensemble = table[_has_label(table, model)], table["fold"].astype(str) == ENSEMBLE
        by_one, by_all = (None if is_adopted(name, results) else int(part.sum()) for part in (~ensemble, ensemble))
        rows.append([
            Cell(cohort, role), len(table), by_one, by_all, table["patient_id"].nunique(),
            len(labelled), labelled["patient_id"].nunique(), _spread(table),
        ])  # fmt: skip
    columns: list[str | Column] = ["Cohort", "#Slides", "#By one fold", "#By all folds", "#Patients"]
    columns += ["#Labelled slides", "#Their patients", Column("Spread", "SD over models, median", numeric=True)]
    return make_table(f"{name}: predictions. {prediction_note(name, results)}", columns, rows)


def _has_label(table: pd.DataFrame, model: Mapping[str, Any]) -> pd.Series:
    """Which slides have a label: of several targets one at least, of survival both time and event."""
    columns = label_columns(model["task"], model.get("columns"))
    return is_labelled(table.reindex(columns=columns), model["task"], columns)


def _spread(table: pd.DataFrame) -> str | None:
    """The median over slides of the standard deviation over models, in the unit of the prediction."""
    known = table["prediction_sd"].dropna() if "prediction_sd" in table else pd.Series(dtype=float)
    return f"{known.median():.3g}".replace("-", MINUS) if len(known) else None


def metrics_table(name: str, level: str, results: Results) -> Table | None:
    """The metrics of a model at slide or patient level, one column per cohort; None where there are none.

    Those of decisions stand in `decisions_table`.
    """
    files = results.models[name]
    table = files.metrics[files.metrics["level"] == level]
    table = table[~is_decision(table, results.settings["models"][name]["task"])]
    if table.empty:
        return None
    cohorts = [c for c in results.settings["cohorts"] if (table["cohort"] == c).any()]
    model = results.settings["models"][name]
    task, rule = model["task"], str(model.get("cutoff_rule", ">"))
    chosen, left_out = chosen_rows(table, task)
    rows = [[Cell(row.label(task, rule)), *[row.cell(table, c, task) for c in cohorts]] for row in chosen]
    roles = dict(zip(table["cohort"], table["role"], strict=True))
    how = {cohort: how_predicted(name, roles[cohort], results) for cohort in cohorts}
    columns = [Column("Metric"), *[_cohort_column(table, cohort, level, how[cohort]) for cohort in cohorts]]
    caption = f"{name}, per {level}. {prediction_note(name, results)} {interval_note(files.intervals)}"
    return make_table(f"{caption} {left_out}".rstrip(), columns, rows)


def decisions_table(name: str, level: str, results: Results) -> Table | None:
    """What a model's decisions of yes or no are worth, a row for each cohort and threshold.

    None where there are none, or more than the report shows.
    """
    files, model = results.models[name], results.settings["models"][name]
    task, rule = model["task"], str(model.get("cutoff_rule", ">"))
    table = files.metrics[files.metrics["level"] == level]
    table = table[is_decision(table, task)]
    metrics = [metric for metric in DECISIONS if (table["metric"] == metric).any()]
    rows: list[Sequence[Value]] = []
    for (cohort, target, _), at in table.groupby(["cohort", "target", "threshold"], sort=False, dropna=False):
        first = at.iloc[0]
        counts = f"{int(first['n_positive'])} positive of {int(first['n'])}"
        words = threshold_words(str(target), first["threshold"], task, rule)
        cells = [estimate_cell(first_row(at, metric=metric), metric) for metric in metrics]
        rows.append([Cell(str(cohort), f"{words}; {counts}"), *cells])
    if not rows or len(rows) > MOST_ROWS:
        return None
    columns = [Column("Cohort"), *[Column(METRIC_NAMES[metric], numeric=True) for metric in metrics]]
    caption = f"{name}, decisions per {level}. {DECIDED.get(task, DECIDED['regression'])}"
    return make_table(f"{caption} {interval_note(files.intervals)}", columns, rows)


def _cohort_column(table: pd.DataFrame, cohort: str, level: str, how: str) -> Column:
    """A cohort's column, with how it was predicted and how many rows its metrics have."""
    rows = table[table["cohort"] == cohort]
    sizes = sorted(set(zip(rows["n"].astype(int), rows["n_patients"].astype(int), strict=True)))
    slides = f"{plural(sizes[-1][0], 'slide')}, " if level == "slide" else ""
    fewer = "at most " if len(sizes) > 1 else ""
    note = f"{how}; {fewer}{slides}"
    return Column(cohort, note + plural(sizes[-1][1], "patient"), numeric=True)


def figures(name: str, results: Results) -> list[Drawing]:
    """The figures that the validation drew."""
    model = results.settings["models"][name]
    task, drawn = model["task"], dict(results.models[name].figures)
    if task not in CLASSES and not model.get("cutoffs"):
        drawn.pop("roc", None)
        drawn.pop("pr", None)
    captions = {"scatter": SCATTER_CAPTIONS.get(task, "risk against time per slide; censored times are hollow.")}
    band = "bands are pointwise over bootstrap samples of whole patients."
    captions["roc"] = f"ROC curves per slide; the dashed line is chance, {band}"
    captions["pr"] = f"precision-recall curves per slide; dotted lines are the share of positives, {band}"
    return [
        Drawing(
            inline_svg(text, f"{figure}-{name}", f"{name}: {captions[figure]}"),
            f"{name}: {captions[figure]} {prediction_note(name, results)}",
        )
        for figure, text in drawn.items()
    ]


def truth_table(name: str, results: Results) -> Table | None:
    """How close predictions and labels come to the truth of generated slides; None where there is no truth."""
    files = results.models[name]
    if files.truth.empty:
        return None
    metrics = list(dict.fromkeys(files.truth["metric"]))
    rows: list[Sequence[Value]] = []
    for cohort, comparison in dict.fromkeys(zip(files.truth["cohort"], files.truth["comparison"], strict=True)):
        at = files.truth[(files.truth["cohort"] == cohort) & (files.truth["comparison"] == comparison)]
        found: Mapping[str, dict[str, Any] | None] = {metric: first_row(at, metric=metric) for metric in metrics}
        sizes = [int(row["n"]) for row in found.values() if row]
        cells = [estimate_cell(found[metric], metric) for metric in metrics]
        rows.append([cohort, comparison, max(sizes), *cells])
    heads = [Column(METRIC_NAMES.get(metric, metric), numeric=True) for metric in metrics]
    caption = (
        f"{name}: how close the predictions, and the labels, come to the truth that the "
        f"slides were generated with. {prediction_note(name, results)} "
        f"{interval_note(files.intervals, percentile=True)}"
    )
    return make_table(caption, ["Cohort", "Compared", "#Slides", *heads], rows)


def main_metric_row(name: str, cohort: str, results: Results) -> dict[str, Any] | None:
    """The row of a model's headline metric on a cohort, per slide."""
    table = results.models[name].metrics
    metric = MAIN_METRIC[results.settings["models"][name]["task"]]
    return first_row(table[table["threshold"].isna()], cohort=cohort, level="slide", metric=metric, target="")
