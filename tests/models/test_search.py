"""A search judges settings on inner folds alone, repeats byte for byte, and survives being killed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from slidestudy.errors import StudyError
from slidestudy.files import read_json
from slidestudy.models import loading
from slidestudy.models.cohort import fold_parts, split_development
from slidestudy.models.mil import build_model
from slidestudy.models.prediction import predict_slide
from slidestudy.models.resuming import forget, resume_folder
from slidestudy.models.searching import nested, search
from slidestudy.models.searching.nested import InnerFold, inner_splits, open_inner_folds, raw_outputs
from slidestudy.models.searching.outcome import SearchResult, load_search, save_search, with_setting
from slidestudy.models.searching.proposals import Journal, Outcome, distributions_of, outcome_of, propose, setting_of
from slidestudy.models.searching.search import check_space, search_card, search_fold
from slidestudy.models.training import train_fold
from slidestudy.tables import load_table
from slidestudy.yaml_files import load_yaml
from tests.models.builders import RECIPE, TASKS, make_bag, planted_part, write_cohort

torch.set_num_threads(1)
FOLD = 1
SETTINGS: dict[str, Any] = {
    "name": "m",
    "task": "regression",
    "target_range": [0, 100],
    "columns": ["target"],
    "aggregator": "ectil",
    "seed": 5,
    "folds": 3,
    "group_by": "patient",
    "splits": {"scheme": "k-fold", "lookalikes": "keep-together"},
    "training": {**RECIPE, "epochs": 6, "patience": 6, "options": {}},
}
SEARCH: dict[str, Any] = {
    "space": {"learning_rate": [1.0e-5, 0.05], "weight_decay": {"low": 1.0e-5, "high": 1.0e-2, "log": True}},
    "trials": 4,
    "inner_folds": 3,
    "sampler": "random",
    "seed": 5,
}
NO_PAIRS = pd.DataFrame({"patient_id_a": [], "patient_id_b": []})


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Labels, stores and splits of 15 patients with two slides each."""
    labels, stores = write_cohort(tmp_path_factory.mktemp("dev"), patients=15)
    return labels, stores, split_development(labels, stores, SETTINGS, NO_PAIRS)


def run(study: Any, output: Path, settings: dict[str, Any] = SETTINGS, **options: Any) -> SearchResult:
    labels, stores, splits = study
    changed = {**SEARCH, **{key: options.pop(key) for key in SEARCH if key in options}}
    common = {"output": output, "lookalikes": NO_PAIRS, "log": lambda line: None, **options}
    found = search_fold(splits, labels, stores, FOLD, settings, changed, **common)
    save_search(output, found, search_card(settings, changed, FOLD))
    forget(output)
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory):
    """An uninterrupted search and its folder."""
    output = tmp_path_factory.mktemp("search") / "fold-1"
    return run(study, output), output


def test_a_learning_rate_that_teaches_is_found(finished):
    """At 1e-5 the weights hardly leave where they began."""
    result, _ = finished
    trials = result.trials
    assert result.best["learning_rate"] == 0.05
    slow = trials.loc[trials["learning_rate"] == 1.0e-5, "value"]
    assert len(slow)
    assert result.value > slow.max() + 0.2


def test_the_outcome_is_on_disk(finished):
    result, output = finished
    assert {p.name for p in output.iterdir()} == {"best.yaml", "trials.tsv", "search.json"}
    assert {p.name for p in output.parent.iterdir()} == {"fold-1"}
    assert load_yaml(output / "best.yaml") == result.best
    table, said = load_table(output / "trials.tsv"), read_json(output / "search.json")
    scores = [f"score.{k}" for k in range(3)]
    assert list(table) == ["number", "state", "value", "learning_rate", "weight_decay", *scores, "best", "reason"]
    np.testing.assert_allclose(table["value"], table[scores].mean(axis=1), rtol=1e-12)
    assert table.loc[table["best"] == 1, "number"].tolist() == [result.number]
    assert result.value == table["value"].max()
    assert said["sampler"] == "random"
    assert "optuna" in said["software"]
    assert load_search(output) == {
        "best": result.best,
        "value": result.value,
        "number": result.number,
        "trials": 4,
        "failed": 0,
    }


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


