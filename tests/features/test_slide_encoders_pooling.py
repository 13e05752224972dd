"""Pooling: the moments of a slide's patch features, whatever the order of the tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.features.stores import attributes

from slidestudy.errors import StudyError
from slidestudy.features.slide_encoders.building import build_slide_encoder
from slidestudy.features.store import FeatureStore

FEATURES = hnp.arrays(
    np.float16,
    st.tuples(st.integers(1, 20), st.integers(1, 6)),
    elements=st.floats(-1000, 1000, width=16),
)


def in_memory(features: npt.NDArray[Any], **changed: Any) -> FeatureStore:
    """A store of given features, its tiles in a row."""
    said = attributes()
    said["encoder"] = {**said["encoder"], "dim": features.shape[1]}
    coords = np.stack([512 * np.arange(len(features)), np.zeros(len(features))], 1).astype(np.int32)
    return FeatureStore(features.astype(np.float16), coords, np.ones(len(features), np.float32), {**said, **changed})


def pooled(backend: str, store: FeatureStore) -> npt.NDArray[np.float32]:
    spec = {"name": "pool", "backend": backend, "encoder": "toy", "weights": "none", "precision": "fp32"}
    encoder = build_slide_encoder(spec, store.attributes)
    vector = encoder.encode(store)
    assert vector.dtype == np.float32
    assert vector.shape == (encoder.identity.dim,)
    return vector


@settings(max_examples=80, deadline=None)
@given(FEATURES)
def test_the_mean_and_the_standard_deviation_are_those_of_float64(features):
    dim, exact = features.shape[1], features.astype(np.float64)
    vector = pooled("mean-std", in_memory(features))
    np.testing.assert_array_equal(vector[:dim], pooled("mean", in_memory(features)))
    np.testing.assert_allclose(vector[:dim], exact.mean(0), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(vector[dim:], np.sqrt(((exact - exact.mean(0)) ** 2).mean(0)), rtol=1e-4, atol=1e-3)


@settings(max_examples=80, deadline=None)
@given(FEATURES, st.integers(0, 100))
def test_the_order_of_the_tiles_does_not_matter(features, seed):
    shuffled = np.random.default_rng(seed).permutation(features)
    found, expected = pooled("mean-std", in_memory(shuffled)), pooled("mean-std", in_memory(features))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(FEATURES, st.integers(2, 4))
def test_tiles_that_occur_several_times_change_nothing_if_all_do(features, times):
    repeated = np.concatenate([features] * times)
    expected = pooled("mean-std", in_memory(features))
    np.testing.assert_allclose(pooled("mean-std", in_memory(repeated)), expected, rtol=1e-5, atol=1e-3)


def test_one_tile_is_its_own_mean_and_has_no_spread():
    np.testing.assert_array_equal(pooled("mean-std", in_memory(np.array([[1.5, -2]]))), [1.5, -2, 0, 0])


def test_a_slide_without_tiles_is_refused():
    with pytest.raises(StudyError, match="s1: has no tiles to pool"):
        pooled("mean", in_memory(np.zeros((0, 5))))


def test_mean_and_mean_std_have_different_identities():
    store = in_memory(np.ones((2, 3)))
    spec = {"name": "pool", "encoder": "toy", "weights": "none", "precision": "fp32"}
    mean, both = (build_slide_encoder({**spec, "backend": b}, store.attributes).identity for b in ("mean", "mean-std"))
    assert (mean.dim, both.dim) == (3, 6)
    assert mean.weights_digest != both.weights_digest
    assert mean.weights == "none needed (pooling)"
