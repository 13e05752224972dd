"""A results folder as the stages leave it, small and made up, for tests of the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from PIL import Image

from slidestudy.explanations.answers import Answer, AnswerStatus, Conclusion
from slidestudy.explanations.attribution.summary import FAITHFULNESS, MEASURES
from slidestudy.explanations.pairs import PAIRS, STATEMENTS
from slidestudy.explanations.scoring import SCORES
from slidestudy.explanations.wrong import MOST_WRONG
from slidestudy.features.store import FORMAT
from slidestudy.files import read_json, write_json, write_text
from slidestudy.tables import write_table
from slidestudy.validation.agreement import agree
from slidestudy.validation.agreement_figure import draw_agreement
from slidestudy.validation.calibration_curves import calibrate
from slidestudy.validation.calibration_figure import draw_calibration
from slidestudy.validation.cohort_levels import cohort_levels
from slidestudy.validation.curves_figure import roc
from slidestudy.validation.figures import scatter
from slidestudy.validation.forest_figure import draw_forest
from slidestudy.validation.metrics import COLUMNS
from slidestudy.validation.pooling import pool_cohorts
from slidestudy.validation.study import validate
from tests.validation.made_predictions import of_classes, of_targets, of_times

COHORTS = {"north": ("development", 12, 10), "south": ("external", 6, 6)}
"""Cohort -> role, slides, patients."""
ENCODERS = {
    "stain-texture": ("stain-texture", "stain-texture/1", "none needed (hand-crafted)", 64),
    "resnet18": ("timm", "resnet18", "none: UNTRAINED random weights, seed 1", 512),
}
TRAINING = {"standardise": True, "hidden": 512, "dropout": 0.4, "learning_rate": 0.0001, "epochs": 30}
BAD_MESSAGE = "cannot be decoded <b>at all</b> & more"
STRATA = ("very_high", "high_near", "low_near", "very_low")
GENES = [f"GENE{i:02}" for i in range(50)]
SUBSETS = (("X", 32), ("X1", 24), ("X3", 12))


def fake_settings(folder: Path, *, models: bool = True, explanations: bool = True) -> dict[str, Any]:
    """`settings/report.yaml` of the study."""
    common = {"folds": 3, "group_by": "patient", "cutoff_rule": ">=", "training": TRAINING}
    tils = {"task": "regression", "aggregator": "ectil", "encoder": "stain-texture", "target": "tils"}
    mucin = {"task": "classification", "aggregator": "gated-abmil", "encoder": "resnet18", "target": "mucinous"}
    mucin_folds = {**common, "group_by": "center"}
    texts = (
        {name: str(folder / f"{name}.md") for name in ("lymphocytes-raise", "tumour-raises")} if explanations else {}
    )
    return {
        "study": "Fake study <of> tests",
        "seed": 7,
        "cohorts": {name: {"role": role, "description": f"made up, {name}"} for name, (role, _, _) in COHORTS.items()},
        "tiles": {"size": 256, "mpp": 0.5, "min_tissue": 0.1, "min_tiles": 4, "max_unreadable": 0.05},
        "encoders": {
            "stain-texture": {"backend": "stain-texture"},
            "resnet18": {"backend": "timm", "architecture": "resnet18", "weights": "none"},
        },
        "models": {
            "til": {**tils, **common, "cutoffs": [10, 30], "target_range": [0, 100]},
            "mucin": {**mucin, **mucin_folds, "cutoffs": [], "target_range": [0, 1]},
        }
        if models
        else {},
        "explanations": {
            "models": ["til"] if explanations else [],
            "texts": texts,
            "controls": ["inverted", "irrelevant", "image-only"],
            "sample": {"per_stratum": 8, "x1": 0.5, "x3": 1.5},
            "reader": {"kind": "morphometry"},
        },
        "truth": models,
    }


def build_fake_results(
    folder: Path, *, models: bool = True, explanations: bool = True, every_task: bool = False
) -> dict[str, Any]:
    """Writes the results folder.

    Returns:
        The settings of the report.
    """
    settings = fake_settings(folder, models=models, explanations=explanations)
    more = further_models() if every_task else {}
    settings["models"] |= more
    rng = np.random.default_rng(1)
    roster = _write_tables(folder, models)
    for number, row in enumerate(roster.to_dict("records")):
        _write_slide(folder, {str(k): v for k, v in row.items()}, number, rng)
    for name, model in settings["models"].items():
        _write_model(folder, name, model, roster, rng)
        if name in more:
            _measure_model(folder, name, model, roster)
    for name in settings["explanations"]["models"]:
        _write_explanations(folder, name, settings["explanations"]["texts"], roster, rng)
    return settings


def _write_tables(folder: Path, models: bool) -> pd.DataFrame:
    rows = [
        {"slide_id": f"{letter}{i:02d}-1", "patient_id": f"{letter}{i % patients:02d}", "cohort": cohort}
        for cohort, (_, slides, patients) in COHORTS.items()
        for letter in cohort[0].upper()
        for i in range(slides)
    ]
    roster = pd.DataFrame(rows)
    patients = roster[["patient_id", "cohort"]].drop_duplicates().assign(center="c1")
    ledger = [
        ["north", "N11-1", "N01", "inspection", "truncated", BAD_MESSAGE],
        ["north", "N10-1", "N00", "features:resnet18", "too_few_tiles", "2 tiles with more than 10% tissue"],
        ["south", "S05-1", "S05", "tissue", "no_tissue", "no tissue was found"],
        ["south", "", "S05", "patients", "no_slide", "none of the patient's slides can be used"],
    ]
    if models:
        ledger.append(["south", "S04-1", "S04", "labels:til", "label_missing", "the label is blank"])
    write_table(folder / "settings" / "roster.tsv", roster)
    write_table(folder / "settings" / "patients.tsv", patients)
    write_table(folder / "slides" / "admitted.tsv", roster[roster["slide_id"] != "N11-1"])
    columns = ["cohort", "slide_id", "patient_id", "stage", "code", "message"]
    write_table(folder / "slides" / "ledger.tsv", pd.DataFrame(ledger, columns=columns))
    warning = ["north", "N03-1", "N03", "inspection", "mpp_conflict", "the table says 0.27 um/px, the file 0.25"]
    write_table(folder / "slides" / "warnings.tsv", pd.DataFrame([warning], columns=columns))
    kept = roster[roster["slide_id"] != "N11-1"][["cohort", "slide_id"]]
    scores = {"brightness": 200.0, "stain_density": 0.3, "haematoxylin": 0.2, "eosin": 0.25, "pen_fraction": 0.01}
    quality = kept.assign(**scores, focus=np.linspace(0.1, 0.9, len(kept)), blurred_fraction=np.nan)
    write_table(folder / "slides" / "quality.tsv", quality)
    for name in ("validation.til", "explanations.scores"):
        write_text(folder / "settings" / f"{name}.yaml", "bootstrap: 2000\nconfidence: 0.95\n")
    return roster


def fake_picture(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A pink picture with some structure."""
    coarse = rng.integers(0, 60, (6, 8, 3)) + np.array([190, 130, 180])
    return Image.fromarray(coarse.astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)


