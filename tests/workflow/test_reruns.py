"""The workflow on a small real study: what runs, what reruns after a change, and what survives a kill."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from slidestudy.tables import load_table
from tests.loopback import completion, serve
from tests.workflow.small_study import FOLDS, REPOSITORY, Run, command, contents, environment, run, write_small_study

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """The configuration of a small study whose first run is done."""
    folder = tmp_path_factory.mktemp("study")
    config = write_small_study(folder)
    first = run(config, folder)
    assert first.status == 0, first.output
    return config


def rerun(study: Path) -> Run:
    time.sleep(1.1)
    done = run(study, study.parent)
    assert done.status == 0, done.output
    return done


def touch(path: Path) -> None:
    path.touch()
    assert path.stat().st_mtime > time.time() - 5


def test_first_run_writes_every_contracted_file(study):
    results = study.parent / "results"
    for name in [
        "slides/ledger.tsv",
        "slides/north/N01-1.json",
        "tissue/north/N01-1.geojson",
        "tissue/north/N01-1.jpg",
        "features/stain-texture/south/S01-1.zarr/zarr.json",
        "models/til/splits.tsv",
        "models/til/fold-0/model.safetensors",
        "models/til/fold-0/model.json",
        "models/til/fold-0/history.tsv",
        "predictions/til/north.tsv",
        "predictions/til/south/S01-1.zarr/zarr.json",
        "validation/til/metrics.tsv",
        "validation/til/scatter.svg",
        "validation/til/roc.svg",
        "validation/til/calibration.tsv",
        "validation/til/calibration.svg",
        "validation/til/agreement.tsv",
        "validation/til/bland_altman.svg",
        "validation/til/pooled.tsv",
        "validation/til/forest.svg",
        "explanations/til/patches/sample.tsv",
        "explanations/til/scores.tsv",
        "explanations/til/pairs.tsv",
        "explanations/til/answers/lymphocytes-raise.jsonl",
        "report/report.html",
    ]:
        assert (results / name).is_file(), name
    assert not list(results.rglob("*partial*")), "an unpublished output was left"


def test_unusable_slide_leaves_the_study_with_a_reason(study):
    ledger = (study.parent / "results" / "slides" / "ledger.tsv").read_text(encoding="utf-8")
    (row,) = [line for line in ledger.splitlines() if "\tinspection\t" in line]
    assert "\ttruncated\t" in row
    slide = row.split("\t")[1]
    assert not list((study.parent / "results" / "features").rglob(f"{slide}.zarr"))
    assert "no_slide" in ledger, "its patient is lost with it"


def test_second_run_does_nothing(study):
    done = rerun(study)
    assert done.jobs == {}
    assert "Nothing to be done" in done.output


def test_touched_external_slide_reruns_its_jobs_and_aggregates_only(study):
    (slide,) = (study.parent / "data" / "slides" / "south").glob("S01-1.*")
    touch(slide)
    jobs = rerun(study).jobs
    for rule in ("inspect_slide", "segment_tissue", "extract_features"):
        assert [("S01-1" in wildcards) for wildcards in jobs[rule]] == [True], rule
    assert jobs["predict_cohort"] == ["model=til, cohort=south"]
    for rule in ("admit_slides", "complete_ledger", "validate_model", "sample_patches", "score_explanations"):
        assert len(jobs[rule]) == 1, rule
    assert len(jobs["build_report"]) == 1
    assert "train_fold" not in jobs
    assert "make_splits" not in jobs


def test_touched_development_slide_trains_again(study):
    (slide,) = (study.parent / "data" / "slides" / "north").glob("N01-1.*")
    touch(slide)
    jobs = rerun(study).jobs
    assert [("N01-1" in wildcards) for wildcards in jobs["extract_features"]] == [True]
    assert len(jobs["train_fold"]) == FOLDS
    assert len(jobs["predict_cohort"]) == 3


def test_edited_explanation_is_answered_and_scored_again_alone(study):
    text = study.parent / "tumour-raises.md"
    text.write_text("Crowded large nuclei raise the score.\n", encoding="utf-8")
    jobs = rerun(study).jobs
    assert jobs == {
        "answer_from_explanation": [
            "model=til, explanation=tumour-raises",
            "model=til, explanation=tumour-raises.inverted",
        ],
        "score_explanations": ["model=til"],
        "build_report": [""],
    }


def _stand_in(request: dict) -> tuple[int, bytes]:
    """Describes a patch by how dark it is, and calls a dark one high; a word for the test, not a model."""
    content = request["messages"][-1]["content"]
    images = (
        [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
        if isinstance(content, list)
        else []
    )
    if images:
        pixels = cv2.imdecode(np.frombuffer(base64.b64decode(images[0].split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
        return completion("dark nuclei everywhere" if pixels.mean() < 180 else "pale tissue")
    return completion("CONCLUSION=VERY HIGH" if "dark nuclei everywhere" in str(content) else "CONCLUSION=VERY LOW")


def test_vision_language_model_takes_the_readers_place(study, monkeypatch):
    before = study.read_text(encoding="utf-8")
    config = yaml.safe_load(before)
    prompts = REPOSITORY / "config" / "prompts"
    with serve() as endpoint:
        endpoint.respond = _stand_in
        monkeypatch.setenv("STAND_IN_KEY", "secret-of-the-test")
        config["explanations"]["reader"] = {
            "kind": "vlm",
            "base_url": endpoint.url,
            "model": "stand-in",
            "api_key_env": "STAND_IN_KEY",
            "describe_prompt": str(prompts / "describe.txt"),
            "answer_prompt": str(prompts / "answer.txt"),
        }
        study.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        jobs = rerun(study).jobs
    assert set(jobs) == {"describe_patches", "answer_from_explanation", "score_explanations", "build_report"}
    results = study.parent / "results"
    scores = load_table(results / "explanations" / "til" / "scores.tsv")
    patches = len(load_table(results / "explanations" / "til" / "patches" / "sample.tsv"))
    assert len(endpoint.requests) == patches * (1 + scores["explanation"].nunique())
    assert scores["reader"].str.contains("stand-in").all()
    assert scores["is_vlm"].all()
    assert (scores.loc[scores["subset"] == "X", "n_answered"] == patches).all()
    assert not [name for name, content in contents(results).items() if b"secret-of-the-test" in content]
    study.write_text(before, encoding="utf-8")
    assert set(rerun(study).jobs) == set(jobs)


def test_changed_bootstrap_reruns_validation_and_scores_only(study):
    config = yaml.safe_load(study.read_text(encoding="utf-8"))
    config["validation"]["bootstrap"] = 150
    study.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    assert set(rerun(study).jobs) == {"validate_model", "score_explanations", "build_report"}


def test_changed_tile_size_reruns_features_and_what_follows_but_not_masks(study):
    config = yaml.safe_load(study.read_text(encoding="utf-8"))
    config["tiles"]["size"] = 112
    study.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    jobs = rerun(study).jobs
    slides = len((study.parent / "results" / "slides" / "admitted.tsv").read_text(encoding="utf-8").splitlines()) - 1
    assert len(jobs["extract_features"]) == slides
    assert len(jobs["train_fold"]) == FOLDS
    assert not {"inspect_slide", "segment_tissue", "admit_slides"} & set(jobs)


def _running(script: str, folder: Path) -> bool:
    """Whether a job of a rule runs for a study's folder."""
    for process in Path("/proc").iterdir():
        try:
            line = (process / "cmdline").read_bytes().decode(errors="replace")
            here = (process / "cwd").resolve() == folder.resolve()
        except OSError:
            continue
        if here and f".{script}.py" in line:
            return True
    return False


