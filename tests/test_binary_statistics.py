"""Metrics of probabilities and of decisions, against scikit-learn and a loop over bins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from slidestudy.binary_statistics import DECISIONS, expected_calibration_error
from slidestudy.statistics import mean_squared_error

REFERENCES = {
    "sensitivity": lambda y, p: metrics.recall_score(y, p, zero_division=np.nan),
    "specificity": lambda y, p: metrics.recall_score(1 - y, 1 - p, zero_division=np.nan),
    "ppv": lambda y, p: metrics.precision_score(y, p, zero_division=np.nan),
    "npv": lambda y, p: metrics.precision_score(1 - y, 1 - p, zero_division=np.nan),
    "f1": lambda y, p: metrics.f1_score(y, p, zero_division=np.nan),
    "balanced_accuracy": lambda y, p: metrics.balanced_accuracy_score(y, p) if np.ptp(y) else np.nan,
    "accuracy": metrics.accuracy_score,
}
decided = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30)


@settings(max_examples=100, deadline=None)
@given(decided, st.integers(0, 2**32 - 1))
def test_decisions_are_those_of_scikit_learn_on_repeated_rows(pairs, seed):
    y, p = np.array(pairs, float).T
    weights = np.random.default_rng(seed).integers(0, 4, len(y)).astype(float)
    again = np.repeat(np.arange(len(y)), weights.astype(int))
    assert set(REFERENCES) == set(DECISIONS)
    for name, (statistic, _) in DECISIONS.items():
        expected = REFERENCES[name](y[again].astype(int), p[again].astype(int)) if len(again) else np.nan
        assert float(statistic(y, p, weights[None])[0]) == pytest.approx(expected, nan_ok=True)


def test_the_calibration_error_is_the_weighted_gap_over_ten_bins():
    rng = np.random.default_rng(2)
    p = np.r_[rng.uniform(size=60), 0.0, 1.0, 0.1, 0.9]
    y = (rng.uniform(size=len(p)) < p**2).astype(float)
    weights = rng.integers(0, 3, (4, len(p))).astype(float)
    for value, drawn in zip(expected_calibration_error(y, p, weights), weights, strict=True):
        total = 0.0
        for low in range(10):
            inside = (p >= low / 10) & ((p < (low + 1) / 10) | (low == 9))
            own = drawn[inside]
            if own.sum():
                gap = np.average(y[inside], weights=own) - np.average(p[inside], weights=own)
                total += own.sum() / drawn.sum() * abs(gap)
        assert value == pytest.approx(total)


def test_a_calibrated_model_has_a_small_error_and_an_overconfident_one_a_large_one():
    rng = np.random.default_rng(0)
    p = rng.uniform(size=20000)
    y, once = (rng.uniform(size=20000) < p).astype(float), np.ones((1, 20000))
    assert expected_calibration_error(y, p, once)[0] < 0.02
    # Certain of everything: the mean gap is E[min(p, 1 - p)] = 1 / 4.
    assert expected_calibration_error(y, p.round(), once)[0] == pytest.approx(0.25, abs=0.01)


def test_the_brier_score_is_the_mean_squared_error_of_probabilities():
    y, p = np.array([0.0, 1, 1]), np.array([0.2, 0.9, 0.4])
    assert mean_squared_error(y, p, np.ones((1, 3)))[0] == pytest.approx(metrics.brier_score_loss(y, p))
