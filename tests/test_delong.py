"""DeLong's variance and test by counting pairs, of clustered slides by Obuchowski's sums, and their limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from slidestudy.delong import auroc_covariance, auroc_variance, delong, delong_p, placements

cohorts = st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 6)), min_size=6, max_size=40)


def kernel(positive: float, negative: float) -> float:
    return 1.0 if positive > negative else 0.5 if positive == negative else 0.0


def counted(y, p, patients) -> tuple[float, float]:
    """AUROC and Obuchowski's clustered variance, pair by pair and patient by patient."""
    cases = [(score, who) for label, score, who in zip(y, p, patients, strict=True) if label]
    others = [(score, who) for label, score, who in zip(y, p, patients, strict=True) if not label]
    m, n = len(cases), len(others)
    of_cases = [(sum(kernel(x, z) for z, _ in others) / n, who) for x, who in cases]
    of_others = [(sum(kernel(x, z) for x, _ in cases) / m, who) for z, who in others]
    area = sum(v for v, _ in of_cases) / m
    names = sorted(set(patients))
    a = {who: sum(v - area for v, own in of_cases if own == who) for who in names}
    b = {who: sum(v - area for v, own in of_others if own == who) for who in names}
    k10, k01, k = len({who for _, who in cases}), len({who for _, who in others}), len(names)
    s10 = k10 / ((k10 - 1) * m) * sum(v**2 for v in a.values())
    s01 = k01 / ((k01 - 1) * n) * sum(v**2 for v in b.values())
    s11 = k / (k - 1) * sum(a[who] * b[who] for who in names)
    return area, s10 / m + s01 / n + 2 * s11 / (m * n)


def classic(y, p) -> float:
    """DeLong's variance of independent rows: the variances of both placements over their numbers."""
    matrix = np.array([[kernel(a, b) for b in p[y == 0]] for a in p[y == 1]])
    return float(matrix.mean(1).var(ddof=1) / len(matrix) + matrix.mean(0).var(ddof=1) / matrix.shape[1])


@settings(max_examples=100, deadline=None)
@given(cohorts)
def test_area_and_variance_are_those_of_all_pairs(rows):
    y, p, patients = np.array(rows, float).T
    numbers = np.unique(patients, return_inverse=True)[1]
    if min(len(set(patients[y == 1])), len(set(patients[y == 0]))) < 2:
        return
    area, variance = auroc_variance(y, p, numbers)
    assert (area, variance) == pytest.approx(counted(y, p, patients), abs=1e-12)
    assert area == pytest.approx(roc_auc_score(y, p))


def test_with_one_slide_per_patient_it_is_delongs_own():
    rng = np.random.default_rng(1)
    y = np.r_[np.ones(25), np.zeros(40)]
    p = (rng.normal(size=65) + y).round(1)
    area, variance = auroc_variance(y, p, np.arange(65))
    assert variance == pytest.approx(classic(y, p))
    found = delong(y, p, np.arange(65), 0.95)
    reach = norm.ppf(0.975) * np.sqrt(variance) / (area * (1 - area))
    ends = [1 / (1 + np.exp(-(np.log(area / (1 - area)) + side * reach))) for side in (-1, 1)]
    assert [found.value, found.ci_low, found.ci_high] == pytest.approx([area, *ends])
    assert placements(y, p)[y == 1].mean() == pytest.approx(placements(y, p)[y == 0].mean())


def test_copies_of_slides_under_the_same_patient_do_not_narrow_the_interval():
    rng = np.random.default_rng(3)
    y = np.r_[np.ones(20), np.zeros(30)]
    p, patients = rng.normal(size=50) + y, np.arange(50)
    single = delong(y, p, patients, 0.95)
    copied = delong(np.repeat(y, 4), np.repeat(p, 4), np.repeat(patients, 4), 0.95)
    assert (copied.ci_low, copied.ci_high) == pytest.approx((single.ci_low, single.ci_high))
    as_rows = delong(np.repeat(y, 4), np.repeat(p, 4), np.arange(200), 0.95)
    assert as_rows.ci_high - as_rows.ci_low < 0.6 * (single.ci_high - single.ci_low)


def test_the_variance_is_that_of_repeated_studies_of_clustered_slides():
    rng = np.random.default_rng(5)
    areas, variances = [], []
    patients = np.repeat(np.arange(40), 3)
    for _ in range(400):
        y = (rng.uniform(size=120) < 0.4).astype(float)
        p = y + rng.normal(size=120) + 1.5 * rng.normal(size=40)[patients]
        area, variance = auroc_variance(y, p, patients)
        areas.append(area)
        variances.append(variance)
    assert np.mean(variances) == pytest.approx(np.var(areas), rel=0.2)


