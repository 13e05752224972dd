"""Agreement with a label: the analysis of variance behind the intraclass correlation, and scikit-learn's R2."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from slidestudy.agreement_statistics import concordance, determination, intraclass_correlation

rows = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=4, max_size=40)


def once(statistic, y, p):
    y, p = np.asarray(y, float), np.asarray(p, float)
    return float(statistic(y, p, np.ones((1, len(y))))[0])


def by_analysis_of_variance(*raters) -> float:
    """ICC(A,1) of McGraw and Wong (1996) from mean squares, summed cell by cell."""
    table = [[float(cell) for cell in row] for row in zip(*raters, strict=True)]
    n, k = len(table), len(raters)
    grand = sum(sum(row) for row in table) / (n * k)
    of_rows = [sum(row) / k for row in table]
    of_raters = [sum(row[j] for row in table) / n for j in range(k)]
    between_rows = sum(k * (mean - grand) ** 2 for mean in of_rows) / (n - 1)
    between_raters = sum(n * (mean - grand) ** 2 for mean in of_raters) / (k - 1)
    rest = sum((table[i][j] - of_rows[i] - of_raters[j] + grand) ** 2 for i in range(n) for j in range(k))
    rest /= (n - 1) * (k - 1)
    return (between_rows - rest) / (between_rows + (k - 1) * rest + k / n * (between_raters - rest))


def test_the_published_example_of_shrout_and_fleiss():
    """The definition gives their 0.29 of four judges; two of them, and all values shifted, which changes nothing."""
    judges = [9, 6, 8, 7, 10, 6], [2, 1, 4, 1, 5, 2], [5, 3, 6, 2, 6, 4], [8, 2, 8, 6, 9, 7]
    assert by_analysis_of_variance(*judges) == pytest.approx(0.29, abs=0.005)
    first, second = judges[0], judges[1]
    expected = by_analysis_of_variance(first, second)
    assert once(intraclass_correlation, first, second) == pytest.approx(expected)
    moved = np.array(first) + 1e5, np.array(second) + 1e5
    assert once(intraclass_correlation, *moved) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=80, deadline=None)
@given(rows, st.integers(0, 2**32 - 1))
def test_weights_mean_repeated_rows_and_agree_with_the_definitions(pairs, seed):
    y, p = np.array(pairs, float).T
    weights = np.random.default_rng(seed).integers(0, 4, len(y)).astype(float)
    again = np.repeat(np.arange(len(y)), weights.astype(int))
    if len(again) < 2 or np.ptp(y[again]) == 0:
        return
    of_drawn = {s: float(s(y, p, weights[None])[0]) for s in (intraclass_correlation, determination, concordance)}
    assert of_drawn[intraclass_correlation] == pytest.approx(by_analysis_of_variance(y[again], p[again]), abs=1e-9)
    assert of_drawn[determination] == pytest.approx(metrics.r2_score(y[again], p[again]), abs=1e-9)
    for statistic, value in of_drawn.items():
        assert value == pytest.approx(once(statistic, y[again], p[again]), abs=1e-9)


def test_the_limits_are_reached():
    y = np.arange(10.0)
    assert once(intraclass_correlation, y, y) == pytest.approx(1)
    assert once(determination, y, y) == pytest.approx(1)
    assert once(determination, y, np.full(10, y.mean())) == pytest.approx(0)
    assert once(determination, y, -y) < -1
    # A shift leaves the correlation at 1, the agreement not.
    assert once(intraclass_correlation, y, y + 5) < 0.5


def test_a_constant_label_is_undefined():
    for statistic in (intraclass_correlation, determination, concordance):
        assert np.isnan(once(statistic, [3, 3, 3], [1, 2, 3]))
