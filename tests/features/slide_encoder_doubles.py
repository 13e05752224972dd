"""Stand-ins for published slide encoders: tiny networks behind the calls that the authors' code offers.

Each checks the shapes and types that the real one needs, and shows in its output what it was given. None of them is,
or pretends to be, a published model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tests.features.stores import attributes

from slidestudy.features.store import FeatureStore

HUB_CODE = '''
import torch
from transformers import PretrainedConfig, PreTrainedModel


class DoubleConfig(PretrainedConfig):
    model_type = "slide-encoder-double"


class TitanDouble(PreTrainedModel):
    """Mean of the features; the last three values say what it was told of the coordinates."""

    config_class = DoubleConfig

    def __init__(self, config):
        super().__init__(config)
        self.scale = torch.nn.Parameter(torch.ones(768))
        self.post_init()

    def encode_slide_from_patch_features(self, patch_features, patch_coords, patch_size_lv0):
        assert patch_features.dtype == torch.float32 and patch_features.shape[::2] == (1, 768)
        assert patch_coords.dtype == torch.int64 and patch_coords.shape == (*patch_features.shape[:2], 2)
        assert isinstance(patch_size_lv0, int)
        vector = patch_features.mean(1) * self.scale
        vector[0, -3:] = torch.tensor([*patch_coords[0, -1], patch_size_lv0])
        return vector


class PrismDouble(PreTrainedModel):
    """The first 1280 values of the mean."""

    config_class = DoubleConfig

    def __init__(self, config):
        super().__init__(config)
        self.scale = torch.nn.Parameter(torch.ones(1280))
        self.post_init()

    def slide_representations(self, tile_embeddings, tile_mask=None):
        assert tile_embeddings.shape[::2] == (1, 2560)
        vector = tile_embeddings.mean(1)[:, :1280] * self.scale
        return {"image_embedding": vector, "image_latents": vector[:, None]}
'''

MADELEINE = """
import torch


class Double(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.full((config.wsi_encoder_hidden_dim,), -1.0))

    def encode_he(self, feats, device):
        assert feats.shape[::2] == (1, 512)
        return feats.to(device).mean(1) * self.scale


def create_model(model_cfg, device="cpu", checkpoint_path=None):
    assert checkpoint_path is None, "the file would be unpickled as code"
    return Double(model_cfg).to(device)
"""

GIGAPATH = '''
import torch


class Double(torch.nn.Module):
    """The first 768 values of the mean; the last two are the cell of the last tile."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.full((768,), -1.0))

    def forward(self, x, coords, all_layer_embed=False):
        assert x.shape[::2] == (1, 1536) and coords.shape == (*x.shape[:2], 2)
        vector = x.mean(1)[:, :768] * self.scale
        vector[0, -2:] = torch.floor(coords / 256.0)[0, -1]
        return [vector * 0, vector] if all_layer_embed else [vector]


def create_model(pretrained, model_arch, in_chans, local_dir="", **kwargs):
    assert (pretrained, model_arch, in_chans) == ("", "gigapath_slide_enc12l768d", 1536)
    return Double()
'''

CHIEF = '''
import torch
from utils.utils import scale_of


class CHIEF(torch.nn.Module):
    """Mean of the features, as if attention were equal; checks that it is built as in the authors' script."""

    def __init__(self, gate=True, size_arg="large", dropout=True, n_classes=2):
        super().__init__()
        assert (size_arg, dropout, n_classes) == ("small", True, 2)
        self.scale = torch.nn.Parameter(torch.full((768,), -1.0))
        self.register_buffer("organ_embedding", torch.load("./model_weight/Text_emdding.pth"))

    def forward(self, h, x_anatomic):
        assert h.ndim == 2 and h.shape[1] == 768
        pooled = h.mean(0, keepdim=True) * self.scale * scale_of()
        return {"WSI_feature": pooled, "WSI_feature_anatomical": pooled + self.organ_embedding[x_anatomic]}
'''


def write_hub_folder(folder: Path, kind: str, width: int) -> Path:
    """A folder as of a hub repository whose model is built by the code that lies in it."""
    folder.mkdir(parents=True)
    (folder / "modeling_double.py").write_text(HUB_CODE)
    auto = f'{{"AutoConfig": "modeling_double.DoubleConfig", "AutoModel": "modeling_double.{kind}"}}'
    (folder / "config.json").write_text(f'{{"model_type": "slide-encoder-double", "auto_map": {auto}}}')
    save_file({"scale": torch.full((width,), 2.0)}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_package(site: Path, dotted: str, code: str) -> None:
    """A package of one module; `site` goes to sys.path."""
    *packages, module = dotted.split(".")
    folder = site.joinpath(*packages)
    folder.mkdir(parents=True)
    for depth in range(len(packages)):
        (site.joinpath(*packages[: depth + 1]) / "__init__.py").touch()
    (folder / f"{module}.py").write_text(code)


def write_chief(clone: Path) -> Path:
    """A clone of CHIEF with its weights."""
    write_package(clone, "models.CHIEF", CHIEF)
    write_package(clone, "utils.utils", "def scale_of():\n    return 1.0\n")
    (clone / "model_weight").mkdir()
    embedding = torch.ones(19, 768)
    torch.save(embedding, clone / "model_weight" / "Text_emdding.pth")
    state = {"scale": torch.full((768,), 2.0), "organ_embedding": embedding}
    torch.save(state, clone / "model_weight" / "CHIEF_pretraining.pth")
    return clone


def patch_store(
    name: str, dim: int, size: int, mpp: float, *, architecture: str = "x", extent: float = 512.0, origin: int = 0
) -> FeatureStore:
    """The features of a slide of 4 x 3 tiles, by a patch encoder of this name and geometry."""
    said: dict[str, Any] = attributes(size=size, mpp=mpp)
    said["encoder"] = {**said["encoder"], "name": name, "architecture": architecture, "dim": dim}
    said["tile_size_level0"] = extent
    x, y = np.meshgrid(np.arange(4), np.arange(3))
    coords = np.rint(origin + np.stack([x.ravel(), y.ravel()], 1) * extent).astype(np.int32)
    features = np.random.default_rng(0).normal(size=(12, dim)).astype(np.float16)
    return FeatureStore(features, coords, np.ones(12, np.float32), said)
