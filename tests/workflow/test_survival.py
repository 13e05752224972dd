"""A model's score and a pathologist's are related to survival through one real DAG, over predictions from a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from slidestudy.tables import load_table
from tests.workflow.feature_study import write_feature_study
from tests.workflow.small_study import run

pytestmark = pytest.mark.workflow
MODELS: dict[str, dict[str, Any]] = {
    "reader": {"predictions": "reader.csv", "task": "regression", "target": "tils"},
    "other": {"predictions": "reader.csv", "task": "regression", "target": "tils"},
}
ENDPOINT = {
    "time": "years",
    "event": "died",
    "scores": {"reader": {"per": 10, "cutoffs": [50]}, "tils": {"per": 10}},
    "covariates": {"age": {"per": 10}, "subtype": {"reference": "luminal"}},
    "missing": "imputation",
    "times": [2],
}
NAMES = (
    "cox.tsv", "cox_tests.tsv", "hazard_ratios.svg", "hazard_ratios.png", "kaplan_meier.tsv", "logrank.tsv",
    "kaplan_meier_curves.tsv", "kaplan_meier.svg", "kaplan_meier.png", "kaplan_meier_median.svg",
    "kaplan_meier_median.png",
)  # fmt: skip


def write_files(folder: Path) -> None:
    """Predictions by patient near the label; a patient lacks an outcome, some lack their subtype."""
    patients = load_table(folder / "patients.tsv")
    rng = np.random.default_rng(5)
    predicted = (patients["tils"] + rng.normal(0, 10, len(patients))).clip(0, 100).round(2)
    patients[["patient_id"]].assign(prediction=predicted).to_csv(folder / "reader.csv", index=False)
    patients.loc[0, ["years", "died"]] = None
    patients.loc[3:7, "subtype"] = None
    patients.astype({"died": "Int64"}).to_csv(folder / "patients.tsv", sep="\t", index=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that has run to its report."""
    folder = tmp_path_factory.mktemp("survival")
    validation = {"bootstrap": 100, "survival": {"overall": ENDPOINT}}
    config = write_feature_study(folder, MODELS, validation=validation)
    write_files(folder)
    done = run(config, folder)
    assert done.status == 0, done.output
    return folder


def test_only_models_that_are_scores_are_analysed_and_the_report_shows_it(folder: Path) -> None:
    home = folder / "results" / "validation"
    assert all((home / "reader" / name).stat().st_size for name in NAMES)
    assert not (home / "other" / "cox.tsv").exists()
    text = (folder / "results" / "report" / "report.html").read_text(encoding="utf-8")
    assert "overall, hazard ratios of Cox models with 95% intervals" in text


def test_tables_count_patients_and_find_the_planted_hazard(folder: Path) -> None:
    cox = load_table(folder / "results" / "validation" / "reader" / "cox.tsv")
    north = cox[(cox["cohort"] == "north") & (cox["analysis"] == "univariable")].set_index("score")
    assert north["n"].tolist() == [20, 20]
    assert north["n_dropped"].tolist() == [1, 1]
    assert (north["hazard_ratio"] > 1).all()
    levels = cox[(cox["cohort"] == "north") & (cox["term"] == "subtype")]
    assert set(levels["level"]) == {"basal", "her2"}
    assert set(levels["imputations"]) == {20}


def test_patients_are_split_by_the_cut_offs_and_the_median_and_the_report_shows_it(folder: Path) -> None:
    home = folder / "results" / "validation" / "reader"
    times, tests = (load_table(home / f"{name}.tsv") for name in ("kaplan_meier", "logrank"))
    by_cutoff = times[(times["cohort"] == "north") & (times["score"] == "reader") & (times["split"] == "cutoffs")]
    assert by_cutoff["group"].tolist() == ["< 50", ">= 50"]
    assert by_cutoff["time"].tolist() == [2, 2]
    assert by_cutoff["n"].sum() == 20
    assert by_cutoff["survival"].is_monotonic_decreasing
    splits = {("reader", "cutoffs"), ("reader", "median"), ("tils", "median")}
    assert set(zip(tests["score"], tests["split"], strict=True)) == splits
    assert tests[tests["cohort"] == "north"]["n_dropped"].tolist() == [1, 1, 1]
    text = (folder / "results" / "report" / "report.html").read_text(encoding="utf-8")
    assert "reader: overall by tils, the share without the event at given times (Kaplan-Meier)" in text


def test_a_changed_endpoint_is_analysed_anew_and_nothing_else(folder: Path) -> None:
    path = folder / "config.yaml"
    before = path.read_text(encoding="utf-8")
    config = yaml.safe_load(before)
    config["validation"]["survival"]["overall"] |= {"times": [1, 2], "covariates": {}}
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    time.sleep(1.1)
    done = run(path, folder, "-n")
    path.write_text(before, encoding="utf-8")
    assert done.status == 0, done.output
    # The tables for a paper are made of the analyses.
    assert set(done.jobs) == {"analyse_survival", "tabulate_model", "build_report"}


def test_a_mistake_stops_the_run_before_anything_is_computed(folder: Path) -> None:
    path = folder / "config.yaml"
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace("luminal", "luminous"), encoding="utf-8")
    done = run(path, folder, "-n")
    path.write_text(before, encoding="utf-8")
    assert done.status != 0
    assert "did you mean 'luminal'?" in done.output