def _write_slide(folder: Path, row: dict[str, Any], number: int, rng: np.random.Generator) -> None:
    cohort, slide = row["cohort"], row["slide_id"]
    record = {**row, "status": "admitted", "reason": None, "warnings": [], "software": {"openslide-bin": "4.0.0"}}
    inspection = {**record, "vendor": "aperio", "width": 4000, "height": 3000, "fingerprint": f"{number:064x}"}
    inspection["mpp"] = {"value": 0.25 if number % 2 else 0.5, "source": "file"}
    if slide == "N11-1":
        write_json(folder / "slides" / cohort / f"{slide}.json", {**record, "status": "excluded"})
        return
    write_json(folder / "slides" / cohort / f"{slide}.json", inspection)
    empty = slide == "S05-1"
    tissue = {**record, "tissue_mm2": 0.0 if empty else 1.2 + number / 10, "pen_mm2": 0.3 if number == 2 else 0.0}
    tissue |= {"sections": 0 if empty else 2, "tissue_fraction": 0.4, "status": "excluded" if empty else "admitted"}
    write_json(folder / "tissue" / cohort / f"{slide}.json", tissue)
    fake_picture(rng, 800, 500).save(folder / "tissue" / cohort / f"{slide}.jpg")
    for encoder, (backend, architecture, weights, dim) in ENCODERS.items():
        identity = {"name": encoder, "backend": backend, "architecture": architecture, "dim": dim, "weights": weights}
        identity["weights_digest"] = f"{dim:016x}"
        excluded = empty or (slide == "N10-1" and encoder == "resnet18")
        attributes = {
            **record, "format": FORMAT, "status": "excluded" if excluded else "admitted", "encoder": identity,
            "recipe": f"recipe{dim:010d}", "n_tiles": 0 if excluded else 100 + 7 * number, "n_unreadable": number % 2,
        }  # fmt: skip
        write_json(folder / "features" / encoder / cohort / f"{slide}.zarr" / "zarr.json", {"attributes": attributes})


