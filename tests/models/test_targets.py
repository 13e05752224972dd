"""Tasks: labels to tensors with masks, raw outputs to predictions in the target's unit, and the epoch's score."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import explained_variance_score, roc_auc_score

from slidestudy.errors import StudyError
from slidestudy.models.survival import CoxSurvival, DiscreteSurvival, common_times, concordance_index, time_cuts
from slidestudy.models.targets import Classification, Multiclass, Regression, UnboundedRegression
from slidestudy.models.tasks import TASKS, fit_task, task_of


def table(**columns) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    return pd.DataFrame({"slide_id": [f"s{i}" for i in range(count)], **columns})


LABELS = table(
    target=[10.0, 30.0, 70.0, np.nan],
    grade=["low", "high", "mid", None],
    stage=[1.0, 2.0, 1.0, np.nan],
    ki67=[5.0, np.nan, 15.0, 10.0],
    time=[3.0, 5.0, 8.0, 9.0],
    event=[1.0, 1.0, 0.0, 1.0],
)


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def test_a_bounded_score_is_a_fraction_of_its_range_and_comes_back_in_its_unit():
    task = fit_task({"task": "regression", "target_range": [0, 200]}, LABELS)
    targets = task.encode(LABELS)
    assert targets.values[:, 0].tolist() == pytest.approx([0.05, 0.15, 0.35, 0])
    assert targets.mask[:, 0].tolist() == [True, True, True, False]
    assert task.predict(np.array([[logit(0.35)]]))["prediction"] == pytest.approx(70)


def test_quantities_without_bounds_are_standardised_by_the_training_part_alone():
    task = fit_task({"task": "multi-regression", "columns": ["target", "ki67"]}, LABELS.iloc[:3])
    assert task.n_outputs == 2
    other = table(target=[110 / 3, 200.0], ki67=[10.0, np.nan])
    targets = task.encode(other)
    assert targets.values[0].tolist() == pytest.approx([0, 0], abs=1e-6)
    assert targets.mask.tolist() == [[True, True], [True, False]]
    predicted = task.predict(targets.values.double().numpy())
    assert set(predicted) == {"prediction.target", "prediction.ki67"}
    assert predicted["prediction.target"] == pytest.approx([110 / 3, 200], rel=1e-5)


def test_a_regression_without_a_range_is_one_without_bounds():
    task = fit_task({"task": "regression", "target_range": None}, LABELS)
    assert isinstance(task, UnboundedRegression)
    assert task.predict(np.array([[0.0], [1.0]]))["prediction"] == pytest.approx(
        [110 / 3, 110 / 3 + np.std([10, 30, 70])]
    )


def test_a_constant_target_is_not_divided_by_zero():
    task = fit_task({"task": "regression", "target_range": None}, table(target=[4.0, 4.0]))
    assert task.encode(table(target=[4.0, 5.0])).values[:, 0].tolist() == [0.0, 1.0]


def test_classes_are_the_training_parts_sorted_and_missing_ones_are_masked():
    task = fit_task({"task": "multiclass", "columns": ["grade"]}, LABELS)
    assert task.classes == ("high", "low", "mid")
    targets = task.encode(LABELS)
    assert targets.values[:, 0].tolist() == [1, 0, 2, 0]
    assert targets.mask[:, 0].tolist() == [True, True, True, False]
    predicted = task.predict(np.log([[0.2, 0.7, 0.1]]))
    assert predicted["prediction"].tolist() == ["low"]
    assert predicted["probability.mid"] == pytest.approx([0.1])


def test_numbers_as_classes_keep_their_names_beside_blanks():
    assert fit_task({"task": "multiclass", "columns": ["stage"]}, LABELS).classes == ("1", "2")


def test_a_class_that_no_training_slide_has_is_named():
    task = fit_task({"task": "multiclass", "columns": ["grade"]}, LABELS.iloc[:2])
    with pytest.raises(StudyError, match="slides s2 are of class mid, which no training slide has"):
        task.encode(LABELS)


def test_time_bins_hold_the_same_number_of_training_events():
    rng = np.random.default_rng(0)
    train = table(time=rng.exponential(10, 400), event=(rng.uniform(size=400) < 0.6).astype(float))
    cuts = time_cuts(train, ("time", "event"), 4)
    counts = np.bincount(np.digitize(train.loc[train["event"] == 1, "time"], cuts), minlength=4)
    assert counts.max() - counts.min() <= 1


def test_too_few_events_for_the_bins_are_refused():
    with pytest.raises(StudyError, match="the training part has 3 events, 4 time bins need as many"):
        fit_task({"task": "survival-discrete"}, LABELS)


def test_survival_falls_by_the_hazards_and_risk_rises_with_them():
    task = DiscreteSurvival(("time", "event"), (4.0, 6.0))
    raw = np.array([[logit(0.5), logit(0.2), logit(0.1)], [logit(0.1), logit(0.1), logit(0.1)]])
    predicted = task.predict(raw)
    assert predicted["survival.4"] == pytest.approx([0.5, 0.9])
    assert predicted["survival.6"] == pytest.approx([0.4, 0.81])
    assert predicted["prediction"] == pytest.approx([1 - (0.5 + 0.4 + 0.36) / 3, 1 - (0.9 + 0.81 + 0.729) / 3])


def test_every_task_is_rebuilt_from_its_card():
    many = pd.concat([LABELS] * 2, ignore_index=True)
    for name in TASKS:
        columns = {"multiclass": ["grade"], "multi-regression": ["target", "ki67"]}.get(name)
        task = fit_task({"task": name, "columns": columns, "target_range": [0, 100]}, many)
        assert task_of(json.loads(json.dumps(task.card()))) == task


def test_an_unknown_task_is_refused():
    with pytest.raises(StudyError, match="unknown task 'ranking'"):
        fit_task({"task": "ranking"}, LABELS)


def test_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(1)
    raw, truth = rng.normal(size=(40, 3)), rng.integers(0, 3, 40)
    multi = Multiclass(("grade",), ("0", "1", "2"))
    labels = table(grade=truth.astype(str), target=rng.uniform(size=40), one=(truth > 0).astype(float))
    shares = np.exp(raw) / np.exp(raw).sum(1, keepdims=True)
    expected = np.mean([roc_auc_score(truth == k, shares[:, k]) for k in range(3)])
    assert multi.score(raw, multi.encode(labels)) == pytest.approx(expected)
    binary = Classification(("one",))
    assert binary.score(raw[:, :1], binary.encode(labels)) == pytest.approx(roc_auc_score(labels["one"], raw[:, 0]))
    bounded = Regression(("target",))
    expected = explained_variance_score(labels["target"], 1 / (1 + np.exp(-raw[:, 0])))
    assert bounded.score(raw[:, :1], bounded.encode(labels)) == pytest.approx(expected, abs=1e-6)


def test_the_score_of_several_targets_is_the_mean_over_those_that_are_defined():
    task = UnboundedRegression(("a", "b", "c"), (0.0,) * 3, (1.0,) * 3)
    labels = table(a=[1.0, 2.0, 3.0, np.nan], b=[0.5, np.nan, 2.0, 1.0], c=[7.0, np.nan, np.nan, np.nan])
    raw = np.random.default_rng(2).normal(size=(4, 3))
    expected = [
        explained_variance_score([1, 2, 3], raw[:3, 0]),
        explained_variance_score([0.5, 2, 1], raw[[0, 2, 3], 1]),
    ]
    assert task.score(raw, task.encode(labels)) == pytest.approx(np.mean(expected), abs=1e-6)


rows = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 1), st.integers(0, 4)), min_size=2, max_size=14)


@settings(max_examples=100, deadline=None)
@given(rows)
def test_the_concordance_index_counts_pairs(found):
    time, event, risk = (np.array(column, float) for column in zip(*found, strict=True))
    wins, pairs = 0.0, 0
    for i in range(len(time)):
        for j in range(len(time)):
            before = time[i] < time[j] or (time[i] == time[j] and not event[j])
            if event[i] and before:
                pairs += 1
                wins += 1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0
    c = concordance_index(time, event, risk)
    assert np.isnan(c) if pairs == 0 else c == pytest.approx(wins / pairs)


def test_survival_at_any_time_lies_on_the_curve_and_is_held_beyond_the_last_edge():
    task = DiscreteSurvival(("time", "event"), (4.0, 6.0))
    raw = np.array([[0.0, 0.0, 0.0], [-1.0, 2.0, 0.5]])
    edges = task.survival(raw)
    assert np.allclose(task.survival_at(raw, [0, 4, 6, 60]), np.column_stack([[1, 1], edges[:, :2], edges[:, 1]]))
    assert np.allclose(task.survival_at(raw, [2, 5])[0], [0.75, 0.375])
    assert list(task.predict_at(raw, [2.5])) == ["prediction", "survival.2.5"]


def test_models_of_different_bins_are_read_at_the_same_times():
    tasks = [DiscreteSurvival(("time", "event"), cuts) for cuts in ((1.0, 5.0), (2.0, 4.0), (1.5, 6.0))]
    assert common_times(tasks) == (1.5, 5.0)
    assert common_times(tasks[:1]) == (1.0, 5.0)


def test_the_score_of_a_survival_task_is_higher_for_risks_that_fall_with_time():
    task = CoxSurvival(("time", "event"))
    targets = task.encode(LABELS)
    assert task.score(-LABELS[["time"]].to_numpy(), targets) == 1.0
    assert task.score(LABELS[["time"]].to_numpy(), targets) == 0.0


def test_survival_parts_that_cannot_be_ranked_are_named():
    task = CoxSurvival(("time", "event"))
    halves = task.encode(table(time=[1.0, np.nan, 3.0], event=[1.0, 1.0, np.nan]))
    assert "the train slides s1, s2 have a time or an event, not both" in task.problems(halves, "train")
    censored = task.encode(table(time=[1.0, 2.0], event=[0.0, 0.0]))
    assert task.problems(censored, "validation") == [
        "the validation part has no event before another slide's time: nothing can be ranked"
    ]


def test_a_target_that_a_part_lacks_is_named_where_it_must_be_there():
    task = UnboundedRegression(("a", "b"), (0.0, 0.0), (1.0, 1.0))
    targets = task.encode(table(a=[1.0, 2.0], b=[np.nan, np.nan]))
    assert task.problems(targets, "train") == ["no slide of the train part has the target 'b'"]
    assert task.problems(targets, "validation") == []


def test_labels_are_float32_and_masks_bool():
    targets = Regression(("target",), (0.0, 100.0)).encode(LABELS)
    assert (targets.values.dtype, targets.mask.dtype) == (torch.float32, torch.bool)
