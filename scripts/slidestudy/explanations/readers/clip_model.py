"""An image-text model of open_clip, with its tokenizer and preprocessing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch.nn import functional

from slidestudy.errors import StudyError
from slidestudy.explanations.readers.clip import ClipSettings
from slidestudy.explanations.readers.devices import prepare
from slidestudy.features.backends.open_clip_models import whole_model
from slidestudy.features.backends.origins import Kind, find_origin
from slidestudy.features.hub_sources import FOLDER_PREFIX
from slidestudy.features.state_dicts import first_line

__all__ = ["ClipModel"]


class ClipModel:
    """The model, ready to compare.

    Args:
        settings: Which one.

    Raises:
        StudyError: It cannot be made, or its weights cannot be had.
    """

    def __init__(self, settings: ClipSettings) -> None:
        spec = {"name": "of the clip reader", "backend": "open_clip"}
        spec |= {"architecture": settings.architecture, "weights": settings.weights}
        origin = find_origin(spec, settings.seed, None)
        torch.manual_seed(settings.seed)
        model: Any = whole_model(spec, origin)
        name = f"{FOLDER_PREFIX}{origin.path}" if origin.kind is Kind.FOLDER else settings.architecture
        try:
            self._tokenizer: Any = open_clip.get_tokenizer(name)
        except Exception as error:  # Whatever the tokenizer's library raises.
            where = f"explanations.reader.architecture {settings.architecture}"
            raise StudyError(f"its tokenizer cannot be had ({first_line(error)})", where) from None
        self._device = prepare(settings.device)
        self._model: Any = model.to(self._device).eval()
        described = PreprocessCfg(**open_clip.get_model_preprocess_cfg(model))
        self._transform: Any = image_transform_v2(described, is_train=False)
        self.scale = float(model.logit_scale.exp().item())

    def image_vectors(self, images: Sequence[npt.NDArray[np.uint8]], batch: int) -> npt.NDArray[np.float64]:
        """Unit vectors of images, shape `(images, dim)`.

        Args:
            images: uint8, each `(height, width, 3)`.
            batch: Images at a time.
        """
        parts = []
        with torch.inference_mode():
            for start in range(0, len(images), batch):
                tensors = [self._transform(Image.fromarray(image)) for image in images[start : start + batch]]
                parts.append(self._unit(self._model.encode_image(torch.stack(tensors).to(self._device))))
        return np.concatenate(parts)

    def text_vectors(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Unit vectors of texts, shape `(texts, dim)`."""
        with torch.inference_mode():
            return self._unit(self._model.encode_text(self._tokenizer(list(texts)).to(self._device)))

    @staticmethod
    def _unit(vectors: torch.Tensor) -> npt.NDArray[np.float64]:
        return functional.normalize(vectors.double(), dim=-1).cpu().numpy()