def _write_model(
    folder: Path, name: str, model: dict[str, Any], roster: pd.DataFrame, rng: np.random.Generator
) -> None:
    north = roster[(roster["cohort"] == "north") & (roster["slide_id"] != "N11-1")]
    splits = []
    for fold in range(3):
        place = (north["patient_id"].str[1:].astype(int) + fold) % 3
        part = place.map({0: "test", 1: "validation", 2: "train"})
        splits.append(north[["patient_id", "slide_id"]].assign(fold=fold, part=part))
        epochs = np.arange(1, 21)
        history = pd.DataFrame({
            "epoch": epochs, "train_loss": 0.5 / epochs + rng.normal(0, 0.005, 20) + 0.1,
            "validation_loss": 0.4 / epochs + 0.15, "validation_score": 1 - 1 / epochs,
            "best": (epochs < 15).astype(int),
        })  # fmt: skip
        home = folder / "models" / name / f"fold-{fold}"
        write_table(home / "history.tsv", history)
        thresholds = {"youden": 0.41} if model["task"] == "classification" else {}
        card = {"name": name, "fold": fold, "seed": 7 + fold, "recipe": "recipe0000000064", "thresholds": thresholds}
        write_json(home / "model.json", {**card, "best_epoch": 14, "software": {"torch": "2.13.0"}})
    write_table(folder / "models" / name / "splits.tsv", pd.concat(splits))
    for cohort, (role, _, _) in COHORTS.items():
        fold_name = "0" if role == "development" else "ensemble"
        table = roster[roster["cohort"] == cohort].assign(fold=fold_name, prediction=20.0, target=25.0)
        table.loc[table["slide_id"] == "S04-1", "target"] = np.nan
        write_table(folder / "predictions" / name / f"{cohort}.tsv", table)
    _write_validation(folder / "validation" / name, model)


def further_models() -> dict[str, Any]:
    """Models of the tasks that `til` and `mucin` have not got."""
    common = {"aggregator": "gated-abmil", "encoder": "stain-texture", "folds": 3, "group_by": "patient"}
    common |= {"training": TRAINING, "target_range": None, "cutoff_rule": ">", "cutoffs": []}
    survival = {"task": "survival-cox", "target": ["months", "died"], "columns": ["time", "event"], "cutoffs": [20]}
    return {
        "histology": {**common, "task": "multiclass", "target": "histology", "columns": ["target"]},
        "genes": {**common, "task": "multi-regression", "target": GENES, "columns": GENES},
        "markers": {**common, "task": "multi-regression", "target": GENES[:3], "columns": GENES[:3]},
        "outcome": {**common, **survival},
        "load": {**common, "task": "regression", "target": "load", "columns": ["target"]},
    }


