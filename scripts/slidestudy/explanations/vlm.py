"""A reader that asks a vision-language model behind any OpenAI-compatible endpoint.

The model sees a patch once, to describe it; the answer is then predicted from the description and the
explanation alone (X2X, arXiv 2508.09205). Prompts are text files that the user edits. The key is read from an
environment variable that the settings name, so that no key ever stands in a configuration.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from slidestudy.errors import StudyError
from slidestudy.explanations.answers import Answer, AnswerStatus, answer_from_text
from slidestudy.explanations.grammar import strip_comments
from slidestudy.explanations.protocol import Patch

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["FAILED_DESCRIPTION", "VlmReader", "VlmSettings", "data_url", "fill_template"]

FAILED_DESCRIPTION = "DESCRIPTION FAILED: "
"""How the text of a patch begins that the model could not be asked about; the reason follows."""

_FIELD = re.compile(r"\{(description|explanation)\}")
_IMAGE_FORMATS = {"png": (".png", "image/png"), "jpeg": (".jpg", "image/jpeg")}


@dataclass(frozen=True)
class VlmSettings:
    """How a vision-language model is reached and asked."""

    model: str
    describe_prompt: Path
    answer_prompt: Path
    base_url: str | None = None
    """Address of the endpoint, e.g. http://localhost:8000/v1; None for the client's default."""
    api_key_env: str | None = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; None for an endpoint that asks for none."""
    temperature: float = 0.0
    seed: int | None = 0
    max_tokens: int = 1024
    timeout: float = 120.0
    """Seconds that one attempt may take."""
    retries: int = 4
    """Further attempts after a failed one; the client waits longer before each."""
    image_format: str = "png"
    """png (lossless) or jpeg (quality 95)."""


class _CallFailed(Exception):
    """One question stayed without an answer; the message is the reason."""


class VlmReader:
    """Describes patches, and answers from their descriptions, with a vision-language model.

    A question that fails after all retries costs that question only: it is recorded as failed, with the
    reason. As long as no question has succeeded, an endpoint that cannot be reached or refuses the key or
    model stops the run instead.
    """

    is_vlm = True

    def __init__(self, settings: VlmSettings) -> None:
        """Read the prompts and prepare the client; nothing is sent yet.

        Raises:
            StudyError: a prompt is missing or lacks a field, the key's variable is not set, the image format
            is unknown.
        """
        if settings.image_format not in _IMAGE_FORMATS:
            raise StudyError(f"unknown image format {settings.image_format!r}", "image_format", "use png or jpeg")
        self.settings = settings
        self.name = f"vlm:{settings.model}"
        self._describe_prompt = _read_prompt(settings.describe_prompt, fields=())
        self._answer_prompt = _read_prompt(settings.answer_prompt, fields=("description", "explanation"))
        self._client = _client(settings)
        self._reached = False

    def describe_patches(self, images: Sequence[Patch]) -> list[str]:
        """Describe each patch by itself; a failed call gives `FAILED_DESCRIPTION` and its reason.

        Raises:
            StudyError: the endpoint cannot be reached, or refuses the key or the model, before any call
            succeeded.
        """
        return [self._describe(patch) for patch in images]

    def answer(self, patch_id: str, description: str, explanation: str) -> Answer:
        """Predict the score of a patch from its description and the explanation, which are all the model is
        sent.

        Raises:
            StudyError: as `describe_patches`.
        """
        if description.startswith(FAILED_DESCRIPTION):
            return Answer(patch_id, AnswerStatus.FAILED, None, description)
        fields = {"description": description, "explanation": strip_comments(explanation)}
        try:
            text = self._ask(fill_template(self._answer_prompt, fields))
        except _CallFailed as failure:
            return Answer(patch_id, AnswerStatus.FAILED, None, str(failure))
        return answer_from_text(patch_id, text)

    def _describe(self, patch: Patch) -> str:
        content: list[dict[str, Any]] = [
            {"type": "text", "text": self._describe_prompt},
            {"type": "image_url", "image_url": {"url": data_url(patch.rgb, self.settings.image_format)}},
        ]
        try:
            return self._ask(content)
        except _CallFailed as failure:
            return f"{FAILED_DESCRIPTION}{failure}"

    def _ask(self, content: str | list[dict[str, Any]]) -> str:
        import openai

        request: dict[str, Any] = {
            "model": self.settings.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": self.settings.temperature,
            "max_tokens": self.settings.max_tokens,
        }
        if self.settings.seed is not None:
            request["seed"] = self.settings.seed
        try:
            reply = self._client.chat.completions.create(**request)
        except openai.OpenAIError as error:
            if not self._reached:
                _stop_if_hopeless(error, self.settings)
            raise _CallFailed(f"{type(error).__name__}: {error}") from error
        except ValueError as error:
            raise _CallFailed(f"the endpoint's reply is not JSON: {error}") from error
        text = _text_of(reply)
        self._reached = True
        return text


def data_url(rgb: npt.NDArray[np.uint8], image_format: str = "png") -> str:
    """Encode a uint8 RGB image, shape (height, width, 3), as a base64 data URL."""
    suffix, mime = _IMAGE_FORMATS[image_format]
    options = [cv2.IMWRITE_JPEG_QUALITY, 95] if image_format == "jpeg" else []
    _, encoded = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    return f"data:{mime};base64,{base64.b64encode(encoded.tobytes()).decode('ascii')}"


def fill_template(template: str, fields: dict[str, str]) -> str:
    """Put texts into a prompt's ``{description}`` and ``{explanation}``; braces inside them stay."""
    return _FIELD.sub(lambda match: fields[match[1]], template)


