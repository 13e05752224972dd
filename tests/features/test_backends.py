"""timm, open_clip and torchvision give the vectors of their own library, pooled as asked, or say what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from tests.features.networks import (
    MEAN,
    SIZE,
    close,
    encoder,
    make_tiles,
    normalised,
    refusal,
    save_open_clip,
    save_timm,
)

from slidestudy.features.encoders import build_encoder
from slidestudy.features.state_dicts import weights_digest

TILES = make_tiles()


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


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