def _measure_model(folder: Path, name: str, model: dict[str, Any], roster: pd.DataFrame) -> None:
    """Predictions of the model's task in place of the made-up ones, measured and drawn as the rule does."""
    tables = {}
    for number, cohort in enumerate(COHORTS):
        slides = roster[(roster["cohort"] == cohort) & (roster["slide_id"] != "N11-1")].reset_index(drop=True)
        made = _made(model, len(slides), number).drop(columns=["slide_id", "patient_id"])
        tables[cohort] = slides[["slide_id", "patient_id"]].join(made)
        write_table(folder / "predictions" / name / f"{cohort}.tsv", tables[cohort])
    keys = {key: model[key] for key in ("task", "target", "columns", "target_range", "cutoffs", "cutoff_rule")}
    settings = {**keys, "bootstrap": 40, "confidence": 0.9, "seed": 1, "truth_column": None}
    home = folder / "validation" / name
    roles = {c: role for c, (role, _, _) in COHORTS.items()}
    metrics, truth = validate(tables, roles, settings, None)
    write_table(home / "metrics.tsv", metrics)
    write_table(home / "truth.tsv", truth)
    scatter(tables, metrics, settings, home / "scatter.svg")
    roc(tables, metrics, settings, home / "roc.svg")
    write_agreement(home, tables, roles, settings, metrics)


def write_agreement(
    home: Path,
    tables: dict[str, pd.DataFrame],
    roles: dict[str, str],
    settings: dict[str, Any],
    metrics: pd.DataFrame,
) -> None:
    """Calibration, agreement and pooled metrics of a model, as the rule writes them."""
    levels = cohort_levels(tables, roles, settings)
    calibration, agreement = calibrate(levels, settings), agree(levels, settings)
    pooled = pool_cohorts(levels, settings)
    write_table(home / "calibration.tsv", calibration.bins)
    write_table(home / "calibration_fit.tsv", calibration.fits)
    write_table(home / "calibration_curve.tsv", calibration.curves)
    write_table(home / "agreement.tsv", agreement)
    write_table(home / "pooled.tsv", pooled)
    draw_calibration(calibration, list(tables), settings, home / "calibration.svg")
    draw_agreement(tables, agreement, settings, home / "bland_altman.svg")
    draw_forest(metrics, pooled, settings, home / "forest.svg")


def _made(model: dict[str, Any], n: int, seed: int) -> pd.DataFrame:
    """Predictions of so many slides."""
    if model["task"] == "multiclass":
        return of_classes(n, seed)
    if model["task"] == "survival-cox":
        return of_times(n, seed)
    if model["task"] == "multi-regression":
        return of_targets(n, model["columns"], seed)
    return of_targets(n, ["target"], seed).rename(columns={"prediction.target": "prediction"})


