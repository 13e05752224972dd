"""Which files of which hub repository an encoder's weights are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from slidestudy.errors import StudyError

HUB_PREFIXES = ("hf-hub:", "hf_hub:")
FOLDER_PREFIX = "local-dir:"
HUB_FILE = "hub_file"
"""The argument that names a file of a hub repository."""
SHARDS = ".index.json"
"""Ends the name of a file that lists the files over which large weights are spread."""
WEIGHT_FILES = {
    "timm": ("model.safetensors", "pytorch_model.bin"),
    "transformers": (
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
    ),
    "open_clip": (
        "open_clip_model.safetensors",
        "open_clip_pytorch_model.safetensors",
        "open_clip_pytorch_model.bin",
        "model.safetensors",
    ),
}
"""Names under which each library looks for weights in a repository, in its order."""
DESCRIPTIONS = {"timm": "config.json", "transformers": "config.json", "open_clip": "open_clip_config.json"}
"""The file that describes a repository's model."""
EXTRAS = {"timm": (), "transformers": ("preprocessor_config.json",), "open_clip": ()}
"""Files that are used where there are any."""


@dataclass(frozen=True)
class HubSource:
    """Files of a hub repository.

    Attributes:
        repository: `owner/name`.
        revision: The commit, branch or tag that is wanted; None for the default branch.
        required: Files without which the model cannot be built.
        weights: Alternative names of the weights file, the first that there is counts.
        optional: Files that are taken along where there are any; `*.py` means all code.
    """

    repository: str
    revision: str | None
    required: tuple[str, ...]
    weights: tuple[str, ...]
    optional: tuple[str, ...] = ()

    def choose(self, names: Iterable[str]) -> list[str]:
        """The files that are needed, of all those of the repository.

        Args:
            names: The repository's files.

        Raises:
            StudyError: A file is not among them.
        """
        present = set(names)
        weights = next((name for name in self.weights if name in present), None)
        absent = [name for name in self.required if name not in present]
        if weights is None or absent:
            raise self.without(" or ".join(absent or self.weights))
        chosen = [*self.required, weights]
        if weights.endswith(SHARDS):
            # Shards are named <stem>-00001-of-00002.<suffix>.
            stem, suffix = weights.removesuffix(SHARDS).rsplit(".", 1)
            chosen += [n for n in present if n.startswith(f"{stem}-") and n.endswith(f".{suffix}")]
        for name in self.optional:
            chosen += [n for n in present if n == name or (name == "*.py" and n.endswith(".py"))]
        return sorted(set(chosen))

    def without(self, names: str) -> StudyError:
        """The error of a repository that lacks files."""
        what = f"the weights are not in the local cache, and the hub has no {names} in {self.repository}"
        return StudyError(what, remedy="correct `architecture`, or give a file as `weights:`")


def split_hub_file(text: Any) -> tuple[str, str]:
    """Repository and file of `owner/name/file`.

    Raises:
        StudyError: It is not written so.
    """
    owner, name, file = (*str(text).split("/", 2), "", "")[:3]
    if not (owner and name and file):
        raise StudyError(f"'{text}' names no file of the hub", remedy="write hub_file: owner/name/file")
    return f"{owner}/{name}", file


def hub_source(entry: dict[str, Any]) -> HubSource | None:
    """The hub files of an entry with `weights: hub`; None where the library has them from elsewhere.

    Args:
        entry: An encoder's entry.

    Raises:
        StudyError: The architecture has no weights that could be downloaded.
    """
    backend, architecture = entry["backend"], str(entry.get("architecture", ""))
    arguments, revision = entry.get("arguments", {}), entry.get("revision")
    if HUB_FILE in arguments:
        repository, file = split_hub_file(arguments[HUB_FILE])
        return HubSource(repository, revision, (), (file,))
    if architecture.startswith(FOLDER_PREFIX) or backend == "torchvision":
        return None
    if backend == "timm" and not architecture.startswith(HUB_PREFIXES):
        repository, file = timm_repository(architecture)
        names = (file,) if file else WEIGHT_FILES["timm"]
        return HubSource(repository, revision, (), names) if repository else None
    if backend == "open_clip" and not architecture.startswith(HUB_PREFIXES):
        raise StudyError("this model has no weights on the hub", remedy="write the architecture as hf-hub:owner/name")
    repository, _, at = architecture.removeprefix(HUB_PREFIXES[0]).removeprefix(HUB_PREFIXES[1]).partition("@")
    code = ("*.py",) if arguments.get("trust_remote_code") else ()
    required, optional = (DESCRIPTIONS[backend],), (*EXTRAS[backend], *code)
    return HubSource(repository, revision or at or None, required, WEIGHT_FILES[backend], optional)


def timm_repository(architecture: str) -> tuple[str, str]:
    """Hub repository and file name there (mostly blank) of a model of timm's own; blank where timm has a plain URL.

    Raises:
        StudyError: timm knows no such model, or has no weights for it.
    """
    # Imported here, since timm takes seconds to load and most studies need not ask it.
    import timm
    from timm.models import get_pretrained_cfg

    base, _, tag = architecture.partition(".")
    if not timm.is_model(base):
        near = difflib.get_close_matches(base, timm.list_models(), n=1)
        hint = f"did you mean '{near[0]}'?" if near else "correct the name;"
        raise StudyError("timm knows no such model", remedy=f"{hint} a model of the hub is written hf-hub:owner/name")
    try:
        found = get_pretrained_cfg(architecture, allow_unregistered=False)
    except RuntimeError:
        found = None
    if found is None or not (found.hf_hub_id or found.url):
        what = f"timm has no weights '{tag}' for this model" if tag else "timm has no weights for this model"
        tags = ", ".join(timm.list_pretrained(f"{base}.*")[:5])
        raise StudyError(what, remedy=f"it has: {tags}" if tags else "use `weights: none` or a file")
    return found.hf_hub_id or "", found.hf_hub_filename or ""


def library_url(entry: dict[str, Any]) -> str:
    """The plain address from which a library takes its own weights; blank where there is none.

    Args:
        entry: An entry for which `hub_source` gives None.

    Raises:
        StudyError: The library has no weights for the architecture.
    """
    architecture = str(entry["architecture"])
    if entry["backend"] == "timm":
        from timm.models import get_pretrained_cfg

        found = get_pretrained_cfg(architecture, allow_unregistered=False)
        return str(found.url or "") if found else ""
    from torchvision import models

    try:
        return str(models.get_model_weights(architecture).DEFAULT.url)
    except (ValueError, AttributeError):
        remedy = "correct `architecture`, or use `weights: none` or a file"
        raise StudyError("torchvision has no weights for this model", remedy=remedy) from None
