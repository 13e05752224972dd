"""The few numbers that a reader wants first."""

from __future__ import annotations

from dataclasses import dataclass

from slidestudy.report.collect import Results
from slidestudy.report.explaining import best_text, is_vlm
from slidestudy.report.layout import METRIC_NAMES, Cell, Column, Table, estimate_cell, first_row, make_table, plural
from slidestudy.report.modelling import main_metric_row
from slidestudy.report.predicted import HOW_PREDICTED, how_all_predicted, how_predicted
from slidestudy.report.specimens import UNTRAINED, encoder_cell, is_untrained
from slidestudy.validation.metrics import MAIN_METRIC


@dataclass(frozen=True)
class Card:
    """One number of the header.

    Attributes:
        title: What it is.
        value: The number.
        detail: Its interval, or why it is undefined.
        note: What it belongs to.
        flag: A warning that must be seen.
    """

    title: str
    value: str
    detail: str
    note: str
    flag: str = ""


def summary(results: Results) -> str:
    """The study in one line."""
    settings = results.settings
    patients = len(results.patients)
    parts = [
        plural(len(settings["cohorts"]), "cohort"),
        plural(len(results.roster), "slide"),
        plural(patients, "patient"),
        plural(len(settings["encoders"]), "encoder"),
        plural(len(settings.get("models") or {}), "model"),
    ]
    return ", ".join(parts)


def lead_model(results: Results) -> str | None:
    """The model of the header: the first regression, or else the first model."""
    models = results.settings.get("models") or {}
    regressions = [name for name, model in models.items() if model["task"] == "regression"]
    return next(iter([*regressions, *models]), None)


def cards(results: Results) -> list[Card]:
    """The header's numbers: cross-validation, external validation and explanation of the lead model."""
    name = lead_model(results)
    if name is None:
        admitted = Card("Slides admitted", f"{len(results.admitted):,}", f"of {len(results.roster):,}", "all cohorts")
        return [admitted]
    model = results.settings["models"][name]
    encoder = model.get("encoder")
    flag = UNTRAINED if encoder is not None and is_untrained(results, encoder) else ""
    metric = MAIN_METRIC[model["task"]]
    found = []
    for role in HOW_PREDICTED:
        for cohort, spec in results.settings["cohorts"].items():
            row = main_metric_row(name, cohort, results) if spec["role"] == role else None
            if row is None:
                continue
            size = plural(int(row["n"]), "slide")
            how = how_predicted(name, role, results)
            found.append(
                _card(f"{METRIC_NAMES[metric]}, {how}", estimate_cell(row, metric), f"{name} on {cohort}, {size}", flag)
            )
    return found + _explanation_cards(results, name, flag)


def _card(title: str, cell: Cell, note: str, flag: str) -> Card:
    """A card of an estimate, its interval apart."""
    value, _, rest = cell.text.partition(" (")
    return Card(title, value, rest.removesuffix(")") or cell.note, note, flag)


def _explanation_cards(results: Results, name: str, flag: str) -> list[Card]:
    """The card of the best written explanation, if any was scored."""
    files = results.explanations.get(name)
    best = best_text(files) if files else None
    if files is None or best is None:
        return []
    texts = files.scores.loc[files.scores["kind"] == "text", "explanation"].nunique()
    of = f"“{best['explanation']}”" + (f", best of {texts}" if texts > 1 else "")
    control = first_row(files.scores, kind="irrelevant", subset="X", metric="auroc")
    notes = [of]
    if control:
        notes.append(f"irrelevant control {estimate_cell(control, 'auroc').text.partition(' (')[0]}")
    if not is_vlm(files):
        compared = files.scores["reader"].astype(str).str.startswith("clip:").any()
        notes.append("answers from an image-text model" if compared else "answers from image measurements, not a VLM")
    return [_card("Explanation AUROC", estimate_cell(best, "auroc"), "; ".join(notes), flag)]


def glance_table(results: Results) -> Table | None:
    """The main metric of every model on every cohort, where a study has several models."""
    models = results.settings.get("models") or {}
    if len(models) < 2:
        return None
    cohorts = list(results.settings["cohorts"])
    rows = []
    for name, model in models.items():
        metric = MAIN_METRIC[model["task"]]
        files = results.explanations.get(name)
        best = best_text(files) if files else None
        explained = Cell("not scored", muted=True)
        if best is not None:
            explained = estimate_cell(best, "auroc", note=str(best["explanation"]))
        cells = [estimate_cell(main_metric_row(name, cohort, results), metric) for cohort in cohorts]
        encoder = encoder_cell(results, model["encoder"]) if "encoder" in model else None
        rows.append([name, encoder, METRIC_NAMES[metric], *cells, explained])
    heads = [
        Column(cohort, how_all_predicted(results.settings["cohorts"][cohort]["role"], results), numeric=True)
        for cohort in cohorts
    ]
    columns: list[str | Column] = [
        "Model",
        "Encoder",
        "Metric",
        *heads,
        Column("Best explanation", "AUROC", numeric=True),
    ]
    return make_table("All models at a glance, per slide.", columns, rows)
