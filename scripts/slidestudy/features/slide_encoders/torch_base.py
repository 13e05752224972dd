"""What all published slide encoders share: checks, device, precision, and one vector of the length that is stated."""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from slidestudy.errors import StudyError
from slidestudy.features.slide_encoders.identity import Requirement, SlideEncoderIdentity, check_patch_features
from slidestudy.features.state_dicts import first_line, weights_digest
from slidestudy.features.store import FeatureStore

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def grid_cells(coords: NDArray[np.int32], extent: float) -> NDArray[np.int64]:
    """The column and row of each tile in the slide's grid.

    Coordinates are whole pixels and a tile's side need not be: a plain division would put some tiles into their
    neighbour's cell.

    Args:
        coords: Left and top edges (n, 2), level-0 px.
        extent: A tile's side in level-0 px.

    Returns:
        (n, 2), counted from the slide's corner.
    """
    origin = coords.min(axis=0)
    first = np.floor((origin + 0.5) / extent)
    return (np.rint((coords - origin) / extent) + first).astype(np.int64)


class PublishedSlideEncoder(ABC):
    """A slide encoder whose authors published weights.

    Args:
        spec: The complete entry, with its `name`.
        attributes: Attributes of one of the feature stores to be encoded.
        threads: CPU threads.

    Attributes:
        backend: Its name in the configuration.
        dim: Length of its vectors.
        requirement: The patch features that it reads.
        identity: What the store says of it.

    Raises:
        StudyError: Other patch features, a missing package, weights that cannot be had, or half precision without a
            GPU.
    """

    backend: ClassVar[str]
    dim: ClassVar[int]
    requirement: ClassVar[Requirement]

    def __init__(self, spec: dict[str, Any], attributes: Mapping[str, Any], threads: int) -> None:
        self._where = f"slide encoder {spec['name']}"
        check_patch_features(spec["name"], self.backend, self.requirement, attributes)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        precision = spec["precision"]
        if precision != "fp32" and self._device.type == "cpu":
            what = f"precision {precision} needs a GPU, and none was found"
            raise StudyError(what, self._where, "set precision: fp32")
        self._dtype = PRECISIONS[precision]
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Parts that an author's file has not got would be drawn at random.
        torch.manual_seed(0)
        model, source = self._load(spec)
        self._model: Any = model.eval().to(self._device)
        self.identity = SlideEncoderIdentity(
            spec["name"], self.backend, spec["encoder"], self.dim, source, weights_digest(model), precision
        )

    @abstractmethod
    def _load(self, spec: dict[str, Any]) -> tuple[torch.nn.Module, str]:
        """Builds the model; returns it with where its weights come from."""

    @abstractmethod
    def _forward(self, features: torch.Tensor, coords: NDArray[np.int32], extent: float) -> torch.Tensor:
        """The slide's vector, of features (1, n_tiles, patch dim) on the device; coordinates in level-0 px."""

    def encode(self, store: FeatureStore) -> NDArray[np.float32]:
        """Encodes a slide as float32 (dim,).

        Raises:
            StudyError: Other patch features, too little memory, or an output that is not one finite vector of `dim`.
        """
        slide = str(store.attributes.get("slide_id", ""))
        check_patch_features(self.identity.name, self.backend, self.requirement, store.attributes)
        features = torch.from_numpy(store.features.astype(np.float32)).unsqueeze(0).to(self._device)
        extent = float(store.attributes["tile_size_level0"])
        half = self._dtype != torch.float32
        try:
            with torch.inference_mode(), torch.autocast(self._device.type, self._dtype, enabled=half):
                vector = self._forward(features, store.coords, extent).float().cpu().numpy().squeeze()
        except (torch.OutOfMemoryError, MemoryError):
            what = f"the memory does not suffice for slide {slide} of {len(store.features)} tiles"
            remedy = "use a GPU with more memory or precision: fp16"
            raise StudyError(what, self._where, remedy) from None
        except StudyError:
            raise
        except Exception as error:
            # The authors' code is not ours: its traceback is in the log, and the message says what it complains of.
            traceback.print_exc()
            what = f"the model's own code failed on slide {slide} ({first_line(error)})"
            raise StudyError(what, self._where, "install the versions that the model's page names") from None
        if vector.shape != (self.dim,) or not np.isfinite(vector).all():
            got = "not finite" if vector.shape == (self.dim,) else f"of shape {vector.shape}, not ({self.dim},)"
            what = f"the vector of slide {slide} is {got}"
            raise StudyError(what, self._where, "use the weights and the code of the version that the entry names")
        return np.asarray(vector, np.float32)
