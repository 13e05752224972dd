"""Any timm model as a patch encoder: weights from the hub, from a file, or untrained and saying so."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from timm.data import resolve_model_data_config
from torch import nn
from torch.nn import functional

from slidestudy.errors import StudyError
from slidestudy.features.identity import EncoderIdentity

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of a model's parameters and buffers in key order, first 16 hex digits."""
    state, sha = model.state_dict(), hashlib.sha256()
    for key in sorted(state):
        sha.update(key.encode())
        sha.update(state[key].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:16]


def _load_state(path: Path, name: str) -> dict[str, torch.Tensor]:
    """Reads a state dict from safetensors or a PyTorch file, which is never unpickled as code."""
    where = f"encoder {name}, weights {path}"
    try:
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:
        remedy = "give a safetensors file, or a PyTorch file that holds a plain state dict"
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise StudyError(f"cannot be read ({first})", where, remedy) from None
    for wrapper in ("state_dict", "model", "teacher"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(k, str) and torch.is_tensor(v) for k, v in state.items()):
        raise StudyError("holds no state dict", where, "save the model's state_dict()")
    return {key.removeprefix("module.").removeprefix("backbone."): value for key, value in state.items()}


def _load_into(model: nn.Module, state: dict[str, torch.Tensor], name: str, path: Path) -> None:
    """Loads weights; a classifier head that the encoder has not got may be left over, nothing else."""
    own = model.state_dict()
    missing = sorted(own.keys() - state.keys())
    shapes = sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)
    left = sorted(k for k in state.keys() - own.keys() if not k.startswith(("fc.", "head.", "classifier.")))
    wrong = [f"missing {k}" for k in missing] + [f"other shape {k}" for k in shapes] + [f"unknown {k}" for k in left]
    if wrong:
        listed = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise StudyError(
            f"does not fit the architecture: {listed}",
            f"encoder {name}, weights {path}",
            "correct `architecture` or `arguments`",
        )
    model.load_state_dict({k: v for k, v in state.items() if k in own})


def _create(spec: dict[str, Any], seed: int) -> tuple[nn.Module, str]:
    """Makes the model and says where its weights come from."""
    architecture, weights, name = spec["architecture"], spec["weights"], spec["name"]
    arguments = {"num_classes": 0, **spec.get("arguments", {})}
    torch.manual_seed(seed)
    try:
        model = timm.create_model(architecture, pretrained=weights == "hub", **arguments)
    except Exception as error:
        where = f"encoder {name}, architecture {architecture}"
        first = (str(error).splitlines() or [type(error).__name__])[0]
        if weights == "hub":
            remedy = (
                "download them on a machine with internet (a gated model: accept its terms, set HF_TOKEN) and give the"
                " file as `weights:`"
            )
            raise StudyError(
                f"the weights are not in the local cache and cannot be had from the hub ({first})", where, remedy
            ) from None
        raise StudyError(
            f"timm cannot make this model ({first})", where, "correct `architecture` or `arguments`"
        ) from None
    if weights == "hub":
        return model, f"hub: {getattr(model, 'pretrained_cfg', {}).get('hf_hub_id') or architecture}"
    if weights == "none":
        return model, f"none: UNTRAINED random weights, seed {seed}"
    path = Path(weights)
    _load_into(model, _load_state(path, name), name, path)
    return model, f"file: {path.name}"


class TimmEncoder:
    """A timm model without its classifier.

    Args:
        spec: The encoder's entry, with `name`, `architecture` and `weights`.
        tile_size: Tile side, px.
        seed: Seed of untrained weights.
        threads: CPU threads.

    Raises:
        StudyError: The model or its weights cannot be had, or half precision is asked for without a GPU.
    """

    def __init__(self, spec: dict[str, Any], tile_size: int, seed: int, threads: int) -> None:
        torch.set_num_threads(threads)
        # Deterministic kernels, so that two runs give the same bytes.
        torch.use_deterministic_algorithms(True, warn_only=True)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        precision = spec.get("precision", "fp32")
        if precision != "fp32" and self._device.type == "cpu":
            raise StudyError(
                f"precision {precision} needs a GPU, and none was found",
                f"encoder {spec['name']}",
                "set precision: fp32",
            )
        model, source = _create(spec, seed)
        data = resolve_model_data_config(model)
        self._mean = torch.tensor(spec.get("mean", data["mean"]), device=self._device).view(1, 3, 1, 1)
        self._std = torch.tensor(spec.get("std", data["std"]), device=self._device).view(1, 3, 1, 1)
        self._size = int(spec.get("input_size", tile_size))
        self._dtype = PRECISIONS[precision]
        digest = weights_digest(model)
        self._model = model.eval().to(self._device, self._dtype)
        preprocessing = {
            "input_size": self._size,
            "mean": [round(v, 6) for v in self._mean.flatten().tolist()],
            "std": [round(v, 6) for v in self._std.flatten().tolist()],
            "resize": "bicubic, antialiased",
        }
        dim = int(self._forward(np.zeros((1, tile_size, tile_size, 3), np.uint8)).shape[1])
        self.identity = EncoderIdentity(
            spec["name"], "timm", spec["architecture"], dim, source, digest, precision, preprocessing
        )

    @torch.inference_mode()
    def _forward(self, tiles: NDArray[np.uint8]) -> torch.Tensor:
        batch = torch.from_numpy(tiles).to(self._device).permute(0, 3, 1, 2).float() / 255
        if batch.shape[-1] != self._size:
            batch = functional.interpolate(batch, (self._size, self._size), mode="bicubic", antialias=True).clamp(0, 1)
        output = self._model(((batch - self._mean) / self._std).to(self._dtype))
        if output.ndim != 2:
            where = f"encoder {self._model.__class__.__name__}"
            raise StudyError(
                f"gives an output of shape {tuple(output.shape)}, not one vector per tile",
                where,
                "set `arguments: {global_pool: avg}`",
            )
        return output.float()

    def encode(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encodes tiles, uint8 (n, size, size, 3), as float32 (n, dim)."""
        return self._forward(np.ascontiguousarray(tiles)).cpu().numpy()
