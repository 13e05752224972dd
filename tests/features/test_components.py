"""Moments, shift and principal components, against the same computed in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from tests.features.planted import three_cohorts

from slidestudy.features import components
from slidestudy.features.cohorts import open_cohort
from slidestudy.features.components import (
    Moments,
    cohort_moments,
    components_table,
    merge_moments,
    moments_of,
    moments_table,
    principal_components,
    shift_table,
    standardised_difference,
)
from slidestudy.features.scheduling import on
from slidestudy.features.store import read_features


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return three_cohorts(tmp_path_factory.mktemp("stores"))


@pytest.fixture(scope="module")
def moments(paths: list[Path]) -> dict[str, Moments]:
    with on("threads", threads=2):
        return cohort_moments(open_cohort(paths))


def in_memory(paths: list[Path], cohort: str | None = None) -> np.ndarray:
    stores = [read_features(path) for path in paths if cohort in (None, path.parent.name)]
    return np.concatenate([store.features for store in stores]).astype(np.float64)


def test_moments_equal_those_in_memory(paths: list[Path], moments: dict[str, Moments]) -> None:
    assert list(moments) == ["north", "south", "west"]
    for cohort, found in moments.items():
        values = in_memory(paths, cohort)
        assert found.n == len(values)
        np.testing.assert_allclose(found.mean, values.mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.variance, values.var(0, ddof=1), rtol=1e-12)


def test_the_order_of_the_stores_does_not_matter(paths: list[Path], moments: dict[str, Moments]) -> None:
    with on("threads"):
        back = cohort_moments(open_cohort(paths[::-1]))
    assert list(back) == list(moments)
    for name, found in back.items():
        np.testing.assert_allclose(found.scatter, moments[name].scatter, rtol=1e-10, atol=1e-8)


def test_the_number_of_threads_does_not_change_a_bit(paths: list[Path], moments: dict[str, Moments]) -> None:
    with on("threads", threads=1):
        again = cohort_moments(open_cohort(paths))
    for name, found in again.items():
        np.testing.assert_array_equal(found.scatter, moments[name].scatter)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 2**31), st.floats(-1e4, 1e4))
def test_merged_moments_are_those_of_the_union(sizes: list[int], seed: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    parts = [offset + rng.normal(size=(size, 3)) for size in sizes]
    merged, whole = merge_moments([moments_of(part) for part in parts]), np.concatenate(parts)
    assert merged.n == len(whole)
    np.testing.assert_allclose(merged.mean, whole.mean(0), rtol=1e-12, atol=1e-12)
    centred = whole - whole.mean(0)
    np.testing.assert_allclose(merged.scatter, centred.T @ centred, rtol=1e-9, atol=1e-8)


def test_rows_taken_in_turn_give_the_same_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(5, 1, (50, 4)).astype(np.float16)
    whole = moments_of(values)
    monkeypatch.setattr(components, "ROWS", 7)
    np.testing.assert_allclose(moments_of(values).scatter, whole.scatter, rtol=1e-12)


def test_components_equal_those_of_scikit_learn(paths: list[Path], moments: dict[str, Moments]) -> None:
    found = principal_components(merge_moments(list(moments.values())), 4)
    values = in_memory(paths)
    reference = PCA(n_components=4, svd_solver="full").fit(values)
    np.testing.assert_allclose(found.variance, reference.explained_variance_, rtol=1e-10)
    np.testing.assert_allclose(found.ratio, reference.explained_variance_ratio_, rtol=1e-10)
    signs = np.sign((found.axes * reference.components_).sum(1))
    np.testing.assert_allclose(found.axes, reference.components_ * signs[:, None], atol=1e-9)
    np.testing.assert_allclose(found.project(values), reference.transform(values) * signs, atol=1e-8)
    assert (found.axes.max(1) == np.abs(found.axes).max(1)).all()


def test_no_more_components_than_the_tiles_span() -> None:
    found = principal_components(moments_of(np.random.default_rng(0).normal(size=(4, 9))), 32)
    assert len(found.variance) == 3
    assert found.ratio.sum() == pytest.approx(1)


def test_tiles_that_do_not_differ_have_components_without_a_share() -> None:
    found = principal_components(moments_of(np.ones((5, 3))), 2)
    assert found.variance.tolist() == [0, 0]
    assert np.isnan(found.ratio).all()


def test_a_shift_of_known_size_is_found() -> None:
    # Means 2 apart, variances 1 and 3: 2 / sqrt(2). The second dimension does not differ; the third does not vary.
    a, b = (
        Moments(3, np.array([1.0, 5, 7]), np.diag([2.0, 2, 0])),
        Moments(4, np.array([3.0, 5, 8]), np.diag([9.0, 3, 0])),
    )
    difference = standardised_difference(a, b)
    np.testing.assert_allclose(difference[:2], [np.sqrt(2), 0])
    assert np.isnan(difference[2])
    (row,) = shift_table({"a": a, "b": b}).to_dict("records")
    assert (row["n_dimensions"], row["n_tiles_a"], row["n_tiles_b"]) == (2, 3, 4)
    assert row["maximum"] == pytest.approx(np.sqrt(2))
    assert row["median"] == pytest.approx(np.sqrt(0.5))
    assert row["share_shifted"] == 0.5


def test_an_undefined_shift_says_why() -> None:
    one = moments_of(np.ones((1, 2)))
    (row,) = shift_table({"a": one, "b": one}).to_dict("records")
    assert np.isnan(row["maximum"])
    assert row["undefined_reason"] == "no dimension varies in both cohorts"


def test_the_tables_have_one_row_per_dimension_and_component(moments: dict[str, Moments]) -> None:
    table = moments_table(moments)
    assert table.columns.tolist() == ["cohort", "dimension", "mean", "variance", "n_tiles"]
    assert table[table["cohort"] == "west"]["dimension"].tolist() == list(range(6))
    pca = components_table(principal_components(moments["west"], 3))
    assert pca["component"].tolist() == [1, 2, 3]
    assert shift_table(moments)[["cohort_a", "cohort_b"]].to_numpy().tolist() == [
        ["north", "south"], ["north", "west"], ["south", "west"],
    ]  # fmt: skip
