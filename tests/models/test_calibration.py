"""Calibration and thresholds from the validation part, and what an ensemble says with its spread."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss

from slidestudy.errors import StudyError
from slidestudy.models.calibration import (
    calibrated,
    combine,
    fit_calibration,
    frozen_thresholds,
    member_predictions,
    youden_threshold,
)
from slidestudy.models.survival import CoxSurvival
from slidestudy.models.targets import Classification, Multiclass, Regression, Task, UnboundedRegression

CLASSES = Classification(("target",))
SCORE = Regression(("target",), (0.0, 100.0))


def labels(values) -> pd.DataFrame:
    return pd.DataFrame({"slide_id": [f"s{i}" for i in range(len(values))], "target": values})


def overconfident(count: int, factor: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are a factor too large for the classes drawn by them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=count) * 2
    return factor * logits[:, None], (rng.uniform(size=count) < 1 / (1 + np.exp(-logits))).astype(float)


def test_the_temperature_undoes_overconfidence():
    raw, truth = overconfident(4000, 3.0)
    found = fit_calibration("temperature", CLASSES, raw, CLASSES.encode(labels(truth)))
    assert found is not None
    assert found["temperature"] == pytest.approx(3, rel=0.1)
    before, after = (calibrated(CLASSES, raw, c)["prediction"] for c in (None, found))
    assert log_loss(truth, after) < log_loss(truth, before)
    # Slides keep their order, and at even odds nothing changes.
    assert (np.argsort(before, kind="stable") == np.argsort(after, kind="stable")).all()


def test_the_temperature_of_several_classes_is_that_of_the_least_cross_entropy():
    rng = np.random.default_rng(1)
    raw = 3 * rng.normal(size=(300, 3))
    truth = np.array([rng.choice(3, p=softmax(row / 2)) for row in raw])
    task = Multiclass(("target",), ("0", "1", "2"))
    found = fit_calibration("temperature", task, raw, task.encode(labels(truth.astype(str))))
    assert found is not None

    def loss(temperature: float) -> float:
        predicted = calibrated(task, raw, {"method": "temperature", "temperature": temperature})
        return log_loss(truth, np.stack([predicted[f"probability.{k}"] for k in "012"], 1))

    best = loss(found["temperature"])
    assert all(best <= loss(found["temperature"] * factor) + 1e-6 for factor in (0.8, 0.95, 1.05, 1.25))


@pytest.mark.parametrize(
    "task", [CLASSES, SCORE, UnboundedRegression(("target",), (3.0,), (2.0,))], ids=lambda t: t.name
)
def test_isotonic_calibration_is_that_of_scikit_learn_and_survives_the_file(task: Task):
    rng = np.random.default_rng(2)
    raw = rng.normal(size=(60, 1))
    truth = (raw[:, 0] + rng.normal(size=60) > 0).astype(float) * (100 if task is SCORE else 1)
    found = json.loads(json.dumps(fit_calibration("isotonic", task, raw, task.encode(labels(truth)))))
    plain = task.predict(raw)["prediction"]
    model = IsotonicRegression(out_of_bounds="clip").fit(plain, truth)
    others = np.linspace(-4, 4, 33)[:, None]
    expected = model.predict(task.predict(others)["prediction"])
    assert calibrated(task, others, found)["prediction"] == pytest.approx(expected, abs=1e-4)


def test_missing_labels_do_not_calibrate():
    raw, truth = overconfident(200, 2.0)
    extra = np.concatenate([raw, np.full((50, 1), -9.0)])
    for method in ("temperature", "isotonic"):
        whole = fit_calibration(method, CLASSES, raw, CLASSES.encode(labels(truth)))
        some = fit_calibration(method, CLASSES, extra, CLASSES.encode(labels([*truth, *[np.nan] * 50])))
        assert whole is not None
        assert some is not None
        for key in whole.keys() - {"method"}:
            assert some[key] == pytest.approx(whole[key])


@pytest.mark.parametrize(
    ("method", "task"),
    [
        ("temperature", SCORE),
        ("isotonic", CoxSurvival(("time", "event"))),
        ("isotonic", Multiclass(("target",), ("a", "b"))),
        ("platt", CLASSES),
    ],
)
def test_a_calibration_that_does_not_go_with_the_task_is_refused(method, task):
    with pytest.raises(StudyError, match=f"calibration '{method}' does not go with task {task.name}"):
        fit_calibration(method, task, np.zeros((2, 2)), CLASSES.encode(labels([0.0, 1.0])))


def test_without_calibration_predictions_are_as_they_were():
    assert fit_calibration("none", SCORE, np.zeros((1, 1)), SCORE.encode(labels([1.0]))) is None
    assert calibrated(SCORE, np.zeros((1, 1)), None)["prediction"] == pytest.approx(50)


def test_thresholds_are_of_the_calibrated_prediction():
    raw, truth = overconfident(300, 3.0)
    targets = CLASSES.encode(labels(truth))
    calibration = fit_calibration("temperature", CLASSES, raw, targets)
    plain, after = (frozen_thresholds(CLASSES, raw, targets, c)["youden"] for c in (None, calibration))
    # The same slides are called positive, on another scale.
    called = calibrated(CLASSES, raw, None)["prediction"] >= plain
    assert (called == (calibrated(CLASSES, raw, calibration)["prediction"] >= after)).all()
    assert plain != pytest.approx(after, abs=1e-3)


def test_other_tasks_have_no_thresholds():
    assert frozen_thresholds(SCORE, np.zeros((2, 1)), SCORE.encode(labels([1.0, 2.0])), None) == {}


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=30).filter(
        lambda rows: len({label for label, _ in rows}) == 2
    )
)
@settings(max_examples=80, deadline=None)
def test_no_threshold_is_better_by_youden_than_the_one_chosen(rows):
    truth, score = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows], float)

    def youden(threshold: float) -> float:
        called = score >= threshold
        return called[truth == 1].mean() - called[truth == 0].mean()

    assert youden(youden_threshold(truth, score)) == pytest.approx(max(youden(t) for t in range(8)))


def test_youden_has_no_threshold_with_one_class():
    assert youden_threshold(np.ones(4), np.arange(4.0)) is None


def cards(task: Task, *calibrations) -> list[dict]:
    return [{"task_card": task.card(), "calibration": c} for c in calibrations]


def test_an_ensemble_is_the_mean_of_its_members_predictions_with_their_spread():
    raws = [np.array([[0.0], [2.0]]), np.array([[1.0], [-1.0]]), np.array([[0.5], [0.0]])]
    means, spread = combine(cards(SCORE, None, None, None), raws)
    each = np.stack([100 / (1 + np.exp(-raw[:, 0])) for raw in raws])
    assert means["prediction"] == pytest.approx(each.mean(0))
    assert spread == pytest.approx(each.std(0, ddof=1))


def test_each_member_is_calibrated_by_its_own_validation_part():
    both = cards(CLASSES, {"method": "temperature", "temperature": 2.0}, None)
    means, _ = combine(both, [np.array([[2.0]]), np.array([[1.0]])])
    assert means["prediction"] == pytest.approx([1 / (1 + np.exp(-1))])
    assert member_predictions(both[1], np.array([[0.0]]))["prediction"] == pytest.approx([0.5])


def test_one_member_has_no_spread():
    means, spread = combine(cards(SCORE, None), [np.array([[0.0]])])
    assert means["prediction"] == pytest.approx([50])
    assert np.isnan(spread).all()


def test_an_ensembles_class_is_that_of_the_mean_probability():
    task = Multiclass(("target",), ("a", "b"))
    raws = [np.log([[0.9, 0.1]]), np.log([[0.4, 0.6]]), np.log([[0.4, 0.6]])]
    means, spread = combine(cards(task, None, None, None), raws)
    assert means["prediction"].tolist() == ["a"]
    assert means["probability.a"] == pytest.approx([1.7 / 3])
    assert spread == pytest.approx([np.std([0.9, 0.4, 0.4], ddof=1)])
