"""Reads what the stages left in a results folder; whatever a study has not got is simply empty."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from slidestudy.errors import StudyError
from slidestudy.explanations.answering import read_answers
from slidestudy.explanations.answers import Answer
from slidestudy.explanations.naming import kind_of
from slidestudy.explanations.pairs import PAIRS, STATEMENTS
from slidestudy.explanations.scoring import SCORES
from slidestudy.explanations.wrong import MOST_WRONG
from slidestudy.features.store import read_attributes
from slidestudy.report.agreement_files import AgreementFiles, read_agreement
from slidestudy.report.attribution_files import AttributionFiles, read_attribution
from slidestudy.report.feature_files import ComparisonFiles, SummaryFiles, read_comparison, read_figure, read_summary
from slidestudy.report.heatmap_files import read_heatmaps
from slidestudy.report.rivals_files import read_comparison_of_models
from slidestudy.report.shift_files import ShiftFiles, read_shift
from slidestudy.report.subgroups_files import SubgroupFiles, read_subgroups
from slidestudy.report.survival_files import SurvivalFiles, read_survival
from slidestudy.report.tables import read_record, read_table
from slidestudy.stages import rivals_of
from slidestudy.yaml_files import load_yaml

Record = dict[str, Any]
SlideKey = tuple[str, str]
"""Cohort and slide id."""

ROSTER = ("slide_id", "patient_id", "cohort")
PATIENTS = ("patient_id", "cohort", "center")
WARNINGS = ("cohort", "slide_id", "patient_id", "stage", "code", "message")
QUALITY = (
    "cohort",
    "slide_id",
    "brightness",
    "stain_density",
    "haematoxylin",
    "eosin",
    "pen_fraction",
    "focus",
    "blurred_fraction",
)
LEDGER = ("cohort", "slide_id", "patient_id", "stage", "code", "message")
SPLITS = ("patient_id", "slide_id", "fold", "part")
HISTORY = ("epoch", "train_loss", "validation_loss", "validation_score", "best")
PREDICTIONS = ("slide_id", "patient_id", "fold")
METRICS = (
    "cohort", "role", "level", "metric", "target", "threshold", "value", "ci_low", "ci_high", "n", "n_patients",
    "n_positive", "n_targets", "undefined_reason",
)  # fmt: skip
TRUTH = ("cohort", "comparison", "metric", "value", "ci_low", "ci_high", "n", "undefined_reason")
EFFICIENCY = (
    "cohort", "role", "level", "metric", "fraction", "train_patients", "train_slides", "value", "ci_low", "ci_high",
    "repeats", "repeat_sd", "n", "trainings", "failed", "undefined_reason", "failures",
)  # fmt: skip
USAGE = ("rule", "explanation", "patches", "requests", "from_ledger", "failed", "input_tokens", "output_tokens", "cost")
SAMPLE = ("patch_id", "slide_id", "patient_id", "cohort", "x", "y", "mpp", "stratum", "score", "logit")
FIGURES = ("scatter", "roc", "pr")


@dataclass(frozen=True)
class ModelFiles:
    """What there is of one model.

    Attributes:
        splits: The folds, columns SPLITS.
        cards: Fold -> `model.json`.
        histories: Fold -> training history, columns HISTORY.
        predictions: Cohort -> predictions.
        metrics: Columns METRICS.
        truth: Columns TRUTH; no rows unless the slides are generated.
        figures: Name -> SVG text.
        intervals: `confidence bootstrap interval` of the validation, where known.
        survival: Survival analyses of the endpoints of which the model is a score.
        agreement: Calibration, agreement and pooled metrics.
        rivals: Differences from the other models of its target, columns `rivals_files.COMPARISON`.
        subgroups: Whether groups of slides differ.
        heatmaps: Cohort -> the slides with heatmaps.
        label_efficiency: Columns EFFICIENCY; no rows unless the model was trained on shares of the patients.
        label_efficiency_figure: SVG text of its curves; blank where there are none.
        adopted: Cohort -> what is known of the file that its predictions come from; empty of other models.
    """

    splits: pd.DataFrame
    cards: dict[int, Record]
    histories: dict[int, pd.DataFrame]
    predictions: dict[str, pd.DataFrame]
    metrics: pd.DataFrame
    truth: pd.DataFrame
    figures: dict[str, str]
    agreement: AgreementFiles
    rivals: pd.DataFrame
    subgroups: SubgroupFiles
    survival: SurvivalFiles
    intervals: Record
    heatmaps: dict[str, pd.DataFrame]
    label_efficiency: pd.DataFrame
    label_efficiency_figure: str
    adopted: dict[str, Record]


@dataclass(frozen=True)
class ExplanationFiles:
    """What there is of the explanations of one model.

    Attributes:
        scores: Columns `scoring.SCORES`.
        pairs: Columns `pairs.PAIRS`.
        statements: Columns `pairs.STATEMENTS`.
        most_wrong: Columns `wrong.MOST_WRONG`.
        usage: What was asked and spent, columns USAGE; no rows of readers that ask nobody.
        gate: The reader's test; empty where there was none.
        answers: Explanation -> patch id -> the first answer about a patch of the frozen sample.
        sample: The patch sample, columns SAMPLE.
        card: The sample's `threshold spread digest`, where known.
        descriptions: Patch id -> what the reader was told of it.
        patches: The folder of the patch images.
        attribution: Where in the patches the model's score comes from.
        intervals: `confidence` and `bootstrap` of the scores, where known.
    """

    scores: pd.DataFrame
    pairs: pd.DataFrame
    statements: pd.DataFrame
    most_wrong: pd.DataFrame
    usage: pd.DataFrame
    gate: Record
    answers: dict[str, dict[str, Answer]]
    sample: pd.DataFrame
    card: Record
    descriptions: dict[str, str]
    patches: Path
    attribution: AttributionFiles
    intervals: Record


@dataclass(frozen=True)
class Results:
    """A results folder in memory, but for the images, which are read where they are shown.

    Attributes:
        folder: The results folder.
        settings: `settings/report.yaml`.
        roster: All slides of the tables.
        patients: All patients of the tables.
        admitted: The slides that passed inspection.
        ledger: Who was lost, where and why.
        warnings: What someone should look at, of the slides that stay.
        quality: Quality scores of the slides that stay.
        inspections: Inspection records.
        tissues: Records of the tissue stage.
        stores: Encoder -> attributes of the feature stores.
        models: Model -> its files.
        explanations: Model -> the files of its explanations.
        texts: Explanation -> its text.
        comparisons: Comparison of encoders -> its files.
        summaries: Encoder -> the summary of its features.
        shifts: Encoder -> how far the external cohorts lie from the development cohorts.
    """

    folder: Path
    settings: Record
    roster: pd.DataFrame
    patients: pd.DataFrame
    admitted: pd.DataFrame
    ledger: pd.DataFrame
    warnings: pd.DataFrame
    quality: pd.DataFrame
    inspections: dict[SlideKey, Record] = field(default_factory=dict)
    tissues: dict[SlideKey, Record] = field(default_factory=dict)
    stores: dict[str, dict[SlideKey, Record]] = field(default_factory=dict)
    models: dict[str, ModelFiles] = field(default_factory=dict)
    explanations: dict[str, ExplanationFiles] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    comparisons: dict[str, ComparisonFiles] = field(default_factory=dict)
    summaries: dict[str, SummaryFiles] = field(default_factory=dict)
    shifts: dict[str, ShiftFiles] = field(default_factory=dict)


def _read_intervals(path: Path) -> Record:
    """How the intervals of a stage were made, from its settings file."""
    settings = load_yaml(path) if path.is_file() else {}
    return {key: settings[key] for key in ("confidence", "bootstrap", "interval") if key in settings}


def _read_descriptions(path: Path) -> dict[str, str]:
    """Reads JSON lines `patch_id description`."""
    if not path.is_file():
        return {}
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        return {str(row["patch_id"]): str(row["description"]) for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(f"holds no descriptions ({error})", str(path), "remove it; it will be made anew") from None


def read_model(folder: Path, name: str, settings: Record) -> ModelFiles:
    """Reads what there is of one model.

    Args:
        folder: The results folder.
        name: The model.
        settings: `settings/report.yaml`.
    """
    cohorts = list(settings["cohorts"])
    home, validation = folder / "models" / name, folder / "validation" / name
    folds = {int(p.name.removeprefix("fold-")): p for p in home.glob("fold-*") if p.name[5:].isdigit()}
    predictions = {c: read_table(folder / "predictions" / name / f"{c}.tsv", PREDICTIONS) for c in cohorts}
    return ModelFiles(
        splits=read_table(home / "splits.tsv", SPLITS),
        cards={fold: read_record(folds[fold] / "model.json") for fold in sorted(folds)},
        histories={fold: read_table(folds[fold] / "history.tsv", HISTORY) for fold in sorted(folds)},
        predictions={cohort: table for cohort, table in predictions.items() if len(table)},
        metrics=read_table(validation / "metrics.tsv", METRICS),
        truth=read_table(validation / "truth.tsv", TRUTH),
        figures={
            figure: (validation / f"{figure}.svg").read_text(encoding="utf-8")
            for figure in FIGURES
            if (validation / f"{figure}.svg").is_file()
        },
        agreement=read_agreement(validation),
        rivals=read_comparison_of_models(validation, rivals_of(settings, name)),
        subgroups=read_subgroups(validation, settings.get("subgroups") or []),
        survival=read_survival(validation, folder / "settings" / f"survival.{name}.yaml"),
        intervals=_read_intervals(folder / "settings" / f"validation.{name}.yaml"),
        heatmaps=read_heatmaps(folder, name, cohorts),
        label_efficiency=read_table(validation / "label_efficiency.tsv", EFFICIENCY),
        label_efficiency_figure=read_figure(validation / "label_efficiency.svg"),
        adopted={
            cohort: card
            for cohort in cohorts
            if (card := read_record(folder / "predictions" / name / f"{cohort}.json"))
        },
    )


def read_explanations(folder: Path, model: str) -> ExplanationFiles:
    """Reads what there is of the explanations of one model."""
    home = folder / "explanations" / model
    return ExplanationFiles(
        scores=read_table(home / "scores.tsv", tuple(SCORES)),
        pairs=read_table(home / "pairs.tsv", tuple(PAIRS)),
        statements=read_table(home / "statements.tsv", tuple(STATEMENTS)),
        most_wrong=read_table(home / "most_wrong.tsv", tuple(MOST_WRONG)),
        usage=read_table(home / "usage.tsv", USAGE),
        gate=read_record(folder / "explanations" / "gate" / "gate.json"),
        answers={
            path.stem: {answer.patch_id: answer for answer in read_answers(path).answers if answer.repeat == 0}
            for path in sorted((home / "answers").glob("*.jsonl"))
            if kind_of(path.stem) == "text"
        },
        sample=read_table(home / "patches" / "sample.tsv", SAMPLE),
        card=read_record(home / "patches" / "sample.json"),
        descriptions=_read_descriptions(home / "descriptions.jsonl"),
        patches=home / "patches",
        attribution=read_attribution(home / "attributions"),
        intervals=_read_intervals(folder / "settings" / "explanations.scores.yaml"),
    )


def _read_texts(paths: dict[str, str]) -> dict[str, str]:
    """Explanation -> its text, of the files that are there."""
    return {name: Path(path).read_text(encoding="utf-8") for name, path in paths.items() if Path(path).is_file()}


def read_results(folder: Path, settings: Record) -> Results:
    """Reads a results folder.

    Args:
        folder: The results folder.
        settings: `settings/report.yaml`.

    Raises:
        StudyError: A file is there but damaged.
    """
    roster = read_table(folder / "settings" / "roster.tsv", ROSTER)
    # By the roster and not by what lies there: slides of an earlier configuration may be left over.
    keys = list(zip(roster["cohort"], roster["slide_id"], strict=True))
    records = {
        stage: {(c, s): r for c, s in keys if (r := read_record(folder / stage / c / f"{s}.json"))}
        for stage in ("slides", "tissue")
    }
    stores = {
        encoder: {
            (c, s): read_attributes(path)
            for c, s in keys
            if (path := folder / "features" / encoder / c / f"{s}.zarr").is_dir()
        }
        for encoder in settings["encoders"]
    }
    explanations = settings.get("explanations") or {}
    return Results(
        folder=folder,
        settings=settings,
        roster=roster,
        patients=read_table(folder / "settings" / "patients.tsv", PATIENTS),
        admitted=read_table(folder / "slides" / "admitted.tsv", ROSTER),
        ledger=read_table(folder / "slides" / "ledger.tsv", LEDGER),
        warnings=read_table(folder / "slides" / "warnings.tsv", WARNINGS),
        quality=read_table(folder / "slides" / "quality.tsv", QUALITY),
        inspections=records["slides"],
        tissues=records["tissue"],
        stores=stores,
        models={m: read_model(folder, m, settings) for m in settings.get("models") or {}},
        explanations={m: read_explanations(folder, m) for m in explanations.get("models") or []},
        texts=_read_texts(explanations.get("texts") or {}),
        comparisons={c: read_comparison(folder / "comparisons" / c) for c in settings.get("comparisons") or {}},
        summaries={e: read_summary(folder / "summaries" / e) for e in settings.get("summaries") or []},
        shifts={e: read_shift(folder, e) for e in settings.get("shifts") or []},
    )
