"""Models of the same target are compared, and all are measured in groups, through one real DAG on given predictions."""

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
    "sharp": {"predictions": "sharp.tsv", "task": "classification", "target": "high"},
    "blunt": {"predictions": "blunt.tsv", "task": "classification", "target": "high"},
    "score": {"predictions": "score.tsv", "task": "regression", "target": "tils"},
}
NOISE = {"sharp": 0.3, "blunt": 0.8, "score": 0.3}
SUBGROUPS = {"center": {"smallest": 3}, "age": {"edges": [50]}, "vendor": {}}
WANTED = [
    *(f"results/validation/{name}/comparison.tsv" for name in ("sharp", "blunt")),
    *(f"results/validation/{name}/subgroups.{kind}" for name in MODELS for kind in ("tsv", "png")),
    *(f"results/validation/{name}/metrics.tsv" for name in MODELS),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose models are compared and measured in groups."""
    folder = tmp_path_factory.mktemp("rivals")
    config = write_feature_study(folder, MODELS, validation={"bootstrap": 100, "subgroups": SUBGROUPS})
    slides, patients = (load_table(folder / f"{name}.tsv") for name in ("slides", "patients"))
    rng = np.random.default_rng(3)
    share = slides["patient_id"].map(patients.set_index("patient_id")["tils"]) / 100
    for name, noise in NOISE.items():
        prediction = (share + rng.normal(0, noise, len(slides))).clip(0, 1) * (100 if name == "score" else 1)
        table = slides[["slide_id"]].assign(prediction=prediction.round(3))
        table[1 if name == "blunt" else 0 :].to_csv(folder / f"{name}.tsv", sep="\t", index=False)
    done = run(config, folder, *WANTED)
    assert done.status == 0, done.output
    return folder


def planned(folder: Path, **validation: Any) -> dict[str, list[str]]:
    """The jobs of a run with other keys of the validation; the configuration is put back."""
    path = folder / "config.yaml"
    before = path.read_text()
    config = yaml.safe_load(before)
    config["validation"] |= validation
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    time.sleep(1.1)
    done = run(path, folder, "-n", *WANTED)
    path.write_text(before)
    assert done.status == 0, done.output
    return done.jobs


def test_each_of_two_rivals_is_compared_with_the_other_on_the_slides_of_both(folder: Path) -> None:
    home = folder / "results" / "validation"
    one, other = (load_table(home / name / "comparison.tsv") for name in ("sharp", "blunt"))
    assert (set(one["rival"]), set(other["rival"])) == ({"blunt"}, {"sharp"})
    assert one["difference"].tolist() == pytest.approx((-other["difference"]).tolist(), nan_ok=True)
    # The file of one model lacks a slide of north.
    slides = one[one["level"] == "slide"].groupby("cohort")["n_left_out"].max()
    assert slides.to_dict() == {"north": 1, "south": 0}
    metrics = load_table(home / "sharp" / "metrics.tsv")
    rows = metrics[(metrics["metric"] == "auroc") & (metrics["level"] == "slide")].set_index("cohort")
    auroc = one[(one["metric"] == "auroc") & (one["level"] == "slide")].set_index("cohort")
    assert auroc.loc["south", "value"] == pytest.approx(rows.loc["south", "value"])


def test_a_model_without_a_rival_has_no_comparison(folder: Path) -> None:
    done = run(folder / "config.yaml", folder, "-n", "results/validation/score/comparison.tsv")
    assert done.status != 0
    assert "MissingRuleException" in done.output


def test_every_model_is_measured_in_each_group_of_tables_and_of_inspection_records(folder: Path) -> None:
    for name in MODELS:
        home = folder / "results" / "validation" / name
        table = load_table(home / "subgroups.tsv")
        north = table[(table["cohort"] == "north") & (table["level"] == "slide")]
        found = {column: list(dict.fromkeys(part["group"])) for column, part in north.groupby("column")}
        # Slides that are known by their features only have no vendor.
        centers = ["c0", "c1", "c2", "c3"]
        assert found == {"cohort": ["all"], "age": ["< 50", ">= 50"], "center": centers, "vendor": ["unknown"]}
        assert set(load_table(home / "subgroup_tests.tsv")["column"]) == set(SUBGROUPS)
        assert all((home / f"subgroups.{kind}").stat().st_size > 1000 for kind in ("svg", "png"))


def test_other_groups_measure_the_groups_again_and_no_metric(folder: Path) -> None:
    jobs = planned(folder, subgroups={**SUBGROUPS, "age": {"edges": [48]}})
    assert jobs == {"measure_subgroups": [f"model={name}" for name in sorted(MODELS)]}


def test_the_report_asks_for_comparisons_and_groups(folder: Path) -> None:
    done = run(folder / "config.yaml", folder, "-n", "--forcerun", "compare_models", "measure_subgroups")
    assert done.status == 0, done.output
    assert done.jobs["compare_models"] == ["model=blunt", "model=sharp"]
    assert done.jobs["measure_subgroups"] == [f"model={name}" for name in sorted(MODELS)]
    assert "build_report" in done.jobs
