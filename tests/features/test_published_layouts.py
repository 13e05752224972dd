"""Entries of the registry against weights laid out as their authors publish them: small networks, the same names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from tests.features.networks import make_tiles
from torch import nn
from torch.nn import functional

from slidestudy.encoder_entries import load_registry
from slidestudy.features.backends.heads import ConvStem
from slidestudy.features.encoders import build_encoder
from slidestudy.settings import REGISTRY

REGISTERED = load_registry([REGISTRY])
SMALL: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 2}
SIZE = 32


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def entry(name: str, weights: Path, **arguments: Any) -> dict[str, Any]:
    """A registered entry with a smaller network and a local file; its names, pooling, mean and SD stay."""
    registered = REGISTERED[name]
    kept = {key: value for key, value in registered.items() if key not in ("dim", "input_size", "tiles")}
    changed = {**registered.get("arguments", {}), **arguments}
    return {**kept, "name": name, "weights": str(weights), "arguments": changed}


def encoded(spec: dict[str, Any], size: int = SIZE) -> tuple[np.ndarray, torch.Tensor]:
    """What the encoder makes of tiles, and the tiles as its network reads them."""
    tiles = make_tiles(2, size)
    mean, std = (np.asarray(spec[key], np.float32) for key in ("mean", "std"))
    batch = ((tiles / np.float32(255) - mean) / std).astype(np.float32)
    return build_encoder(spec, size, 0.5, 1).encode(tiles), torch.from_numpy(batch).permute(0, 3, 1, 2)


def close(found: np.ndarray, wanted: torch.Tensor) -> None:
    np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=1e-4, atol=1e-4)


def randomise(module: nn.Module) -> nn.Module:
    """Gives every weight and statistic a value that is not its default."""
    torch.manual_seed(11)
    for value in module.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) * 0.2 + 0.05)
    return module.eval()


class ConchVisual(nn.Module):
    """The image tower of CONCH under its published names, of parts of timm and open_clip."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = timm.create_model("vit_base_patch16_224", num_classes=0, img_size=SIZE, **SMALL)
        self.attn_pool_contrast = open_clip.transformer.AttentionalPooler(8, 32, 2, 1)
        self.ln_contrast = nn.LayerNorm(8)
        self.proj_contrast = nn.Parameter(torch.zeros(8, 8))
        self.attn_pool_caption = open_clip.transformer.AttentionalPooler(8, 32, 2, 4)
        self.ln_caption = nn.LayerNorm(8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.ln_contrast(self.attn_pool_contrast(self.trunk.forward_features(images))[:, 0])


def test_conch_gives_the_vector_before_the_projection(tmp_path: Path) -> None:
    visual = randomise(ConchVisual())
    state = {f"visual.{key}": value for key, value in visual.state_dict().items()}
    state |= {
        "text.positional_embedding": torch.zeros(2),
        "text_decoder.a": torch.zeros(1),
        "logit_scale": torch.ones(1),
    }
    torch.save(state, tmp_path / "pytorch_model.bin")
    head = {**REGISTERED["conch"]["arguments"]["head"], "dim": 8, "heads": 2}
    found, images = encoded(entry("conch", tmp_path / "pytorch_model.bin", head=head, img_size=SIZE, **SMALL))
    close(found, visual(images))


def test_conch_v1_5_pools_without_biases(tmp_path: Path) -> None:
    arguments = {"img_size": SIZE, "init_values": 1e-5, **SMALL}
    trunk = randomise(timm.create_model("vit_large_patch16_224", num_classes=0, **arguments))
    torch.manual_seed(2)
    pool = {f"to_{k}.weight": torch.randn(n, m) / 4 for k, n, m in (("q", 8, 8), ("kv", 16, 32), ("out", 8, 8))}
    pool |= {"query": torch.randn(1, 8)}
    for name, width in (("ln_q", 8), ("ln_k", 32)):
        pool |= {f"{name}.weight": torch.rand(width), f"{name}.bias": torch.rand(width)}
    norm = {"weight": torch.rand(8), "bias": torch.rand(8)}
    state = {f"trunk.{k}": v for k, v in trunk.state_dict().items()}
    state |= {f"attn_pool_contrast.{k}": v for k, v in pool.items()} | {f"ln_contrast.{k}": v for k, v in norm.items()}
    torch.save(state, tmp_path / "vision.bin")
    head = {**REGISTERED["conch-v1_5"]["arguments"]["head"], "dim": 8, "heads": 2}
    found, images = encoded(entry("conch-v1_5", tmp_path / "vision.bin", head=head, **arguments))
    # Attention written out, head by head.
    tokens = functional.layer_norm(trunk.forward_features(images), (32,), pool["ln_k.weight"], pool["ln_k.bias"])
    query = functional.layer_norm(pool["query"], (8,), pool["ln_q.weight"], pool["ln_q.bias"]) @ pool["to_q.weight"].T
    keys, values = (tokens @ pool["to_kv.weight"].T).split(8, dim=-1)
    parts = []
    for h in (slice(0, 4), slice(4, 8)):
        weights = (query[:, h] @ keys[..., h].transpose(1, 2) / 4**0.5).softmax(-1)
        parts.append(weights @ values[..., h])
    pooled = (torch.cat(parts, -1) @ pool["to_out.weight"].T)[:, 0]
    close(found, functional.layer_norm(pooled, (8,), norm["weight"], norm["bias"]))


def test_keep_is_projected_to_length_one(tmp_path: Path) -> None:
    arguments = {"init_values": 1e-5, "img_size": SIZE, **SMALL}
    trunk = randomise(timm.create_model("vit_large_patch16_224", num_classes=0, **arguments))
    head = nn.Sequential(nn.Linear(32, 8), nn.GELU(), nn.Linear(8, 8))
    # KEEP names the weights of its layer scales otherwise than timm.
    published = {re.sub(r"(ls[12])\.gamma", r"\1.weight", key): value for key, value in trunk.state_dict().items()}
    state = {f"visual.{key}": value for key, value in published.items()}
    assert any(key.endswith("ls1.weight") for key in state)
    state |= {f"visual_head.{k}": v for k, v in head.state_dict().items()}
    state |= {"text.embeddings.LayerNorm.weight": torch.zeros(2), "logit_scale": torch.ones(1)}
    save_file(state, tmp_path / "model.safetensors")
    options = {**REGISTERED["keep"]["arguments"]["head"], "dim": 8}
    found, images = encoded(entry("keep", tmp_path / "model.safetensors", head=options, **arguments))
    close(found, functional.normalize(head(trunk(images)), dim=-1))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)