def test_raw_outputs_do_not_depend_on_the_packs():
    part = planted_part(9, 1)
    options: dict[str, Any] = {"aggregator": "ectil", "recipe": {**RECIPE, "epochs": 2}, "seed": 1}
    trained = train_fold(part, planted_part(6, 2), task=TASKS["regression"], log=lambda line: None, **options)
    np.testing.assert_allclose(raw_outputs(trained, part, 1), raw_outputs(trained, part), rtol=1e-4, atol=1e-5)


def cut(splits: pd.DataFrame, column: str) -> bool:
    """Whether a value stands in two parts of a fold."""
    places = splits[["fold", column, "part"]].drop_duplicates()
    return bool(places.duplicated(["fold", column]).any())


def test_inner_folds_hold_the_training_and_validation_slides_and_no_patient_stands_in_two_parts(study):
    labels, _, splits = study
    inner = inner_splits(splits, labels, FOLD, SETTINGS, 4, NO_PAIRS)
    own = splits[(splits["fold"] == FOLD) & (splits["part"] != "test")]
    assert inner["fold"].nunique() == 4
    for _, rows in inner.groupby("fold"):
        assert set(rows["slide_id"]) == set(own["slide_id"])
    assert not cut(inner, "patient_id")
    tested = inner[inner["part"] == "test"]
    assert sorted(tested["slide_id"]) == sorted(own["slide_id"])


def test_centres_and_look_alikes_stay_together_in_inner_folds_too(study):
    labels, _, splits = study
    centers = labels.set_index("slide_id")["center"]
    plain = inner_splits(splits, labels, FOLD, SETTINGS, 3, NO_PAIRS)
    first = plain[plain["fold"] == 0].drop_duplicates("part")["patient_id"].tolist()[:2]
    pairs = pd.DataFrame({"patient_id_a": first[:1], "patient_id_b": first[1:]})
    joined = inner_splits(splits, labels, FOLD, SETTINGS, 3, pairs)
    by_center = inner_splits(splits, labels, FOLD, {**SETTINGS, "group_by": "center"}, 3, NO_PAIRS)
    for inner, together in ((plain, False), (joined, True)):
        pair = inner[inner["patient_id"].isin(first)].assign(pair="the pair")
        assert cut(pair, "pair") != together
    for inner, together in ((plain, False), (by_center, True)):
        assert cut(inner.assign(center=inner["slide_id"].map(centers)), "center") != together


def test_more_inner_folds_than_groups_are_refused(study):
    labels, _, splits = study
    with pytest.raises(StudyError, match="5 folds need as many") as refused:
        inner_splits(splits, labels, FOLD, {**SETTINGS, "group_by": "center"}, 5, NO_PAIRS)
    assert refused.value.problems[0].where == "inner folds of model m, fold 1"
    assert "inner_folds" in refused.value.problems[0].remedy


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


SPACE = {
    "learning_rate": {"low": 1.0e-6, "high": 1.0, "log": True},
    "dropout": {"low": 0, "high": 0.5},
    "hidden": {"low": 4, "high": 64, "log": True},
    "tiles_per_epoch": [None, 10, 20],
    "flag": [True, 1, "1"],
}


