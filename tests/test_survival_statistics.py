"""Harrell's C over weighted rows: the definition that training uses, counted pair by pair."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy import survival_statistics
from slidestudy.models.survival import concordance_index
from slidestudy.survival_statistics import event_by, harrells_c, why_nothing_is_ranked

patients = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(0, 4)), min_size=2, max_size=25)


def counted(time, event, risk) -> float:
    """Harrell's C by its definition, one pair after the other."""
    pairs = won = 0.0
    for i, j in permutations(range(len(time)), 2):
        if event[i] and (time[i] < time[j] or (time[i] == time[j] and not event[j])):
            pairs += 1
            won += 1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0
    return won / pairs if pairs else float("nan")


@settings(max_examples=100, deadline=None)
@given(patients, st.integers(0, 2**32 - 1))
def test_weights_mean_repeated_rows_and_the_definition_is_that_of_training(rows, seed):
    time, event, risk = np.array(rows, float).T
    weights = np.random.default_rng(seed).integers(0, 4, (3, len(time))).astype(float)
    weights[0] = 1
    found = harrells_c(event)(time, risk, weights)
    np.testing.assert_allclose(found[0], counted(time, event, risk))
    for value, drawn in zip(found, weights, strict=True):
        again = np.repeat(np.arange(len(time)), drawn.astype(int))
        expected = concordance_index(time[again], event[again], risk[again]) if len(again) else float("nan")
        np.testing.assert_allclose(value, expected)


def test_pairs_counted_in_blocks_give_the_same_value(monkeypatch):
    rng = np.random.default_rng(0)
    time, event, risk = rng.integers(0, 20, 50).astype(float), rng.integers(0, 2, 50), rng.normal(size=50)
    weights = rng.integers(0, 3, (4, 50)).astype(float)
    whole = harrells_c(event)(time, risk, weights)
    monkeypatch.setattr(survival_statistics, "BLOCK", 7)
    np.testing.assert_allclose(harrells_c(event)(time, risk, weights), whole)


def test_the_limits_are_reached():
    time, event, once = np.array([1.0, 2, 3, 4]), np.array([1, 1, 0, 1]), np.ones((1, 4))
    assert harrells_c(event)(time, -time, once) == pytest.approx(1)
    assert harrells_c(event)(time, time, once) == pytest.approx(0)
    assert harrells_c(event)(time, np.zeros(4), once) == pytest.approx(0.5)


def test_without_an_event_before_another_time_nothing_is_ranked():
    time, risk = np.array([1.0, 2, 3]), np.array([3.0, 2, 1])
    assert np.isnan(harrells_c([0, 0, 1])(time, risk, np.ones((1, 3)))[0])
    assert why_nothing_is_ranked(time, risk) == "no event before another patient's time"
    assert why_nothing_is_ranked(time[:1], risk[:1]) == "fewer than two rows"


def test_whether_the_event_came_by_a_time_is_unknown_only_of_those_censored_before():
    time, event = [5.0, 10, 10, 10.5, 4], [1, 1, 0, 1, 0]
    by_then, known = event_by(time, event, 10)
    assert by_then.tolist() == [True, True, False, False, False]
    assert known.tolist() == [True, True, True, True, False]