def _run_and_kill(study: Path, folder: Path, script: str, after: float) -> None:
    """Starts the workflow and kills it, and all its jobs, some seconds after a rule's job has begun."""
    started = subprocess.Popen(
        command(study, folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
        cwd=folder,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while not _running(script, folder):
        assert started.poll() is None, "the run ended before the job began"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(after)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds running jobs through /proc")
def test_killed_run_completes_and_equals_an_undisturbed_one(study, tmp_path):
    undisturbed = contents(study.parent / "results")
    stores = [name for name in undisturbed if name.startswith("features/") and name.endswith(".zarr/zarr.json")]
    results = tmp_path / "results"

    _run_and_kill(study, tmp_path, "extract_features", after=0.8)
    made = list(results.glob("features/*/*/*.zarr"))
    assert len(made) < len(stores), "killed too late to show anything"
    assert run(study, tmp_path, "--unlock").status == 0

    _run_and_kill(study, tmp_path, "train_fold", after=2.5)
    assert len(list(results.glob("models/til/fold-*/model.json"))) < FOLDS, "killed too late to show anything"
    assert run(study, tmp_path, "--unlock").status == 0

    done = run(study, tmp_path)
    assert done.status == 0, done.output
    completed = contents(results)
    assert completed.keys() == undisturbed.keys()
    assert [name for name in undisturbed if completed[name] != undisturbed[name]] == []


def test_a_search_is_made_in_every_fold_before_it_is_trained_again(study):
    """A dry run; splits and features stay."""
    config = yaml.safe_load(study.read_text(encoding="utf-8"))
    config["models"]["til"]["search"] = {"space": {"hidden": [16, 32]}, "trials": 2}
    searching = study.with_name("searching.yaml")
    searching.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    done = run(searching, study.parent, "--dry-run")
    assert done.status == 0, done.output
    assert done.jobs["search_hyperparameters"] == [f"model=til, fold={fold}" for fold in range(FOLDS)]
    assert len(done.jobs["train_fold"]) == FOLDS
    assert not {"extract_features", "make_splits"} & set(done.jobs)
