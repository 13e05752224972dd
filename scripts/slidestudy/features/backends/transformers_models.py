"""Models of Hugging Face transformers: any vision model of AutoModel, and the image side of CLIP-like ones."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from slidestudy.errors import StudyError
from slidestudy.features.backends.origins import Kind, Origin
from slidestudy.features.backends.vision import Triple, Vision
from slidestudy.features.hub_sources import FOLDER_PREFIX, HUB_PREFIXES
from slidestudy.features.pooling import one_vector, pool
from slidestudy.features.state_dicts import first_line, load_state, read_state, rename_keys
from slidestudy.files import read_json

OWN_ARGUMENTS = ("hub_file", "trust_remote_code", "model_class", "method")
VECTORS = ("image_embeds", "pooler_output")
"""Where transformers puts a model's own vector, in the order in which we look."""


def _described_at(architecture: str) -> str:
    """Where a model's description lies: a folder, or a repository of the hub."""
    for prefix in (FOLDER_PREFIX, *HUB_PREFIXES):
        architecture = architecture.removeprefix(prefix)
    return architecture


def _load_folder(factory: Any, spec: dict[str, Any], origin: Origin, options: dict[str, Any]) -> nn.Module:
    """Loads a model and its weights from a folder; refuses weights that are not all there."""
    options = {"dtype": torch.float32, "local_files_only": True, "output_loading_info": True, **options}
    model, report = factory.from_pretrained(str(origin.path), **options)
    missing = sorted(report["missing_keys"])
    if missing:
        listed = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        remedy = "correct `arguments`, e.g. {add_pooling_layer: false} or {model_class: ...}"
        raise StudyError(f"does not fit the architecture: missing {listed}", origin.where(spec["name"]), remedy)
    return model


def _make(spec: dict[str, Any], origin: Origin) -> nn.Module:
    """Makes the model, with its weights."""
    arguments = spec.get("arguments", {})
    options = {key: value for key, value in arguments.items() if key not in OWN_ARGUMENTS}
    factory = getattr(transformers, arguments.get("model_class", "AutoModel"), None)
    code = bool(arguments.get("trust_remote_code", False))
    try:
        if factory is None:
            raise ValueError(f"it has no class {arguments['model_class']}")
        if origin.kind is Kind.FOLDER:
            return _load_folder(factory, spec, origin, {"trust_remote_code": code, **options})
        described = _described_at(str(spec["architecture"]))
        config = transformers.AutoConfig.from_pretrained(described, trust_remote_code=code)
        if hasattr(factory, "from_config"):
            return factory.from_config(config, trust_remote_code=code, dtype=torch.float32, **options)
        config = getattr(config, "vision_config", config) if "Vision" in factory.__name__ else config
        return factory(config, **options).float()
    except StudyError:
        raise
    except Exception as error:
        where = f"encoder {spec['name']}, architecture {spec['architecture']}"
        remedy = "correct `architecture` or `arguments`, or download damaged weights again"
        if "trust_remote_code" in str(error):
            remedy = "its repository brings own code; if you trust that, set `arguments: {trust_remote_code: true}`"
        raise StudyError(f"transformers cannot make this model ({first_line(error)})", where, remedy) from None


def _statistics(origin: Origin) -> tuple[Triple | None, Triple | None]:
    """Mean and SD that the weights' own preprocessor states."""
    path = origin.path / "preprocessor_config.json" if origin.kind is Kind.FOLDER and origin.path else None
    content = read_json(path) if path is not None and path.is_file() else {}
    mean, std = content.get("image_mean"), content.get("image_std")
    return (tuple(mean), tuple(std)) if mean and std else (None, None)


def build(spec: dict[str, Any], origin: Origin) -> Vision:
    """Builds a model of transformers.

    Args:
        spec: The entry, with its `name`. Of its arguments, `trust_remote_code` allows code of the model's repository,
            `model_class` names a class of transformers instead of AutoModel, `method` one of the model that gives the
            vectors (e.g. `get_image_features`); all others go to the function that loads or makes the model.
        origin: Its weights.

    Raises:
        StudyError: The model cannot be made, the weights do not fit, or the pooling is impossible.
    """
    # What it says of weights that are left over is no news where only the image side is wanted.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model = _make(spec, origin)
    if origin.kind is Kind.FILE and isinstance(origin.path, Path):
        where = origin.where(spec["name"])
        load_state(model, rename_keys(read_state(origin.path, where), spec.get("rename", {}), where), where)
    method = spec.get("arguments", {}).get("method")
    if method is not None and not hasattr(model, method):
        where = f"encoder {spec['name']}"
        raise StudyError(f"the model has no method {method}", where, "correct `arguments: {method: ...}`")
    pooling = spec.get("pooling", "model")

    def features(images: torch.Tensor) -> torch.Tensor:
        if method is not None:
            return _own_vector(getattr(model, method)(images))
        output = model(pixel_values=images, **_resizing(model, images.shape[-1]))
        return _own_vector(output) if pooling == "model" else _pooled(model, output, images.shape[-1], pooling)

    mean, std = _statistics(origin)
    return Vision(model, features, mean, std)


def _resizing(model: nn.Module, size: int) -> dict[str, bool]:
    """Asks a model to fit its position embeddings to another image size than its own."""
    own = getattr(_vision_config(model), "image_size", size)
    resizes = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
    return {"interpolate_pos_encoding": True} if resizes and own not in (size, [size, size], (size, size)) else {}


def _vision_config(model: nn.Module) -> Any:
    """The part of a model's configuration that speaks of images."""
    config: Any = model.config
    return getattr(config, "vision_config", config)


def _own_vector(output: Any) -> torch.Tensor:
    """The vector that a model gives by itself."""
    if torch.is_tensor(output):
        return one_vector(output)
    found = next((output[key] for key in VECTORS if output.get(key) is not None), None)
    if found is None:
        raise StudyError("gives no vector of its own", remedy="set `pooling: cls`, `mean` or `cls+mean`")
    # Convolutional models keep the two axes that they have pooled.
    return one_vector(found.flatten(1) if found.ndim == 4 else found)


def _pooled(model: nn.Module, output: Any, size: int, pooling: str) -> torch.Tensor:
    """Pools a model's last tokens or maps.

    How many tokens stand before those of the patches is what is left of all tokens; whether one of them is a class
    token is what is left of these without the registers that the configuration names.
    """
    hidden = output["last_hidden_state"]
    config = _vision_config(model)
    registers, patch = int(getattr(config, "num_register_tokens", 0) or 0), getattr(config, "patch_size", None)
    prefix = 0
    if hidden.ndim == 3 and isinstance(patch, int):
        # A hierarchical model has fewer tokens than patches, and none before them.
        prefix = max(0, hidden.shape[1] - (size // patch) ** 2)
    if prefix - registers not in (0, 1) and prefix:
        what = (
            f"pooling {pooling} is impossible: {prefix} tokens stand before those of the patches, {registers} registers"
        )
        raise StudyError(what, remedy="set `pooling: model`")
    return pool(hidden, pooling, prefix, class_token=prefix - registers == 1)
