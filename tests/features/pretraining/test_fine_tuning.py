"""Weakly supervised fine-tuning: what is trained, what stays, who chooses the epoch, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
from tests.features.pretraining.toys import CNN, SIZE, VIT, recipe, spec, toy_tiles

from slidestudy.errors import StudyError
from slidestudy.features.pretraining.adaptation import choose_trainable, freeze_statistics, last_blocks, merged
from slidestudy.features.pretraining.backbone import Backbone
from slidestudy.features.pretraining.fine_tuning import scaled_targets, split_patients
from slidestudy.features.pretraining.optimisation import Trained
from slidestudy.features.pretraining.sampling import TileSet
from slidestudy.features.pretraining.training import train_encoder


def tune(architecture: str = CNN, tiles: TileSet | None = None, **more: Any) -> Trained:
    options = recipe("fine-tune", **{"epochs": 3, "learning_rate": 0.003, **more})
    return train_encoder(tiles or toy_tiles(), spec(architecture), options, 1, lambda line: None)


def start(architecture: str = CNN) -> dict[str, torch.Tensor]:
    """The weights before training, in the precision in which they are published."""
    state = Backbone(spec(architecture), "none", 1).model.state_dict()
    return {k: v.half() if v.is_floating_point() else v for k, v in state.items()}


def test_all_weights_learn_the_slides_labels() -> None:
    history = tune(epochs=5).history
    assert history["loss"].iloc[-1] < history["loss"].iloc[0] - 0.1
    assert history["validation_auroc"].iloc[-1] == 1


def test_the_epoch_with_the_lowest_validation_loss_is_kept() -> None:
    trained = tune(epochs=4)
    history = trained.history
    assert trained.epoch == int(history.loc[history["validation_loss"].idxmin(), "epoch"])
    assert trained.epoch == int(history.loc[history["best"] == 1, "epoch"].max())


def test_equal_seeds_give_equal_weights() -> None:
    first, second = tune(epochs=1), tune(epochs=1)
    assert all(torch.equal(first.state[key], second.state[key]) for key in first.state)


@pytest.mark.parametrize(("architecture", "prefix"), [(CNN, "layer4."), (VIT, ("blocks.5.", "norm."))])
def test_the_last_block_changes_and_nothing_before_it(architecture: str, prefix: str | tuple[str, ...]) -> None:
    trained, before = tune(architecture, trainable="blocks", epochs=1).state, start(architecture)
    changed = {key for key in before if not torch.equal(trained[key], before[key])}
    assert changed
    assert all(key.startswith(prefix) for key in changed)


def test_blocks_of_a_densenet_are_its_dense_blocks() -> None:
    with torch.device("meta"):
        network = timm.create_model("densenet121", num_classes=0)
    last = last_blocks(network, 1, "toy")
    assert {key.split(".")[1] for key in last} >= {"denseblock4", "norm5"}
    assert not any("denseblock3" in key for key in last)


def test_frozen_batch_norms_keep_their_running_means() -> None:
    backbone = Backbone(spec(), "none", 1)
    frozen = choose_trainable(backbone, recipe("fine-tune", trainable="blocks"), "toy")
    backbone.train()
    freeze_statistics(backbone, frozen)
    before = {k: v.clone() for k, v in backbone.state_dict().items() if "running" in k}
    backbone(torch.rand(4, 3, SIZE, SIZE))
    after = backbone.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved
    assert all("layer4" in key for key in moved)


def test_merged_adapters_give_the_adapted_networks_vectors() -> None:
    backbone = Backbone(spec(VIT), "none", 1)
    frozen = choose_trainable(backbone, recipe("fine-tune", trainable="lora"), "toy")
    trained = {key: p for key, p in backbone.named_parameters() if p.requires_grad}
    assert all("lora_" in key for key in trained)
    assert len(frozen) + len(trained) == len(list(backbone.parameters()))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        plain = backbone.eval()(torch.ones(2, 3, SIZE, SIZE) / 3)
        for parameter in trained.values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
        adapted = backbone(torch.ones(2, 3, SIZE, SIZE) / 3)
        network = merged(backbone)
        backbone.model = network
        assert not torch.allclose(adapted, plain, atol=1e-2)
        assert torch.allclose(backbone(torch.ones(2, 3, SIZE, SIZE) / 3), adapted, atol=1e-4)
    assert network.state_dict().keys() == Backbone(spec(VIT), "none", 1).model.state_dict().keys()


def test_adapters_change_the_attention_layers_only() -> None:
    trained, before = tune(VIT, trainable="lora", epochs=1).state, start(VIT)
    assert trained.keys() == before.keys()
    changed = {key for key in before if not torch.equal(trained[key], before[key])}
    assert changed
    assert all(key.endswith(("attn.qkv.weight", "attn.proj.weight")) for key in changed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trainable": "lora"}, "no attention layers"),
        ({"trainable": "blocks", "blocks": 9}, "fewer than pretraining.blocks: 9"),
    ],
)
def test_what_cannot_be_trained_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        tune(**options)


def test_a_regression_learns_scores() -> None:
    tiles = toy_tiles()
    tiles.targets = np.where(tiles.targets > 0.5, 80.0, 10.0) + np.repeat(np.arange(8.0), 8)
    history = tune(tiles=tiles, task="regression", epochs=5).history
    assert list(history.columns) == ["epoch", "loss", "learning_rate", "validation_loss", "validation_pearson", "best"]
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    assert history["validation_pearson"].iloc[-1] > 0.9


def test_slides_without_a_label_are_left_out_and_counted() -> None:
    tiles = toy_tiles()
    tiles.targets[tiles.patients == "p0"] = np.nan
    trained = tune(tiles=tiles, epochs=1)
    assert "1 slides have none" in trained.facts["labels"]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_no_patient_is_in_both_parts(seed: int, task: str) -> None:
    tiles = toy_tiles(12, 2)
    train, validation = split_patients(tiles, task, seed, "toy")
    assert not set(train.patients) & set(validation.patients)
    assert len(train) + len(validation) == len(tiles)
    assert len(set(validation.patients)) == 2
    if task == "classification":
        assert set(validation.targets) == set(train.targets) == {0.0, 1.0}


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(StudyError, match="2 patients with labels are too few"):
        split_patients(toy_tiles(2, 4), "classification", 1, "toy")
    with pytest.raises(StudyError, match="1 patients with labels are too few"):
        split_patients(toy_tiles(1, 4), "regression", 1, "toy")
    with pytest.raises(StudyError, match="0 patients with labels are too few"):
        split_patients(toy_tiles(1, 4).rows(np.array([], int)), "regression", 1, "toy")


@pytest.mark.parametrize(
    ("targets", "task", "message"),
    [([0.5], "classification", "0.5 is not 0 or 1"), ([120.0], "regression", "120 is not between 0 and 100")],
)
def test_labels_out_of_range_are_refused(targets: list[float], task: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        scaled_targets(np.array(targets), task, [0, 100], "toy")


def test_scores_are_scaled_to_their_range() -> None:
    assert scaled_targets(np.array([1.0, 2.0, 3.0]), "regression", [1, 3], "toy").tolist() == [0, 0.5, 1]
