"""Predicting cohorts: who may predict which slide, in which unit, and tile scores that lie where the tiles lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from slidestudy.errors import StudyError
from slidestudy.features.store import read_features
from slidestudy.models.cohort import (
    ENSEMBLE,
    fold_parts,
    predict_cohort,
    split_development,
    usable_stores,
)
from slidestudy.models.mil import MilModel, build_model
from slidestudy.models.packing import pack
from slidestudy.models.targets import Regression
from slidestudy.models.tile_scores import COLUMNS, read_tile_scores, write_tile_scores
from slidestudy.models.training import train_fold
from slidestudy.prediction_files import PREDICTIONS
from tests.models.builders import RECIPE, write_cohort, write_store

torch.set_num_threads(1)
FOLDS = 3
SETTINGS = {"task": "regression", "target_range": [0, 100], "folds": FOLDS, "group_by": "patient", "seed": 5}
Folds = list[list[tuple[MilModel, dict[str, Any]]]]


def constant_models(levels: list[float]) -> list[MilModel]:
    """Folds that can be told apart: fold k scores every tile, and so every slide, at its level."""
    models = []
    for level in levels:
        model = build_model({"aggregator": "ectil", "dim": 6, "hidden": 4, "attention": 3})
        with torch.no_grad():
            model.classifier.weight.zero_()
            model.classifier.bias.fill_(float(np.log(level / (1 - level))))
        models.append(model.eval())
    return models


LEVELS = [0.1, 0.2, 0.6]
MODELS = constant_models(LEVELS)


def make_folds(models: list[MilModel], target_range: tuple[float, float] = (0, 100), recipe: str = "r1") -> Folds:
    """Folds of one seed with their cards."""
    task = Regression(("target",), target_range).card()
    return [[(model, {"name": "m", "recipe": recipe, "task_card": task, "fold": k})] for k, model in enumerate(models)]


CONSTANT = make_folds(MODELS)


@pytest.fixture(scope="module")
def development(tmp_path_factory):
    labels, stores = write_cohort(tmp_path_factory.mktemp("dev"))
    labels.loc[labels["slide_id"].isin(["dev-2-1", "dev-8-0", "dev-8-1"]), "target"] = np.nan
    return labels, stores, split_development(labels, stores, SETTINGS)


def test_splits_hold_the_labelled_slides_that_have_features(development, tmp_path):
    labels, stores, splits = development
    assert set(splits["slide_id"]) == set(labels.loc[labels["target"].notna(), "slide_id"])
    excluded = write_store(tmp_path / "dev-0-0.zarr", np.zeros((0, 6)), status="excluded", reason={"code": "no_tissue"})
    fewer = split_development(labels, [str(excluded), *stores[1:]], SETTINGS)
    assert set(splits["slide_id"]) - set(fewer["slide_id"]) == {"dev-0-0"}


def test_a_development_slide_is_predicted_by_the_fold_that_tested_on_it_and_no_other(development, tmp_path):
    labels, stores, splits = development
    found = predict_cohort(CONSTANT, splits, labels, stores, tmp_path).set_index("slide_id")
    tested = splits[splits["part"] == "test"].set_index("slide_id")["fold"]
    assert len(tested) == 15
    for slide, fold in tested.items():
        assert found.loc[slide, "fold"] == str(fold)
        assert found.loc[slide, "prediction"] == pytest.approx(100 * LEVELS[fold], rel=1e-5)
        arrays, attributes = read_tile_scores(tmp_path / f"{slide}.zarr")
        assert attributes["fold"] == str(fold)
        assert arrays["score"] == pytest.approx(LEVELS[fold], rel=1e-5)


def test_an_unlabelled_slide_is_predicted_by_the_fold_that_tested_on_its_patient(development, tmp_path):
    labels, stores, splits = development
    found = predict_cohort(CONSTANT, splits, labels, stores, tmp_path).set_index("slide_id")
    fold = splits.loc[(splits["patient_id"] == "dev-2") & (splits["part"] == "test"), "fold"].item()
    assert found.loc["dev-2-1", "fold"] == str(fold)
    assert found.loc["dev-2-1", "prediction"] == pytest.approx(100 * LEVELS[fold], rel=1e-5)
    assert np.isnan(found.loc["dev-2-1", "target"])


def test_a_patient_of_no_fold_is_predicted_by_the_mean_of_all(development, tmp_path):
    labels, stores, splits = development
    found = predict_cohort(CONSTANT, splits, labels, stores, tmp_path).set_index("slide_id")
    assert "dev-8" not in set(splits["patient_id"])
    assert found.loc[["dev-8-0", "dev-8-1"], "fold"].tolist() == [ENSEMBLE, ENSEMBLE]
    assert found.loc["dev-8-0", "prediction"] == pytest.approx(100 * np.mean(LEVELS), rel=1e-5)


def test_an_external_slide_is_predicted_by_the_mean_of_all_folds(development, tmp_path):
    _, _, splits = development
    labels, stores = write_cohort(tmp_path / "features", patients=2, seed=1, cohort="ext")
    found = predict_cohort(CONSTANT, splits, labels, stores, tmp_path / "out")
    assert list(found.columns) == PREDICTIONS
    assert found["slide_id"].tolist() == sorted(labels["slide_id"])
    assert set(found["fold"]) == {ENSEMBLE}
    assert found["prediction"].to_numpy() == pytest.approx(100 * np.mean(LEVELS), rel=1e-5)
    assert found["target"].tolist() == labels.sort_values("slide_id")["target"].tolist()


def test_an_excluded_slide_is_not_predicted(development, tmp_path):
    _, _, splits = development
    labels, stores = write_cohort(tmp_path / "features", patients=2, seed=1, cohort="ext")
    gone = tmp_path / "gone" / "ext-0-0.zarr"
    write_store(gone, np.zeros((0, 6)), status="excluded", reason={"code": "no_tissue", "message": ""})
    found = predict_cohort(CONSTANT, splits, labels, [str(gone), *stores[1:]], tmp_path / "out")
    assert found["slide_id"].tolist() == ["ext-0-1", "ext-1-0", "ext-1-1"]
    assert not (tmp_path / "out" / "ext-0-0.zarr").exists()


def test_tile_scores_lie_where_the_readable_tiles_lie(development, tmp_path):
    """Each row's logit is what the model says of the features that stand at the same coordinates."""
    _, _, splits = development
    rng = np.random.default_rng(8)
    features, readable = rng.normal(size=(11, 6)), np.ones(11, bool)
    readable[[0, 4]], features[[0, 4]] = False, np.nan
    store = write_store(tmp_path / "ext-0-0.zarr", features, readable)
    labels = pd.DataFrame(
        [["ext-0-0", "ext-0", "ext", "c", 1.0]], columns=["slide_id", "patient_id", "cohort", "center", "target"]
    )
    torch.manual_seed(0)
    model = build_model({"aggregator": "ectil", "dim": 6, "hidden": 4, "attention": 3}).eval()
    predict_cohort(make_folds([model] * FOLDS), splits, labels, [str(store)], tmp_path / "out")
    arrays, _ = read_tile_scores(tmp_path / "out" / "ext-0-0.zarr")
    assert set(arrays) == set(COLUMNS)
    kept = read_features(store)
    assert (
        arrays["coords"].tolist()
        == kept.coords.tolist()
        == [[128 * (i % 5), 128 * (i // 5)] for i in np.flatnonzero(readable)]
    )
    assert arrays["tissue_fraction"].tolist() == kept.tissue_fraction.tolist()
    alone = model(pack(list(torch.from_numpy(kept.features).split(1)))).slide[:, 0]
    assert arrays["logit"] == pytest.approx(alone.detach().numpy(), abs=1e-4)
    assert arrays["attention"] == pytest.approx(
        np.exp(arrays["attention_logit"]) / np.exp(arrays["attention_logit"]).sum()
    )


def test_features_of_another_recipe_are_not_predicted(development, tmp_path):
    _, _, splits = development
    labels, stores = write_cohort(tmp_path / "features", patients=1, cohort="ext")
    with pytest.raises(StudyError, match="made by recipe r1, the model needs r9"):
        predict_cohort(make_folds(MODELS, recipe="r9"), splits, labels, stores, tmp_path / "out")


def test_predictions_are_in_the_targets_unit(development, tmp_path):
    labels, stores, splits = development
    found = predict_cohort(make_folds(MODELS, (20, 60)), splits, labels, stores, tmp_path).set_index("slide_id")
    assert found.loc["dev-8-0", "prediction"] == pytest.approx(20 + 40 * np.mean(LEVELS), rel=1e-5)


def test_the_parts_of_a_fold_are_its_train_and_validation_slides_with_scaled_targets(development):
    labels, stores, splits = development
    parts, _ = fold_parts(splits, labels, stores, 1, {**SETTINGS, "target_range": [0, 200]})
    assert set(parts) == {"train", "validation"}
    targets = labels.set_index("slide_id")["target"]
    for name, part in parts.items():
        expected = splits.loc[(splits["fold"] == 1) & (splits["part"] == name), "slide_id"].tolist()
        assert list(part.source.slide_ids) == list(part.targets.slide_ids) == expected
        assert part.targets.values[:, 0].tolist() == pytest.approx((targets[expected] / 200).tolist())
        assert part.source.recipe == "r1"


def spoil(store: str) -> None:
    """Overwrites the features of a store; what it says of itself stays readable."""
    chunks = [p for p in (Path(store) / "features").rglob("*") if p.is_file() and p.name != "zarr.json"]
    assert chunks
    for chunk in chunks:
        chunk.write_bytes(b"")


def test_the_test_part_is_never_read(tmp_path):
    """With the pixels' features of every test slide destroyed, training gives the very same weights."""
    labels, stores = write_cohort(tmp_path / "features")
    splits = split_development(labels, stores, SETTINGS)
    common = dict(aggregator="ectil", recipe={**RECIPE, "epochs": 2}, seed=1)

    def weights():
        parts, task = fold_parts(splits, labels, stores, 0, SETTINGS)
        return train_fold(parts["train"], parts["validation"], task=task, **common).state

    before = weights()
    tested = set(splits.loc[(splits["fold"] == 0) & (splits["part"] == "test"), "slide_id"])
    for store in stores:
        if Path(store).stem in tested:
            spoil(store)
    labels.loc[labels["slide_id"].isin(tested), "target"] = np.nan
    after = weights()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_damaged_training_slide_is_noticed(tmp_path):
    labels, stores = write_cohort(tmp_path / "features")
    splits = split_development(labels, stores, SETTINGS)
    trained_on = splits.loc[(splits["fold"] == 0) & (splits["part"] == "train"), "slide_id"].iloc[0]
    spoil(str(tmp_path / "features" / f"{trained_on}.zarr"))
    parts, task = fold_parts(splits, labels, stores, 0, SETTINGS)
    with pytest.raises(StudyError, match=f"{trained_on}.zarr: is damaged"):
        train_fold(parts["train"], parts["validation"], task=task, aggregator="ectil", recipe=RECIPE, seed=1)


def test_stores_of_two_recipes_train_no_model(development, tmp_path):
    labels, stores, splits = development
    other = write_store(tmp_path / "dev-0-0.zarr", np.ones((4, 6)), recipe="r2")
    with pytest.raises(StudyError, match="do not share one recipe"):
        fold_parts(splits, labels, [str(other), *stores[1:]], 0, SETTINGS)


def test_usable_stores_are_those_of_admitted_slides(tmp_path):
    good = write_store(tmp_path / "a.zarr", np.ones((4, 6)))
    bad = write_store(tmp_path / "b.zarr", np.zeros((0, 6)), status="excluded", reason={"code": "no_tissue"})
    assert usable_stores([good, bad]) == {"a": good}


def test_tile_scores_need_all_their_columns(tmp_path):
    with pytest.raises(ValueError, match="tile scores need"):
        write_tile_scores(tmp_path / "a.zarr", {"coords": np.zeros((1, 2), np.int32)}, {})


@pytest.mark.parametrize("what", ["nothing", "a feature store"])
def test_what_holds_no_tile_scores_is_refused(tmp_path, what):
    if what == "a feature store":
        write_store(tmp_path / "a.zarr", np.ones((4, 6)))
    with pytest.raises(StudyError, match="holds no tile scores"):
        read_tile_scores(tmp_path / "a.zarr")
