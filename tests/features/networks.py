"""Tiny networks of every library, saved as their libraries save them, and tiles to encode."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import timm
import torch
import transformers
from safetensors.torch import save_file

from slidestudy.errors import StudyError
from slidestudy.features.torch_encoder import TorchEncoder

SIZE = 32
MEAN, STD = [0.5, 0.4, 0.6], [0.2, 0.3, 0.25]
Tiles = npt.NDArray[np.uint8]


def make_tiles(count: int = 3, size: int = SIZE) -> Tiles:
    """Tiles of random colours."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def normalised(tiles: Tiles) -> torch.Tensor:
    """Tiles as a network reads them, with the test's mean and SD."""
    batch = (tiles / np.float32(255) - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(batch.astype(np.float32)).permute(0, 3, 1, 2)


def encoder(backend: str, architecture: str, tile_size: int = SIZE, weights_dir: str | None = None, **more: Any) -> Any:
    """An encoder of an entry, untrained unless it says otherwise."""
    entry = {"weights": "none", "mean": MEAN, "std": STD, **more}
    spec = {"name": "net", "backend": backend, "architecture": str(architecture), **entry}
    return TorchEncoder(spec, tile_size, 1, 1, weights_dir)


VIT: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": SIZE,
    "patch_size": 8,
}


def save_transformers(folder: Path, kind: str = "Dinov2WithRegisters", **more: Any) -> Any:
    """Makes a tiny model of transformers, saves it with its weights, and returns it."""
    torch.manual_seed(5)
    config = getattr(transformers, f"{kind}Config")(**{**VIT, **more})
    model = getattr(transformers, f"{kind}Model")(config).eval()
    model.save_pretrained(folder)
    return model


def save_clip(folder: Path) -> Any:
    """Makes a tiny CLIP, saves it with its weights and its preprocessor, and returns it."""
    torch.manual_seed(5)
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    text |= {"vocab_size": 50, "max_position_embeddings": 8}
    config = transformers.CLIPConfig(text_config=text, vision_config={**VIT, "projection_dim": 12}, projection_dim=12)
    model = transformers.CLIPModel(config).eval()
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    return model


OPEN_CLIP: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": SIZE, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1},
}


def save_open_clip(folder: Path) -> Any:
    """Makes a tiny open_clip model, saves it as a repository of the hub holds it, and returns it."""
    import open_clip

    torch.manual_seed(5)
    model = open_clip.CLIP(**OPEN_CLIP).eval()
    folder.mkdir(parents=True)
    described = {"model_cfg": OPEN_CLIP, "preprocess_cfg": {"mean": MEAN, "std": STD}}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return model


def save_timm(folder: Path, architecture: str = "test_vit", **arguments: Any) -> Any:
    """Makes a small timm model, saves it as a repository of the hub holds it, and returns it without classifier."""
    torch.manual_seed(5)
    model = timm.create_model(architecture, num_classes=0, **arguments).eval()
    folder.mkdir(parents=True)
    described = {"architecture": architecture, "num_classes": 0, "model_args": arguments}
    described["pretrained_cfg"] = {"mean": MEAN, "std": STD, "num_classes": 0}
    (folder / "config.json").write_text(json.dumps(described))
    save_file(model.state_dict(), folder / "model.safetensors")
    return model


def close(found: Any, wanted: torch.Tensor) -> None:
    np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=1e-4, atol=1e-5)


def refusal(*arguments: Any, **entry: Any) -> StudyError:
    with pytest.raises(StudyError) as caught:
        encoder(*arguments, **entry)
    assert "encoder net" in caught.value.problems[0].where
    assert caught.value.problems[0].remedy
    return caught.value
