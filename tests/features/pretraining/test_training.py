"""Self-supervised training: both methods learn, equal seeds give equal bytes, mistakes are told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.features.pretraining.toys import CNN, SIZE, VIT, recipe, spec, toy_tiles

from slidestudy.errors import StudyError
from slidestudy.features.pretraining.backbone import Backbone
from slidestudy.features.pretraining.distillation import LOCAL_VIEWS, Dino
from slidestudy.features.pretraining.optimisation import (
    Trained,
    apply_step,
    make_deterministic,
    memory_of,
    optimiser_of,
)
from slidestudy.features.pretraining.sampling import TileSet
from slidestudy.features.pretraining.training import METHODS, train_encoder


def quiet(line: str) -> None:
    """Tells nothing."""


def train(method: str, architecture: str = CNN, tiles: TileSet | None = None, seed: int = 1, **more: Any) -> Trained:
    return train_encoder(tiles or toy_tiles(), spec(architecture), recipe(method, **more), seed, quiet)


@pytest.mark.parametrize("architecture", [CNN, VIT])
@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_learns_a_batch_of_views(method: str, architecture: str) -> None:
    make_deterministic(1, 1)
    learner = METHODS[method](Backbone(spec(architecture), "none", 1), recipe(method)).eval()
    views = learner.views(torch.from_numpy(toy_tiles(4, 2).tiles).permute(0, 3, 1, 2))
    with torch.no_grad():
        # DINO's loss rises while its centre, which begins at 0, finds the teacher's mean.
        before = [float(learner.step(views)) for _ in range(40)][-1]
    optimiser, scheduler = optimiser_of(learner, recipe(method, epochs=12, warmup_epochs=0), 1)
    losses = [apply_step(learner.step(views), learner, optimiser, scheduler) for _ in range(12)]
    assert losses[0] == pytest.approx(before, rel=0.02)
    assert losses[-1] < before - 0.1


def test_the_loss_of_whole_tiles_falls_from_epoch_to_epoch() -> None:
    losses = train("simclr", epochs=5, learning_rate=0.003, check_every=9).history["loss"].dropna()
    assert len(losses) == 5
    assert losses.iloc[-1] < losses.iloc[0] - 0.1


@pytest.mark.parametrize("method", sorted(METHODS))
def test_classes_of_other_patients_are_told_after_training(method: str) -> None:
    history = train(method, epochs=3, check_label="spots", check_every=2).history
    checked = history["knn"].dropna()
    assert list(history.loc[checked.index, "epoch"]) == [0, 2, 3]
    assert checked.iloc[-1] > 0.8


def test_the_history_has_the_untrained_network_and_every_epoch() -> None:
    trained = train("simclr", tiles=toy_tiles(4, 4), epochs=5, check_every=2)
    history = trained.history
    assert list(history["epoch"]) == [0, 1, 2, 3, 4, 5]
    assert list(history.index[history["feature_spread"].notna()]) == [0, 2, 4, 5]
    assert np.isnan(history["loss"][0])
    assert history["learning_rate"].max() == pytest.approx(0.002)
    assert history["learning_rate"].iloc[-1] < 0.001
    assert trained.epoch == 5


@pytest.mark.parametrize("method", ["simclr", "dino"])
def test_equal_seeds_give_equal_weights_and_others_do_not(method: str) -> None:
    first, second, other = (train(method, tiles=toy_tiles(4, 4), epochs=1, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(first.state[k], second.state[k]) for k in first.state)
    assert first.history.equals(second.history)
    assert any(not torch.equal(first.state[k], other.state[k]) for k in first.state)


def test_dinos_teacher_is_what_is_kept_and_follows_the_student_slowly() -> None:
    backbone = Backbone(spec(), "none", 1)
    dino = Dino(backbone, recipe("dino"))
    with torch.no_grad():
        for parameter in dino.student.parameters():
            parameter.add_(1.0)
    before = [p.clone() for p in dino.encoder.parameters()]
    dino.after_step(0.0)
    moved = [float((b - a).mean()) for a, b in zip(before, dino.encoder.parameters(), strict=True)]
    assert moved == pytest.approx([0.01] * len(moved), abs=1e-4)
    dino.after_step(1.0)
    assert not any(p.requires_grad for p in dino.encoder.parameters())


def test_dino_sees_two_wide_and_several_narrow_views() -> None:
    dino = Dino(Backbone(spec(VIT), "none", 1), recipe("dino"))
    shapes = [view.shape[-1] for view in dino.views(torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8))]
    assert shapes == [SIZE, SIZE] + [SIZE // 2] * LOCAL_VIEWS


def test_narrow_views_keep_the_side_where_the_network_takes_no_other() -> None:
    fixed = Backbone({**spec(VIT), "arguments": {"img_size": SIZE, "dynamic_img_size": False}}, "none", 1)
    views = Dino(fixed, recipe("dino")).views(torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8))
    assert {view.shape[-1] for view in views} == {SIZE}


def test_published_weights_are_half_precision_and_fit_the_architecture() -> None:
    state = train("simclr", tiles=toy_tiles(4, 4), epochs=1).state
    assert {v.dtype for v in state.values() if v.is_floating_point()} == {torch.float16}
    network = Backbone(spec(), "none", 1)
    network.model.load_state_dict(state)
    assert network.width(SIZE) == 96


def test_a_network_of_one_size_refuses_views_of_another() -> None:
    options = {**spec(VIT), "arguments": {"img_size": 64, "dynamic_img_size": False}}
    with pytest.raises(StudyError, match=r"does not take pictures of 32 px(?s:.*)dynamic_img_size"):
        train_encoder(toy_tiles(), options, recipe("simclr"), 1, quiet)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backend": "transformers"}, "backend transformers cannot be trained"),
        ({"architecture": "resnet_of_dreams"}, "timm cannot make this model"),
    ],
)
def test_encoders_that_cannot_be_made_are_told(change: dict[str, str], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        train_encoder(toy_tiles(), {**spec(), **change}, recipe("simclr"), 1, quiet)


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    with pytest.raises(StudyError, match=r"the loss is (nan|inf) at epoch(?s:.*)learning_rate|not finite"):
        train("simclr", VIT, learning_rate=1e12, warmup_epochs=0)


def test_one_tile_is_too_few() -> None:
    with pytest.raises(StudyError, match="too few"):
        train("simclr", tiles=toy_tiles().rows(np.array([0])))


def test_fewer_tiles_than_a_batch_are_one_batch() -> None:
    history = train("simclr", tiles=toy_tiles(2, 3), batch_size=64, epochs=2, check_every=5).history
    assert history["loss"].notna().sum() == 2


def test_a_gpu_without_enough_memory_is_told() -> None:
    with (
        pytest.raises(StudyError, match=r"not enough memory for batches of 16(?s:.*)batch_size"),
        memory_of(recipe("simclr"), "toy"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_warm_up_of_all_epochs_leaves_half_of_them_to_fall() -> None:
    optimiser, scheduler = optimiser_of(torch.nn.Linear(2, 2), recipe("simclr", epochs=4, warmup_epochs=9), 10)
    rates = []
    for _ in range(40):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    assert int(np.argmax(rates)) in (19, 20)
    assert rates[-1] < 0.1 * max(rates)