@pytest.mark.parametrize(
    ("y", "p", "patients", "value", "reason"),
    [
        ([0, 0, 1, 1], [1, 2, 3, 4], "abcd", 1.0, "no interval: the AUROC is 1"),
        ([1, 1, 0, 0], [1, 2, 3, 4], "abcd", 0.0, "no interval: the AUROC is 0"),
        ([1, 1, 0, 0], [1, 3, 2, 4], "aabb", 0.25, "no interval: 2 patients"),
        ([1, 0, 0, 0], [2, 1, 3, 0], "abcd", 2 / 3, "no interval: fewer than two patients of a class"),
        ([1, 1, 1], [2, 1, 3], "abc", None, "one class only"),
        ([], [], "", None, "no rows"),
    ],
)
def test_without_a_variance_the_interval_is_blank_with_its_reason(y, p, patients, value, reason):
    found = delong(y, p, list(patients), 0.95)
    assert found.value == (None if value is None else pytest.approx(value))
    assert (found.ci_low, found.ci_high, found.undefined_reason) == (None, None, reason)


OVARIAN = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1  3.8 5.7 5 1
3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0
4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1
4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1
2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""
"""Albumin, total protein, K-G score (high is bad) and outcome of the 43 complete patients of DeLong et al. (1988)."""


def components(y, p) -> tuple[np.ndarray, np.ndarray]:
    """The structural components of both classes, pair by pair."""
    matrix = np.array([[kernel(a, b) for b in p[y == 0]] for a in p[y == 1]])
    return matrix.mean(1), matrix.mean(0)


def test_the_ovarian_patients_of_the_paper_are_tested_by_its_formulas():
    albumin, protein, score, y = np.array(OVARIAN.split(), float).reshape(-1, 4).T
    tests = [albumin, protein, 10 - score]
    of_cases, of_others = (np.array(part) for part in zip(*(components(y, p) for p in tests), strict=True))
    expected = np.cov(of_cases) / of_cases.shape[1] + np.cov(of_others) / of_others.shape[1]
    patients = np.arange(len(y))
    areas, covariance = auroc_covariance(y, np.stack(tests), patients)
    assert areas == pytest.approx([685 / 930, 602.5 / 930, 675 / 930], abs=1e-12)
    assert covariance == pytest.approx(expected, abs=1e-14)
    for first, second in ((0, 2), (1, 2), (0, 1)):
        gap = np.eye(3)[first] - np.eye(3)[second]
        z = gap @ areas / np.sqrt(gap @ expected @ gap)
        assert delong_p(y, tests[first], tests[second], patients) == pytest.approx(2 * norm.sf(abs(z)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), *[st.integers(0, 5)] * 3), min_size=6, max_size=30))
def test_the_variance_of_a_difference_is_that_of_all_pairs_by_patient(rows):
    y, first, second, patients = np.array(rows, float).T
    numbers = np.unique(patients, return_inverse=True)[1]
    if min(len(set(patients[y == 1])), len(set(patients[y == 0]))) < 2:
        return
    _, covariance = auroc_covariance(y, np.stack([first, second]), numbers)
    # The components of the difference are the differences of the components: one variance, without any covariance.
    own, other = components(y, first), components(y, second)
    parts = []
    for rows_of, a, b in ((y == 1, own[0], other[0]), (y == 0, own[1], other[1])):
        gap = (a - b) - (a - b).mean()
        there = len(set(patients[rows_of]))
        parts.append((np.array([gap[numbers[rows_of] == k].sum() for k in range(numbers.max() + 1)]) / len(gap), there))
    (a, k10), (b, k01) = parts
    k = numbers.max() + 1
    expected = k10 / (k10 - 1) * a @ a + k01 / (k01 - 1) * b @ b + 2 * k / (k - 1) * a @ b
    assert covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1] == pytest.approx(expected, abs=1e-12)


def test_p_values_are_uniform_where_two_scores_are_equally_good_and_small_where_not():
    rng = np.random.default_rng(4)
    y = np.repeat([1.0, 0.0], 40)
    equal, worse = [], []
    for _ in range(300):
        common = rng.normal(size=80) + y
        first, second = (common + rng.normal(size=80) for _ in range(2))
        equal.append(delong_p(y, first, second, np.arange(80)))
        worse.append(delong_p(y, common + 3 * rng.normal(size=80), common, np.arange(80)))
    assert 0.02 < np.mean(np.array(equal) < 0.05) < 0.09
    assert 0.42 < np.mean(np.array(equal) < 0.5) < 0.58
    assert np.mean(np.array(worse) < 0.05) > 0.6


def test_slides_of_one_patient_count_as_that_patient():
    rng = np.random.default_rng(6)
    y = np.repeat([1.0, 0.0], 15)
    first, second = (rng.normal(size=30) + y for _ in range(2))
    alone = delong_p(y, first, second, np.arange(30))
    copied = delong_p(np.tile(y, 4), np.tile(first, 4), np.tile(second, 4), np.tile(np.arange(30), 4))
    assert copied == pytest.approx(alone, rel=1e-9)
    assert delong_p(np.tile(y, 4), np.tile(first, 4), np.tile(second, 4), np.arange(120)) < alone


def test_the_test_says_when_there_is_nothing_to_test():
    y, p = np.array([1.0, 1, 0, 0]), np.array([4.0, 3, 2, 1])
    assert delong_p(y, p, 2 * p, np.arange(4)) == 1
    assert delong_p(np.ones(4), p, p, np.arange(4)) is None
    assert delong_p(y, p, p[::-1], [0, 0, 1, 1]) is None
    # One patient only of class 1.
    assert delong_p(y, p, p[::-1], [0, 0, 1, 2]) is None
