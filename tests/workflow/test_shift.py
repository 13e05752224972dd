"""The shift of an external cohort over imported features, slides of which there are none, through a real DAG."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from slidestudy.tables import load_table
from tests.workflow.feature_study import PATIENTS, write_feature_study
from tests.workflow.small_study import contents, run

pytestmark = pytest.mark.workflow
MODELS = {"high": {"task": "classification", "aggregator": "mean", "target": "high"}}
TARGET = "results/shift/planted/shift.tsv"
FILES = ["shift.png", "shift.svg", "shift.tsv", "slides.tsv"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose shift was measured and whose models were not trained."""
    folder = tmp_path_factory.mktemp("shift")
    done = run(write_feature_study(folder, MODELS), folder, TARGET)
    assert done.status == 0, done.output
    assert "train_fold" not in done.jobs
    return folder


def planned(folder: Path, *target: str, **changes: Any) -> set[str]:
    """The rules of a run with other keys; the configuration is put back."""
    path = folder / "config.yaml"
    before = path.read_text()
    path.write_text(yaml.safe_dump({**yaml.safe_load(before), **changes}, sort_keys=False))
    time.sleep(1.1)
    done = run(path, folder, "-n", *target)
    path.write_text(before)
    assert done.status == 0, done.output
    return set(done.jobs)


def test_features_are_compared_and_what_only_slides_could_say_is_undefined(folder: Path) -> None:
    table = load_table(folder / TARGET).set_index("measure")
    assert set(table["cohort"]) == {"south"}
    assert set(table["encoder"]) == {"planted"}
    found = table.loc["frechet"]
    assert (found["n_reference"], found["n"], found["n_patients"]) == (24, 7, PATIENTS["south"])
    # Both cohorts are drawn alike.
    assert 0 < found["value"] < found["expected_high"]
    assert table.loc["mpp", "value"] == 0.5
    assert table.loc["scanner_known", "undefined_reason"] == "no slide of the cohort says its scanner"
    assert table.loc["stain_distance", "undefined_reason"] == "measured on no slide of the cohort"
    slides = load_table(folder / "results" / "shift" / "planted" / "slides.tsv")
    assert slides["cohort"].value_counts().to_dict() == {"north": 24, "south": 7}
    assert slides["distance"].notna().all()


def test_a_second_run_gives_the_same_bytes(folder: Path) -> None:
    home = folder / "results" / "shift" / "planted"
    first = contents(home)
    assert sorted(first) == FILES
    (home / "shift.tsv").unlink()
    done = run(folder / "config.yaml", folder, TARGET)
    assert set(done.jobs) == {"measure_shift"}
    assert contents(home) == first


def test_another_percentile_measures_the_shift_alone(folder: Path) -> None:
    validation = {"bootstrap": 100, "shift": {"percentile": 80}}
    assert planned(folder, TARGET, validation=validation) == {"measure_shift"}


def test_the_report_needs_the_shift_of_a_study_with_an_external_cohort_only(folder: Path) -> None:
    (folder / TARGET).unlink()
    assert "measure_shift" in planned(folder)
    both = {"north": {"role": "development"}, "south": {"role": "development"}}
    jobs = planned(folder, cohorts=both)
    assert "build_report" in jobs
    assert "measure_shift" not in jobs