def _read_prompt(path: Path, fields: Sequence[str]) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"the prompt cannot be read: {error}", str(path), "name an existing text file") from error
    if not text:
        raise StudyError("the prompt is empty", str(path), "write what the model is to be asked")
    missing = [name for name in fields if f"{{{name}}}" not in text]
    if missing:
        named = " and ".join(f"{{{name}}}" for name in missing)
        raise StudyError(f"the prompt lacks {named}", str(path), f"put {named} where the text is to stand")
    return text


def _client(settings: VlmSettings) -> OpenAI:
    from openai import OpenAI

    key = "none" if settings.api_key_env is None else os.environ.get(settings.api_key_env, "")
    if not key:
        raise StudyError(
            f"the environment variable {settings.api_key_env} is not set",
            "api_key_env",
            "export the key, or set api_key_env to null for an endpoint that needs none",
        )
    return OpenAI(api_key=key, base_url=settings.base_url, timeout=settings.timeout, max_retries=settings.retries)


def _stop_if_hopeless(error: Exception, settings: VlmSettings) -> None:
    """Turn an error that every further call would meet again into one message to the user."""
    import openai

    where = settings.base_url or "the default endpoint of the openai client"
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        remedy = f"check the key in the environment variable {settings.api_key_env}"
        raise StudyError(f"the endpoint refused the key: {error}", where, remedy) from error
    if isinstance(error, openai.NotFoundError):
        remedy = "check base_url and the model's name"
        raise StudyError(f"the endpoint does not know the model {settings.model}: {error}", where, remedy) from error
    if isinstance(error, openai.APIConnectionError) and not isinstance(error, openai.APITimeoutError):
        raise StudyError("the endpoint cannot be reached", where, "check base_url, and that the server runs") from error


def _text_of(reply: Any) -> str:
    try:
        text = reply.choices[0].message.content
    except (AttributeError, IndexError, TypeError) as error:
        raise _CallFailed(f"the endpoint's reply is not a chat completion: {str(reply)[:200]!r}") from error
    if not isinstance(text, str) or not text.strip():
        raise _CallFailed("the model returned no text")
    return text
