"""Folds of a cohort: their parts with covariates, and predictions averaged over folds and seeds, with their spread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from slidestudy.errors import StudyError
from slidestudy.models.checkpoint import load_ensemble, save_fold
from slidestudy.models.cohort import ENSEMBLE, fold_parts, predict_cohort, split_development
from slidestudy.models.mil import MilModel, build_model
from slidestudy.models.targets import Classification, Regression
from slidestudy.models.tasks import TASKS
from slidestudy.models.training import train_members
from tests.models.builders import RECIPE, write_cohort

torch.set_num_threads(1)
FOLDS = 3
LEVELS = [0.1, 0.2, 0.6]
CARD = {"name": "m", "recipe": "r1", "task_card": Regression(("target",), (0, 100)).card()}
SPLITTING = {"task": "regression", "folds": FOLDS, "group_by": "patient", "seed": 5}
SETTINGS = {"task": "regression", "target_range": [0, 100]}


def constant_model(level: float) -> MilModel:
    """A model that scores every tile, and so every slide, at a level."""
    model = build_model({"aggregator": "ectil", "dim": 6, "hidden": 4, "attention": 3})
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.fill_(float(np.log(level / (1 - level))))
    return model.eval()


@pytest.fixture(scope="module")
def development(tmp_path_factory):
    labels, stores = write_cohort(tmp_path_factory.mktemp("dev"))
    return labels, stores, split_development(labels, stores, SPLITTING)


def test_folds_and_seeds_are_averaged_and_their_spread_is_told(development, tmp_path):
    """Each fold's second seed is at half its level."""
    labels, stores = write_cohort(tmp_path / "features", patients=1, slides=1, seed=1, cohort="ext")
    folds = [[(constant_model(level), CARD), (constant_model(level / 2), CARD)] for level in LEVELS]
    found = predict_cohort(folds, development[2], labels, stores, tmp_path / "out").iloc[0]
    levels = 100 * np.array([factor * level for level in LEVELS for factor in (1, 0.5)])
    assert found["prediction"] == pytest.approx(levels.mean(), rel=1e-5)
    assert found["prediction_sd"] == pytest.approx(levels.std(ddof=1), rel=1e-5)


def test_a_slide_has_the_mean_threshold_of_the_models_that_predict_it(development, tmp_path):
    """Its own fold's in development, that of all folds elsewhere; a fold that could choose none is left out."""
    labels, stores, splits = development
    classes = {**CARD, "task_card": Classification(("target",)).card()}
    thresholds = [{"youden": 0.2}, {"youden": 0.5}, {}]
    folds = [
        [(constant_model(level), {**classes, "thresholds": t})] for level, t in zip(LEVELS, thresholds, strict=True)
    ]
    found = predict_cohort(folds, splits, labels, stores, tmp_path / "out")
    of_folds = {"0": 0.2, "1": 0.5, "2": np.nan}
    tested = found[found["fold"] != ENSEMBLE]
    assert set(tested["fold"]) == set(of_folds)
    np.testing.assert_array_equal(tested["threshold"], tested["fold"].map(of_folds))
    outside, others = write_cohort(tmp_path / "features", patients=1, slides=1, seed=1, cohort="ext")
    external = predict_cohort(folds, splits, outside, others, tmp_path / "ext")
    assert external["threshold"].tolist() == pytest.approx([0.35])


def test_a_risk_without_a_decision_has_no_threshold(development, tmp_path):
    labels, stores, splits = development
    published = {**CARD, "thresholds": {"published": -0.4}}
    folds = [[(constant_model(x), published)] for x in LEVELS]
    assert np.isnan(predict_cohort(folds, splits, labels, stores[:1], tmp_path)["threshold"].item())


def test_one_model_has_no_spread(development, tmp_path):
    labels, stores, splits = development
    found = predict_cohort([[(constant_model(x), CARD)] for x in LEVELS], splits, labels, stores[:1], tmp_path)
    assert found["fold"].item() != ENSEMBLE
    assert np.isnan(found["prediction_sd"].item())


