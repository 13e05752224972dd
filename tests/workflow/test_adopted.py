"""Predictions from files as models of a study: by slide and by patient, to metrics and report, and what reruns."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from slidestudy.statistics import pearson
from slidestudy.tables import load_table
from tests.workflow.feature_study import write_feature_study
from tests.workflow.small_study import Run, run

pytestmark = pytest.mark.workflow
MODELS: dict[str, dict[str, Any]] = {
    "reader": {"predictions": "reader.tsv", "task": "regression", "target": "tils", "cutoffs": [30]},
    "second": {"predictions": "second.tsv", "task": "regression", "target": "tils"},
    "theirs": {"predictions": "theirs.csv", "task": "classification", "target": "high"},
}
UNKNOWN = 3
"""Rows of reader.tsv that are of no slide of the study."""


def write_files(folder: Path) -> None:
    """reader.tsv by slide, without the study's last; the others by patient, theirs.csv with thresholds."""
    slides, patients = (load_table(folder / f"{name}.tsv") for name in ("slides", "patients"))
    rng = np.random.default_rng(5)
    reader = slides[["slide_id", "patient_id"]].merge(patients[["patient_id", "tils"]], on="patient_id")
    reader["prediction"] = (reader.pop("tils") + rng.normal(0, 10, len(reader))).clip(0, 100).round(2)
    others = pd.DataFrame({"slide_id": [f"X{i}" for i in range(UNKNOWN)], "patient_id": "X", "prediction": 5.0})
    pd.concat([reader[:-1], others]).to_csv(folder / "reader.tsv", sep="\t", index=False)
    second = patients[["patient_id"]].assign(prediction=(patients["tils"] + rng.normal(0, 20, len(patients))).round(2))
    second.to_csv(folder / "second.tsv", sep="\t", index=False)
    theirs = patients[["patient_id"]].assign(prediction=(0.3 + 0.4 * patients["high"]).round(2), threshold=0.5)
    theirs.to_csv(folder / "theirs.csv", index=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of adopted models that has run to its report."""
    folder = tmp_path_factory.mktemp("adopted")
    config = write_feature_study(folder, MODELS)
    write_files(folder)
    done = run(config, folder)
    assert done.status == 0, done.output
    assert {"train_fold", "make_splits", "predict_cohort", "adopt_weights"}.isdisjoint(done.jobs)
    return folder


def rerun(folder: Path, *arguments: str) -> Run:
    time.sleep(1.1)
    done = run(folder / "config.yaml", folder, *arguments)
    assert done.status == 0, done.output
    return done


def predictions(folder: Path, model: str) -> pd.DataFrame:
    """A model's predictions of both cohorts."""
    home = folder / "results" / "predictions" / model
    return pd.concat([load_table(home / f"{cohort}.tsv") for cohort in ("north", "south")], ignore_index=True)


def test_slides_have_the_files_predictions_and_the_studys_labels(folder: Path) -> None:
    found = predictions(folder, "reader").set_index("slide_id")
    given = load_table(folder / "reader.tsv").set_index("slide_id")["prediction"]
    slides = load_table(folder / "slides.tsv")
    assert sorted(found.index) == sorted(slides["slide_id"][:-1])
    assert found["prediction"].to_dict() == given.loc[found.index].to_dict()
    labels = load_table(folder / "patients.tsv").set_index("patient_id")["tils"]
    assert found["target"].tolist() == labels.loc[found["patient_id"]].tolist()
    assert set(found["fold"]) == {"file"}


def test_a_patients_slides_share_its_prediction(folder: Path) -> None:
    found = predictions(folder, "theirs")
    given = pd.read_csv(folder / "theirs.csv").set_index("patient_id")["prediction"]
    assert len(found) == len(load_table(folder / "slides.tsv"))
    assert found["prediction"].tolist() == given.loc[found["patient_id"]].tolist()
    assert found.groupby("patient_id")["slide_id"].nunique().max() == 2


def test_metrics_are_those_of_the_file(folder: Path) -> None:
    metrics = load_table(folder / "results" / "validation" / "reader" / "metrics.tsv")
    row = metrics[(metrics["cohort"] == "north") & (metrics["metric"] == "pearson") & (metrics["level"] == "slide")]
    found = load_table(folder / "results" / "predictions" / "reader" / "north.tsv")
    y, p = found["target"].to_numpy(), found["prediction"].to_numpy()
    assert row["value"].item() == pytest.approx(float(pearson(y, p, np.ones((1, len(y))))[0]))
    decided = load_table(folder / "results" / "validation" / "theirs" / "metrics.tsv")
    decided = decided[(decided["metric"] == "accuracy") & (decided["level"] == "patient")]
    assert decided["value"].tolist() == [1, 1]


def test_two_files_are_compared_on_the_slides_that_both_predict(folder: Path) -> None:
    table = load_table(folder / "results" / "validation" / "reader" / "comparison.tsv")
    row = table[(table["cohort"] == "south") & (table["metric"] == "pearson") & (table["level"] == "slide")]
    south = load_table(folder / "results" / "predictions" / "reader" / "south.tsv")
    assert row[["rival", "n", "n_left_out"]].to_numpy().tolist() == [["second", len(south), 1]]
    found = load_table(folder / "results" / "validation" / "second" / "metrics.tsv")
    assert set(found["cohort"]) == {"north", "south"}


def test_nothing_is_made_of_tiles(folder: Path) -> None:
    assert not (folder / "results" / "heatmaps").exists()
    assert not (folder / "results" / "explanations").exists()


def test_what_was_not_joined_is_counted(folder: Path) -> None:
    card = json.loads((folder / "results" / "predictions" / "reader" / "south.json").read_text())
    slides = load_table(folder / "slides.tsv")
    south = int((slides["cohort"] == "south").sum())
    assert (card["slides"], card["slides_predicted"]) == (south, south - 1)
    assert card["rows_elsewhere"] == UNKNOWN + int((slides["cohort"] == "north").sum())
    assert card["sha256"] == hashlib.sha256((folder / "reader.tsv").read_bytes()).hexdigest()
    log = (folder / "results" / "logs" / "adopt_predictions" / "reader" / "south.log").read_text()
    assert f"{south - 1} of {south} admitted slides are predicted by reader.tsv (joined by slide_id)" in log


def test_the_report_names_the_file_and_claims_nothing_of_its_training(folder: Path) -> None:
    text = (folder / "results" / "report" / "report.html").read_text(encoding="utf-8")
    digest = hashlib.sha256((folder / "reader.tsv").read_bytes()).hexdigest()
    for said in (
        f"predictions from a file (sha256 {digest[:12]})",
        "what that model was trained on the study does not know",
        "theirs.csv, joined by patient_id",
        digest,
    ):
        assert said in text, said
    assert "(cross-validated)" not in text
    assert "Training and validation loss" not in text


def test_a_changed_file_adopts_its_model_again_and_no_other(folder: Path) -> None:
    assert rerun(folder).jobs == {}
    (folder / "theirs.csv").touch()
    jobs = rerun(folder, "results/validation/theirs/metrics.tsv", "results/validation/reader/metrics.tsv").jobs
    cohorts = ["model=theirs, cohort=north", "model=theirs, cohort=south"]
    assert jobs["adopt_predictions"] == cohorts
    assert jobs["validate_model"] == ["model=theirs"]


def test_files_that_do_not_go_with_the_study_are_told_before_any_job(folder: Path) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "foreign.tsv").write_text("slide_id\tprediction\nZ1\t5\n")
    (folder / "bad.tsv").write_text("patient_id\tprediction\nN00\t1.5\nN00\thigh\n")
    config["models"] = {
        "foreign": {**MODELS["reader"], "predictions": "foreign.tsv"},
        "bad": {**MODELS["theirs"], "predictions": "bad.tsv"},
    }
    wrong = folder / "wrong.yaml"
    wrong.write_text(yaml.safe_dump(config, sort_keys=False))
    done = run(wrong, folder)
    assert (done.status != 0, done.jobs) == (True, {})
    for said in (
        "no slide_id of",
        "is one of the study, e.g. 'Z1'",
        "line 2, column prediction: 'prediction' is '1.5', which is not between 0 and 1",
        "line 3, column prediction: 'prediction' is 'high', which is no number",
        "lines 2, 3, column patient_id: 'N00' stands more than once",
    ):
        assert said in done.output, said
    assert "Traceback" not in done.output
