"""Classification models of torchvision without their classifier."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torchvision import models

from slidestudy.errors import StudyError
from slidestudy.features.backends.origins import Kind, Origin
from slidestudy.features.backends.vision import IMAGENET_MEAN, IMAGENET_STD, Vision
from slidestudy.features.pooling import one_vector, pool
from slidestudy.features.state_dicts import first_line, load_state, read_state, rename_keys

CLASSIFIERS = ("fc", "classifier", "heads", "head")


def _without_classifier(model: nn.Module) -> nn.Module:
    """Replaces the last linear layer by nothing."""
    for name in CLASSIFIERS:
        part = getattr(model, name, None)
        if isinstance(part, nn.Linear):
            setattr(model, name, nn.Identity())
        elif isinstance(part, nn.Sequential) and isinstance(part[-1], nn.Linear):
            part[-1] = nn.Identity()
        else:
            continue
        return model
    raise StudyError("the model has no classifier that could be taken off", remedy="use backend: timm")


def _maps(model: Any) -> nn.Module:
    """The part of a network that gives its last maps (n, d, h, w)."""
    if isinstance(model, models.ResNet):
        return nn.Sequential(*list(model.children())[:-2])
    if not hasattr(model, "features"):
        raise StudyError("pooling mean is impossible: the model gives no maps", remedy="set `pooling: model`")
    # Transformers of torchvision keep the channels last until here.
    return nn.Sequential(model.features, *([model.norm, model.permute] if hasattr(model, "permute") else []))


def build(spec: dict[str, Any], origin: Origin) -> Vision:
    """Builds a model of torchvision.

    `pooling: model` gives what the classifier would read; `pooling: mean` the mean of the last maps as they are, which
    for a DenseNet lacks the ReLU before the classifier. Mean and SD are ImageNet's, as in all of torchvision's presets.

    Args:
        spec: The entry, with its `name`. Its arguments (but `hub_file`) go to `torchvision.models.get_model`.
        origin: Its weights.

    Raises:
        StudyError: There is no such model, the weights do not fit, or the pooling is impossible.
    """
    architecture, where = str(spec["architecture"]), f"encoder {spec['name']}, architecture {spec['architecture']}"
    arguments = {key: value for key, value in spec.get("arguments", {}).items() if key != "hub_file"}
    try:
        weights = "DEFAULT" if origin.kind is Kind.LIBRARY else None
        model = _without_classifier(models.get_model(architecture, weights=weights, **arguments))
    except StudyError as error:
        raise StudyError(error.problems[0].what, where, error.problems[0].remedy) from None
    except Exception as error:
        remedy = "correct `architecture` or `arguments`"
        raise StudyError(f"torchvision cannot make this model ({first_line(error)})", where, remedy) from None
    if origin.kind is Kind.FILE and origin.path is not None:
        source = origin.where(spec["name"])
        load_state(model, rename_keys(read_state(origin.path, source), spec.get("rename", {}), source), source)
    if origin.kind is Kind.FOLDER:
        raise StudyError(
            "torchvision reads no folders", origin.where(spec["name"]), "name the file with the state dict"
        )
    pooling = spec.get("pooling", "model")
    if pooling == "model":
        return Vision(model, lambda images: one_vector(model(images)), IMAGENET_MEAN, IMAGENET_STD)
    maps = _maps(model)

    def features(images: torch.Tensor) -> torch.Tensor:
        return pool(maps(images), pooling, prefix=0, class_token=False)

    return Vision(model, features, IMAGENET_MEAN, IMAGENET_STD)