def test_ctranspath_has_its_stem_and_its_authors_names(tmp_path: Path) -> None:
    small: dict[str, Any] = {"img_size": 64, "window_size": 4, "embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2)}
    model = timm.create_model("swin_tiny_patch4_window7_224", num_classes=0, embed_layer=ConvStem, **small)
    randomise(model)
    # The authors' timm downsamples at the end of a stage, and stores masks.
    state = {
        re.sub(r"layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", key): value
        for key, value in model.state_dict().items()
    }
    assert "layers.0.downsample.reduction.weight" in state
    state |= {
        "layers.0.blocks.0.attn_mask": torch.zeros(1),
        "layers.0.blocks.0.attn.relative_position_index": torch.ones(1),
    }
    torch.save({"model": state}, tmp_path / "ctranspath.pth")
    found, images = encoded(entry("ctranspath", tmp_path / "ctranspath.pth", **small), 64)
    close(found, model(images))
    stem = model.patch_embed.state_dict()
    shapes = {key: tuple(value.shape) for key, value in stem.items() if key.endswith("weight") and value.ndim == 4}
    assert shapes == {"proj.0.weight": (2, 3, 3, 3), "proj.3.weight": (4, 2, 3, 3), "proj.6.weight": (16, 4, 1, 1)}


def test_kimianet_is_pooled_before_the_relu(tmp_path: Path) -> None:
    small: dict[str, Any] = {"growth_rate": 4, "block_config": (1, 1, 1, 1), "num_init_features": 8}
    model: Any = randomise(torchvision.models.DenseNet(num_classes=30, **small))
    with torch.no_grad():
        model.features.norm5.bias.sub_(10)
    state = {f"module.model.0.{k}": v for k, v in model.features.state_dict().items()}
    state |= {"module.fc_4.weight": torch.zeros(30, 9), "module.fc_4.bias": torch.zeros(30)}
    torch.save(state, tmp_path / "KimiaNetPyTorchWeights.pth")
    spec = entry("kimianet", tmp_path / "KimiaNetPyTorchWeights.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchvision.models, "get_model", lambda *_, **__: torchvision.models.DenseNet(**small))
        found, images = encoded(spec, 64)
    close(found, model.features(images).mean((2, 3)))
    assert (found < 0).any()


def test_retccl_loads_a_resnet_without_its_classifier(tmp_path: Path) -> None:
    model = torchvision.models.resnet50().eval()
    state = {key: value for key, value in model.state_dict().items() if not key.startswith("fc.")}
    torch.save(state, tmp_path / "best_ckpt.pth")
    found, images = encoded(entry("retccl", tmp_path / "best_ckpt.pth"), 64)
    model.fc = nn.Identity()
    assert found.shape == (2, 2048)
    close(found, model(images))


def test_resnet50_is_cut_behind_its_third_stage() -> None:
    spec = {**REGISTERED["resnet50"], "name": "resnet50", "weights": "none"}
    found, images = encoded(spec)
    torch.manual_seed(1)
    model: Any = timm.create_model("resnet50", features_only=True, out_indices=[3]).eval()
    close(found, model(images)[0].mean((2, 3)))
    assert found.shape == (2, 1024)


def test_gpfm_loads_a_plain_dinov2(tmp_path: Path) -> None:
    arguments = {"img_size": 28, "init_values": 1e-5, **SMALL}
    model = randomise(timm.create_model("vit_large_patch14_dinov2", num_classes=0, **arguments))
    torch.save({**model.state_dict(), "mask_token": torch.zeros(1, 32)}, tmp_path / "GPFM.pth")
    found, images = encoded(entry("gpfm", tmp_path / "GPFM.pth", **arguments), 28)
    close(found, model(images))


def test_the_stem_of_ctranspath_takes_sides_and_pairs() -> None:
    assert ConvStem(64).grid_size == ConvStem((64, 64)).grid_size == (16, 16)
    full = timm.create_model("swin_tiny_patch4_window7_224", num_classes=0, embed_layer=ConvStem)
    assert full.patch_embed.num_patches == 56 * 56
