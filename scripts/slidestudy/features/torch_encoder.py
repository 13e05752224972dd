"""Any network as a patch encoder: its preprocessing, precision and device, and what a store says of it."""

from __future__ import annotations

import importlib
import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from slidestudy.encoder_entries import describe_tiles, tiles_fit
from slidestudy.errors import StudyError
from slidestudy.features.backends.origins import find_origin
from slidestudy.features.backends.vision import Vision
from slidestudy.features.identity import EncoderIdentity
from slidestudy.features.state_dicts import first_line, weights_digest

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
BACKENDS = {
    "timm": "timm_models",
    "transformers": "transformers_models",
    "open_clip": "open_clip_models",
    "torchvision": "torchvision_models",
}
CPU_MEMORY = "DefaultCPUAllocator"
"""Begins PyTorch's message that the main memory does not suffice."""


def _prepare(threads: int) -> torch.device:
    """Chooses the device, and kernels that give the same bytes in every run."""
    # Read when the GPU is first used; without it some of its matrix products may differ from run to run.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # fp32 means fp32: convolutions would be rounded to ten bits of mantissa.
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _build(spec: dict[str, Any], seed: int, weights_dir: str | None) -> tuple[Vision, str]:
    """Builds the network, and says where its weights come from."""
    backend, where = spec["backend"], f"encoder {spec['name']}"
    if backend not in BACKENDS:
        raise StudyError(f"backend {backend} builds no network", where, f"known are: {', '.join(BACKENDS)}")
    origin = find_origin(spec, seed, weights_dir)
    try:
        module = importlib.import_module(f"slidestudy.features.backends.{BACKENDS[backend]}")
    except ModuleNotFoundError as error:
        raise StudyError(f"the package {error.name} is not installed", where, f"pip install {error.name}") from None
    torch.manual_seed(seed)
    try:
        return module.build(spec, origin), origin.words
    except StudyError as error:
        problem = error.problems[0]
        raise StudyError(problem.what, problem.where or where, problem.remedy) from None


