"""What the report says of models and of their validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from slidestudy.report.collect import ModelFiles, Results
from slidestudy.report.figures import training_curves
from slidestudy.report.inline import inline_svg
from slidestudy.report.layout import (
    MAIN_METRIC,
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
    plural,
)
from slidestudy.report.specimens import encoder_cell

PARTS = ("train", "validation", "test")
HOW_PREDICTED = {"development": "cross-validated", "external": "external"}
ENSEMBLE = "ensemble"
"""What stands for the fold of a slide that all folds predicted together."""
PREDICTION_NOTE = (
    "Labelled development slides are predicted by the fold that tested on them (cross-validated), slides of external "
    "cohorts by the ensemble of all folds."
)


def recipe_table(results: Results) -> Table:
    """How each model was made."""
    rows = []
    for name, model in results.settings["models"].items():
        training = ", ".join(f"{key} {_plain(value)}" for key, value in (model.get("training") or {}).items())
        low, high = model.get("target_range") or (None, None)
        target = "" if low is None or model["task"] == "classification" else f"{low:g} to {high:g}"
        rows.append([
            name,
            model["task"],
            model["aggregator"],
            encoder_cell(results, model["encoder"]),
            Cell(str(model["target"]), target),
            f"{model['folds']} by {model['group_by']}",
            training.replace("_", " "),
        ])  # fmt: skip
    columns = ["Model", "Task", "Aggregator", "Encoder", "Target", "Folds", "Training"]
    return make_table("Models and their recipes.", columns, rows)


def _plain(value: Any) -> str:
    """A setting's value as a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def splits_table(name: str, results: Results) -> Table:
    """Patients and slides of every fold and part, the centres tested where they group the folds, and what was kept."""
    files, by_center = results.models[name], results.settings["models"][name].get("group_by") == "center"
    centers = dict(zip(results.patients["patient_id"], results.patients["center"], strict=True))
    rows = []
    thresholds = sorted({key for card in files.cards.values() for key in card.get("thresholds") or {}})
    for fold, table in files.splits.groupby("fold", sort=True):
        card = files.cards.get(int(str(fold)), {})
        chosen = card.get("thresholds") or {}
        rows.append([
            f"fold {fold}",
            *[_part_cell(table[table["part"] == part]) for part in PARTS],
            *([_tested_centers(table, centers)] if by_center else []),
            count(int(card["best_epoch"])) if card.get("best_epoch") is not None else None,
            *[f"{float(chosen[key]):.3f}" if key in chosen else None for key in thresholds],
        ])  # fmt: skip
    parts = [Column(part, "patients", numeric=True) for part in PARTS]
    columns: list[str | Column] = ["Fold", *parts, *(["test centres"] if by_center else [])]
    columns.append(Column("epoch kept", numeric=True))
    columns += [Column(f"threshold, {key}", numeric=True) for key in thresholds]
    caption = (
        f"{name}: patients of every fold and part, and the epoch that the validation part chose. "
        "Test parts choose nothing."
    )
    return make_table(caption, columns, rows)


def _tested_centers(rows: pd.DataFrame, centers: Mapping[str, str]) -> str:
    """The centres of a fold's test part."""
    tested = rows.loc[rows["part"] == "test", "patient_id"]
    return ", ".join(sorted({centers[patient] for patient in tested if centers.get(patient)}))


def _part_cell(rows: pd.DataFrame) -> Cell:
    return Cell(count(rows["patient_id"].nunique()), plural(len(rows), "slide"))


def curves(name: str, files: ModelFiles) -> Drawing | None:
    """The training curves of a model, if it has any."""
    histories = {fold: table for fold, table in files.histories.items() if len(table)}
    if not histories:
        return None
    label = f"Training and validation loss of {plural(len(histories), 'fold')} of the model {name}"
    caption = f"{name}: loss per epoch. The dotted line is the epoch whose weights were kept."
    return Drawing(inline_svg(training_curves(histories), f"curves-{name}", label), caption)


