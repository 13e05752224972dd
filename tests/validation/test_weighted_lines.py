"""Lines fitted to all bootstrap samples at once: against libraries that fit one sample, and where no line exists."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from scipy.special import expit

from slidestudy.validation.weighted_lines import EDGE, logistic_line, logistic_shift, logits, straight_line


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y and the weights of a few samples, the first with all weights 1."""
    rng = np.random.default_rng(3)
    x = rng.normal(2, 3, 60)
    weights = np.vstack([np.ones(60), rng.multinomial(60, np.full(60, 1 / 60), 9)]).astype(float)
    return x, 4 + 0.5 * x + rng.normal(0, 2, 60), weights


def test_straight_lines_are_those_of_scipy_on_the_repeated_rows(drawn):
    x, y, weights = drawn
    intercept, slope = straight_line(y, x, weights)
    for k, w in enumerate(weights.astype(int)):
        found = stats.linregress(np.repeat(x, w), np.repeat(y, w))
        assert (intercept[k], slope[k]) == pytest.approx((found.intercept, found.slope))


def test_a_straight_line_through_predictions_far_from_zero_keeps_its_precision():
    x = 1e6 + np.arange(10.0)
    intercept, slope = straight_line(3 + 2 * x, x, np.ones((1, 10)))
    assert slope[0] == pytest.approx(2, rel=1e-9)
    assert intercept[0] + slope[0] * 1e6 == pytest.approx(2e6 + 3)


def test_a_constant_prediction_has_no_straight_line():
    assert np.isnan(straight_line(np.arange(5.0), np.full(5, 0.1), np.ones((2, 5)))).all()


def test_logistic_lines_are_those_of_statsmodels_on_the_repeated_rows(drawn):
    x, _, weights = drawn
    y = (np.random.default_rng(1).random(60) < expit(0.7 * x - 1)).astype(float)
    intercept, slope = logistic_line(y, x, weights)
    shift = logistic_shift(y, x, weights)
    for k, w in enumerate(weights.astype(int)):
        rows_y, rows_x = np.repeat(y, w), np.repeat(x, w)
        found = sm.Logit(rows_y, sm.add_constant(rows_x)).fit(disp=0)
        assert [intercept[k], slope[k]] == pytest.approx(list(found.params), rel=1e-5, abs=1e-6)
        alone = sm.GLM(rows_y, np.ones((len(rows_y), 1)), family=sm.families.Binomial(), offset=rows_x).fit()
        assert shift[k] == pytest.approx(alone.params[0], abs=1e-6)


@pytest.mark.parametrize("classes", [[0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
def test_classes_that_are_apart_have_no_logistic_line_but_a_shift(classes):
    x = np.array([-2.0, -1, 0, 0, 1, 2])
    intercept, slope = logistic_line(np.array(classes, float), x, np.ones((1, 6)))
    assert np.isnan([intercept[0], slope[0]]).all()
    # The classes are the other half of the sample turned round, so that the mean probability is a half.
    assert logistic_shift(np.array(classes, float), x, np.ones((1, 6)))[0] == pytest.approx(0, abs=1e-9)


def test_a_sample_without_one_class_is_undefined_and_the_others_are_not_changed_by_it():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=30), np.r_[np.zeros(15), np.ones(15)]
    one_class = np.r_[np.ones(15), np.zeros(15)]
    alone = logistic_line(y, x, np.ones((1, 30)))
    both = logistic_line(y, x, np.vstack([np.ones(30), one_class]))
    assert [part[0] for part in both] == pytest.approx([part[0] for part in alone])
    assert all(np.isnan(part[1]) for part in both)
    assert np.isnan(logistic_shift(y, x, one_class[None]))


def test_calibrated_probabilities_have_slope_one_and_distorted_ones_what_undoes_the_distortion():
    rng = np.random.default_rng(5)
    true = rng.normal(0, 1.5, 40_000)
    y = (rng.random(40_000) < expit(true)).astype(float)
    ones = np.ones((1, 40_000))
    for shift, stretch in ((0.0, 1.0), (0.8, 2.0)):
        given = logits(expit(shift + stretch * true))
        intercept, slope = logistic_line(y, given, ones)
        assert slope[0] == pytest.approx(1 / stretch, abs=0.03)
        assert intercept[0] == pytest.approx(-shift / stretch, abs=0.04)


def test_probabilities_of_exactly_nought_and_one_have_finite_logits():
    assert np.isfinite(logits(np.array([0.0, 1.0]))).all()
    assert expit(logits(np.array([0.0]))[0]) == pytest.approx(EDGE)
