"""Label efficiency: nested draws of whole patients, and trainings that differ in nothing but their patients."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slidestudy.errors import StudyError
from slidestudy.models import bags, label_efficiency
from slidestudy.models.checkpoint import load_ensemble, save_fold
from slidestudy.models.cohort import fold_parts, predict_cohort, split_development
from slidestudy.models.label_efficiency import draw_patients, plan_shares, train_shares
from slidestudy.models.loading import GIGABYTE, feature_bytes
from slidestudy.models.searching.outcome import SearchResult, save_search
from slidestudy.models.tasks import TASKS
from slidestudy.models.training import train_members
from tests.models.builders import RECIPE, write_cohort
from tests.models.test_cohort import labels_of

torch.set_num_threads(1)
FOLDS, FOLD = 3, 1
FRACTIONS = [0.3, 0.6, 1.0]
SETTINGS = {
    "name": "m",
    "task": "regression",
    "target_range": [0, 100],
    "columns": ["target"],
    "covariates": [],
    "aggregator": "ectil",
    "seed": 5,
    "training": {**RECIPE, "epochs": 6, "tile_dropout": 0.1},
}


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    """Labels of a development and an external cohort, their stores, and the splits."""
    labels, stores = write_cohort(tmp_path_factory.mktemp("dev"), patients=15)
    other, external = write_cohort(tmp_path_factory.mktemp("ext"), patients=3, seed=1, cohort="ext")
    splits = split_development(labels, stores, {"task": "regression", "folds": FOLDS, "group_by": "patient", "seed": 5})
    table = pd.concat([labels, other], ignore_index=True)
    return table, {"development": stores, "external": external}, splits


def trained_shares(cohorts, output: Path, fractions=FRACTIONS, repeats=1, lookalikes=None, search=None, **settings):
    labels, stores, splits = cohorts
    given_ = {
        "fractions": fractions,
        "repeats": repeats,
        "output": output / "fold-1",
        "lookalikes": lookalikes,
        "search": search,
    }
    return train_shares(splits, labels, stores, FOLD, {**SETTINGS, **settings}, **given_)


@st.composite
def training_parts(draw) -> tuple[pd.DataFrame, str, list[str]]:
    """Slides of patients with labels of any task, some of several targets missing."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=30))
    task = draw(st.sampled_from(TASKS))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    patients = np.repeat([f"p{i}" for i in range(len(sizes))], sizes)
    table = pd.DataFrame({"slide_id": [f"s{i}" for i in range(len(patients))], "patient_id": patients})
    chosen = table["patient_id"].str[1:].astype(int).to_numpy()
    if task in ("classification", "multiclass"):
        names = np.array([0.0, 1.0] if task == "classification" else ["a", "b", "c"])
        return table.assign(target=names[rng.integers(0, len(names), len(sizes))][chosen]), task, ["target"]
    if task.startswith("survival"):
        time, event = rng.integers(1, 9, len(sizes))[chosen], rng.integers(0, 2, len(sizes))[chosen]
        return table.assign(time=time.astype(float), event=event.astype(float)), task, ["time", "event"]
    table = table.assign(target=rng.normal(size=len(table)), other=rng.normal(size=len(table)))
    if task == "multi-regression":
        return table.assign(other=table["other"].where(rng.random(len(table)) < 0.8)), task, ["target", "other"]
    return table, task, ["target"]


@given(training_parts(), st.integers(0, 2**40))
def test_draws_are_nested_of_the_size_asked_for_and_repeat(part, seed):
    table, task, columns = part
    fractions = [0.05, 0.3, 0.5, 0.8, 1.0]
    drawn = draw_patients(table, fractions[::-1], task, columns, seed)
    everyone = frozenset(table["patient_id"])
    assert list(drawn) == fractions
    assert drawn[1.0] == everyone
    assert all(drawn[a] <= drawn[b] for a, b in pairwise(fractions))
    for fraction, patients in drawn.items():
        assert len(patients) >= 1
        assert abs(len(patients) - max(1, fraction * len(everyone))) <= 0.5
    shuffled = table.sample(frac=1, random_state=seed % 1000)
    assert draw_patients(shuffled, fractions, task, columns, seed) == drawn


