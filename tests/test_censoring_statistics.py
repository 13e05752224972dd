"""Statistics that make up for censoring: against their definitions pair by pair, and without censoring."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from slidestudy.censoring_statistics import auroc_by, case_weights, integrated_brier, uncensored_before, unos_c
from slidestudy.survival_statistics import event_by, harrells_c

cohorts = st.lists(st.tuples(st.integers(1, 8), st.integers(0, 1), st.integers(0, 4)), min_size=3, max_size=25)
TIMES = [2.0, 4.0, 7.0]


def followed(time, event, at) -> float:
    """Probability of not being censored before a time: the product over the earlier times, events first."""
    left = 1.0
    for t in sorted(set(time)):
        if t < at:
            at_risk = sum(1 for own, died in zip(time, event, strict=True) if own > t or (own == t and not died))
            censored = sum(1 for own, died in zip(time, event, strict=True) if own == t and not died)
            left *= 1 - censored / at_risk if at_risk else 1.0
    return left


def counted_c(time, event, risk, until) -> float:
    pairs = won = 0.0
    for t, died, r in zip(time, event, risk, strict=True):
        if not died or t > until:
            continue
        weight = followed(time, event, t) ** -2
        for other, other_died, other_r in zip(time, event, risk, strict=True):
            if other > t or (other == t and not other_died):
                pairs += weight
                won += weight * (1.0 if r > other_r else 0.5 if r == other_r else 0.0)
    return won / pairs if pairs else float("nan")


def counted_auroc(time, event, risk, cutoff) -> float:
    pairs = won = 0.0
    for t, died, r in zip(time, event, risk, strict=True):
        if not died or t > cutoff:
            continue
        weight = 1 / followed(time, event, t)
        for other, other_died, other_r in zip(time, event, risk, strict=True):
            if other > cutoff or (other == cutoff and not other_died):
                pairs += weight
                won += weight * (1.0 if r > other_r else 0.5 if r == other_r else 0.0)
    return won / pairs if pairs else float("nan")


def counted_brier(time, event, survival, times) -> float:
    used = [k for k, at in enumerate(times) if at <= max(time)]
    if len(used) < 2:
        return float("nan")
    scores = []
    for k in used:
        total = 0.0
        for i, (t, died) in enumerate(zip(time, event, strict=True)):
            if died and t <= times[k]:
                total += survival[i][k] ** 2 / followed(time, event, t)
            elif t >= times[k]:
                total += (1 - survival[i][k]) ** 2 / followed(time, event, times[k])
        scores.append(total / len(time))
    area = sum((times[b] - times[a]) * (scores[a] + scores[b]) / 2 for a, b in pairwise(used))
    return area / (times[used[-1]] - times[used[0]])


@settings(max_examples=100, deadline=None)
@given(cohorts, st.integers(0, 2**32 - 1))
def test_every_statistic_is_its_definition_on_repeated_rows(rows, seed):
    time, event, risk = np.array(rows, float).T
    rng = np.random.default_rng(seed)
    survival = np.sort(rng.uniform(size=(len(time), 3)), axis=1)[:, ::-1]
    weights = rng.integers(0, 3, (3, len(time))).astype(float)
    # Someone with the longest time is in every sample, so that the same times are within the follow-up.
    weights[:, time.argmax()] = 1
    weights[0] = 1
    for drawn in weights:
        again = np.repeat(np.arange(len(time)), drawn.astype(int))
        t, e, r = time[again], event[again], risk[again]
        once = drawn[None]
        values = [
            (unos_c(event)(time, risk, once), counted_c(t, e, r, np.inf)),
            (unos_c(event, 4)(time, risk, once), counted_c(t, e, r, 4)),
            (auroc_by(event, 4)(time, risk, once), counted_auroc(t, e, r, 4)),
            (integrated_brier(event, survival, TIMES)(time, risk, once), counted_brier(t, e, survival[again], TIMES)),
        ]
        for found, expected in values:
            assert found[0] == pytest.approx(expected, abs=1e-9, nan_ok=True)
        expected = [followed(t, e, at) for at in TIMES]
        assert uncensored_before(time, event == 1, once, np.array(TIMES))[0] == pytest.approx(expected)


def test_without_censoring_weights_are_one():
    rng = np.random.default_rng(0)
    time, risk, once, event = rng.exponential(size=50), rng.normal(size=50), np.ones((1, 50)), np.ones(50)
    assert unos_c(event)(time, risk, once)[0] == pytest.approx(harrells_c(event)(time, risk, once)[0])
    by_then = time <= 0.7
    assert auroc_by(event, 0.7)(time, risk, once)[0] == pytest.approx(roc_auc_score(by_then, risk))
    assert case_weights(time, event, 0.7).tolist() == [1.0] * 50
    survival = np.column_stack([np.full(50, 0.5)] * 2)
    assert integrated_brier(event, survival, [0.2, 0.7])(time, risk, once)[0] == pytest.approx(0.25)
    perfect = np.column_stack([time > 0.2, time > 0.7]).astype(float)
    assert integrated_brier(event, perfect, [0.2, 0.7])(time, risk, once)[0] == pytest.approx(0)


def test_weights_undo_the_loss_of_the_censored():
    """More than half of the patients are censored; leaving them out without weights overstates the area."""
    weighted, left_out = [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        risk, once = rng.normal(size=4000), np.ones((1, 4000))
        happens, censored = rng.exponential(np.exp(-risk)), rng.exponential(0.7, 4000)
        time, event = np.minimum(happens, censored), happens <= censored
        complete = roc_auc_score(happens <= 1, risk)
        by_then, known = event_by(time, event, 1)
        weighted.append(auroc_by(event, 1)(time, risk, once)[0] - complete)
        left_out.append(roc_auc_score(by_then[known], risk[known]) - complete)
        whole = unos_c(np.ones(4000), 1)(happens, risk, once)[0]
        assert unos_c(event, 1)(time, risk, once)[0] == pytest.approx(whole, abs=0.02)
    assert np.mean(left_out) > 0.012
    assert abs(np.mean(weighted)) < 0.006


def test_a_status_that_is_unknown_has_no_weight():
    time, event = np.array([1.0, 2, 3, 4, 4]), np.array([1.0, 0, 1, 0, 1])
    # Before 3, one of the four who were at risk at 2 was censored.
    assert case_weights(time, event, 3.5) == pytest.approx([1, 0, 4 / 3, 1, 1])


def test_without_an_event_by_a_time_there_is_no_value():
    time, risk, once = np.array([1.0, 2, 3]), np.array([3.0, 2, 1]), np.ones((1, 3))
    assert np.isnan(auroc_by([0, 0, 1], 2)(time, risk, once)[0])
    assert np.isnan(unos_c([0, 0, 1], 2)(time, risk, once)[0])
    assert np.isnan(integrated_brier([1, 1, 1], np.ones((3, 2)), [1.0, 9.0])(time, risk, once)[0])
