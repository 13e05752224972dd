"""Models of timm: its own, any of the hub that it can build, and those with a head behind them."""

from __future__ import annotations

import sys
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from timm import layers as timm_layers
from timm.data import resolve_model_data_config
from torch import nn

from slidestudy.errors import StudyError
from slidestudy.features.backends.heads import ConvStem, TrunkWithHead
from slidestudy.features.backends.origins import Kind, Origin
from slidestudy.features.backends.vision import Vision
from slidestudy.features.hub_sources import FOLDER_PREFIX
from slidestudy.features.pooling import one_vector, pool
from slidestudy.features.state_dicts import first_line, load_state, read_state, rename_keys

OWN_LAYERS = {"ConvStem": ConvStem}


def _layer(key: str, value: Any) -> Any:
    """A class that an entry names, e.g. `mlp_layer: SwiGLUPacked`; any other value as it is."""
    if not (key.endswith("_layer") and isinstance(value, str)):
        return value
    return OWN_LAYERS.get(value) or getattr(timm_layers, value, None) or getattr(nn, value, None) or value


def _make(spec: dict[str, Any], origin: Origin, arguments: dict[str, Any]) -> nn.Module:
    """Makes the network; its weights are loaded where timm does that."""
    architecture, name = str(spec["architecture"]), spec["name"]
    more: dict[str, Any] = {"pretrained": origin.kind in (Kind.FOLDER, Kind.TIMM_FILE, Kind.LIBRARY)}
    if origin.kind is Kind.FOLDER:
        architecture = f"{FOLDER_PREFIX}{origin.path}"
    if origin.kind is Kind.TIMM_FILE:
        more["pretrained_cfg_overlay"] = {"file": str(origin.path)}
    try:
        return timm.create_model(architecture, **more, **arguments)
    except SafetensorError as error:
        remedy = "remove the file and download it again"
        raise StudyError(f"cannot be read ({first_line(error)})", origin.where(name), remedy) from None
    except Exception as error:
        where = f"encoder {name}, architecture {spec['architecture']}"
        remedy = "correct `architecture` or `arguments`"
        raise StudyError(f"timm cannot make this model ({first_line(error)})", where, remedy) from None


def build(spec: dict[str, Any], origin: Origin) -> Vision:
    """Builds a timm model.

    Args:
        spec: The entry, with its `name`. Of its arguments, `hub_file` and `head` are ours, all others timm's.
        origin: Its weights.

    Raises:
        StudyError: timm cannot build the model, the weights do not fit, or the pooling is impossible.
    """
    given = {key: value for key, value in spec.get("arguments", {}).items() if key not in ("hub_file", "head")}
    arguments = {key: _layer(key, value) for key, value in given.items()}
    # A model that gives maps has no classifier.
    if not arguments.get("features_only"):
        arguments = {"num_classes": 0, **arguments}
    trunk = model = _make(spec, origin, arguments)
    head = spec.get("arguments", {}).get("head")
    if head is not None:
        model = TrunkWithHead(trunk, head)
    if origin.kind is Kind.FILE and origin.path is not None:
        where = origin.where(spec["name"])
        state = rename_keys(read_state(origin.path, where), spec.get("rename", {}), where)
        # timm's own converter brings other layouts of the architecture, e.g. its authors', into timm's.
        convert = getattr(sys.modules[type(trunk).__module__], "checkpoint_filter_fn", None)
        load_state(model, state, where, convert if head is None else None)
    data = resolve_model_data_config(trunk)
    pooling = spec.get("pooling", "model")
    if pooling == "model":
        return Vision(model, lambda images: one_vector(model(images)), data["mean"], data["std"])
    if head is not None:
        raise StudyError(f"pooling {pooling} is impossible behind a head", remedy="set `pooling: model`")

    def features(images: torch.Tensor) -> torch.Tensor:
        return _pooled(trunk, images, pooling)

    return Vision(model, features, data["mean"], data["std"])


def _pooled(model: Any, images: torch.Tensor, pooling: str) -> torch.Tensor:
    """Pools the last tokens or maps of a timm model."""
    # What timm makes for `features_only` gives a list of maps instead.
    output = model.forward_features(images) if hasattr(model, "forward_features") else model(images)[-1]
    class_token = getattr(model, "cls_token", None) is not None
    prefix = int(getattr(model, "num_prefix_tokens", class_token))
    channels_last = "NHWC" in str(getattr(model, "output_fmt", ""))
    vectors = pool(output, pooling, prefix, class_token, channels_last)
    # Models that are meant for the mean normalise behind it instead of before.
    normalise = getattr(model, "fc_norm", None)
    if isinstance(normalise, nn.Module) and pooling != "cls+mean":
        return normalise(vectors)
    if isinstance(normalise, nn.Module):
        return torch.cat([normalise(part) for part in vectors.chunk(2, dim=-1)], dim=-1)
    return vectors
