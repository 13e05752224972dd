"""The workflow on a small real study: what runs, what reruns after a change, and what survives a kill."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml

from slidestudy.tables import load_table
from tests.loopback import Reply, completion, serve
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
        "validation/til/pr.svg",
        "validation/til/pr.png",
        "validation/til/tables/metrics.tex",
        "validation/til/tables/shift.md",
        "heatmaps/til/north/heatmaps.tsv",
        "heatmaps/til/south/heatmaps.tsv",
        "shift/stain-texture/shift.tsv",
        "shift/stain-texture/slides.tsv",
        "shift/stain-texture/shift.svg",
        "shift/stain-texture/shift.png",
        "explanations/til/patches/sample.tsv",
        "explanations/til/scores.tsv",
        "explanations/til/pairs.tsv",
        "explanations/til/statements.tsv",
        "explanations/til/most_wrong.tsv",
        "explanations/til/usage.tsv",
        "explanations/til/x2x/tumour-raises/frozen-sample/results.csv",
        "explanations/til/answers/lymphocytes-raise.without-1.jsonl",
        "explanations/til/answers/control.empty.jsonl",
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
    assert jobs["draw_heatmaps"] == ["model=til, cohort=south"]
    assert jobs["tabulate_model"] == ["model=til"]
    for rule in ("admit_slides", "complete_ledger", "validate_model", "sample_patches", "score_explanations"):
        assert len(jobs[rule]) == 1, rule
    assert jobs["measure_shift"] == ["encoder=stain-texture"]
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


def test_a_test_of_the_reader_and_chosen_patches_are_added_without_asking_anew(study):
    before = study.read_text(encoding="utf-8")
    home = study.parent / "results" / "explanations" / "til"
    frozen = load_table(home / "patches" / "sample.tsv")["patch_id"].tolist()
    chosen = study.parent / "chosen"
    for patch in frozen[::3]:
        shutil.copytree(home / "patches" / patch, chosen / patch)
    rows = [[f"anywhere/{patch}/macenko.jpeg", "VERY HIGH"] for patch in frozen[::3]]
    pd.DataFrame(rows, columns=["image_path", "conclusion"]).to_csv(chosen / "results.csv", index=False)
    config = yaml.safe_load(before)
    config["explanations"] |= {"gate": {"table": "data/gate/gate.tsv"}, "patch_sets": {"mine": "chosen"}, "smallest": 4}
    study.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    jobs = rerun(study).jobs
    asked = set(jobs.pop("answer_from_explanation"))
    assert asked
    assert all(wildcards.startswith("model=til/sets/mine, ") for wildcards in asked)
    assert jobs == {
        "import_patches": ["model=til, patch_set=mine"],
        "describe_patches": ["model=til/sets/mine"],
        "test_reader": [""],
        "score_explanations": ["model=til"],
        "build_report": [""],
    }
    scores = load_table(home / "scores.tsv")
    assert set(scores["patches"]) == {"frozen sample", "mine"}
    assert set(scores["gate"]) == {json.loads((home.parent / "gate" / "gate.json").read_text())["result"]}
    assert set(scores.loc[scores["kind"] == "imported", "reader"]) == {"results.csv"}
    whole = scores[(scores["subset"] == "X") & (scores["metric"] == "auroc") & (scores["kind"] == "text")]
    assert set(whole.loc[whole["patches"] == "mine", "n"]) == {len(frozen[::3])}
    study.write_text(before, encoding="utf-8")
    assert set(rerun(study).jobs) == {"score_explanations", "build_report"}
    for left in (home / "sets", home.parent / "gate"):
        shutil.rmtree(left)


def _stand_in(request: dict) -> Reply:
    """Describes a patch by how dark it is, and calls a dark one high; a word for the test, not a model."""
    content = request["messages"][-1]["content"]
    images = (
        [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
        if isinstance(content, list)
        else []
    )
    if images:
        pixels = cv2.imdecode(np.frombuffer(base64.b64decode(images[0].split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
        seen = "dark nuclei everywhere" if pixels.mean() < 180 else "pale tissue"
        return completion(f"{seen}, brightness {pixels.mean():.6f}\nCONCLUSION=VERY HIGH")
    return completion("CONCLUSION=VERY HIGH" if "dark nuclei everywhere" in str(content) else "CONCLUSION=VERY LOW")


def test_vision_language_model_takes_the_readers_place(study, monkeypatch):
    before = study.read_text(encoding="utf-8")
    config = yaml.safe_load(before)
    prompts = REPOSITORY / "config" / "prompts"
    results = study.parent / "results"
    patches = len(load_table(results / "explanations" / "til" / "patches" / "sample.tsv"))

    def reached(**changes):
        config["explanations"]["reader"] |= changes
        study.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        time.sleep(1.1)
        return run(study, study.parent)

    with serve() as endpoint:
        endpoint.respond = _stand_in
        monkeypatch.setenv("STAND_IN_KEY", "secret-of-the-test")
        config["explanations"]["reader"] = {
            "kind": "openai",
            "structured": "text",
            "base_url": endpoint.url,
            "model": "stand-in",
            "api_key_env": "STAND_IN_KEY",
            **{f"{name}_prompt": str(prompts / f"{name}.j2") for name in ("describe", "answer", "image_only")},
        }
        stopped = reached(max_calls=patches + 5)
        assert stopped.status != 0
        logs = [path.read_text() for path in (results / "logs" / "answer_from_explanation").rglob("*.log")]
        assert any("the cap max_calls is reached" in log for log in logs)
        assert len(endpoint.requests) == patches + 5
        done = reached(max_calls=None)
        assert done.status == 0, done.output
        assert set(done.jobs) == {"answer_from_explanation", "score_explanations", "build_report"}
        asked = [json.dumps([request["messages"], request["seed"]]) for request in endpoint.requests]
        assert len(set(asked)) == len(asked)
        # Where and how fast the model is reached changes no answer; the report shows the configuration.
        moved = reached(base_url="http://127.0.0.1:9/v1", concurrency=2, retries=1)
        assert moved.status == 0, moved.output
        assert moved.jobs == {"build_report": [""]}
    scores = load_table(results / "explanations" / "til" / "scores.tsv")
    names = scores.loc[~scores["kind"].isin(["shuffled", "imported"]), "explanation"].nunique()
    assert len(asked) == patches * (1 + names)
    texts = scores[scores["kind"] == "text"]
    assert texts["reader"].str.contains("stand-in").all()
    assert texts["is_vlm"].all()
    assert not [name for name, content in contents(results).items() if b"secret-of-the-test" in content]
    study.write_text(before, encoding="utf-8")
    assert set(rerun(study).jobs) == {*done.jobs, "describe_patches"}
    shutil.rmtree(results / "explanations" / "ledger")
    (results / "explanations" / "til" / "answers" / "control.image-only.jsonl").unlink()


def test_patches_are_attributed_without_asking_anew_and_a_reader_is_shown_the_maps(study, monkeypatch):
    before = study.read_text(encoding="utf-8")
    config = yaml.safe_load(before)
    home = study.parent / "results" / "explanations" / "til"
    patches = list(load_table(home / "patches" / "sample.tsv")["patch_id"])
    coarse = {"occlusion_window": 0.5, "occlusion_stride": 0.5, "steps": 2, "perturbations": 2}
    config["explanations"] |= {"attribution": {"method": "auto", **coarse}, "controls": ["image-only"]}
    config["explanations"]["statements"] = False
    study.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    assert rerun(study).jobs == {"attribute_patches": ["model=til"], "build_report": [""]}
    folder = home / "attributions"
    assert list(load_table(folder / "patches.tsv")["patch_id"]) == patches
    assert all((folder / patch / "occlusion_output.jpeg").is_file() for patch in patches)
    # The patches are JPEG, the tiles were not: the model says nearly the same of both.
    told = load_table(folder / "patches.tsv")
    assert np.corrcoef(told["logit"], told["output"])[0, 1] > 0.98
    assert set(load_table(folder / "faithfulness.tsv")["n"]) == {len(patches)}
    report = (study.parent / "results" / "report" / "report.html").read_text(encoding="utf-8")
    assert "Where in the patches the score comes from" in report
    with serve() as endpoint:
        endpoint.respond = _stand_in
        prompts = REPOSITORY / "config" / "prompts"
        config["explanations"]["reader"] = {
            "kind": "openai",
            "structured": "text",
            "base_url": endpoint.url,
            "model": "stand-in",
            "api_key_env": None,
            "images": ["rgb", "occlusion_output"],
            **{f"{name}_prompt": str(prompts / f"{name}.j2") for name in ("describe", "answer", "image_only")},
        }
        study.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        jobs = rerun(study).jobs
        shown = [[part["type"] for part in content] for content in _contents(endpoint.requests)]
    assert set(jobs) == {"describe_patches", "answer_from_explanation", "score_explanations", "build_report"}
    assert len(shown) == 2 * len(patches)
    assert all(kinds.count("image_url") == 2 for kinds in shown)
    study.write_text(before, encoding="utf-8")
    rerun(study)


def _contents(requests):
    """The contents of the requests that show images."""
    return [c for request in requests if isinstance(c := request["messages"][-1]["content"], list)]


def test_changed_bootstrap_reruns_validation_shift_and_scores_only(study):
    config = yaml.safe_load(study.read_text(encoding="utf-8"))
    config["validation"]["bootstrap"] = 150
    study.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    expected = {"validate_model", "measure_shift", "tabulate_model", "score_explanations", "build_report"}
    assert set(rerun(study).jobs) == expected


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
    # What other tests asked a reader or attributed is not part of the study as it is configured.
    for left in ("explanations", "report"):
        shutil.rmtree(study.parent / "results" / left)
    rerun(study)
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
