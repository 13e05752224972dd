"""A search judges settings on inner folds alone, repeats byte for byte, and survives being killed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.builders import make_bag, planted_part
from tests.models.searching.planted_search import FOLD, NO_PAIRS, SETTINGS, contents, run

from slidestudy.errors import StudyError
from slidestudy.files import read_json
from slidestudy.models import loading
from slidestudy.models.cohort import fold_parts
from slidestudy.models.mil import build_model
from slidestudy.models.prediction import predict_slide
from slidestudy.models.resuming import resume_folder
from slidestudy.models.searching import nested, search
from slidestudy.models.searching.nested import InnerFold, inner_splits, open_inner_folds
from slidestudy.models.searching.proposals import Outcome
from slidestudy.models.searching.search import check_space
from slidestudy.models.training import train_fold
from slidestudy.tables import load_table


def test_a_learning_rate_that_teaches_is_found(finished):
    """At 1e-5 the weights hardly leave where they began."""
    result, _ = finished
    trials = result.trials
    assert result.best["learning_rate"] == 0.05
    slow = trials.loc[trials["learning_rate"] == 1.0e-5, "value"]
    assert len(slow)
    assert result.value > slow.max() + 0.2


def test_the_test_part_is_neither_read_nor_looked_at(study, finished, tmp_path):
    """With its stores damaged and its labels changed the search comes to the same bytes."""
    labels, stores, splits = study
    tested = set(splits.loc[(splits["fold"] == FOLD) & (splits["part"] == "test"), "slide_id"])
    damaged = []
    for path in map(Path, stores):
        copy = tmp_path / "features" / path.name
        if path.stem in tested:
            copy.mkdir(parents=True)
            (copy / "zarr.json").write_text("unreadable")
        else:
            shutil.copytree(path, copy)
        damaged.append(str(copy))
    told = labels.assign(target=labels["target"].where(~labels["slide_id"].isin(tested), 3.0))
    run((told, damaged, splits), tmp_path / "fold-1")
    assert tested
    assert contents(tmp_path / "fold-1") == contents(finished[1])


def test_features_are_read_once_where_memory_holds_them_and_streamed_to_the_same_bytes(study, tmp_path, monkeypatch):
    read: list[str] = []
    original = loading.read_bag
    monkeypatch.setattr(
        loading, "read_bag", lambda path, slide, recipe: read.append(slide) or original(path, slide, recipe)
    )
    training = {**SETTINGS["training"], "pack_tiles": 12, "epochs": 2}
    run(study, tmp_path / "kept", {**SETTINGS, "training": training}, trials=2)
    splits = study[2]
    own = splits[(splits["fold"] == FOLD) & (splits["part"] != "test")]["slide_id"]
    assert sorted(read) == sorted(own)
    features = 2 * 6 * 12 * len(own)
    small = {**training, "memory_gb": 0.9 * features / loading.GIGABYTE}
    run(study, tmp_path / "streamed", {**SETTINGS, "training": small}, trials=2)
    assert len(read) > 5 * len(own)
    assert contents(tmp_path / "kept") == contents(tmp_path / "streamed")


def test_a_killed_search_goes_on_to_the_same_bytes(study, finished, tmp_path, monkeypatch):
    """Killed within the third trial; trainings that were finished are not made again."""
    output, trained = tmp_path / "fold-1", []
    original = nested.train_fold

    def counting(*arguments: Any, **options: Any) -> Any:
        trained.append((options["where"], options["seed"]))
        if len(trained) == 8:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(nested, "train_fold", counting)
    with pytest.raises(KeyboardInterrupt):
        run(study, output)
    assert not output.exists()
    # What a process leaves that is killed while it writes.
    journal = resume_folder(output) / "trials.journal"
    journal.with_name("trials.journal.lock").touch()
    with journal.open("ab") as stream:
        stream.write(b'{"op_code":4,"worker_')
    before = len(trained)
    run(study, output)
    assert [where.rpartition(", ")[2] for where, _ in trained[before:]] == ["trial 2"] * 3 + ["trial 3"] * 3
    assert contents(output) == contents(finished[1])
    assert [p.name for p in tmp_path.iterdir()] == ["fold-1"]


def test_a_journal_of_another_search_is_not_used(study, tmp_path, monkeypatch):
    output, seen = tmp_path / "fold-1", []
    run_trial = search.run_trial

    def stopping(*arguments: Any) -> Outcome:
        seen.append(arguments[2])
        if len(seen) == 2:
            raise KeyboardInterrupt
        return run_trial(*arguments)

    monkeypatch.setattr(search, "run_trial", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(study, output, trials=2)
    run(study, output, settings={**SETTINGS, "training": {**SETTINGS["training"], "dropout": 0.3}}, trials=1)
    assert [where.rpartition(", ")[2] for where in seen] == ["trial 0", "trial 1", "trial 0"]


def test_trials_may_be_fewer_when_a_killed_search_goes_on(study, finished, tmp_path, monkeypatch):
    done = []
    run_trial = search.run_trial

    def stopping(*arguments: Any) -> Outcome:
        done.append(arguments)
        if len(done) == 4:
            raise KeyboardInterrupt
        return run_trial(*arguments)

    monkeypatch.setattr(search, "run_trial", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(study, tmp_path / "fold-1")
    found = run(study, tmp_path / "fold-1", trials=2)
    assert found.trials["value"].tolist() == finished[0].trials["value"].tolist()[:2]
    assert len(done) == 4


def test_seeds_change_what_is_proposed(study, finished, tmp_path):
    other = run(study, tmp_path / "fold-1", seed=6)
    assert set(other.trials["weight_decay"]) != set(finished[0].trials["weight_decay"])


def test_scores_are_those_of_trainings_on_the_inner_folds(study, finished):
    """Made again by hand from the inner splits, slide by slide."""
    labels, stores, splits = study
    result, _ = finished
    inner = inner_splits(splits, labels, FOLD, SETTINGS, 3, NO_PAIRS)
    for number, fold in enumerate(open_inner_folds(inner, labels, stores, FOLD, SETTINGS)):
        parts, task = fold_parts(inner, labels, stores, number, SETTINGS)
        recipe = {**SETTINGS["training"], **result.best}
        trained = train_fold(
            parts["train"],
            parts["validation"],
            task=task,
            aggregator="ectil",
            recipe=recipe,
            seed=fold.seed,
            log=lambda line: None,
        )
        rows = inner[(inner["fold"] == number) & (inner["part"] == "test")]
        model = build_model(trained.architecture)
        model.load_state_dict(dict(trained.state))
        test = fold.parts["test"]
        assert list(test.source.slide_ids) == rows["slide_id"].tolist()
        bags = [make_bag(test.source.read(i).numpy()) for i in range(len(rows))]
        predicted = np.array([predict_slide([model.eval()], bag).output for bag in bags]) * 100
        truth = labels.set_index("slide_id").loc[rows["slide_id"], "target"].to_numpy()
        explained = 1 - np.var(truth - predicted) / np.var(truth)
        assert result.trials.loc[result.number, f"score.{number}"] == pytest.approx(explained, rel=1e-3)


def test_a_trial_that_fails_is_kept_with_its_reason(study, tmp_path):
    space = {"contrastive_weight": [0.0, 0.5], "learning_rate": [0.01, 0.02, 0.03]}
    result = run(study, tmp_path / "fold-1", space=space, trials=6)
    trials = load_table(tmp_path / "fold-1" / "trials.tsv")
    failed = trials["contrastive_weight"] == 0.5
    assert 0 < failed.sum() < 6
    assert (trials["state"] == np.where(failed, "failed", "complete")).all()
    assert trials.loc[failed, "value"].isna().all()
    assert trials.loc[failed, "reason"].str.startswith("inner fold 0: contrastive training needs classes").all()
    assert trials.loc[~failed, "reason"].isna().all()
    assert result.best["contrastive_weight"] == 0.0
    assert read_json(tmp_path / "fold-1" / "search.json")["failed"] == failed.sum()


def test_a_search_of_which_every_trial_fails_ends_with_the_reasons(study, tmp_path):
    with pytest.raises(StudyError, match="all 2 trials failed: inner fold 0: the training diverged in epoch 1"):
        run(study, tmp_path / "fold-1", space={"learning_rate": {"low": 1.0e30, "high": 1.0e31}}, trials=2)
    assert list(tmp_path.iterdir()) == []


def test_a_setting_that_cannot_be_built_fails(study, tmp_path):
    settings = {**SETTINGS, "aggregator": "transformer"}
    settings["training"] = {**SETTINGS["training"], "options": {"hidden": 8}, "epochs": 1}
    result = run(study, tmp_path / "fold-1", settings, space={"heads": [2, 3]}, trials=3)
    states = dict(zip(result.trials["heads"], result.trials["state"], strict=True))
    assert states == {2: "complete", 3: "failed"}


def fold_of(number: int) -> InnerFold:
    part = planted_part(4, number, "classification")
    return InnerFold(number, 0, {"test": part}, None, 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scores", "outcome"),
    [
        ([0.5, float("nan"), 0.7], Outcome((0.5, None, 0.7))),
        ([float("nan")] * 2, Outcome((None, None), "the score is undefined in every inner test part")),
    ],
)
def test_undefined_scores_do_not_count_unless_all_are(monkeypatch, tmp_path, scores, outcome):
    left = iter(scores)
    monkeypatch.setattr(search, "judge_setting", lambda *arguments: next(left))
    found = search.run_trial([fold_of(k) for k in range(len(scores))], SETTINGS, "here", tmp_path)
    assert found == outcome
    assert found.reason or found.value == pytest.approx(0.6)


def test_a_model_that_the_gpu_cannot_hold_is_a_failed_trial(monkeypatch, tmp_path):
    def full(*arguments: Any) -> float:
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(search, "judge_setting", full)
    assert search.run_trial([fold_of(0)], SETTINGS, "here", tmp_path).reason.endswith("memory does not hold it")


def test_a_setting_that_is_proposed_twice_is_trained_once(study, tmp_path, monkeypatch):
    seen = []
    original = search.run_trial
    monkeypatch.setattr(search, "run_trial", lambda *arguments: seen.append(arguments) or original(*arguments))
    result = run(study, tmp_path / "fold-1", space={"learning_rate": [0.01]}, trials=3)
    assert len(seen) == 1
    assert len(result.trials["value"].unique()) == 1
    assert result.number == 0


@pytest.mark.parametrize(
    ("aggregator", "space", "unknown"),
    [
        ("ectil", {"heads": [1], "learning_rte": [0.1], "hidden": [8]}, ["heads", "learning_rte"]),
        ("mean", {"attention": [8], "n_outputs": [2], "epochs": [3]}, ["attention", "n_outputs"]),
        ("transformer", {"heads": [1], "hidden": [8]}, []),
    ],
)
def test_keys_that_change_nothing_of_a_model_are_refused_at_once(aggregator, space, unknown):
    if not unknown:
        check_space(space, aggregator, "here")
        return
    with pytest.raises(StudyError) as refused:
        check_space(space, aggregator, "here")
    assert [problem.where for problem in refused.value.problems] == [f"here.{key}" for key in unknown]


def test_unknown_keys_are_refused_before_any_trial(study, tmp_path):
    with pytest.raises(StudyError, match="neither the recipe nor ectil has a 'heads'"):
        run(study, tmp_path / "fold-1", space={"heads": [1, 2]})
    assert list(tmp_path.iterdir()) == []
