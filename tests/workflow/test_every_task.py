"""Models of every task, with all that a model may have besides, through one real DAG over imported features."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from slidestudy.tables import load_table
from slidestudy.validation.metrics import MAIN_METRIC
from tests.workflow.feature_study import TRAINING, write_feature_study
from tests.workflow.small_study import Run, run

pytestmark = pytest.mark.workflow
SHARED = {**TRAINING, "share_load": True}
MODALITY = {"table": "expression.tsv", "columns": ["ex_*"], "groups": {"signal": ["ex_a"], "noise": ["ex_b"]}}
SEARCH = {"space": {"learning_rate": [1.0e-7, 0.01]}, "trials": 3, "sampler": "random"}
SURVIVAL = {"target": ["years", "died"], "training": SHARED}
MODELS: dict[str, dict[str, Any]] = {
    "genes": {
        "task": "multi-regression",
        "aggregator": "mcat",
        "target": ["gene_*"],
        "modality": MODALITY,
        "training": SHARED,
    },
    "subtype": {"task": "multiclass", "aggregator": "clam-mb", "target": "subtype", "training": SHARED},
    "risk": {**SURVIVAL, "task": "survival-cox", "aggregator": "gated-abmil", "covariates": ["age"], "cutoffs": [2]},
    "hazard": {**SURVIVAL, "task": "survival-discrete", "aggregator": "mean", "time_bins": 2},
    "high": {
        "task": "classification",
        "aggregator": "gated-abmil",
        "target": "high",
        "search": SEARCH,
        "label_efficiency": {"fractions": [0.5, 1.0]},
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that has run to its report."""
    folder = tmp_path_factory.mktemp("tasks")
    done = run(write_feature_study(folder, MODELS), folder)
    assert done.status == 0, done.output
    return folder


def planned(folder: Path) -> Run:
    """What a run would do now."""
    time.sleep(1.1)
    done = run(folder / "config.yaml", folder, "-n")
    assert done.status == 0, done.output
    return done


def changed(folder: Path, model: str, **keys: Any) -> dict[str, Any]:
    """Changes keys of a model in the configuration; returns what it was before."""
    path = folder / "config.yaml"
    before = yaml.safe_load(path.read_text())
    after = json.loads(json.dumps(before))
    after["models"][model] |= keys
    path.write_text(yaml.safe_dump(after, sort_keys=False))
    return before


def main_row(folder: Path, model: str, cohort: str) -> dict[str, Any]:
    """The row of a model's headline metric, per slide."""
    table = load_table(folder / "results" / "validation" / model / "metrics.tsv")
    table = table[(table["metric"] == MAIN_METRIC[MODELS[model]["task"]]) & (table["target"] == "")]
    table = table[table["threshold"].isna() & (table["level"] == "slide") & (table["cohort"] == cohort)]
    (row,) = table.to_dict("records")
    return {str(key): value for key, value in row.items()}


@pytest.mark.parametrize(
    ("model", "least"), [("genes", 0.6), ("subtype", 0.7), ("risk", 0.6), ("hazard", 0.6), ("high", 0.8)]
)
def test_every_task_finds_the_planted_signal_on_the_external_cohort(folder: Path, model: str, least: float) -> None:
    assert main_row(folder, model, "south")["value"] > least
    row = main_row(folder, model, "north")
    assert row["ci_low"] < row["value"] < row["ci_high"]


def test_predictions_have_the_columns_of_their_task(folder: Path) -> None:
    tables = {name: load_table(folder / "results" / "predictions" / name / "south.tsv") for name in MODELS}
    assert {"prediction.gene_a", "prediction.gene_b", "gene_a", "gene_b"} <= set(tables["genes"])
    probabilities = tables["subtype"].filter(like="probability.")
    assert list(probabilities) == ["probability.basal", "probability.her2", "probability.luminal"]
    assert probabilities.sum(axis=1).tolist() == pytest.approx([1] * len(probabilities))
    assert {"prediction", "time", "event"} <= set(tables["risk"])
    (survival,) = tables["hazard"].filter(like="survival.").to_numpy().T
    assert ((survival > 0) & (survival < 1)).all()
    assert all(table["prediction_sd"].notna().all() for table in tables.values())


def test_each_fold_takes_the_setting_that_its_own_search_found(folder: Path) -> None:
    for fold in range(3):
        place = folder / "results" / "models" / "high"
        card = json.loads((place / f"fold-{fold}" / "model.json").read_text())
        trials = load_table(place / "search" / f"fold-{fold}" / "trials.tsv")
        best = trials.loc[trials["best"] == 1, "learning_rate"].item()
        assert card["training"]["learning_rate"] == card["search"]["best"]["learning_rate"] == best


def test_label_efficiency_has_a_row_for_each_share_and_cohort(folder: Path) -> None:
    table = load_table(folder / "results" / "validation" / "high" / "label_efficiency.tsv")
    assert set(zip(table["cohort"], table["fraction"], strict=True)) == {
        (cohort, share) for cohort in ("north", "south") for share in (0.5, 1.0)
    }
    whole = table[(table["cohort"] == "north") & (table["fraction"] == 1.0) & (table["level"] == "slide")]
    assert whole["value"].item() == main_row(folder, "high", "north")["value"]
    assert (folder / "results" / "validation" / "high" / "label_efficiency.svg").is_file()


def test_the_report_shows_every_model(folder: Path) -> None:
    text = (folder / "results" / "report" / "report.html").read_text()
    assert all(name in text for name in MODELS)


def test_a_touched_table_of_the_second_modality_reruns_its_model_alone(folder: Path) -> None:
    (folder / "expression.tsv").touch()
    jobs = planned(folder).jobs
    assert set(jobs) == {"train_folds_genes", "predict_cohort", "validate_model", "tabulate_model", "build_report"}
    assert jobs["predict_cohort"] == ["model=genes, cohort=north", "model=genes, cohort=south"]


def test_other_shares_of_the_labels_train_no_model_again(folder: Path) -> None:
    settled = run(folder / "config.yaml", folder)
    assert settled.status == 0, settled.output
    before = changed(folder, "high", label_efficiency={"fractions": [0.7, 1.0]})
    jobs = set(planned(folder).jobs)
    (folder / "config.yaml").write_text(yaml.safe_dump(before, sort_keys=False))
    assert jobs == {"train_shares", "summarise_label_efficiency", "build_report"}


def test_another_space_is_searched_and_trains_that_model_again(folder: Path) -> None:
    before = changed(folder, "high", search={**SEARCH, "trials": 4})
    jobs = planned(folder).jobs
    (folder / "config.yaml").write_text(yaml.safe_dump(before, sort_keys=False))
    assert {"search_hyperparameters", "train_fold"} <= set(jobs)
    assert all("model=high" in wildcards for wildcards in jobs["train_fold"])