def _write_validation(folder: Path, model: dict[str, Any]) -> None:
    regression = model["task"] == "regression"
    metrics = []
    for cohort, (role, slides, patients) in COHORTS.items():
        for level, n in (("slide", slides - 1), ("patient", patients - 1)):
            keys = [cohort, role, level]
            tail = [n, patients - 1]
            if regression:
                metrics.append([*keys, "pearson", "", None, 0.712, 0.553, 0.824, *tail, None, None, ""])
                metrics.append([*keys, "mae", "", None, 8.213, 6.1, 10.9, *tail, None, None, ""])
                metrics.append([*keys, "ccc", "", None, -0.05, -0.31, 0.22, *tail, None, None, ""])
            for cutoff in (10, 30) if regression else (None,):
                if cohort == "south" and cutoff == 30:
                    metrics.append([*keys, "auroc", "", cutoff, None, None, None, *tail, 0, None, "one class only"])
                else:
                    few = "no interval: 2 patients"
                    metrics.append([*keys, "auroc", "", cutoff, 0.9, None, None, *tail, 3, None, few])
    write_table(folder / "metrics.tsv", pd.DataFrame(metrics, columns=COLUMNS))
    truth = [
        [cohort, comparison, metric, value, value - 0.05, value + 0.03, 10, ""]
        for cohort in COHORTS
        for comparison, value in (("prediction", 0.88), ("label", 0.93))
        for metric in ("pearson", "ccc")
        if regression
    ]
    columns = ["cohort", "comparison", "metric", "value", "ci_low", "ci_high", "n", "undefined_reason"]
    write_table(folder / "truth.tsv", pd.DataFrame(truth, columns=columns))
    for name in ("scatter", "roc"):
        figure, axis = plt.subplots(figsize=(4, 3))
        axis.plot([0, 1, 2], [0, 2, 1])
        axis.set_title("R & D <none>")
        with plt.rc_context({"svg.hashsalt": "same", "svg.fonttype": "none"}):
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)


def _write_explanations(
    folder: Path, model: str, texts: dict[str, str], roster: pd.DataFrame, rng: np.random.Generator
) -> None:
    for name, path in texts.items():
        write_text(path, f"# {name}\n\nMore of it <i>raises</i> the score.\n")
    home = folder / "explanations" / model
    south = roster[roster["cohort"] == "south"].to_dict("records")
    rows = []
    for place, stratum in enumerate(STRATA):
        for i in range(8):
            slide = south[i % 5]
            x, y, logit = 256 * i, 256 * place, 2.0 - place - i / 20
            folder_name = f"{slide['slide_id']}/{x}-{y}-0.5"
            patch = home / "patches" / folder_name / "rgb.jpeg"
            patch.parent.mkdir(parents=True, exist_ok=True)
            fake_picture(rng, 256, 256).save(patch)
            score = float(1 / (1 + np.exp(-logit)))
            place_and_score = {"x": x, "y": y, "mpp": 0.5, "stratum": stratum, "score": score, "logit": logit}
            rows.append({"patch_id": folder_name, **slide, **place_and_score})
    write_table(home / "patches" / "sample.tsv", pd.DataFrame(rows))
    write_json(home / "patches" / "sample.json", {"threshold": 0.123, "spread": 0.8, "digest": "ab" * 8, "patches": 32})
    lines = [
        json.dumps({"patch_id": r["patch_id"], "description": "Measured, not seen.\n- nuclei: many"}) for r in rows
    ]
    write_text(home / "descriptions.jsonl", "\n".join(lines) + "\n")
    _write_scores(home, list(texts))
    _write_attribution(home, pd.DataFrame(rows), rng)


def _write_attribution(home: Path, sample: pd.DataFrame, rng: np.random.Generator) -> None:
    """Attributions of eight patches by a network that has no attention."""
    folder, chosen = home / "attributions", sample.iloc[::4]
    for patch in chosen["patch_id"]:
        (folder / patch).mkdir(parents=True)
        fake_picture(rng, 256, 256).save(folder / patch / "gradcam_output.jpeg")
    kept = ["patch_id", "slide_id", "patient_id", "stratum", "logit"]
    write_table(folder / "patches.tsv", chosen[kept].assign(output=chosen["logit"], attention=None))
    write_json(folder / "attribution.json", {"method": "gradcam", "place": "layer layer4", "patches": len(chosen)})
    known = [
        ["gradcam_output", kind, 0.321, 0.21, 0.43, 0.1, 0.221, 0.1, 0.3, 0.0004, 0.0004, 8, 5, ""] for kind in MEASURES
    ]
    reason = "the model defines no attention"
    known += [["gradcam_attention", kind, *[None] * 9, 0, 0, reason] for kind in MEASURES]
    write_table(folder / "faithfulness.tsv", pd.DataFrame(known, columns=FAITHFULNESS))


