"""Builds the page from a results folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from slidestudy.report import (
    agreement,
    attribution,
    attrition,
    comparing,
    efficiency,
    explaining,
    explanation_tables,
    headline,
    heatmaps,
    modelling,
    predicted,
    provenance,
    recipes,
    rivals,
    shift,
    specimens,
    subgroups,
    survival,
)
from slidestudy.report.collect import Results, read_results
from slidestudy.report.figures import attrition as draw_attrition
from slidestudy.report.inline import inline_svg
from slidestudy.report.layout import Drawing

TEMPLATE = "report.html.j2"


def _environment() -> jinja2.Environment:
    """Everything is escaped, and a name that the template does not know is an error."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("slidestudy.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _cohort_section(results: Results) -> dict[str, Any]:
    flows = attrition.study_flows(results)
    label = attrition.describe_flows(flows)
    caption = "Attrition: slides and patients left after each stage, and the slides lost on the way with the reason."
    return {
        "cohorts": attrition.cohort_table(results, flows),
        "diagram": Drawing(inline_svg(draw_attrition(flows), "attrition", label), caption),
        "losses": attrition.loss_table(results),
        "ledger": attrition.ledger_table(results),
    }


def _slide_section(results: Results) -> dict[str, Any]:
    galleries = [(cohort, *specimens.overlays(results, cohort)) for cohort in results.settings["cohorts"]]
    return {
        "slides": specimens.slide_table(results),
        "quality": specimens.quality_table(results),
        "warnings": specimens.warning_table(results),
        "galleries": [{"cohort": c, "pictures": p, "note": n} for c, p, n in galleries if p],
    }


def _model_section(results: Results) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "weights": predicted.weights_note(name, results),
            "splits": recipes.splits_table(name, results),
            "curves": modelling.curves(name, files) if predicted.is_trained(name, results) else None,
            "predictions": modelling.prediction_table(name, results),
            "metrics": [
                table
                for made in (modelling.metrics_table, modelling.decisions_table)
                for level in ("slide", "patient")
                if (table := made(name, level, results))
            ],
            "shift": shift.shift_beside(name, results),
            "figures": modelling.figures(name, results),
            "agreement": [
                {"part": part, "is_drawing": isinstance(part, Drawing)}
                for part in agreement.agreement_parts(name, results)
            ],
            "rivals": [
                {"part": part, "is_drawing": isinstance(part, Drawing)} for part in rivals.rivals_parts(name, results)
            ],
            "subgroups": [
                {"part": part, "is_drawing": isinstance(part, Drawing)}
                for part in subgroups.subgroups_parts(name, results)
            ],
            "survival": [
                {"part": part, "is_drawing": isinstance(part, Drawing)}
                for part in survival.survival_parts(name, results)
            ],
            "heatmaps": heatmaps.heatmap_galleries(name, results),
            "truth": modelling.truth_table(name, results),
            "efficiency": efficiency.efficiency_table(name, results),
            "efficiency_figure": efficiency.efficiency_figure(name, results),
        }
        for name, files in results.models.items()
    ]


def _explanation_section(results: Results) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "encoder": specimens.encoder_cell(results, results.settings["models"][name]["encoder"]),
            "reader": explaining.reader_note(files),
            "gate": explaining.gate_note(files),
            "sample": explaining.sample_note(files, results),
            "strata": explaining.strata(files),
            "examples": explaining.examples(files),
            "scores": explanation_tables.score_table(name, files, "auroc"),
            "reference": explanation_tables.score_table(name, files, "auroc_reference"),
            "further": explanation_tables.further_table(name, files),
            "sets": explanation_tables.set_tables(name, files),
            "forest": explaining.forest_plot(name, files),
            "answered": explaining.answers_plot(name, files),
            "statements": explanation_tables.statement_table(name, files),
            "pairs": explanation_tables.pair_table(name, files),
            "answers": explanation_tables.answer_table(name, files),
            "usage": explanation_tables.usage_table(name, files),
            "wrong": explaining.most_wrong_parts(files),
            "attributed": attribution.attributed(name, files),
        }
        for name, files in results.explanations.items()
        if len(files.scores)
    ]


def render(results: Results) -> str:
    """The page of a study whose files have been read.

    Args:
        results: The study's results.

    Returns:
        One self-contained HTML document; equal results give equal text.
    """
    settings = results.settings
    return _environment().get_template(TEMPLATE).render(
        study=settings["study"],
        summary=headline.summary(results),
        cards=headline.cards(results),
        glance=headline.glance_table(results),
        untrained=[name for name in settings["encoders"] if specimens.is_untrained(results, name)],
        prediction_note=predicted.study_note(results),
        attrition=_cohort_section(results),
        slides=_slide_section(results),
        encoders=specimens.encoder_table(results),
        tiles=specimens.tile_table(results),
        comparisons=comparing.comparison_sections(results),
        summaries=comparing.summary_sections(results),
        shifts=shift.shift_sections(results),
        recipes=recipes.recipe_table(results) if results.models else None,
        models=_model_section(results),
        texts=explaining.texts(results),
        controls=explaining.control_note(results),
        explanations=_explanation_section(results),
        seed=settings["seed"],
        generated=bool(settings.get("truth")),
        software=provenance.version_table(results),
        digests=provenance.digest_table(results),
        settings=provenance.settings_text(results),
    )  # fmt: skip


def build_report(results: Path, settings: dict[str, Any]) -> str:
    """Builds the report of a study.

    Args:
        results: The results folder.
        settings: `settings/report.yaml`.

    Returns:
        One self-contained HTML document; equal results give equal text.

    Raises:
        StudyError: A file of the results is damaged.
    """
    return render(read_results(results, settings))
