"""The network that is trained: made by timm, its output one vector per tile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn
from torch.nn import functional

from slidestudy.errors import StudyError
from slidestudy.features.pooling import one_vector, pool
from slidestudy.features.state_dicts import first_line, load_state, read_state


class Backbone(nn.Module):
    """A timm model as an encoder: pixels in 0..1 in, one vector per picture out.

    Args:
        spec: The encoder's entry: `name backend architecture` and, where given, `arguments pooling mean std`.
        start: Weights to start from: none, hub, or a file.
        seed: Seed of untrained weights.

    Raises:
        StudyError: The model or its start weights cannot be had, or the backend is not timm.
    """

    def __init__(self, spec: Mapping[str, Any], start: str, seed: int) -> None:
        super().__init__()
        self.name, self.pooling = str(spec["name"]), str(spec.get("pooling") or "model")
        self.interpolation = str(spec.get("interpolation") or "bicubic")
        if spec["backend"] != "timm":
            raise StudyError(
                f"an encoder of backend {spec['backend']} cannot be trained",
                f"encoder {self.name}",
                "use backend: timm",
            )
        # Any, since a model of timm may be wrapped with adapters.
        self.model: Any = _create(spec, start, seed)
        data = resolve_model_data_config(self.model)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(spec.get("mean") or data["mean"]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.get("std") or data["std"]).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Encodes pictures, float32 (n, 3, side, side) in 0..1, as float32 (n, dim)."""
        pixels = ((pixels - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        if self.pooling == "model":
            return one_vector(self.model(pixels))
        class_token = getattr(self.model, "cls_token", None) is not None
        prefix = int(getattr(self.model, "num_prefix_tokens", class_token))
        channels_last = "NHWC" in str(getattr(self.model, "output_fmt", ""))
        vectors = pool(self.model.forward_features(pixels), self.pooling, prefix, class_token, channels_last)
        # As in encoding: a model that is meant for the mean normalises behind it.
        normalise = getattr(self.model, "fc_norm", None) or nn.Identity()
        parts = vectors.chunk(2, dim=-1) if self.pooling == "cls+mean" else (vectors,)
        return torch.cat([normalise(part) for part in parts], dim=-1)

    @torch.no_grad()
    def width(self, side: int) -> int:
        """Length of the vector of a picture of a given side.

        Raises:
            StudyError: The model does not take pictures of that side, or gives no single vector.
        """
        training = self.training
        try:
            output = self.eval()(torch.zeros(1, 3, side, side, device=self.mean.device))
        except StudyError as error:
            raise StudyError(error.problems[0].what, f"encoder {self.name}", error.problems[0].remedy) from None
        except Exception as error:
            what = f"does not take pictures of {side} px ({first_line(error)})"
            remedy = "set `arguments: {dynamic_img_size: true}`, or make pretraining.crop and input_size its own size"
            raise StudyError(what, f"encoder {self.name}", remedy) from None
        self.train(training)
        return int(output.shape[1])


def resized(tiles: Tensor, side: int, interpolation: str) -> Tensor:
    """Whole tiles as the encoder will see them.

    Args:
        tiles: uint8 (n, 3, size, size).
        side: The encoder's input side, px.
        interpolation: bicubic or bilinear.

    Returns:
        float32 (n, 3, side, side) in 0..1.
    """
    pixels = tiles.float() / 255
    if pixels.shape[-1] == side:
        return pixels
    return functional.interpolate(pixels, (side, side), mode=interpolation, antialias=True).clamp(0, 1)


def _create(spec: Mapping[str, Any], start: str, seed: int) -> nn.Module:
    """Makes the model with its start weights."""
    where = f"encoder {spec['name']}, architecture {spec['architecture']}"
    arguments = {"num_classes": 0, **(spec.get("arguments") or {})}
    torch.manual_seed(seed)
    try:
        model = timm.create_model(spec["architecture"], pretrained=start == "hub", **arguments)
    except Exception as error:
        remedy = "correct `architecture` or `arguments`"
        if start == "hub":
            remedy = "download the weights where there is internet and give the file as `pretraining.start`"
        raise StudyError(f"timm cannot make this model ({first_line(error)})", where, remedy) from None
    if start not in ("none", "hub"):
        where = f"encoder {spec['name']}, pretraining.start {start}"
        load_state(model, read_state(Path(start), where), where)
    return model.to(memory_format=torch.channels_last)
