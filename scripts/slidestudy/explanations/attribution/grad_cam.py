"""Grad-CAM for convolutional networks and vision transformers, by the package grad-cam."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from torch import nn

from slidestudy.attribution_kinds import GRADCAM, TARGETS
from slidestudy.errors import StudyError
from slidestudy.explanations.attribution.maps import Grid, Maps
from slidestudy.explanations.attribution.scorer import TileScorer
from slidestudy.features.torch_encoder import TorchEncoder

BATCH = 16
"""Patches at a time."""
BEFORE_ATTENTION = ("norm1", "ln_1", "layernorm_before", "layer_norm1")
"""What the normalisation before the attention of a transformer's block is called in the libraries."""
REMEDY = "set explanations.attribution.method: occlusion"


def grad_cam_maps(scorer: TileScorer) -> Maps:
    """Grad-CAM of all targets of all patches.

    The layer is the last convolutional map of a CNN, or of a vision transformer the normalisation before the last
    block's attention, whose patch tokens are laid out as a map. The network runs once for all targets, and gradients
    are taken no further back than that layer. Maps keep their sign; Grad-CAM's rectifier comes when they are drawn.

    SOURCE: R. Selvaraju et al., Grad-CAM, ICCV 2017, eq. 1 and 2.

    Args:
        scorer: The model and the patches.

    Raises:
        StudyError: The encoder is no network, or has no such layer.
    """
    encoder = _network(scorer)
    name, layer = find_layer(encoder, scorer.tiles[:1])
    undefined = scorer.undefined()
    names = [target for target in TARGETS if target not in undefined]
    prefix = getattr(encoder.network, "num_prefix_tokens", None)

    def lay_out(found: torch.Tensor) -> torch.Tensor:
        return as_map(found, layer, prefix, encoder.identity.name)

    # Where the gradients end: what lies before the layer needs none.
    cut = layer.register_forward_hook(lambda _module, _inputs, output: output.detach().requires_grad_().clone())
    cam = GradCAM(encoder.network, [layer], lay_out)
    try:
        starts = range(0, len(scorer.tiles), BATCH)
        parts = [_of_batch(cam, scorer, np.arange(s, min(s + BATCH, len(scorer.tiles))), names) for s in starts]
    finally:
        cam.activations_and_grads.release()
        cut.remove()
    raw = {target: np.concatenate([part[target] for part in parts]) for target in names}
    size = scorer.tiles.shape[1]
    return Maps(GRADCAM, f"layer {name}", raw, undefined, lambda grid: _resized(grid, size))


def _network(scorer: TileScorer) -> TorchEncoder:
    """The encoder, if it is a network."""
    if not isinstance(scorer.encoder, TorchEncoder):
        raise StudyError("the encoder has no gradients", f"encoder {scorer.encoder.identity.name}", REMEDY)
    return scorer.encoder


def _of_batch(cam: Any, scorer: TileScorer, rows: np.ndarray, names: Sequence[str]) -> dict[str, Grid]:
    """The maps of some patches, target -> (n, h, w)."""
    hooks, encoder = cam.activations_and_grads, _network(scorer)
    hooks.clear()
    with torch.enable_grad():
        targets = scorer.targets(encoder.vectors(np.ascontiguousarray(scorer.tiles[rows])), rows)
    activations, found = hooks.activations[-1].float().numpy(), {}
    for name in names:
        hooks.gradients = []
        targets[name].sum().backward(retain_graph=True)
        gradients = hooks.gradients[0].float().numpy()
        image = cam.get_cam_image(None, cam.target_layers[0], None, activations, gradients)
        found[name] = np.asarray(image, np.float32)
    return found


def _resized(grid: Grid, size: int) -> Grid:
    return np.asarray(cv2.resize(grid, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)


def find_layer(encoder: TorchEncoder, tile: np.ndarray) -> tuple[str, nn.Module]:
    """The layer that Grad-CAM looks at, found by the network's structure, and its name.

    Args:
        encoder: The encoder.
        tile: One patch, uint8 (1, size, size, 3).

    Raises:
        StudyError: It has neither.
    """
    modules = [(name, module) for name, module in encoder.network.named_modules() if name]
    norms = [
        (name, module)
        for name, module in modules
        if name.rsplit(".", 1)[-1] in BEFORE_ATTENTION and not isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    # Those of blocks that the network has but does not use, as of an unused tower, are never called.
    called = _called(encoder, tile, norms)
    if called:
        return called[-1][0], called[-1][1]
    maps = [(n, m) for n, m, shape in _called(encoder, tile, modules) if len(shape) == 4 and min(shape[2:]) > 1]
    if not maps:
        what = "the network has no convolutional map and no transformer block that Grad-CAM could look at"
        raise StudyError(what, f"encoder {encoder.identity.name}", REMEDY)
    return maps[-1]


def _called(
    encoder: TorchEncoder, tile: np.ndarray, modules: Sequence[tuple[str, nn.Module]]
) -> list[tuple[str, nn.Module, tuple[int, ...]]]:
    """The modules that give a tensor, in the order in which they end, and its shape."""
    found: list[tuple[str, nn.Module, tuple[int, ...]]] = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, _inputs: Any, output: Any) -> None:
            if torch.is_tensor(output):
                found.append((name, module, tuple(output.shape)))

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in modules]
    try:
        encoder.encode(tile)
    finally:
        for handle in handles:
            handle.remove()
    return found


def as_map(values: torch.Tensor, layer: nn.Module, prefix: int | None, encoder: str) -> torch.Tensor:
    """Activations or gradients of a layer as maps (n, channels, h, w).

    Args:
        values: (n, channels, h, w); (n, h, w, channels) behind a layer normalisation; or tokens (n, t, channels).
        layer: The layer.
        prefix: Tokens before those of the patches; None: what a square grid of tokens leaves over.
        encoder: The encoder's name.

    Raises:
        StudyError: The tokens are no square grid.
    """
    if values.ndim == 4:
        last = isinstance(layer, nn.LayerNorm) and layer.normalized_shape[-1] == values.shape[-1]
        # A copy, as what follows may change the values in place.
        return values.permute(0, 3, 1, 2).clone() if last else values.clone()
    tokens = values.shape[1]
    first = tokens - math.isqrt(tokens) ** 2 if prefix is None else prefix
    side = math.isqrt(tokens - first)
    if values.ndim != 3 or side * side != tokens - first:
        raise StudyError(f"its {tokens} tokens are no square grid", f"encoder {encoder}", REMEDY)
    return values[:, first:].reshape(len(values), side, side, -1).permute(0, 3, 1, 2).clone()
