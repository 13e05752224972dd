"""Every backend gives the vectors of its own library, pools as asked, and refuses what a model has not got."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from tests.features.networks import (
    MEAN,
    SIZE,
    STD,
    encoder,
    make_tiles,
    normalised,
    save_clip,
    save_open_clip,
    save_timm,
    save_transformers,
)
from tests.hub_server import Repository, point_at, serve_hub

from slidestudy.errors import StudyError
from slidestudy.features.encoders import build_encoder
from slidestudy.features.state_dicts import weights_digest

TILES = make_tiles()


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def close(found: Any, wanted: torch.Tensor) -> None:
    np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=1e-4, atol=1e-5)


def refusal(*arguments: Any, **entry: Any) -> StudyError:
    with pytest.raises(StudyError) as caught:
        encoder(*arguments, **entry)
    assert "encoder net" in caught.value.problems[0].where
    assert caught.value.problems[0].remedy
    return caught.value


# timm


def test_timm_tokens_are_pooled_without_class_and_register_tokens(tmp_path: Path) -> None:
    arguments = {"img_size": SIZE, "reg_tokens": 3}
    model = save_timm(tmp_path / "net", **arguments)
    with torch.inference_mode():
        tokens = model.forward_features(normalised(TILES))
    cls, mean = tokens[:, 0], tokens[:, 4:].mean(1)
    assert tokens.shape[1] == 4 + (SIZE // 16) ** 2
    wanted = {"cls": cls, "mean": mean, "cls+mean": torch.cat([cls, mean], 1)}
    for pooling, vectors in wanted.items():
        close(encoder("timm", "hf-hub:a/b", weights=str(tmp_path / "net"), pooling=pooling).encode(TILES), vectors)
    own = encoder("timm", "hf-hub:a/b", weights=str(tmp_path / "net"))
    close(own.encode(TILES), model(normalised(TILES)))
    assert own.identity.weights == "file: net"
    assert own.identity.weights_digest == weights_digest(model)


def test_a_timm_model_that_is_meant_for_the_mean_normalises_behind_it() -> None:
    arguments = {"img_size": SIZE, "global_pool": "avg"}
    pooled = encoder("timm", "test_vit", pooling="mean", arguments=arguments)
    close(pooled.encode(TILES), torch.from_numpy(encoder("timm", "test_vit", arguments=arguments).encode(TILES)))


@pytest.mark.parametrize("architecture", ["test_resnet", "swin_tiny_patch4_window7_224"])
def test_maps_have_a_mean_and_no_class_token(architecture: str) -> None:
    swin = {"img_size": SIZE, "window_size": 2, "embed_dim": 12, "depths": (1, 1), "num_heads": (1, 2)}
    arguments = swin if "swin" in architecture else {}
    torch.manual_seed(1)
    model = timm.create_model(architecture, num_classes=0, **arguments).eval()
    with torch.inference_mode():
        wanted = model(normalised(TILES))
    close(encoder("timm", architecture, pooling="mean", arguments=arguments).encode(TILES), wanted)
    assert "maps, not tokens" in str(refusal("timm", architecture, pooling="cls", arguments=arguments))


def test_a_network_can_be_cut_behind_a_stage() -> None:
    arguments = {"features_only": True, "out_indices": [3]}
    torch.manual_seed(1)
    maps = timm.create_model("resnet18", **arguments).eval()
    with torch.inference_mode():
        wanted = maps(normalised(TILES))[0].mean((2, 3))
    cut = encoder("timm", "resnet18", pooling="mean", arguments=arguments)
    assert cut.identity.dim == 256
    close(cut.encode(TILES), wanted)
    assert "not one vector per tile" in str(refusal("timm", "resnet18", arguments=arguments))


def test_tokens_without_class_token_have_only_a_mean() -> None:
    arguments = {"img_size": SIZE, "class_token": False, "reg_tokens": 2, "global_pool": "avg"}
    assert encoder("timm", "test_vit", pooling="mean", arguments=arguments).identity.dim == 64
    for pooling in ("cls", "cls+mean"):
        assert "no class token" in str(refusal("timm", "test_vit", pooling=pooling, arguments=arguments))


def test_layers_are_named_in_an_entry() -> None:
    gated = encoder("timm", "test_vit", arguments={"img_size": SIZE, "mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"})
    torch.manual_seed(1)
    layers: dict[str, Any] = {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU}
    model = timm.create_model("test_vit", num_classes=0, img_size=SIZE, **layers).eval()
    close(gated.encode(TILES), model(normalised(TILES)))
    message = str(refusal("timm", "test_vit", arguments={"mlp_layer": "NoSuchLayer"}))
    assert "timm cannot make this model" in message


# transformers


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


# open_clip


def test_an_open_clip_model_gives_its_projected_image_vector(tmp_path: Path) -> None:
    model = save_open_clip(tmp_path / "clip")
    with torch.inference_mode():
        wanted = model.encode_image(normalised(TILES))
    spec = {"name": "net", "backend": "open_clip", "architecture": "hf-hub:a/b", "weights": str(tmp_path / "clip")}
    found = build_encoder({**spec, "dim": 12}, SIZE, 0.5, 1)
    close(found.encode(TILES), wanted)
    assert found.identity.preprocessing["mean"] == pytest.approx(MEAN)
    assert found.identity.weights_digest == weights_digest(model.visual)


def test_open_clip_refuses_what_it_cannot_give(tmp_path: Path) -> None:
    save_open_clip(tmp_path / "clip")
    entry = {"weights": str(tmp_path / "clip")}
    assert "open_clip gives projected vectors" in str(refusal("open_clip", "hf-hub:a/b", pooling="cls", **entry))
    (tmp_path / "clip" / "open_clip_model.safetensors").unlink()
    assert "open_clip cannot make this model" in str(refusal("open_clip", "hf-hub:a/b", **entry))
    assert "open_clip cannot make this model" in str(refusal("open_clip", "NoSuchModel"))


# torchvision


@pytest.mark.parametrize(("architecture", "dim"), [("resnet18", 512), ("mobilenet_v3_small", 1024)])
def test_a_torchvision_model_gives_what_its_classifier_would_read(tmp_path: Path, architecture: str, dim: int) -> None:
    torch.manual_seed(7)
    model = torchvision.models.get_model(architecture, num_classes=5).eval()
    torch.save({f"module.{k}": v for k, v in model.state_dict().items()}, tmp_path / "w.pth")
    loaded = encoder("torchvision", architecture, weights=str(tmp_path / "w.pth"))
    assert loaded.identity.dim == dim
    last = model.fc if architecture == "resnet18" else model.classifier[-1]
    with torch.inference_mode():
        close(last(torch.from_numpy(loaded.encode(TILES))), model(normalised(TILES)))


@pytest.mark.parametrize("architecture", ["resnet18", "swin_t"])
def test_the_last_maps_of_a_torchvision_model_are_pooled(architecture: str) -> None:
    own = encoder("torchvision", architecture)
    close(encoder("torchvision", architecture, pooling="mean").encode(TILES), torch.from_numpy(own.encode(TILES)))
    assert "maps, not tokens" in str(refusal("torchvision", architecture, pooling="cls"))


def test_torchvision_normalises_as_its_presets_do() -> None:
    spec = {"name": "net", "backend": "torchvision", "architecture": "resnet18", "weights": "none"}
    assert build_encoder(spec, SIZE, 0.5, 1).identity.preprocessing["mean"] == pytest.approx([0.485, 0.456, 0.406])


@pytest.mark.parametrize(
    ("architecture", "entry", "said"),
    [
        ("resnet9000", {}, "torchvision cannot make this model"),
        ("googlenet", {"arguments": {"no_such": 1}}, "torchvision cannot make this model"),
        ("vit_b_32", {"pooling": "mean", "input_size": 224}, "gives no maps"),
    ],
)
def test_what_torchvision_has_not_got_is_named(architecture: str, entry: dict[str, Any], said: str) -> None:
    assert said in str(refusal("torchvision", architecture, **entry))


# From the hub


@pytest.mark.parametrize("backend", ["timm", "transformers", "open_clip"])
def test_a_model_of_the_hub_is_loaded_and_its_commit_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    folder = tmp_path / "made"
    {"timm": save_timm, "transformers": save_transformers, "open_clip": save_open_clip}[backend](folder)
    entry = {"pooling": "cls"} if backend == "transformers" else {}
    entry |= {"arguments": {"img_size": SIZE}} if backend == "timm" else {}
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with serve_hub() as hub:
        hub.repositories["owner/net"] = Repository(files, commit="a1" * 20)
        point_at(monkeypatch, hub.url, tmp_path / "cache")
        loaded = encoder(backend, "hf-hub:owner/net", weights="hub", **entry)
        hub.repositories.clear()
        again = encoder(backend, "hf-hub:owner/net", weights="hub", **entry)
    assert loaded.identity.weights == f"hub: owner/net@{'a1' * 20}"
    assert again.identity == loaded.identity
    local = encoder(backend, "hf-hub:owner/net", weights=str(folder), **entry)
    np.testing.assert_array_equal(loaded.encode(TILES), local.encode(TILES))
    assert loaded.identity.weights_digest == local.identity.weights_digest


def test_a_plain_file_of_the_hub_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    model = timm.create_model("test_resnet", num_classes=0).eval()
    content = io.BytesIO()
    torch.save({"teacher": model.state_dict()}, content)
    with serve_hub() as hub:
        hub.repositories["owner/net"] = Repository({"some/net.pth": content.getvalue()})
        point_at(monkeypatch, hub.url, tmp_path / "cache")
        arguments = {"hub_file": "owner/net/some/net.pth"}
        loaded = encoder("timm", "test_resnet", weights="hub", arguments=arguments)
    assert loaded.identity.weights == f"hub: owner/net@{'c' * 40}"
    assert loaded.identity.weights_digest == weights_digest(model)


def test_a_copy_of_a_repository_gives_the_file_that_is_meant(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = timm.create_model("test_resnet", num_classes=0).eval()
    (tmp_path / "copy" / "some").mkdir(parents=True)
    torch.save(model.state_dict(), tmp_path / "copy" / "some" / "net.pth")
    entry = {"weights": str(tmp_path / "copy"), "arguments": {"hub_file": "owner/net/some/net.pth"}}
    assert encoder("timm", "test_resnet", **entry).identity.weights_digest == weights_digest(model)
    assert "names no file of the hub" in str(
        refusal("timm", "test_resnet", weights="hub", arguments={"hub_file": "a/b"})
    )


@pytest.mark.parametrize("backend", ["timm", "transformers"])
def test_a_folder_may_be_the_architecture(tmp_path: Path, backend: str) -> None:
    folder = tmp_path / "net"
    model = save_timm(folder, img_size=SIZE) if backend == "timm" else save_transformers(folder)
    loaded = encoder(backend, f"local-dir:{folder}", weights="hub", pooling="cls")
    assert loaded.identity.weights_digest == weights_digest(model)


def test_weights_that_would_stay_untrained_in_part_are_refused(tmp_path: Path) -> None:
    save_timm(tmp_path / "net")
    entry = {"weights": str(tmp_path / "net")}
    head = {"head": {"kind": "projection", "dim": 4}}
    assert "`head` needs weights that are one file" in str(refusal("timm", "hf-hub:a/b", arguments=head, **entry))
    assert "`rename` needs weights that" in str(refusal("timm", "hf-hub:a/b", rename={"a": "b"}, **entry))
    assert "torchvision reads no folders" in str(refusal("torchvision", "resnet18", **entry))


@pytest.mark.parametrize(
    "head", [{"kind": "other"}, {"kind": "attention"}, {"kind": "projection", "dim": 4, "more": 1}]
)
def test_a_head_that_cannot_be_made_is_named(head: dict[str, Any]) -> None:
    arguments = {"img_size": SIZE, "head": head}
    assert "head" in str(refusal("timm", "test_vit", rename={}, arguments=arguments))
    whole = {"img_size": SIZE, "head": {"kind": "projection", "dim": 4}}
    assert encoder("timm", "test_vit", arguments=whole).identity.dim == 4
    assert "behind a head" in str(refusal("timm", "test_vit", pooling="cls", arguments=whole))


def test_a_corrupt_download_is_named(tmp_path: Path) -> None:
    save_timm(tmp_path / "net")
    (tmp_path / "net" / "model.safetensors").write_bytes(b"text")
    message = str(refusal("timm", "hf-hub:a/b", weights=str(tmp_path / "net")))
    assert "cannot be read" in message
    assert "download it again" in message
    save_transformers(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").write_bytes(b"text")
    message = str(refusal("transformers", "a/b", weights=str(tmp_path / "other"), pooling="cls"))
    assert "download damaged weights again" in message


def test_weights_that_the_study_has_yet_to_train_are_named() -> None:
    assert "trained by the study" in str(refusal("timm", "test_resnet", weights="study"))
    assert "names no weights" in str(refusal("timm", "test_resnet", weights=None))
    assert "builds no network" in str(refusal("imported", "anything"))


def test_an_absent_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    monkeypatch.delitem(sys.modules, "slidestudy.features.backends.open_clip_models", raising=False)
    assert "the package open_clip is not installed" in str(refusal("open_clip", "ViT-B-32"))
