"""DeLong's variance by counting pairs, of clustered slides by Obuchowski's sums, and its limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from slidestudy.delong import auroc_variance, delong, placements

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
