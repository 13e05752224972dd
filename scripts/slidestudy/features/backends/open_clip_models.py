"""Image towers of open_clip models, with their projection into the space that images and texts share."""

from __future__ import annotations

from typing import Any

import open_clip
import torch
from torch import nn

from slidestudy.errors import StudyError
from slidestudy.features.backends.origins import Kind, Origin
from slidestudy.features.backends.vision import Vision
from slidestudy.features.hub_sources import FOLDER_PREFIX
from slidestudy.features.pooling import one_vector
from slidestudy.features.state_dicts import first_line, load_state, read_state, rename_keys


def build(spec: dict[str, Any], origin: Origin) -> Vision:
    """Builds the image tower of an open_clip model.

    Args:
        spec: The entry, with its `name`. Its arguments (but `hub_file`) go to `open_clip.create_model`.
        origin: Its weights: a folder as the hub has it, a file with the whole model's state dict, or none.

    Raises:
        StudyError: The model cannot be made, the weights do not fit, or a pooling is asked for.
    """
    name, pooling = spec["name"], spec.get("pooling", "model")
    if pooling != "model":
        what = f"pooling {pooling} is impossible: open_clip gives projected vectors"
        raise StudyError(what, f"encoder {name}", "set `pooling: model`")
    whole: Any = whole_model(spec, origin)
    tower: nn.Module = whole.visual

    def features(images: torch.Tensor) -> torch.Tensor:
        output = tower(images)
        # Towers that caption as well give their tokens beside the vector.
        return one_vector(output[0] if isinstance(output, tuple) else output)

    data = open_clip.get_model_preprocess_cfg(whole)
    return Vision(tower, features, tuple(data["mean"]), tuple(data["std"]))


def whole_model(spec: dict[str, Any], origin: Origin) -> nn.Module:
    """Builds an open_clip model with both its towers.

    Args:
        spec: The entry, with its `name`, as for `build`.
        origin: Its weights.

    Raises:
        StudyError: The model cannot be made, or the weights do not fit.
    """
    name = spec["name"]
    arguments = {key: value for key, value in spec.get("arguments", {}).items() if key != "hub_file"}
    folder = origin.kind is Kind.FOLDER
    architecture = f"{FOLDER_PREFIX}{origin.path}" if folder else str(spec["architecture"])
    try:
        # A folder without weights would be taken for an untrained model in silence.
        whole = open_clip.create_model(architecture, load_weights=folder, require_pretrained=folder, **arguments)
    except Exception as error:
        where = f"encoder {name}, architecture {spec['architecture']}"
        remedy = "correct `architecture` or `arguments`, or download damaged weights again"
        raise StudyError(f"open_clip cannot make this model ({first_line(error)})", where, remedy) from None
    if origin.kind is Kind.FILE and origin.path is not None:
        where = origin.where(name)
        load_state(whole, rename_keys(read_state(origin.path, where), spec.get("rename", {}), where), where)
    return whole
