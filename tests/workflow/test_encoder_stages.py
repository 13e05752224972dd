"""A study that trains its own encoder, compares it and summarises features; and what then reruns."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from slidestudy.features.store import read_attributes
from slidestudy.features.verification import find_stores, verify_store
from slidestudy.files import read_json
from slidestudy.tables import load_table
from tests.workflow.small_study import contents, run, write_small_study

pytestmark = pytest.mark.workflow
PRETRAINING = {"method": "simclr", "epochs": 2, "warmup_epochs": 1, "batch_size": 8, "tiles_per_slide": 12, "crop": 32}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small study without its models, its cohort `west` set aside for an encoder."""
    folder = tmp_path_factory.mktemp("encoders")
    path = write_small_study(folder)
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["cohorts"]["west"]["role"] = "pretraining"
    own = {"backend": "timm", "architecture": "test_resnet", "weights": "study", "pretraining": PRETRAINING}
    config["encoders"]["own"] = {**own, "normaliser": {"method": "reinhard"}}
    config["slide_encoders"] = {"spread": {"backend": "mean-std", "encoder": "stain-texture"}}
    config["comparisons"] = {"for-tils": {"target": "tils", "task": "regression", "folds": 3, "neighbours": 2}}
    config["summaries"] = {"encoders": ["own"], "biology": "mucinous", "tiles_per_slide": 6, "neighbours": 3}
    for section in ("models", "explanations", "truth"):
        config.pop(section)
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    done = run(path, folder)
    assert done.status == 0, done.output
    return folder


def test_the_encoder_is_trained_on_its_own_cohort_and_used_by_name(study: Path) -> None:
    home = study / "results" / "encoders" / "own"
    history = load_table(home / "history.tsv")
    assert history["epoch"].tolist() == [0, 1, 2]
    assert "west" in (home / "card.md").read_text()
    stores = find_stores([study / "results" / "features" / "own"])
    assert {path.parent.name for path in stores} == {"north", "south"}
    assert all(not verify_store(path).problems for path in stores)
    attributes = read_attributes(stores[0])
    assert attributes["normaliser"]["method"] == "reinhard"
    assert "UNTRAINED" not in attributes["encoder"]["weights"]


def test_all_encoders_are_compared_over_the_same_folds(study: Path) -> None:
    home = study / "results" / "comparisons" / "for-tils"
    metrics = load_table(home / "metrics.tsv")
    assert set(metrics["candidate"]) == {"spread", "stain-texture.mean", "own.mean"}
    assert set(metrics["cohort"]) == {"north", "south"}
    assert metrics.groupby(["cohort", "level"])["n"].nunique().max() == 1
    record = read_json(home / "comparison.json")
    assert record["reference"] == "spread"


def test_the_report_shows_comparison_and_summary(study: Path) -> None:
    page = (study / "results" / "report" / "report.html").read_text(encoding="utf-8")
    assert "Encoders compared: for-tils" in page
    assert "Features of whole cohorts: own" in page
    assert (study / "results" / "summaries" / "own" / "map.svg").is_file()


def test_a_touched_slide_of_the_encoders_cohort_trains_it_again_and_reruns_what_it_encodes(study: Path) -> None:
    before = contents(study / "results")
    slide = next((study / "data" / "slides" / "west").iterdir())
    os.utime(slide)
    done = run(study / "config.yaml", study)
    assert done.status == 0, done.output
    assert done.jobs["pretrain_encoder"] == ["encoder=own"]
    assert all("encoder=own" in job for job in done.jobs["extract_features"])
    assert all("own.mean" in job for job in done.jobs["encode_slides"])
    assert contents(study / "results") == before, "the same seed gave other bytes"
