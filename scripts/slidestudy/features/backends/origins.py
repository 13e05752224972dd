"""Where an encoder's weights lie on this machine, and what a store says of that."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

from slidestudy.errors import StudyError
from slidestudy.features.hub import HubFiles, obtain
from slidestudy.features.hub_sources import FOLDER_PREFIX, HUB_FILE, HUB_PREFIXES, hub_source, split_hub_file


class Kind(Enum):
    """What the weights are."""

    NONE = auto()
    """Untrained."""
    FILE = auto()
    """One file with a state dict."""
    FOLDER = auto()
    """A folder with the model's description and its weights, as the library reads it."""
    TIMM_FILE = auto()
    """A file of timm's own, whose layout timm knows."""
    LIBRARY = auto()
    """What the library loads by itself."""


@dataclass(frozen=True)
class Origin:
    """Where weights are.

    Attributes:
        kind: What they are.
        words: What a store says of them.
        path: The file or folder; None where there is none.
    """

    kind: Kind
    words: str
    path: Path | None = None

    def where(self, name: str) -> str:
        """The encoder and its weights, for messages."""
        return f"encoder {name}, weights {self.path or self.words}"


def find_origin(spec: dict[str, Any], seed: int, weights_dir: str | None) -> Origin:
    """Finds an encoder's weights, and downloads them where they are not on this machine.

    Args:
        spec: The entry, with its `name`; files absolute.
        seed: Seed of untrained weights.
        weights_dir: Folder that `slidestudy encoders fetch` filled.

    Raises:
        StudyError: The entry names no weights, or they cannot be had.
    """
    name, weights, architecture = spec["name"], spec.get("weights"), str(spec.get("architecture", ""))
    where = f"encoder {name}, architecture {architecture}"
    if weights is None or weights == "study":
        what = "its weights are trained by the study, which has not been done" if weights else "names no weights"
        raise StudyError(what, where, "give a file as `weights:`")
    if weights == "none":
        return Origin(Kind.NONE, f"none: UNTRAINED random weights, seed {seed}")
    if weights != "hub" or architecture.startswith(FOLDER_PREFIX):
        path = Path(weights if weights != "hub" else architecture.removeprefix(FOLDER_PREFIX))
        return _fitting(spec, _local_origin(spec, path))
    try:
        source = hub_source(spec)
        if source is None:
            return _fitting(spec, Origin(Kind.LIBRARY, f"hub: {architecture}"))
        files = obtain(name, spec, source, weights_dir)
    except StudyError as error:
        problem = error.problems[0]
        raise StudyError(problem.what, problem.where or where, problem.remedy) from None
    return _fitting(spec, _hub_origin(spec, files, f"hub: {source.repository}@{files.commit}"))


def _local_origin(spec: dict[str, Any], path: Path) -> Origin:
    """The origin of a file or folder that the user names."""
    words = f"file: {path.name}"
    if not path.is_dir():
        return Origin(Kind.FILE, words, path)
    if HUB_FILE in spec.get("arguments", {}):
        # A copy of the repository, of which one file is meant.
        return Origin(Kind.FILE, words, path / split_hub_file(spec["arguments"][HUB_FILE])[1])
    return Origin(Kind.FOLDER, words, path)


def _fitting(spec: dict[str, Any], origin: Origin) -> Origin:
    """Refuses weights that a library loads by itself where keys are to be renamed or a head has weights of its own."""
    needs = "rename" if spec.get("rename") else "head" if "head" in spec.get("arguments", {}) else None
    if needs is not None and origin.kind is not Kind.FILE:
        what = f"`{needs}` needs weights that are one file with a state dict"
        raise StudyError(
            what, origin.where(spec["name"]), "give the file as `weights:`, or `arguments: {hub_file: ...}`"
        )
    return origin


def _hub_origin(spec: dict[str, Any], files: HubFiles, words: str) -> Origin:
    """The origin of files of the hub."""
    if HUB_FILE in spec.get("arguments", {}):
        return Origin(Kind.FILE, words, files.folder / files.weights)
    if spec["backend"] == "timm" and not str(spec["architecture"]).startswith(HUB_PREFIXES):
        return Origin(Kind.TIMM_FILE, words, files.folder / files.weights)
    return Origin(Kind.FOLDER, words, files.folder)
