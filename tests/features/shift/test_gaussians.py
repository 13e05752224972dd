"""Fréchet distances: known values, and sums over slides that equal the tiles themselves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from slidestudy.features.components import moments_of
from slidestudy.features.shift.gaussians import basis_of, frechet, frechet_squared, join, sums_of


def covariance(rng: np.random.Generator, k: int, rank: int | None = None) -> np.ndarray:
    root = rng.normal(size=(k, rank or k))
    return root @ root.T


def test_the_distance_of_gaussians_along_one_axis_is_that_of_means_and_deviations() -> None:
    # N(0, 4) and N(3, 25): 3^2 + (2 - 5)^2.
    found = frechet_squared(np.zeros((1, 1)), np.full((1, 1, 1), 4.0), np.full((1, 1), 3.0), np.full((1, 1, 1), 25.0))
    assert found.tolist() == pytest.approx([18])


@pytest.mark.parametrize("rank", [None, 2])
def test_the_distance_is_that_of_matrix_square_roots_also_where_a_covariance_is_singular(rank: int | None) -> None:
    rng = np.random.default_rng(0)
    a, b, gap = covariance(rng, 5, rank), covariance(rng, 5), rng.normal(size=5)
    root = sqrtm(a + 1e-12 * np.eye(5))
    expected = gap @ gap + np.trace(a + b - 2 * np.real(sqrtm(root @ b @ root)))
    found = frechet_squared(np.zeros((1, 5)), a[None], gap[None], b[None])
    assert found[0] == pytest.approx(expected, rel=1e-4)
    same = frechet_squared(gap[None], a[None], gap[None], a[None])
    assert same[0] == pytest.approx(0, abs=1e-6)


def test_weights_stand_for_slides_that_are_drawn_more_than_once() -> None:
    rng = np.random.default_rng(1)
    slides = [rng.normal(i, 1 + i, (30 + i, 4)) for i in range(4)]
    basis = basis_of(moments_of(np.concatenate(slides[:2])), [moments_of(np.concatenate(slides[2:]))])
    sums = [sums_of(slide, basis) for slide in slides]
    weighted = frechet(join(sums[:2]), np.array([[2.0, 1.0]]), join(sums[2:]), np.array([[1.0, 3.0]]), 1.0)
    own, other = (basis.project(np.concatenate(t)) for t in ((slides[0], *slides[:2]), (slides[2], *[slides[3]] * 3)))
    expected = frechet_squared(own.mean(0)[None], np.cov(own.T)[None], other.mean(0)[None], np.cov(other.T)[None])
    assert weighted == pytest.approx(expected)


def test_all_components_together_keep_distances_of_standardised_features() -> None:
    rng = np.random.default_rng(2)
    own, other = rng.normal(size=(200, 5)) * [1, 10, 100, 1, 1], rng.normal(2, 1, (100, 5))
    basis = basis_of(moments_of(own), [moments_of(other)])
    assert basis.share == pytest.approx(1)
    gap = (other[0] - own[0]) / own.std(0, ddof=1)
    moved = basis.project(other[:1]) - basis.project(own[:1])
    assert np.linalg.norm(moved) == pytest.approx(np.linalg.norm(gap))


def test_a_shift_where_development_hardly_varies_is_among_the_components() -> None:
    rng = np.random.default_rng(3)
    own = rng.normal(size=(400, 10))
    # Development tiles lie in a plane but for noise; the external ones beside it.
    own[:, 9] = own[:, 8] + 0.01 * rng.normal(size=400)
    other = rng.normal(size=(400, 10))
    other[:, 9] = other[:, 8] + 6
    basis = basis_of(moments_of(own), [moments_of(other)], most=3)
    gap = basis.project(other).mean(0) - basis.project(own).mean(0)
    assert np.linalg.norm(gap) > 4


def test_a_feature_that_never_varies_is_no_division_by_zero() -> None:
    own, other = np.ones((20, 3)), np.ones((10, 3))
    own[:, 0] = np.arange(20)
    other[:, 1] = np.arange(10)
    basis = basis_of(moments_of(own), [moments_of(other)])
    assert np.isfinite(basis.project(other)).all()
    assert basis.scale[2] == 1