def test_a_slide_that_every_fold_has_seen_is_left_out_and_named(development, tmp_path, capsys):
    labels, stores, splits = development
    seen = splits.assign(part=splits["part"].where(splits["patient_id"] != "dev-0", "train"))
    found = predict_cohort([[(constant_model(x), CARD)] for x in LEVELS], seen, labels, stores, tmp_path)
    assert set(labels["slide_id"]) - set(found["slide_id"]) == {"dev-0-0", "dev-0-1"}
    assert "dev-0-0 has no prediction" in capsys.readouterr().out


def test_covariates_are_read_with_what_is_missing(development):
    labels, stores, splits = development
    table = labels.assign(age=pd.Series(np.arange(len(labels), dtype=float)).where(labels["slide_id"] != "dev-0-0"))
    parts, _ = fold_parts(splits, table, stores, 1, {**SETTINGS, "covariates": ["age"]})
    for part in parts.values():
        expected = table.set_index("slide_id").loc[list(part.source.slide_ids), ["age"]]
        assert part.covariates is not None
        np.testing.assert_array_equal(part.covariates.numpy(), expected.to_numpy(np.float32))


def test_slides_of_a_fold_without_features_are_named(development):
    labels, stores, splits = development
    slide = splits.loc[(splits["fold"] == 0) & (splits["part"] == "train"), "slide_id"].iloc[0]
    fewer = [store for store in stores if Path(store).stem != slide]
    with pytest.raises(StudyError, match=f"slides {slide} of fold 0 have no usable features"):
        fold_parts(splits, labels, fewer, 0, SETTINGS)


def labels_of(task: str, labels: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The planted fraction as labels of each task, and their columns."""
    fraction = labels["target"] / 100
    table = labels.drop(columns="target").assign(
        target=(fraction > 0.5).astype(float) if task == "classification" else labels["target"],
        grade=pd.cut(fraction, [0, 0.33, 0.66, 1], labels=["a", "b", "c"]).astype(str),
        other=(1 - fraction).where(labels.index % 3 > 0),
        time=10 * (1 - fraction) + 0.1,
        event=(labels.index % 4 > 0).astype(float),
    )
    columns = {
        "multiclass": ["grade"],
        "multi-regression": ["target", "other"],
        "survival-cox": ["time", "event"],
        "survival-discrete": ["time", "event"],
    }
    return table, columns.get(task, ["target"])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("aggregator", ["ectil", "gated-abmil", "dtfd-mil"])
def test_every_task_is_trained_saved_and_predicted(development, tmp_path, task, aggregator):
    """With covariates, two seeds and several packs a batch; the planted fraction is found again on other slides."""
    original, stores, splits = development
    labels, columns = labels_of(task, original)
    labels["age"] = np.arange(len(labels), dtype=float)
    training = {**RECIPE, "epochs": 15, "seeds": 2, "pack_tiles": 30}
    settings = {**SETTINGS, "task": task, "columns": columns, "covariates": ["age"], "time_bins": 3}
    settings |= {"name": "m", "aggregator": aggregator, "seed": 1, "training": training}
    parts, fitted = fold_parts(splits, labels, stores, 0, settings)
    folder = tmp_path / "fold-0"
    save_fold(folder, train_members(parts, fitted, settings, 0, folder), {**CARD, "covariates": ["age"], "fold": 0})
    ensemble = load_ensemble([str(folder)])
    assert [len(members) for members in ensemble] == [2]
    tests = splits[(splits["fold"] == 0)]
    chosen = [s for s in stores if Path(s).stem in set(tests.loc[tests["part"] == "test", "slide_id"])]
    found = predict_cohort(ensemble, tests, labels, chosen, tmp_path / "out")
    assert len(found) == len(chosen) == 6
    assert found["prediction_sd"].notna().all()
    score = {"multiclass": "probability.c", "multi-regression": "prediction.target"}.get(task, "prediction")
    fraction = original.set_index("slide_id").loc[found["slide_id"], "target"].to_numpy()
    assert np.corrcoef(found[score].to_numpy(float), fraction)[0, 1] > 0.3
