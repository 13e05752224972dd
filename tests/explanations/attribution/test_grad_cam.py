"""Grad-CAM: the right layer of each kind of network, the package's own numbers, and the pixels that the model reads."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM
from tests.explanations.attribution.doubles import (
    CORNER,
    SIZE,
    Reads,
    abmil,
    bright_encoder,
    network,
    planted,
    scorer_of,
)
from tests.features.networks import encoder, save_transformers
from torch import nn

from slidestudy.errors import StudyError
from slidestudy.explanations.attribution.grad_cam import as_map, grad_cam_maps
from slidestudy.features.encoders import StainTextureEncoder

VIT = ("vit_tiny_patch16_224", {"img_size": SIZE})


@pytest.mark.parametrize(
    ("architecture", "arguments", "layer", "side"),
    [
        ("resnet10t", {}, "layer layer4", 2),
        (*VIT, "layer blocks.11.norm1", 4),
        ("vit_tiny_patch16_224", {"img_size": SIZE, "reg_tokens": 3}, "layer blocks.11.norm1", 4),
        ("swin_tiny_patch4_window7_224", {"img_size": SIZE, "window_size": 2}, "layer layers.3.blocks.1.norm1", 2),
    ],
)
def test_the_layer_is_the_last_map_or_the_last_block_before_its_attention(architecture, arguments, layer, side):
    net = network(architecture, **arguments)
    maps = grad_cam_maps(scorer_of(net, [abmil(net.identity.dim)], planted(2)))
    assert maps.place == layer
    assert set(maps.raw) == {"output", "attention", "attention_x_score"}
    assert {grid.shape for grid in maps.raw.values()} == {(2, side, side)}
    assert all(np.abs(grid).max() > 0 for grid in maps.raw.values())
    assert maps.spread(maps.raw["output"][0]).shape == (SIZE, SIZE)


@pytest.mark.parametrize(("kind", "layer"), [("Dinov2WithRegisters", "norm1"), ("ViT", "layernorm_before")])
def test_transformers_of_hugging_face_lose_their_class_token_and_registers(tmp_path, kind, layer):
    save_transformers(tmp_path, kind)
    net = encoder("transformers", f"local-dir:{tmp_path}", pooling="cls", weights="hub")
    maps = grad_cam_maps(scorer_of(net, [abmil(net.identity.dim)], planted(2, 32)))
    assert maps.place.endswith(f"1.{layer}")
    assert maps.raw["output"].shape == (2, 4, 4)


class Whole(nn.Module):
    """Encoder and heads in one, with gradients from the pixels on, for the package's own Grad-CAM."""

    def __init__(self, trunk: nn.Module, scorer) -> None:
        super().__init__()
        self.trunk, self.scorer = trunk, scorer

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.scorer.targets(self.trunk(images), np.arange(len(images)))["output"][:, None]


@pytest.mark.parametrize(("architecture", "arguments"), [("resnet10t", {}), VIT])
def test_maps_are_those_of_the_package(architecture, arguments):
    net, tiles = network(architecture, **arguments), planted(2)
    scorer = scorer_of(net, [abmil(net.identity.dim, seed) for seed in (0, 1)], tiles)
    maps = grad_cam_maps(scorer)
    trunk = net.network
    layer = dict(trunk.named_modules())[maps.place.removeprefix("layer ")]
    shape = (lambda tokens: as_map(tokens, layer, 1, "net")) if "vit" in architecture else None
    images = torch.from_numpy(tiles).permute(0, 3, 1, 2).float().div(255).sub(0.5).div(0.25)
    with GradCAM(Whole(trunk, scorer), [layer], shape) as cam:
        cam.compute_input_gradient = True
        expected = cam(images, [lambda output: output[0]] * 2)
    for grid, known in zip(maps.raw["output"], expected, strict=True):
        above = np.maximum(grid, 0)
        ours = cv2.resize((above - above.min()) / np.ptp(above), (SIZE, SIZE))
        # The package adds 1e-7 to the highest value, which of untrained networks is not much more.
        assert known.max() > 0.9
        assert np.abs(ours / ours.max() - known / known.max()).max() < 1e-3


def test_the_map_lies_on_what_the_model_reads_and_changes_sign_with_it(monkeypatch):
    scorer = scorer_of(bright_encoder(monkeypatch), [Reads(1)], planted())
    maps = grad_cam_maps(scorer)
    for grid in maps.raw["output"]:
        spread = maps.spread(grid)
        inside = spread[CORNER, CORNER].sum()
        assert inside > 0.7 * spread.sum() > 0
    assert np.allclose(maps.raw["attention"], -maps.raw["output"])


def test_folds_count_by_their_weight_for_each_patch(monkeypatch):
    net, tiles = bright_encoder(monkeypatch), planted(2)
    members = [Reads(1, 1.0), Reads(1, 5.0)]
    alone = grad_cam_maps(scorer_of(net, members, tiles, [[1, 0], [0, 1]])).raw["output"]
    both = grad_cam_maps(scorer_of(net, members, tiles)).raw["output"]
    assert np.allclose(both[0], 3 * alone[0])
    assert np.allclose(both[1], 3 / 5 * alone[1])


def test_a_model_without_attention_has_no_map_of_it_and_the_reason(monkeypatch):
    maps = grad_cam_maps(scorer_of(bright_encoder(monkeypatch), [Reads(1, attends=None)], planted()))
    assert set(maps.raw) == {"output"}
    assert maps.undefined["attention"] == "the model gives all tiles the same attention"


def test_hand_crafted_features_and_networks_without_a_map_are_refused_with_the_remedy(monkeypatch):
    stain = StainTextureEncoder("stain", 0.5)
    with pytest.raises(StudyError, match="no gradients"):
        grad_cam_maps(scorer_of(stain, [Reads(stain.identity.dim)], planted(1)))
    net = bright_encoder(monkeypatch)
    scorer = scorer_of(net, [Reads(1)], planted(1))
    net.network = nn.Sequential(nn.Flatten())
    with pytest.raises(StudyError, match="no convolutional map") as raised:
        grad_cam_maps(scorer)
    assert "occlusion" in str(raised.value)


def test_tokens_that_are_no_square_are_refused():
    with pytest.raises(StudyError, match="no square grid"):
        as_map(torch.zeros(1, 8, 3), nn.LayerNorm(3), 1, "net")
