"""The way to a vision-language model that runs on this machine, by way of transformers."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slidestudy.errors import StudyError
from slidestudy.explanations.readers.calls import Call, CallFailed, Meter, Reply, Sampling, Verdict
from slidestudy.files import file_digest

__all__ = ["LocalModel", "LocalSettings", "folder_digest"]

WHOLE = 64 * 2**20
"""Bytes up to which a file of a model goes into its digest entirely; of larger ones both ends do."""
END = 2**20


@dataclass(frozen=True)
class LocalSettings:
    """The model.

    Attributes:
        weights: A folder with the model and its processor, or a repository of the hub, owner/name.
        device: `auto`, `cpu` or `cuda`.
        dtype: Precision: `auto` (the weights' own), `float32`, `bfloat16` or `float16`.
    """

    weights: str
    device: str = "auto"
    dtype: str = "auto"


class LocalModel:
    """The way to a model on this machine (`calls.Channel`). It is loaded when the first question is sent."""

    kind = "transformers"
    concurrency = 1
    address = ""
    structured = "text"

    def __init__(self, settings: LocalSettings, sampling: Sampling) -> None:
        """Finds the model; a folder is digested, so that other weights of the same name are asked anew.

        Raises:
            StudyError: The weights are a path where there is no folder.
        """
        self._settings, self.sampling = settings, sampling
        self.repeatable = not sampling.temperature
        self._loaded: Any = None
        folder = Path(settings.weights)
        self.name = settings.weights
        if folder.is_absolute():
            if not folder.is_dir():
                where = "explanations.reader.weights"
                raise StudyError(f"the folder {folder} does not exist", where, "correct the path")
            self.name = folder.name
            self.model = f"{folder.name}@{folder_digest(folder)}, {settings.dtype}"
        else:
            self.model = f"{settings.weights}, {settings.dtype}"

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Nothing is to be held."""
        yield

    def stop(self) -> None:
        """Nothing is under way beside the question that stopped the run."""

    async def send(self, call: Call, request: dict[str, Any], meter: Meter) -> Reply:
        """Answers a question (see `calls.Channel`)."""
        try:
            meter.reserve()
        except StudyError as cap:
            raise CallFailed(str(cap), 0, Verdict.END, cap) from None
        try:
            if self._loaded is None:
                from slidestudy.explanations.readers.local_model import LoadedModel

                self._loaded = LoadedModel(self._settings)
            text, taken, given = self._loaded.answer(call.prompt, call.images, request, self.sampling.temperature)
        except StudyError as error:
            raise CallFailed(str(error), 1, Verdict.END, error) from None
        return Reply(text, 1, taken, given, 0.0)


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names, sizes and contents of a folder's files (of large ones both ends), 16 hex digits."""
    sha = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")):
        size = path.stat().st_size
        sha.update(f"{path.name} {size} ".encode())
        if size <= WHOLE:
            sha.update(file_digest(path).encode())
            continue
        with path.open("rb") as stream:
            sha.update(stream.read(END))
            stream.seek(-END, 2)
            sha.update(stream.read())
    return sha.hexdigest()[:16]
