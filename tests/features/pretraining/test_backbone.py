"""The network in training gives what the published encoder gives, and starts from the weights that it is told to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.features.pretraining.toys import CNN, SIZE, VIT, spec, toy_tiles

from slidestudy.errors import StudyError
from slidestudy.features.encoders import build_encoder
from slidestudy.features.pretraining.backbone import Backbone, resized


@pytest.mark.parametrize(
    "options",
    [
        spec(CNN),
        spec(CNN, pooling="mean"),
        spec(CNN, mean=[0.5, 0.5, 0.5], std=[0.2, 0.3, 0.4], input_size=48),
        spec(CNN, input_size=24, interpolation="bilinear"),
        spec(VIT),
        spec(VIT, pooling="cls+mean"),
        spec(VIT, pooling="mean"),
    ],
    ids=str,
)
def test_training_and_encoding_see_the_same_vectors(options: dict[str, Any], tmp_path: Path) -> None:
    backbone = Backbone(options, "none", 7).eval()
    path = tmp_path / "model.safetensors"
    save_file(
        {k: v.contiguous(memory_format=torch.contiguous_format) for k, v in backbone.model.state_dict().items()}, path
    )
    tiles = toy_tiles(2, 2).tiles
    encoder = build_encoder({**options, "weights": str(path)}, SIZE, 0.5, 1)
    pixels = resized(
        torch.from_numpy(tiles).permute(0, 3, 1, 2), options.get("input_size", SIZE), backbone.interpolation
    )
    with torch.no_grad():
        assert np.allclose(backbone(pixels).numpy(), encoder.encode(tiles), atol=1e-4)
    assert backbone.width(options.get("input_size", SIZE)) == encoder.identity.dim


def test_the_seed_makes_the_weights_of_an_untrained_network() -> None:
    first, second, other = (Backbone(spec(), "none", seed).model.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_training_starts_from_a_file(tmp_path: Path) -> None:
    given = Backbone(spec(), "none", 1).model.state_dict()
    path = tmp_path / "start.safetensors"
    contiguous = {k: v.contiguous(memory_format=torch.contiguous_format) for k, v in given.items()}
    save_file({**contiguous, "fc.weight": torch.zeros(10, 96)}, path)
    started = Backbone(spec(), str(path), 2).model.state_dict()
    assert all(torch.equal(started[key], given[key]) for key in given)


def test_a_start_that_does_not_fit_or_cannot_be_read_is_told(tmp_path: Path) -> None:
    other, broken = tmp_path / "other.safetensors", tmp_path / "broken.safetensors"
    save_file({"conv1.weight": torch.zeros(2, 2)}, other)
    broken.write_bytes(b"no weights")
    with pytest.raises(StudyError, match=r"pretraining.start .*does not fit"):
        Backbone(spec(), str(other), 1)
    for path in (broken, tmp_path / "absent.safetensors"):
        with pytest.raises(StudyError, match=r"pretraining.start .*cannot be read"):
            Backbone(spec(), str(path), 1)


def test_a_network_without_class_token_refuses_to_pool_it() -> None:
    with pytest.raises(StudyError, match=r"encoder toy.*pooling cls is impossible"):
        Backbone(spec(pooling="cls"), "none", 1).width(SIZE)
