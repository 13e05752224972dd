"""Paired differences: intervals and p-values of two predictions on the same draws, corrected by Holm's method."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slidestudy import statistics
from slidestudy.validation.paired_differences import holm, paired_difference

SETTINGS = {"bootstrap": 400, "confidence": 0.95, "seed": 1}
RNG = np.random.default_rng(0)
TRUTH = RNG.uniform(0, 100, 60)
GOOD, POOR = TRUTH + RNG.normal(0, 5, 60), TRUTH + RNG.normal(0, 60, 60)
PATIENTS = np.repeat(np.arange(30), 2)


def difference(first: Any, second: Any, truth: Any = TRUTH, patients: Any = PATIENTS) -> dict[str, Any]:
    return paired_difference(statistics.pearson, truth, first, second, patients, SETTINGS)


def test_a_clear_difference_has_an_interval_without_zero_and_a_small_p():
    found = difference(POOR, GOOD)
    assert found["ci_low"] < found["difference"] < found["ci_high"] < 0
    # The smallest p that 400 draws can give.
    assert found["p"] == pytest.approx(2 / 401)
    assert (found["n"], found["n_patients"], found["undefined_reason"]) == (60, 30, "")


def test_exchanged_predictions_change_the_sign_only():
    one, other = difference(POOR, GOOD), difference(GOOD, POOR)
    assert one["difference"] == pytest.approx(-other["difference"])
    assert (one["ci_low"], one["ci_high"]) == pytest.approx((-other["ci_high"], -other["ci_low"]))
    assert one["p"] == other["p"]


def test_equal_predictions_differ_by_nothing():
    found = difference(GOOD, GOOD.copy())
    assert (found["difference"], found["ci_low"], found["ci_high"], found["p"]) == (0, 0, 0, 1)


def test_pairing_narrows_the_interval():
    similar = GOOD + RNG.normal(0, 1, 60)
    found = difference(similar, GOOD)
    alone = statistics.estimate(statistics.pearson, TRUTH, GOOD, PATIENTS, replicates=400, confidence=0.95, seed=1)
    assert alone.ci_low is not None
    assert alone.ci_high is not None
    assert found["ci_high"] - found["ci_low"] < alone.ci_high - alone.ci_low


def test_a_constant_prediction_has_no_difference_and_says_why():
    found = difference(np.full(60, 5.0), GOOD)
    assert (found["difference"], found["p"], found["undefined_reason"]) == (None, None, "constant prediction")
    assert difference(GOOD[:0], GOOD[:0], TRUTH[:0], PATIENTS[:0])["undefined_reason"] == "no rows"


def test_two_patients_have_a_difference_without_an_interval():
    found = difference(POOR, GOOD, patients=np.repeat([0, 1], 30))
    assert found["difference"] is not None
    assert (found["ci_low"], found["p"], found["undefined_reason"]) == (None, None, "no interval: 2 patients")


def test_holm_multiplies_the_smallest_by_the_number_and_never_falls_below_a_smaller_one():
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([]) == []
    assert holm([None]) == [None]


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=12))
def test_corrected_p_values_keep_their_order_and_lie_between_the_raw_ones_and_bonferronis(p):
    corrected = np.array(holm(p), float)
    raw = np.array(p)
    assert (corrected >= raw).all()
    assert (corrected <= np.minimum(1, raw * len(raw)) + 1e-12).all()
    order = np.argsort(raw, kind="stable")
    assert (np.diff(corrected[order]) >= 0).all()
