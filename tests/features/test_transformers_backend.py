"""Models of transformers give their own vectors, pooled as asked, and code of a repository runs only where allowed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.features.networks import (
    MEAN,
    SIZE,
    STD,
    close,
    encoder,
    make_tiles,
    normalised,
    refusal,
    save_clip,
    save_transformers,
)

from slidestudy.features.encoders import build_encoder
from slidestudy.features.state_dicts import weights_digest

TILES = make_tiles()


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("kind", "registers", "classes"),
    [("Dinov2WithRegisters", 4, True), ("Dinov2", 0, True), ("ViT", 0, True), ("SiglipVision", 0, False)],
)
def test_transformers_tokens_are_pooled_by_what_they_are(
    tmp_path: Path, kind: str, registers: int, classes: bool
) -> None:
    more = {"num_register_tokens": registers} if registers else {}
    model = save_transformers(tmp_path / "net", kind, **more)
    with torch.inference_mode():
        tokens = model(pixel_values=normalised(TILES)).last_hidden_state
    patches = (SIZE // 8) ** 2
    assert tokens.shape[1] == classes + registers + patches
    mean = tokens[:, -patches:].mean(1)
    entry = {"weights": str(tmp_path / "net"), "arguments": {"model_class": f"{kind}Model"}}
    close(encoder("transformers", "a/b", pooling="mean", **entry).encode(TILES), mean)
    if classes:
        both = torch.cat([tokens[:, 0], mean], 1)
        close(encoder("transformers", "a/b", pooling="cls", **entry).encode(TILES), tokens[:, 0])
        close(encoder("transformers", "a/b", pooling="cls+mean", **entry).encode(TILES), both)
    else:
        assert "no class token" in str(refusal("transformers", "a/b", pooling="cls", **entry))


def test_a_convolutional_model_of_transformers_has_a_mean(tmp_path: Path) -> None:
    sizes = {"hidden_sizes": [8, 12], "depths": [1, 1], "embedding_size": 8, "layer_type": "basic"}
    model = save_transformers(tmp_path / "net", "ResNet", **sizes)
    with torch.inference_mode():
        maps = model(pixel_values=normalised(TILES)).last_hidden_state
    entry = {"weights": str(tmp_path / "net")}
    close(encoder("transformers", "a/b", pooling="mean", **entry).encode(TILES), maps.mean((2, 3)))
    close(encoder("transformers", "a/b", **entry).encode(TILES), maps.mean((2, 3)))
    assert "maps, not tokens" in str(refusal("transformers", "a/b", pooling="cls", **entry))


def test_the_image_side_of_a_clip_gives_its_projected_vector(tmp_path: Path) -> None:
    model = save_clip(tmp_path / "clip")
    with torch.inference_mode():
        wanted = model.visual_projection(model.vision_model(pixel_values=normalised(TILES)).pooler_output)
    spec = {"name": "plip", "backend": "transformers", "architecture": "a/b", "weights": str(tmp_path / "clip")}
    for arguments in ({"model_class": "CLIPVisionModelWithProjection"}, {"method": "get_image_features"}):
        # Mean and SD are the weights' own here.
        made = build_encoder({**spec, "arguments": arguments, "dim": 12}, SIZE, 0.5, 1)
        close(made.encode(TILES), wanted)
        assert made.identity.preprocessing["mean"] == pytest.approx(MEAN)
        assert made.identity.preprocessing["std"] == pytest.approx(STD)


def test_an_untrained_model_of_transformers_is_made_of_its_description(tmp_path: Path) -> None:
    save_transformers(tmp_path / "net")
    first = encoder("transformers", f"local-dir:{tmp_path / 'net'}", pooling="cls")
    again = encoder("transformers", f"local-dir:{tmp_path / 'net'}", pooling="cls")
    assert "UNTRAINED" in first.identity.weights
    assert first.identity == again.identity
    trained = encoder("transformers", "a/b", weights=str(tmp_path / "net"), pooling="cls")
    assert trained.identity.weights_digest != first.identity.weights_digest


def test_a_state_dict_of_a_transformers_model_is_loaded_into_it(tmp_path: Path) -> None:
    model = save_transformers(tmp_path / "net")
    save_file({f"vit.{k}": v for k, v in model.state_dict().items()}, tmp_path / "w.safetensors")
    entry = {"weights": str(tmp_path / "w.safetensors"), "pooling": "cls"}
    architecture = f"local-dir:{tmp_path / 'net'}"
    loaded = encoder("transformers", architecture, rename={r"^vit\.": ""}, **entry)
    assert loaded.identity.weights_digest == weights_digest(model)
    assert "does not fit the architecture: missing" in str(refusal("transformers", architecture, **entry))


def test_weights_that_are_not_all_there_are_refused(tmp_path: Path) -> None:
    save_transformers(tmp_path / "net", "ViT")
    whole = load_file(tmp_path / "net" / "model.safetensors")
    save_file({k: v for k, v in whole.items() if not k.startswith("pooler.")}, tmp_path / "net" / "model.safetensors")
    entry = {"weights": str(tmp_path / "net"), "pooling": "cls"}
    message = str(refusal("transformers", "a/b", **entry))
    assert "missing pooler.dense" in message
    assert "add_pooling_layer" in message
    assert encoder("transformers", "a/b", arguments={"add_pooling_layer": False}, **entry).identity.dim == 16


def test_position_embeddings_are_fitted_to_another_input_size(tmp_path: Path) -> None:
    save_transformers(tmp_path / "net", "ViT")
    entry = {"weights": str(tmp_path / "net"), "pooling": "cls+mean"}
    assert encoder("transformers", "a/b", input_size=SIZE * 2, **entry).encode(TILES).shape == (3, 32)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"pooling": "model", "arguments": {"add_pooling_layer": False}}, "no vector of its own"),
        ({"arguments": {"model_class": "NoSuchModel"}}, "no class NoSuchModel"),
        ({"arguments": {"method": "no_such_method"}}, "no method no_such_method"),
        ({"arguments": {"no_such_argument": 1}}, "transformers cannot make this model"),
        ({"pooling": "cls", "mean": None}, "neither the entry nor the weights state mean and SD"),
    ],
)
def test_what_a_transformers_model_has_not_got_is_named(tmp_path: Path, entry: dict[str, Any], said: str) -> None:
    save_transformers(tmp_path / "net", "ViT")
    assert said in str(refusal("transformers", "a/b", **{"weights": str(tmp_path / "net"), **entry}))


OWN_CODE = """
import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

class OwnConfig(PretrainedConfig):
    model_type = "own"

class OwnModel(PreTrainedModel):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        self.layer = torch.nn.Linear(3, 5)
        self.post_init()

    def forward(self, pixel_values):
        return BaseModelOutput(self.layer(pixel_values.flatten(2).transpose(1, 2)))
"""


def test_code_of_a_repository_runs_only_where_it_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "own.py").write_text(OWN_CODE)
    classes = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
    (tmp_path / "net" / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": classes}))
    layer = torch.nn.Linear(3, 5)
    state = {f"layer.{key}": value for key, value in layer.state_dict().items()}
    save_file(state, tmp_path / "net" / "model.safetensors", {"format": "pt"})
    entry = {"weights": str(tmp_path / "net"), "pooling": "mean"}
    assert "trust_remote_code: true" in refusal("transformers", "a/b", **entry).problems[0].remedy
    trusted = encoder("transformers", "a/b", arguments={"trust_remote_code": True}, **entry)
    close(trusted.encode(TILES), layer(normalised(TILES).flatten(2).mean(2)))
