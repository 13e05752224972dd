"""Nearest neighbours and collapse: known answers, and a network that really has collapsed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features.pretraining.toys import SIZE, recipe, spec, toy_tiles

from slidestudy.errors import StudyError
from slidestudy.features.pretraining import training
from slidestudy.features.pretraining.backbone import Backbone
from slidestudy.features.pretraining.checks import (
    Check,
    Checker,
    class_from_others,
    effective_rank,
    feature_spread,
    own_tile_found,
    refuse_collapse,
)
from slidestudy.features.pretraining.training import train_encoder
from slidestudy.features.pretraining.views import Views

RNG = np.random.default_rng(0)


def test_features_all_over_the_sphere_have_a_spread_of_one_and_full_rank() -> None:
    features = RNG.normal(size=(4000, 16))
    assert feature_spread(features) == pytest.approx(1, abs=0.02)
    assert effective_rank(features) == pytest.approx(16, abs=0.2)


def test_equal_features_have_no_spread_and_no_rank() -> None:
    features = np.tile(RNG.normal(size=16), (50, 1))
    assert feature_spread(features) == pytest.approx(0, abs=1e-9)
    assert effective_rank(features) == 0


@settings(max_examples=20, deadline=None)
@given(rank=st.integers(2, 8), shift=st.floats(0, 3), seed=st.integers(0, 100))
def test_the_effective_rank_does_not_exceed_the_rank(rank: int, shift: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(60, rank)) @ rng.normal(size=(rank, 16))
    # Scaling to length 1 and centring move the cloud into one more dimension at most.
    assert effective_rank(features + shift) <= rank + 2


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0.01, 100))
def test_the_measures_do_not_depend_on_the_scale_of_the_features(scale: float) -> None:
    features = np.random.default_rng(1).normal(size=(40, 8))
    assert feature_spread(features * scale) == pytest.approx(feature_spread(features))
    assert effective_rank(features * scale) == pytest.approx(effective_rank(features))


def test_classes_that_lie_apart_are_told_from_other_patients() -> None:
    classes = np.array(["a", "b"] * 20)
    patients = np.array([f"p{i // 4}" for i in range(40)])
    features = np.where(classes == "a", 1.0, -1.0)[:, None] * np.ones(8) + RNG.normal(0, 0.1, (40, 8))
    assert class_from_others(features, classes, patients, 5) == 1


def test_the_patients_own_tiles_do_not_vote() -> None:
    # Every patient has a place and a class of its own: only its own tiles could tell the class.
    patients = np.repeat([f"p{i}" for i in range(6)], 5)
    classes = np.repeat(["a", "b", "a", "b", "a", "b"], 5)
    features = np.repeat(np.eye(6), 5, axis=0) + RNG.normal(0, 0.01, (30, 6))
    assert class_from_others(features, classes, patients, 3) < 0.9
    assert class_from_others(features, classes, np.arange(30).astype(str), 3) == 1


def test_tiles_without_a_class_are_left_out() -> None:
    classes = np.array(["a", "b"] * 10)
    features = np.where(classes == "a", 1.0, -1.0)[:, None] * np.ones(4) + RNG.normal(0, 0.1, (20, 4))
    blank = np.r_[classes, np.full(10, "")]
    more = np.r_[features, RNG.normal(size=(10, 4))]
    assert class_from_others(more, blank, np.arange(30).astype(str), 3) == 1


@pytest.mark.parametrize(("classes", "patients"), [(["a"] * 4, list("1234")), (["a", "b"] * 2, ["1"] * 4)])
def test_one_class_or_one_patient_tells_nothing(classes: list[str], patients: list[str]) -> None:
    assert np.isnan(class_from_others(RNG.normal(size=(4, 3)), np.array(classes), np.array(patients), 2))


def test_a_view_is_counted_where_its_own_tile_is_nearest() -> None:
    features = np.eye(4)
    views = features[[0, 1, 3, 2]]
    assert own_tile_found(features, features) == 1
    assert own_tile_found(features, views) == 0.5


def test_checks_leave_the_training_draws_and_the_mode_alone() -> None:
    tiles, backbone = toy_tiles(), Backbone(spec(), "none", 1).train()
    checker = Checker(tiles, SIZE, Views(SIZE, (0.5, 1)), check_label=None, neighbours=3, seed=1)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    found = checker(backbone)
    assert torch.equal(torch.rand(3), expected)
    assert backbone.training
    assert found == checker(backbone)


def test_a_network_whose_features_are_all_the_same_is_collapsed() -> None:
    backbone = Backbone(spec(), "none", 1)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.zero_()
    checker = Checker(toy_tiles(), SIZE, Views(SIZE, (0.5, 1)), check_label=None, neighbours=3, seed=1)
    with pytest.raises(StudyError, match=r"collapsed at epoch 3 .*\n.*learning_rate"):
        refuse_collapse(checker(backbone), 3, "toy")


@pytest.mark.parametrize(
    "check",
    [Check(0.5, 1e-5, 20), Check(0.5, 0.5, 1.01), Check(0.5, float("nan"), 20), Check(0.5, 0.5, float("nan"))],
)
def test_constant_one_dimensional_and_broken_features_are_collapsed(check: Check) -> None:
    with pytest.raises(StudyError, match="collapsed"):
        refuse_collapse(check, 1, "toy")


def test_a_sound_encoder_is_not_collapsed() -> None:
    refuse_collapse(Check(0.0, 0.1, 5.0), 1, "toy")


def test_training_ends_when_the_network_collapses(monkeypatch: pytest.MonkeyPatch) -> None:
    class Attraction(training.SimClr):
        """Views are drawn together and nothing holds tiles apart: the loss that is known to collapse."""

        def step(self, views: list[torch.Tensor]) -> torch.Tensor:
            first, second = (self.backbone(view) for view in views)
            return (first**2).mean() + (second**2).mean() + (first - second).pow(2).mean()

    monkeypatch.setitem(training.METHODS, "simclr", Attraction)
    monkeypatch.setattr(training, "SETTLED_STEPS", 8)
    steps: list[str] = []
    options = recipe("simclr", epochs=60, check_every=4, learning_rate=0.05)
    with pytest.raises(StudyError, match="collapsed at epoch"):
        train_encoder(toy_tiles(), spec(), options, 1, steps.append)
    assert len(steps) < 60