def prediction_table(name: str, results: Results) -> Table:
    """How many slides of each cohort were predicted."""
    rows = []
    for cohort, table in results.models[name].predictions.items():
        role = results.settings["cohorts"][cohort]["role"]
        labelled, ensemble = table[table["target"].notna()], table["fold"].astype(str) == ENSEMBLE
        rows.append([
            Cell(cohort, role), len(table), int((~ensemble).sum()), int(ensemble.sum()), table["patient_id"].nunique(),
            len(labelled), labelled["patient_id"].nunique(),
        ])  # fmt: skip
    columns = ["Cohort", "#Slides", "#By one fold", "#By all folds", "#Patients", "#Labelled slides", "#Their patients"]
    return make_table(f"{name}: predictions. {PREDICTION_NOTE}", columns, rows)


def metrics_table(name: str, level: str, results: Results) -> Table | None:
    """All metrics of a model at slide or patient level, one column per cohort; None where there are none."""
    files = results.models[name]
    table = files.metrics[files.metrics["level"] == level]
    if table.empty:
        return None
    cohorts = [c for c in results.settings["cohorts"] if (table["cohort"] == c).any()]
    rule = str(results.settings["models"][name].get("cutoff_rule", ">"))
    rule = {">=": "≥"}.get(rule, rule)
    rows: list[list[Cell]] = []
    for metric, threshold in dict.fromkeys(
        (m, None if is_missing(t) else float(t)) for m, t in zip(table["metric"], table["threshold"], strict=True)
    ):
        at = table[(table["metric"] == metric) & _same(table["threshold"], threshold)]
        label = METRIC_NAMES.get(metric, metric)
        head = Cell(label if threshold is None else f"{label}, {rule} {threshold:g}")
        cells = [_metric_cell(first_row(at, cohort=cohort), metric) for cohort in cohorts]
        rows.append([head, *cells])
    columns = [Column("Metric"), *[_cohort_column(table, cohort, level) for cohort in cohorts]]
    caption = f"{name}, per {level}. {PREDICTION_NOTE} {interval_note(files.intervals)}"
    return make_table(caption, columns, rows)


def _same(column: pd.Series, value: float | None) -> pd.Series:
    return column.isna() if value is None else column == value


def _cohort_column(table: pd.DataFrame, cohort: str, level: str) -> Column:
    """A cohort's column, with how it was predicted and how many rows its metrics have."""
    rows = table[table["cohort"] == cohort]
    sizes = sorted(set(zip(rows["n"].astype(int), rows["n_patients"].astype(int), strict=True)))
    slides = f"{plural(sizes[-1][0], 'slide')}, " if level == "slide" else ""
    fewer = "at most " if len(sizes) > 1 else ""
    note = f"{HOW_PREDICTED.get(rows['role'].iloc[0], rows['role'].iloc[0])}; {fewer}{slides}"
    return Column(cohort, note + plural(sizes[-1][1], "patient"), numeric=True)


def _metric_cell(row: dict[str, Any] | None, metric: str) -> Cell:
    """A metric, with its number of positives where it has one."""
    positive = "" if row is None or is_missing(row["n_positive"]) else f"{int(row['n_positive'])} positive"
    return estimate_cell(row, metric, note=positive)


def figures(name: str, results: Results) -> list[Drawing]:
    """The figures that the validation drew."""
    regression = results.settings["models"][name]["task"] == "regression"
    captions = {
        "scatter": "prediction against label per slide" + ("; the dashed line is equality." if regression else "."),
        "roc": "ROC curves per slide; the dashed line is chance.",
    }
    return [
        Drawing(
            inline_svg(text, f"{figure}-{name}", f"{name}: {captions[figure]}"),
            f"{name}: {captions[figure]} {PREDICTION_NOTE}",
        )
        for figure, text in results.models[name].figures.items()
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
        f"{name}: how close the predictions, and the labels that the model learned from, come to the truth that the "
        f"slides were generated with. {PREDICTION_NOTE} {interval_note(files.intervals)}"
    )
    return make_table(caption, ["Cohort", "Compared", "#Slides", *heads], rows)


def main_metric_row(name: str, cohort: str, results: Results) -> dict[str, Any] | None:
    """The row of a model's main metric on a cohort, per slide: Pearson r, or AUROC of a classifier."""
    table = results.models[name].metrics
    metric = MAIN_METRIC[results.settings["models"][name]["task"]]
    return first_row(table[table["threshold"].isna()], cohort=cohort, level="slide", metric=metric)
