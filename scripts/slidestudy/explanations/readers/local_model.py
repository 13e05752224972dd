"""A vision-language model of transformers, loaded and ready to answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from PIL import Image

from slidestudy.errors import StudyError
from slidestudy.explanations.readers.devices import prepare
from slidestudy.explanations.readers.local import LocalSettings
from slidestudy.features.state_dicts import first_line

__all__ = ["LoadedModel"]


class LoadedModel:
    """A model and its processor.

    Args:
        settings: Which one.

    Raises:
        StudyError: It cannot be had, or is no vision-language model that can be talked to.
    """

    def __init__(self, settings: LocalSettings) -> None:
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self._where = f"explanations.reader.weights {settings.weights}"
        self._device = prepare(settings.device)
        dtype: Any = settings.dtype if settings.dtype == "auto" else getattr(torch, settings.dtype)
        try:
            self._processor: Any = transformers.AutoProcessor.from_pretrained(settings.weights)
            loaded: Any = transformers.AutoModelForImageTextToText.from_pretrained(
                settings.weights, dtype=dtype, output_loading_info=True
            )
        except Exception as error:  # Whatever the library, the hub's client and the files make of it.
            remedy = "give a folder, or owner/name of a model that is in the hub's cache or can be downloaded"
            raise StudyError(f"the model cannot be loaded ({first_line(error)})", self._where, remedy) from None
        model, missing = loaded[0], sorted(loaded[1]["missing_keys"])
        if missing:
            listed = ", ".join(missing[:5])
            raise StudyError(f"the weights lack {listed}", self._where, "download the model again")
        if not getattr(self._processor, "chat_template", None):
            remedy = "choose a model that was tuned to follow instructions"
            raise StudyError("the model has no chat template", self._where, remedy)
        self._model: Any = model.to(self._device).eval()

    def answer(
        self, prompt: str, images: Sequence[npt.NDArray[np.uint8]], request: dict[str, Any], temperature: float | None
    ) -> tuple[str, int, int]:
        """Answers a question.

        Args:
            prompt: The text.
            images: uint8, each `(height, width, 3)`; shown before the text.
            request: `max_tokens`, and the `seed` of this question.
            temperature: 0 takes the likeliest words; None leaves it to the model's own settings.

        Returns:
            The text, and the tokens of question and answer.

        Raises:
            StudyError: The memory does not suffice, or the model takes no such question.
        """
        content: list[dict[str, Any]] = [{"type": "image", "image": Image.fromarray(image)} for image in images]
        messages = [{"role": "user", "content": [*content, {"type": "text", "text": prompt}]}]
        sampling: dict[str, Any] = {"max_new_tokens": request["max_tokens"]}
        if temperature is not None:
            sampling["do_sample"] = temperature > 0
        if temperature:
            sampling["temperature"] = temperature
        torch.manual_seed(request["seed"] or 0)
        try:
            inputs = self._processor.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
            ).to(self._device, dtype=self._model.dtype)
            with torch.inference_mode():
                tokens = self._model.generate(**inputs, **sampling)
        except torch.OutOfMemoryError:
            remedy = "set dtype: bfloat16, or choose a smaller model"
            raise StudyError("the memory of the GPU does not suffice", self._where, remedy) from None
        except (ValueError, KeyError, TypeError) as error:
            raise StudyError(f"the model takes no such question ({first_line(error)})", self._where) from None
        taken = inputs["input_ids"].shape[1]
        given = tokens[:, taken:]
        return self._processor.batch_decode(given, skip_special_tokens=True)[0].strip(), taken, given.shape[1]