class TorchEncoder:
    """A network without its classifier, on the GPU where there is one.

    A tile is resized to `input_size` (antialiased, not beyond black and white), normalised by mean and SD, and encoded;
    half precision is autocast, the weights stay fp32.

    Args:
        spec: The encoder's entry, with its `name`; files absolute.
        tile_size: Tile side, px.
        seed: Seed of untrained weights.
        threads: CPU threads.
        weights_dir: Folder that `slidestudy encoders fetch` filled.
        tile_mpp: Resolution of the tiles, um/px; where given, tiles that the entry does not name are recorded.

    Raises:
        StudyError: The model or its weights cannot be had or do not fit, half precision is asked for without a GPU, or
            nothing states mean and SD.
    """

    def __init__(
        self,
        spec: dict[str, Any],
        tile_size: int,
        seed: int,
        threads: int,
        weights_dir: str | None = None,
        tile_mpp: float | None = None,
    ) -> None:
        self._name = spec["name"]
        self._where = f"encoder {self._name}"
        self._device = _prepare(threads)
        precision = spec.get("precision", "fp32")
        if precision != "fp32" and self._device.type == "cpu":
            raise StudyError(
                f"precision {precision} needs a GPU, and none was found", self._where, "set precision: fp32"
            )
        vision, source = _build(spec, seed, weights_dir)
        self._set_statistics(spec, vision)
        self._size = int(spec.get("input_size", tile_size))
        self._interpolation = spec.get("interpolation", "bicubic")
        self._dtype = PRECISIONS[precision]
        digest = weights_digest(vision.module)
        # Convolutions are faster on a GPU where the channels stand last.
        on_gpu = self._device.type == "cuda"
        self._layout = torch.channels_last if on_gpu else torch.contiguous_format
        vision.module.eval().requires_grad_(False).to(self._device)
        if on_gpu:
            vision.module.to(memory_format=torch.channels_last)
        self.network = vision.module
        """The network that the vectors come from, its weights frozen."""
        self._features = torch.compile(vision.features) if spec.get("compile") else vision.features
        preprocessing = self._describe(spec, tile_size, tile_mpp)
        dim = self._probe(tile_size, bool(spec.get("compile")))
        self.identity = EncoderIdentity(
            self._name, spec["backend"], str(spec["architecture"]), dim, source, digest, precision, preprocessing
        )

    def _set_statistics(self, spec: dict[str, Any], vision: Vision) -> None:
        """Sets mean and SD: the entry's, else the weights' own."""
        mean, std = spec.get("mean", vision.mean), spec.get("std", vision.std)
        if mean is None or std is None:
            raise StudyError(
                "neither the entry nor the weights state mean and SD", self._where, "give `mean` and `std`"
            )
        self._mean = torch.tensor(mean, device=self._device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=self._device).view(1, 3, 1, 1)

    def _describe(self, spec: dict[str, Any], tile_size: int, tile_mpp: float | None) -> dict[str, Any]:
        """What a store says of the preprocessing and pooling."""
        described: dict[str, Any] = {
            "input_size": self._size,
            "mean": [round(v, 6) for v in self._mean.flatten().tolist()],
            "std": [round(v, 6) for v in self._std.flatten().tolist()],
            "resize": f"{self._interpolation}, antialiased",
            "pooling": spec.get("pooling", "model"),
        }
        if spec.get("compile"):
            described["compile"] = True
        tiles = {"size": tile_size, "mpp": tile_mpp}
        if tile_mpp is not None and not tiles_fit(spec, tiles):
            described["tiles"] = f"{describe_tiles([tiles])}, though meant for {describe_tiles(spec['tiles'])}"
        return described

    def _probe(self, tile_size: int, compiled: bool) -> int:
        """Encodes one black tile, and gives the length of its vector."""
        try:
            return int(self._forward(np.zeros((1, tile_size, tile_size, 3), np.uint8)).shape[1])
        except StudyError as error:
            raise StudyError(error.problems[0].what, self._where, error.problems[0].remedy) from None
        except Exception as error:
            what = f"cannot encode a tile of {self._size} px ({first_line(error)})"
            remedy = "set `compile: false`" if compiled else "correct `input_size`, `pooling` or `arguments`"
            raise StudyError(what, self._where, remedy) from None

    @torch.inference_mode()
    def _forward(self, tiles: NDArray[np.uint8]) -> torch.Tensor:
        return self.vectors(tiles)

    def vectors(self, tiles: NDArray[np.uint8]) -> torch.Tensor:
        """Encodes tiles, uint8 (n, size, size, 3), as float32 (n, dim) on the device, with gradients where asked for.

        Gradients begin at layers that a hook gives something that needs them: the weights are frozen.
        """
        batch = torch.from_numpy(tiles).to(self._device).permute(0, 3, 1, 2).float() / 255
        if batch.shape[-1] != self._size:
            size = (self._size, self._size)
            batch = functional.interpolate(batch, size, mode=self._interpolation, antialias=True).clamp(0, 1)
        batch = ((batch - self._mean) / self._std).contiguous(memory_format=self._layout)
        with torch.autocast(self._device.type, dtype=self._dtype, enabled=self._dtype is not torch.float32):
            vectors = self._features(batch)
        return vectors.float()

    def encode(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encodes tiles, uint8 (n, size, size, 3), as float32 (n, dim).

        Raises:
            MemoryError: The device has not enough memory for so many tiles at once.
        """
        if not len(tiles):
            return np.zeros((0, self.identity.dim), np.float32)
        try:
            return self._forward(np.ascontiguousarray(tiles)).cpu().numpy()
        except torch.OutOfMemoryError as error:
            message = first_line(error)
        except RuntimeError as error:
            if CPU_MEMORY not in str(error):
                raise
            message = first_line(error)
        # Outside the handler, whose traceback would keep the batch alive.
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        raise MemoryError(f"{len(tiles)} tiles do not fit into the device's memory ({message})")