def _write_scores(home: Path, texts: list[str]) -> None:
    kinds: dict[str, tuple[str, float | None]] = {name: ("text", 0.86 - 0.2 * i) for i, name in enumerate(texts)}
    kinds |= {f"{name}.inverted": ("inverted", 0.14 + 0.2 * i) for i, name in enumerate(texts)}
    kinds |= {"control.irrelevant": ("irrelevant", 0.5), "control.image-only": ("image-only", None)}
    kinds[f"{texts[0]}.without-1"] = ("without", 0.55)
    scores, frozen = [], "frozen sample"
    for name, (kind, value) in kinds.items():
        for subset, n in SUBSETS:
            for metric in ("auroc", "auroc_reference", "spearman"):
                undefined = value is None or (metric == "auroc_reference" and kind == "irrelevant")
                numbers = [None] * 3 if undefined or value is None else [value, value - 0.09, min(1.0, value + 0.08)]
                answered, abstained = (0, n) if kind == "irrelevant" else (n, 0)
                counts = [n, 5, answered, abstained, 0, 0]
                reason = "the reader is no vision-language model" if value is None else "no rows" if undefined else ""
                who = [reason, "" if value is None else "morphometry", False, "passed", "ab" * 8]
                for patches in (frozen, "chosen") if kind == "text" else (frozen,):
                    scores.append([name, kind, patches, subset, metric, *numbers, *counts, *who])
    change, pairs = [0.2, 0.1, 0.3, 0.001, 0.004], []
    for first, second in zip(texts, [*texts[1:], f"{texts[0]}.inverted"], strict=True):
        pairs += [[first, second, frozen, subset, *change, n, 5, ""] for subset, n in SUBSETS]
    gain = [0.86, 0.55, 0.31, 0.2, 0.4, 0.0004, 0.0004, 32, 5, ""]
    statements = [[texts[0], 1, "higher", "small round <dark> nuclei", frozen, subset, *gain] for subset, _ in SUBSETS]
    sample = pd.read_csv(home / "patches" / "sample.tsv", sep="\t")
    wrong = [
        [name, frozen, place, row.patch_id, row.slide_id, row.cohort, row.logit, row.score, 0.0, 0.9, 0.1, 0.8]
        for name in texts
        for place, row in enumerate(sample.head(3).itertuples(), 1)
    ]
    tables = {"scores": (SCORES, scores), "pairs": (PAIRS, pairs), "statements": (STATEMENTS, statements)}
    tables["most_wrong"] = (MOST_WRONG, wrong)
    for name, (columns, rows) in tables.items():
        write_table(home / f"{name}.tsv", pd.DataFrame(rows, columns=columns))
    for name in texts:
        lines = [_answer_line(str(row.patch_id), place) for place, row in enumerate(sample.itertuples())]
        write_text(home / "answers" / f"{name}.jsonl", "".join(lines))
    gate = {"result": "passed", "reason": "", "auroc": 0.91, "ci_low": 0.8, "ci_high": 0.98, "n": 20}
    write_json(home.parent / "gate" / "gate.json", {**gate, "smallest_auroc": 0.7})


def _answer_line(patch: str, place: int) -> str:
    word = list(Conclusion)[place % 4]
    answer = Answer(patch, AnswerStatus.ANSWERED, word, f"reasons\nCONCLUSION={word.value}")
    if place % 7 == 0:
        answer = Answer(patch, AnswerStatus.ABSTAINED, None, "CONCLUSION=ABSTAIN")
    return json.dumps({**answer.to_dict(), "reader": "morphometry", "is_vlm": False}) + "\n"


def train_encoders(folder: Path) -> None:
    """Rewrites the feature stores as if no encoder were untrained."""
    for path in (folder / "features").rglob("zarr.json"):
        value = read_json(path)
        value["attributes"]["encoder"]["weights"] = "file: weights.safetensors"
        write_json(path, value)
