"""Bags: what of a feature store a model sees, and the moments that features are scaled by."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.errors import StudyError
from slidestudy.models.bags import feature_moments, read_bag
from tests.models.builders import make_bag, write_store


def test_tiles_that_could_not_be_decoded_are_not_in_the_bag(tmp_path):
    features = np.arange(24, dtype=float).reshape(8, 3)
    readable = np.array([1, 1, 0, 1, 0, 1, 1, 1], bool)
    features[~readable] = np.nan
    bag = read_bag(write_store(tmp_path / "a.zarr", features, readable), "a", "r1")
    assert torch.equal(bag.features, torch.from_numpy(features[readable].astype(np.float16)))
    assert bag.coords.tolist() == [[128 * (i % 5), 128 * (i // 5)] for i in np.flatnonzero(readable)]
    assert len(bag.tissue_fraction) == 6


def test_features_of_another_recipe_are_refused(tmp_path):
    path = write_store(tmp_path / "a.zarr", np.ones((3, 2)), recipe="r2")
    with pytest.raises(StudyError, match="made by recipe r2, the model needs r1"):
        read_bag(path, "a", "r1")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(0, 10**6))
def test_every_slide_weighs_the_same_whatever_its_number_of_tiles(sizes, seed):
    rng = np.random.default_rng(seed)
    arrays = [(rng.normal(size=(n, 4)) * 3 + rng.normal(size=4)).astype(np.float16) for n in sizes]
    mean, deviation = feature_moments(make_bag(a).features for a in arrays)
    weights = np.concatenate([np.full(len(a), 1 / len(a)) for a in arrays])
    tiles = np.concatenate(arrays).astype(float)
    expected = np.average(tiles, axis=0, weights=weights)
    spread = np.sqrt(np.average((tiles - expected) ** 2, axis=0, weights=weights))
    np.testing.assert_allclose(mean.numpy(), expected, rtol=1e-5, atol=1e-6)
    varied = spread > 2e-3 * np.abs(expected) + 2e-7
    np.testing.assert_allclose(deviation.numpy()[varied], spread[varied], rtol=1e-4)


def test_a_slide_with_a_hundred_times_the_tiles_does_not_move_the_mean():
    mean, _ = feature_moments([torch.zeros(1000, 2).half(), torch.full((10, 2), 4.0).half()])
    assert mean.tolist() == [2.0, 2.0]


def test_a_constant_feature_is_not_blown_up():
    mean, deviation = feature_moments([torch.full((5, 2), 7.3).half(), torch.full((9, 2), 7.3).half()])
    assert mean.numpy() == pytest.approx(7.3, rel=1e-3)
    assert deviation.tolist() == [1.0, 1.0]


def test_moments_of_float32_and_of_slides_longer_than_a_chunk_are_the_same(monkeypatch):
    slides = [torch.randn(50, 3).half(), torch.randn(7, 3).half()]
    expected = feature_moments(slides)
    monkeypatch.setattr("slidestudy.models.bags.CHUNK_TILES", 8)
    for found in (feature_moments(slides), feature_moments(s.float() for s in slides)):
        assert all(torch.allclose(a, b, rtol=1e-6) for a, b in zip(found, expected, strict=True))


def test_moments_of_nothing_are_refused():
    with pytest.raises(ValueError, match="no slides"):
        feature_moments([])
