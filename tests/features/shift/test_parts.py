"""Nearest neighbours, weighted quantiles, splits and the distance of stain."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist
from scipy.spatial.distance import mahalanobis as scipy_mahalanobis
from tests.features.shift.made_shift import SETTINGS

from slidestudy.features.scheduling import on
from slidestudy.features.shift import neighbours
from slidestudy.features.shift.acquisition import mahalanobis
from slidestudy.features.shift.neighbours import nearest_distances
from slidestudy.features.shift.sides import SPLITS, Counted, Sides, weighted_quantile


def test_the_nearest_neighbour_is_that_of_a_full_search_among_other_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    tiles, reference = (rng.normal(size=(n, 6)).astype(np.float32) for n in (90, 70))
    patients, owners = rng.integers(0, 8, 90), rng.integers(0, 8, 70)
    expected = cdist(tiles, reference)
    expected[patients[:, None] == owners] = np.inf
    monkeypatch.setattr(neighbours, "BLOCK_VALUES", 700)
    with on("threads", 2):
        found = nearest_distances(tiles, patients, reference, owners)
    np.testing.assert_allclose(found, expected.min(1), rtol=1e-5)


def test_without_other_patients_the_nearest_is_infinitely_far() -> None:
    one = np.zeros((2, 3), np.float32)
    with on("threads"):
        assert np.isinf(nearest_distances(one, np.zeros(2, int), one, np.zeros(2, int))).all()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.95, 1.0])
def test_a_weighted_quantile_is_that_of_repeated_values(share: float) -> None:
    rng = np.random.default_rng(1)
    values, weights = rng.normal(size=9), rng.integers(0, 4, (20, 9)).astype(float)
    expected = [np.quantile(np.repeat(values, row.astype(int)), share) for row in weights]
    np.testing.assert_allclose(weighted_quantile(values, weights, share), expected)
    assert np.isnan(weighted_quantile(values, np.zeros((1, 9)), share)).all()


def sides(own: int, other: int) -> Sides:
    """Two slides of each of so many patients."""
    tables = [
        pd.DataFrame({"patient_id": [f"{side}{i // 2}" for i in range(2 * n)]})
        for side, n in (("n", own), ("s", other))
    ]
    return Sides.of(*tables, SETTINGS)


def counted(own: int, other: int) -> Counted:
    """All slides of both sides."""
    return Counted(sides(own, other), np.ones(2 * own, bool), np.ones(2 * other, bool))


def test_splits_keep_patients_whole_and_are_as_uneven_as_the_cohorts() -> None:
    larger, smaller = counted(10, 3).splits()
    assert larger.shape == smaller.shape == (SPLITS, 20)
    assert (larger + smaller == 1).all()
    assert (smaller[:, ::2] == smaller[:, 1::2]).all()
    assert (smaller.sum(1) == 6).all()
    assert len(np.unique(smaller, axis=0)) > 50
    assert (counted(10, 40).splits()[1].sum(1) == 10).all()
    assert counted(3, 3).splits()[0].shape == (0, 6)
    assert counted(3, 3).expected(np.zeros(0)).value is None


@pytest.mark.parametrize("other", [8, 20, 60])
def test_what_splits_give_is_what_cohorts_of_these_sizes_give_where_nothing_is_shifted(other: int) -> None:
    rng = np.random.default_rng(7)

    def squares(n: int, m: int) -> float:
        """Squared distance of the means of two random cohorts."""
        return float((((rng.normal(size=(n, 5))).mean(0) - rng.normal(size=(m, 5)).mean(0)) ** 2).sum())

    found = counted(20, other)
    means = rng.normal(size=(400, 20, 5))
    larger, smaller = (part[:, ::2] for part in found.splits())
    gaps = [larger @ own / larger.sum(1)[:, None] - smaller @ own / smaller.sum(1)[:, None] for own in means]
    expected = np.mean([found.expected((gap**2).sum(1)).value for gap in gaps])
    assert expected == pytest.approx(np.median([squares(20, other) for _ in range(4000)]), rel=0.07)


def test_development_and_external_patients_are_drawn_apart() -> None:
    found = sides(10, 10)
    own = found.development_draws.weights(found.development["patient_id"])
    other = found.external_draws.weights(found.external["patient_id"])
    assert not np.array_equal(own, other)


def test_the_distance_of_stain_is_that_of_mahalanobis() -> None:
    rng = np.random.default_rng(2)
    own, other = rng.normal(size=(40, 3)), rng.normal(1, 1, (10, 3))
    expected = scipy_mahalanobis(other.mean(0), own.mean(0), np.linalg.inv(np.cov(own.T)))
    assert mahalanobis(own, np.ones((1, 40)), other, np.ones((1, 10)))[0] == pytest.approx(expected)
    assert np.isnan(mahalanobis(own[:4], np.ones((1, 4)), other, np.ones((1, 10)))).all()
