"""Faithfulness: exact on models of which the right map is known, and above chance only for maps that are right."""

from __future__ import annotations

import numpy as np
import pytest
from tests.explanations.attribution.doubles import Reads, bright_encoder, planted, scorer_of

from slidestudy.explanations.attribution.faithfulness import (
    infidelity,
    insertion_tiles,
    mean_height,
    measure_maps,
    random_squares,
)
from slidestudy.explanations.attribution.grad_cam import grad_cam_maps
from slidestudy.explanations.attribution.maps import Maps
from slidestudy.explanations.attribution.occlusion import occlusion_maps

SETTINGS = {"steps": 8, "perturbations": 24, "seed": 5}


def by_measure(rows, target="output"):
    """Measure -> values and random values of all patches."""
    found = {}
    for measure in ("insertion", "deletion", "infidelity"):
        part = [row for row in rows if (row.target, row.measure) == (target, measure)]
        found[measure] = np.array([[row.value, row.random] for row in part])
    return found


def test_pixels_come_from_the_highest_on_and_all_have_come_at_the_end():
    grid = np.array([[3.0, 1], [2, 4]], np.float32)
    tile, blank = np.full((2, 2, 3), 9, np.uint8), np.zeros((2, 2, 3), np.uint8)
    shown = insertion_tiles(tile, blank, grid, 4)[..., 0]
    expected = [[[0, 0], [0, 0]], [[0, 0], [0, 9]], [[9, 0], [0, 9]], [[9, 0], [9, 9]], [[9, 9], [9, 9]]]
    assert shown.tolist() == expected


def test_the_area_of_a_straight_line_is_half_its_height():
    assert mean_height(np.linspace(0, 3, 7)) == pytest.approx(1.5)
    assert mean_height(np.full(5, -2.0)) == pytest.approx(-2)


def test_infidelity_is_nothing_for_a_map_in_proportion_and_all_for_one_that_says_the_opposite():
    falls = np.array([1.0, -2, 0.5, 3])
    assert infidelity(7 * falls, falls) == pytest.approx(0)
    assert infidelity(-falls, falls) == 1
    assert infidelity(np.zeros(4), falls) == 1
    assert 0 < infidelity(falls + np.array([1, 1, 0, -1]), falls) < 1
    assert np.isnan(infidelity(falls, np.zeros(4)))


def test_squares_lie_within_the_patch():
    squares = random_squares(50, 500, np.random.default_rng(0))
    assert (squares[:, :2] >= 0).all()
    assert (squares[:, 0] + squares[:, 2] <= 50).all()
    assert (squares[:, 1] + squares[:, 2] <= 50).all()
    assert squares[:, 2].min() >= 5
    assert squares[:, 2].max() <= 20


@pytest.mark.parametrize("method", [grad_cam_maps, lambda scorer: occlusion_maps(scorer, 0.2, 0.1)])
def test_the_right_map_beats_the_random_one_in_every_measure(monkeypatch, method):
    scorer = scorer_of(bright_encoder(monkeypatch), [Reads(1, 10.0)], planted(6))
    found = by_measure(measure_maps(scorer, method(scorer), np.arange(6), SETTINGS))
    insertion, deletion, lost = (found[name] for name in ("insertion", "deletion", "infidelity"))
    assert (insertion[:, 0] > insertion[:, 1]).all()
    assert (deletion[:, 0] < deletion[:, 1]).all()
    assert lost[:, 0].mean() < 0.5 < lost[:, 1].mean()


def test_a_map_of_nothing_is_no_better_than_the_random_one(monkeypatch):
    scorer = scorer_of(bright_encoder(monkeypatch), [Reads(1, 10.0)], planted(12))
    right = grad_cam_maps(scorer)
    noise = np.random.default_rng(8).standard_normal(right.raw["output"].shape).astype(np.float32)
    maps = Maps("gradcam", "", {"output": noise}, {}, right.spread)
    rows = measure_maps(scorer, maps, np.arange(12), SETTINGS)
    gained = np.subtract(*by_measure(rows)["insertion"].T)
    best = np.subtract(*by_measure(measure_maps(scorer, right, np.arange(12), SETTINGS))["insertion"].T)
    assert abs(gained.mean()) < 0.4 * best.mean()


def test_a_patch_is_measured_alike_with_or_without_the_others(monkeypatch):
    scorer = scorer_of(bright_encoder(monkeypatch), [Reads(1)], planted(3))
    maps = grad_cam_maps(scorer)
    everything = measure_maps(scorer, maps, np.arange(3), SETTINGS)
    assert [row for row in everything if row.patch == 2] == measure_maps(scorer, maps, np.array([2]), SETTINGS)
