"""The weighted statistics agree with scipy and scikit-learn, with the published ECTIL figures, and in their limits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from slidestudy import statistics as s
from slidestudy.agreement_statistics import concordance


def once(statistic, y, p):
    y, p = np.asarray(y, float), np.asarray(p, float)
    return float(statistic(y, p, np.ones((1, len(y))))[0])


@pytest.fixture(scope="module")
def ectil(shared):
    parts = [pd.read_csv(f) for f in sorted((shared / "ectil_tcga").glob("slide-level-output_test_fold_*.csv"))]
    table = pd.concat(parts)
    return table["targets"].to_numpy() * 100, table["preds"].to_numpy() * 100


@pytest.mark.shared
def test_published_ectil_tcga_predictions_give_the_published_figures(ectil):
    y, p = ectil
    assert len(y) == 356
    for statistic, published in [
        (s.pearson, 0.6127115),
        (s.spearman, 0.6304756),
        (concordance, 0.5526924),
        (s.mean_squared_error, 238.204346),
    ]:
        assert once(statistic, y, p) == pytest.approx(published, rel=1e-6)
    for cutoff, area, precision in [
        (10, 0.8230075, 0.8330420),
        (30, 0.8424481, 0.5706637),
        (50, 0.8209427, 0.3063093),
        (75, 0.8876081, 0.1785689),
    ]:
        assert once(s.auroc, y.round(9) > cutoff, p) == pytest.approx(area, rel=1e-6)
        assert once(s.average_precision, y.round(9) > cutoff, p) == pytest.approx(precision, rel=1e-6)


rows = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=4, max_size=40)


@settings(max_examples=80, deadline=None)
@given(rows, st.integers(0, 2**32 - 1))
def test_weights_mean_repeated_rows(pairs, seed):
    y, p = np.array(pairs, float).T
    weights = np.random.default_rng(seed).integers(0, 4, len(y)).astype(float)
    if weights.sum() < 2:
        weights[:2] = 1
    repeated = np.repeat(np.arange(len(y)), weights.astype(int))
    binary = {s.auroc, s.average_precision}
    for statistic in [
        s.pearson,
        s.spearman,
        concordance,
        s.mean_squared_error,
        s.mean_absolute_error,
        s.explained_variance,
        s.auroc,
        s.average_precision,
    ]:
        truth = (y > 2).astype(float) if statistic in binary else y
        weighted = float(statistic(truth, p, weights[None])[0])
        plain = once(statistic, truth[repeated], p[repeated])
        assert weighted == pytest.approx(plain, abs=1e-9, nan_ok=True)


@settings(max_examples=80, deadline=None)
@given(rows)
def test_statistics_agree_with_scipy_and_scikit_learn(pairs):
    y, p = np.array(pairs, float).T
    if np.ptp(y) > 0 and np.ptp(p) > 0:
        assert once(s.pearson, y, p) == pytest.approx(stats.pearsonr(y, p).statistic, abs=1e-9)
        assert once(s.spearman, y, p) == pytest.approx(stats.spearmanr(y, p).statistic, abs=1e-9)
        assert once(s.explained_variance, y, p) == pytest.approx(metrics.explained_variance_score(y, p), abs=1e-9)
    label = y > 2
    if 0 < label.sum() < len(label):
        assert once(s.auroc, label, p) == pytest.approx(metrics.roc_auc_score(label, p))
        assert once(s.average_precision, label, p) == pytest.approx(metrics.average_precision_score(label, p))


def test_one_class_is_undefined_with_its_reason():
    result = s.estimate(s.auroc, [1, 1, 1, 1], [1, 2, 3, 4], list("abcd"), replicates=50, confidence=0.95, seed=1)
    assert result.value is None
    assert result.ci_low is None
    assert result.undefined_reason == "one class only"


def test_constant_prediction_is_undefined_with_its_reason():
    result = s.estimate(s.pearson, [1, 2, 3, 4], [7, 7, 7, 7], list("abcd"), replicates=50, confidence=0.95, seed=1)
    assert (result.value, result.undefined_reason) == (None, "constant prediction")


def test_two_patients_get_a_value_without_an_interval():
    result = s.estimate(s.pearson, [1, 2, 3, 4], [1, 2, 4, 3], list("aabb"), replicates=50, confidence=0.95, seed=1)
    assert result.value == pytest.approx(0.8)
    assert result.ci_low is None
    assert "2 patients" in result.undefined_reason


def test_intervals_draw_patients_not_rows():
    """Ten copies of each patient's row must not narrow the interval."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=30)
    p = y + rng.normal(size=30)
    ids = np.arange(30)
    common = dict(replicates=2000, confidence=0.95, seed=3)
    single = s.estimate(s.pearson, y, p, ids, **common)
    copied = s.estimate(s.pearson, np.repeat(y, 10), np.repeat(p, 10), np.repeat(ids, 10), **common)
    assert copied.ci_low == pytest.approx(single.ci_low, abs=1e-9)
    assert copied.ci_high == pytest.approx(single.ci_high, abs=1e-9)
    as_rows = s.estimate(s.pearson, np.repeat(y, 10), np.repeat(p, 10), np.arange(300), **common)
    assert as_rows.ci_high - as_rows.ci_low < 0.6 * (single.ci_high - single.ci_low)


def test_interval_is_seeded():
    y, p = np.arange(12.0), np.arange(12.0)[::-1] ** 2
    draw = [s.estimate(s.spearman, y, p, y, replicates=200, confidence=0.9, seed=seed) for seed in (5, 5, 6)]
    assert draw[0] == draw[1]
    noisy = np.random.default_rng(0).normal(size=12)
    a, b = (s.estimate(s.pearson, y, noisy, y, replicates=200, confidence=0.9, seed=k) for k in (5, 6))
    assert a.value == b.value
    assert a.ci_low != b.ci_low


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(11)
    hits = 0
    for seed in range(150):
        y = rng.normal(size=60)
        p = 0.6 * y + 0.8 * rng.normal(size=60)
        e = s.estimate(s.pearson, y, p, np.arange(60), replicates=400, confidence=0.9, seed=seed)
        hits += e.ci_low <= 0.6 <= e.ci_high
    assert 0.8 <= hits / 150 <= 0.97


def test_draws_of_patients_are_the_same_for_any_of_their_rows():
    patients = np.array(["c", "a", "b", "a", "d"], dtype=object)
    draws = s.PatientDraws(patients, 50, 4)
    whole = draws.weights(patients)
    np.testing.assert_array_equal(whole, s.cluster_weights(patients, 50, 4))
    np.testing.assert_array_equal(draws.weights(patients[[3, 0]]), whole[:, [3, 0]])
    np.testing.assert_array_equal(whole[:, 1], whole[:, 3])
    assert (whole[:, [0, 1, 2, 4]].sum(1) == 4).all()


def test_a_measured_statistic_comes_with_its_replicates_and_its_own_reason():
    y, p, patients = np.arange(8.0), np.arange(8.0)[::-1] ** 2, np.arange(8)
    draws = s.PatientDraws(patients, 100, 1)
    found, replicates = s.measure(s.pearson, y, p, patients, draws, 0.9)
    assert found == s.estimate(s.pearson, y, p, patients, replicates=100, confidence=0.9, seed=1)
    np.testing.assert_allclose(replicates, s.pearson(y, p, draws.weights(patients)))
    undefined, nothing = s.measure(s.pearson, y, p * 0, patients, draws, 0.9, lambda *_: "nothing to rank")
    assert (undefined.value, undefined.undefined_reason) == (None, "nothing to rank")
    assert np.isnan(nothing).all()