@pytest.mark.parametrize("seed", range(20))
def test_every_draw_of_classes_has_all_of_them_in_about_their_proportions(seed):
    table = pd.DataFrame({"patient_id": [f"p{i:03}" for i in range(100)], "target": [1.0] * 7 + [0.0] * 93})
    drawn = draw_patients(table, [0.02, 0.1, 0.3, 0.6], "classification", ["target"], seed)
    positive = {f: sum(int(p[1:]) < 7 for p in patients) for f, patients in drawn.items()}
    assert positive[0.02] == 1
    assert all(positive[f] > 0 and abs(positive[f] - 7 * f) <= 1 for f in drawn)


@pytest.mark.parametrize("seed", range(20))
def test_a_draw_of_quantities_reaches_all_quarters_of_the_target(seed):
    table = pd.DataFrame({"patient_id": [f"p{i:03}" for i in range(80)], "target": np.arange(80.0)})
    drawn = draw_patients(table, [0.05, 0.25], "regression", ["target"], seed)
    assert {int(p[1:]) // 20 for p in drawn[0.05]} == {0, 1, 2, 3}
    assert Counter(int(p[1:]) // 20 for p in drawn[0.25]) == dict.fromkeys(range(4), 5)


def test_patients_are_drawn_and_not_slides_and_draws_differ(cohorts):
    labels, _, splits = cohorts
    train = labels[labels["slide_id"].isin(splits.loc[splits["part"] == "train", "slide_id"])]
    shares = plan_shares(train, FRACTIONS, 4, SETTINGS, FOLD)
    assert [(s.fraction, s.repeat) for s in shares if s.fraction == 1] == [(1.0, 0)], "the whole part is always itself"
    assert len(shares) == 1 + 4 * 2
    small = [share.patients for share in shares if share.fraction == 0.3]
    assert len(set(small)) > 1
    assert small != [share.patients for share in plan_shares(train, FRACTIONS, 4, SETTINGS, 0) if share.fraction == 0.3]


def test_trainings_see_all_slides_of_the_patients_drawn_and_none_of_others(cohorts, tmp_path, monkeypatch):
    labels, _, splits = cohorts
    rows = splits[splits["fold"] == FOLD]
    seen = []

    def spy(parts, *rest):
        seen.append({name: set(part.source.slide_ids) for name, part in parts.items()})
        return train_members(parts, *rest)

    monkeypatch.setattr(label_efficiency, "train_members", spy)
    _, shares = trained_shares(cohorts, tmp_path, repeats=2)
    patient = dict(zip(labels["slide_id"], labels["patient_id"], strict=True))
    assert len(shares) == 1 + 2 * 2
    assert len(seen) == len({frozenset(found["train"]) for found in seen}), "each set of patients is trained on once"
    for found in seen:
        (share,) = shares[shares["n_slides"] == len(found["train"])].drop_duplicates("n_slides").to_dict("records")
        patients = {patient[slide] for slide in found["train"]}
        assert len(patients) == share["n_patients"]
        assert found["train"] == set(rows.loc[rows["patient_id"].isin(patients), "slide_id"])
        assert share["reason"] == ""
        assert patients <= set(rows.loc[rows["part"] == "train", "patient_id"])
        assert found["validation"] == set(rows.loc[rows["part"] == "validation", "slide_id"])


@pytest.mark.parametrize("seeds", [1, 2])
def test_all_patients_give_the_folds_own_model_and_predictions(cohorts, tmp_path, monkeypatch, seeds):
    labels, stores, splits = cohorts
    made = []

    def spy(*arguments):
        made.append(train_members(*arguments))
        return made[-1]

    monkeypatch.setattr(label_efficiency, "train_members", spy)
    training = {**SETTINGS["training"], "seeds": seeds}
    found, _ = trained_shares(cohorts, tmp_path, [0.5, 1.0], training=training)
    settings = {**SETTINGS, "training": training}
    parts, task = fold_parts(splits, labels, stores["development"], FOLD, settings)
    own = train_members(parts, task, settings, FOLD, tmp_path / "own")
    for mine, other in zip(made[-1], own, strict=True):
        assert all(torch.equal(mine.state[key], other.state[key]) for key in mine.state)
        assert mine.history.equals(other.history)
    assert any(not torch.equal(made[0][0].state[key], own[0].state[key]) for key in own[0].state)
    save_fold(tmp_path / "own", own, {"name": "m", "recipe": "r1", "fold": FOLD})
    ensemble = load_ensemble([str(tmp_path / "own")])
    tested = splits[(splits["fold"] == FOLD)].assign(fold=0)
    every = [*stores["development"], *stores["external"]]
    expected = predict_cohort(ensemble, tested, labels, every, tmp_path / "tiles").set_index("slide_id")
    whole = found[found["fraction"] == 1].set_index("slide_id")
    assert set(whole.index) == set(expected.index)
    assert set(whole["cohort"]) == {"dev", "ext"}
    for column in ("prediction", "target", "prediction_sd"):
        np.testing.assert_allclose(whole[column], expected.loc[whole.index, column], rtol=1e-12)


def test_features_of_a_slide_are_read_once_where_they_fit(cohorts, tmp_path, monkeypatch):
    reads = count_reads(monkeypatch)
    trained_shares(cohorts, tmp_path, repeats=2)
    assert set(reads) == set(cohorts[0]["slide_id"])
    assert set(reads.values()) == {1}


def test_features_that_do_not_fit_are_read_again_and_change_nothing(cohorts, tmp_path, monkeypatch):
    """Streamed; kept once for all and for the loaders; kept, and in float32 by the loaders."""
    labels, stores, splits = cohorts
    parts, _ = fold_parts(splits, labels, stores["development"], FOLD, SETTINGS)
    total = sum(feature_bytes(part.source) for part in parts.values())
    training = {**SETTINGS["training"], "pack_tiles": 12}
    found, most = [], []
    for name, size in (("streamed", 0.95 * total), ("kept", total), ("widened", 9 * total)):
        with monkeypatch.context() as patch:
            reads = count_reads(patch)
            given_ = {**training, "memory_gb": size / GIGABYTE}
            found.append(trained_shares(cohorts, tmp_path / name, training=given_)[0])
        most.append(max(reads.values()))
    assert most[0] > 3
    assert most[1:] == [1, 1]
    for other in found[1:]:
        pd.testing.assert_frame_equal(found[0], other, check_exact=True)


def count_reads(monkeypatch) -> Counter:
    """Counts how often each slide's features are read, wherever that happens."""
    reads: Counter = Counter()

    def counting(path, recipe):
        reads[Path(path).stem] += 1
        return original(path, recipe)

    original = bags.read_features
    monkeypatch.setattr(bags, "read_features", counting)
    return reads


def test_a_share_that_cannot_be_trained_on_is_told_and_the_others_go_on(cohorts, tmp_path):
    """Two classes, of which a share of one patient has one only."""
    labels, stores, splits = cohorts
    table, _ = labels_of("classification", labels)
    train = splits[(splits["fold"] == FOLD) & (splits["part"] == "train")]["patient_id"].unique()
    of_train = table["patient_id"].isin(train)
    table.loc[of_train, "target"] = (table.loc[of_train, "patient_id"].map(list(train).index) % 2).astype(float)
    settings = {"task": "classification", "aggregator": "gated-abmil"}
    found, shares = trained_shares((table, stores, splits), tmp_path, [0.1, 1.0], **settings)
    small, whole = shares.to_dict("records")
    assert small["n_patients"] == 1
    assert "the train part has slides of class" in small["reason"]
    assert small["best_epoch"] == ""
    assert whole["reason"] == ""
    assert int(whole["best_epoch"]) >= 1
    assert set(found["fraction"]) == {1.0}


def test_a_share_without_a_class_of_the_validation_part_is_told(cohorts, tmp_path):
    """Both parts have three classes, a share of two patients two."""
    labels, stores, splits = cohorts
    rows, classes = splits[splits["fold"] == FOLD], {}
    for _, patients in rows.groupby("part")["patient_id"].unique().items():
        classes |= {patient: "abc"[k % 3] for k, patient in enumerate(patients)}
    table = labels.assign(target=labels["patient_id"].map(classes))
    _, shares = trained_shares((table, stores, splits), tmp_path, [0.3, 1.0], task="multiclass")
    few, every = shares["reason"]
    assert shares["n_patients"].tolist() == [2, 5]
    assert "which no training slide has" in few
    assert every == ""


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_predicted_in_its_columns(cohorts, tmp_path, task):
    original, stores, splits = cohorts
    labels, columns = labels_of(task, original)
    labels["age"] = np.arange(len(labels), dtype=float)
    training = {**SETTINGS["training"], "epochs": 2}
    settings = {"task": task, "columns": columns, "covariates": ["age"], "time_bins": 2, "training": training}
    found, shares = trained_shares((labels, stores, splits), tmp_path, [0.7, 1.0], **settings)
    assert shares["reason"].tolist() == ["", ""]
    fixed = ["cohort", "fraction", "repeat", "n_patients", "slide_id", "patient_id", "center", "fold"]
    assert list(found.columns[:8]) == fixed
    expected = {
        "multiclass": {"prediction", "grade", "probability.a", "probability.b", "probability.c"},
        "multi-regression": {"prediction.target", "prediction.other", "target", "other"},
        "survival-cox": {"prediction", "time", "event"},
        "survival-discrete": {"prediction", "time", "event"},
    }.get(task, {"prediction", "target"})
    assert set(found.columns) == {*fixed, *expected, "prediction_sd"}
    assert (found["fold"] == FOLD).all()
    assert len(found) == 2 * (10 + 6)


def test_slides_that_the_fold_may_not_predict_are_left_out(cohorts, tmp_path):
    """An external slide without a label, and one that looks like a training slide."""
    labels, stores, splits = cohorts
    train = splits[(splits["fold"] == FOLD) & (splits["part"] == "train")]["patient_id"].iloc[0]
    lookalikes = pd.DataFrame({"patient_id_a": [train], "patient_id_b": ["ext-0"]})
    blank = labels.assign(target=labels["target"].where(labels["slide_id"] != "ext-1-0"))
    found, _ = trained_shares((blank, stores, splits), tmp_path, [1.0], lookalikes=lookalikes)
    outside = found.loc[found["cohort"] == "ext", "slide_id"]
    assert set(outside) == {"ext-1-1", "ext-2-0", "ext-2-1"}


def test_the_same_seed_gives_the_same_tables_also_after_a_kill(cohorts, tmp_path, monkeypatch):
    first = trained_shares(cohorts, tmp_path / "first")
    calls = []

    def killed(parts, task, settings, fold, output):
        calls.append(settings["name"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train_members(parts, task, settings, fold, output)

    with monkeypatch.context() as patch:
        patch.setattr(label_efficiency, "train_members", killed)
        with pytest.raises(KeyboardInterrupt):
            trained_shares(cohorts, tmp_path / "second")
    assert "share 0.3" in calls[0]
    second = trained_shares(cohorts, tmp_path / "second")
    for one, other in zip(first, second, strict=True):
        assert one.to_csv(index=False) == other.to_csv(index=False)


def test_finished_trainings_of_a_killed_job_are_not_done_again(cohorts, tmp_path, capsys):
    trained_shares(cohorts, tmp_path)
    assert "epoch 1/" in capsys.readouterr().out
    trained_shares(cohorts, tmp_path)
    out = capsys.readouterr().out
    assert "epoch 1/" not in out
    assert out.count("goes on after epoch") == len(FRACTIONS)


def test_stores_of_another_recipe_end_the_job(cohorts, tmp_path):
    labels, stores, splits = cohorts
    foreign, paths = write_cohort(tmp_path / "other", patients=1, cohort="ext")
    table = pd.concat([labels[labels["cohort"] == "dev"], foreign], ignore_index=True)
    for path in paths:
        store = Path(path) / "zarr.json"
        store.write_text(store.read_text(encoding="utf-8").replace('"r1"', '"r2"'), encoding="utf-8")
    with pytest.raises(StudyError, match="r2"):
        trained_shares((table, {**stores, "external": paths}, splits), tmp_path, [1.0])


def test_draws_of_the_same_patients_are_trained_once_and_predicted_each(cohorts, tmp_path, capsys):
    """Of five patients nine tenths are five."""
    found, shares = trained_shares(cohorts, tmp_path, [0.9, 1.0], repeats=3)
    assert capsys.readouterr().out.count("epoch 1/") == 1
    assert shares[["fraction", "repeat", "n_patients"]].to_numpy().tolist() == [
        [0.9, 0, 5],
        [1, 0, 5],
        [0.9, 1, 5],
        [0.9, 2, 5],
    ]
    values = [of["prediction"].tolist() for _, of in found.groupby(["fraction", "repeat"])]
    assert len(values) == 4
    assert all(value == values[0] for value in values)


def test_all_shares_take_the_setting_that_the_folds_search_found(cohorts, tmp_path, monkeypatch):
    found = SearchResult({"hidden": 9, "learning_rate": 0.02}, 0.5, 0, pd.DataFrame({"state": ["done"]}))
    save_search(tmp_path / "search", found, {})
    widths = []

    def spy(parts, task, settings, fold, output):
        trained = train_members(parts, task, settings, fold, output)
        widths.append((trained[0].architecture["hidden"], settings["training"]["learning_rate"]))
        return trained

    monkeypatch.setattr(label_efficiency, "train_members", spy)
    trained_shares(cohorts, tmp_path, search=str(tmp_path / "search"))
    assert widths == [(9, 0.02)] * len(FRACTIONS)