def journal_of(path: Path, sampler: str, count: int) -> list[dict[str, Any]]:
    """Settings of a search whose score is the dropout; those with hidden below 10 fail."""
    distributions, settings = distributions_of(SPACE), []
    for number in range(count):
        # Opened anew for each trial, as after a kill.
        journal = Journal(path, "mark")
        assert len(journal.trials()) == number
        params = propose(distributions, sampler, 3, journal.trials())
        setting = setting_of(params, distributions)
        failed = setting["hidden"] < 10
        journal.add(params, distributions, Outcome((), "small") if failed else Outcome((setting["dropout"], None)))
        settings.append(setting)
    return settings


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_proposals_lie_in_the_space_and_repeat(tmp_path, sampler):
    """Beyond the ten trials that the estimator begins with."""
    settings = journal_of(tmp_path / "a", sampler, 16)
    assert settings == journal_of(tmp_path / "b", sampler, 16)
    for setting in settings:
        assert 1.0e-6 <= setting["learning_rate"] <= 1
        assert 0 <= setting["dropout"] <= 0.5
        assert isinstance(setting["dropout"], float)
        assert isinstance(setting["hidden"], int)
        assert 4 <= setting["hidden"] <= 64
        assert setting["tiles_per_epoch"] in (None, 10, 20)
    flags = {json.dumps(setting["flag"]) for setting in settings}
    assert 1 < len(flags & {"true", "1", '"1"'}) == len(flags)
    assert len({setting["learning_rate"] for setting in settings}) == 16


def test_the_estimator_learns_from_scores_and_failures(tmp_path):
    """Its later proposals have a higher score and fail less than those it begins with."""
    settings = journal_of(tmp_path / "a", "tpe", 40)
    early, late = settings[:10], settings[25:]
    assert np.mean([s["dropout"] for s in late]) > np.mean([s["dropout"] for s in early]) + 0.1
    assert np.mean([s["hidden"] < 10 for s in late]) < np.mean([s["hidden"] < 10 for s in early])


def test_a_journal_keeps_outcomes_and_is_of_one_search(tmp_path):
    distributions = distributions_of({"hidden": [8, 16]})
    outcomes = [Outcome((0.25, None, 1 / 3)), Outcome((0.5,), "inner fold 1: too bad")]
    journal = Journal(tmp_path / "j", "mark")
    for outcome in outcomes:
        journal.add({"hidden": "8"}, distributions, outcome)
    assert [outcome_of(trial) for trial in Journal(tmp_path / "j", "mark").trials()] == outcomes
    assert Journal(tmp_path / "j", "other").trials() == []


@pytest.mark.parametrize("damage", [b"", b"not a journal\n", b'{"op_code": 0}\n'])
def test_a_damaged_journal_is_as_none(tmp_path, damage):
    path = tmp_path / "j"
    Journal(path, "mark").add({"hidden": "8"}, distributions_of({"hidden": [8]}), Outcome((1.0,)))
    path.write_bytes(damage)
    assert Journal(path, "mark").trials() == []


def test_a_setting_goes_into_the_recipe_or_the_options():
    settings = {"aggregator": "transformer", "training": {"hidden": 8, "epochs": 3, "options": {"hidden": 4}}}
    found = with_setting(settings, {"epochs": 5, "hidden": 16, "heads": 2})
    assert found["training"] == {"hidden": 8, "epochs": 5, "options": {"hidden": 16, "heads": 2}}
    assert settings["training"] == {"hidden": 8, "epochs": 3, "options": {"hidden": 4}}


def test_values_that_are_neither_numbers_nor_text_are_told_as_json(study, tmp_path):
    result = run(study, tmp_path / "fold-1", space={"standardise": [False], "tiles_per_epoch": [None]}, trials=1)
    assert result.best == {"standardise": False, "tiles_per_epoch": None}
    assert load_yaml(tmp_path / "fold-1" / "best.yaml") == result.best
    row = (tmp_path / "fold-1" / "trials.tsv").read_text().splitlines()[1].split("\t")
    assert row[3:5] == ["false", "null"]


@pytest.mark.parametrize("missing", ["best.yaml", "search.json"])
def test_an_unfinished_search_is_no_search(finished, tmp_path, missing):
    folder = tmp_path / "fold-1"
    shutil.copytree(finished[1], folder)
    (folder / missing).unlink()
    with pytest.raises(StudyError, match="is no finished search"):
        load_search(folder)
