"""Whether every encoder's weights can be had, found out before any job starts and without a download."""

from __future__ import annotations

import importlib.util
import urllib.request
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from slidestudy.errors import StudyError
from slidestudy.features.hub import DOWNLOAD, explain, find_local, has_token, hub_token, terms, terms_page
from slidestudy.features.hub_sources import FOLDER_PREFIX, HubSource, hub_source, library_url

TIMEOUT = 5.0
"""Seconds that the hub has to answer (our choice)."""
WITHOUT_NETWORK = ("stain-texture", "imported")
"""Backends that build no network."""


class Weights(StrEnum):
    """Where an encoder's weights are."""

    NOT_NEEDED = "not needed"
    LOCAL = "on this machine"
    HUB = "on the hub, to be downloaded at first use"
    STUDY = "trained by this study"
    IMPORTED = "not needed: features are imported"


@dataclass(frozen=True)
class Usability:
    """Whether an encoder can be used on this machine as it is.

    Attributes:
        usable: Whether it can.
        words: Why, or what is to be done.
    """

    usable: bool
    words: str


def check_encoders(encoders: dict[str, dict[str, Any]], weights_dir: str | None = None) -> None:
    """Checks that the weights of all encoders can be had.

    Costs nothing unless an encoder has `weights: hub`. Files are checked when the study is loaded.

    Args:
        encoders: The complete configuration's section `encoders`.
        weights_dir: Folder that `slidestudy encoders fetch` filled.

    Raises:
        StudyError: With every encoder whose weights are neither on this machine nor to be had from the hub.
    """
    problems = []
    for name, encoder in encoders.items():
        try:
            find_weights(name, encoder, weights_dir)
        except StudyError as error:
            problems += error.problems
    if problems:
        raise StudyError.of(problems)


def find_weights(name: str, encoder: dict[str, Any], weights_dir: str | None = None) -> Weights:
    """Finds an encoder's weights.

    Args:
        name: The encoder's name in the study.
        encoder: Its complete entry.
        weights_dir: Folder that `slidestudy encoders fetch` filled.

    Raises:
        StudyError: They are neither on this machine nor to be had from the hub; names the remedy.
    """
    if encoder["backend"] == "imported":
        return Weights.IMPORTED
    weights = encoder.get("weights")
    if encoder["backend"] in WITHOUT_NETWORK or weights == "none":
        return Weights.NOT_NEEDED
    if weights == "study":
        return Weights.STUDY
    where = f"encoder {name}, architecture {encoder.get('architecture')}"
    if weights is None:
        raise StudyError("its weights are a file that this entry does not name", where, _file_remedy(encoder))
    if weights != "hub":
        return Weights.LOCAL
    try:
        return _find_hub_weights(name, encoder, weights_dir)
    except StudyError as error:
        problem = error.problems[0]
        raise StudyError(problem.what, problem.where or where, problem.remedy) from None


def _file_remedy(encoder: dict[str, Any]) -> str:
    """How to give weights that are no part of a registry."""
    page = f" (from {encoder['page']})" if "page" in encoder else ""
    return f"give the file{page} as `weights:`"


def _find_hub_weights(name: str, encoder: dict[str, Any], weights_dir: str | None) -> Weights:
    """Finds weights that a library takes from the hub, or from a plain address."""
    architecture = str(encoder["architecture"])
    if architecture.startswith(FOLDER_PREFIX):
        if Path(architecture.removeprefix(FOLDER_PREFIX)).is_dir():
            return Weights.LOCAL
        raise StudyError("the folder does not exist", remedy="correct the path in `architecture`")
    source = hub_source(encoder)
    if source is None:
        return _find_url(library_url(encoder))
    if find_local(name, source, weights_dir) is not None:
        return Weights.LOCAL
    if encoder.get("gated") and not has_token(encoder):
        variable = encoder.get("token_env", "HF_TOKEN")
        what = f"the weights are gated, not on this machine, and {variable} holds no access token"
        raise StudyError(what, remedy=terms(encoder, source.repository))
    for names in (source.required, source.weights):
        if names and not any(_hub_has(encoder, source, file) for file in names):
            raise source.without(" or ".join(names))
    return Weights.HUB


def _hub_has(encoder: dict[str, Any], source: HubSource, name: str) -> bool:
    """Asks the hub for a file's metadata, and says why it does not give them."""
    import huggingface_hub as hub
    from huggingface_hub import errors

    url = hub.hf_hub_url(source.repository, name, revision=source.revision)
    try:
        hub.get_hf_file_metadata(url, timeout=TIMEOUT, token=hub_token(encoder))
    except errors.EntryNotFoundError:
        return False
    except Exception as error:  # Whatever the hub's HTTP client raises; it has been exchanged more than once.
        raise explain(error, encoder, source) from None
    return True


def _find_url(url: str) -> Weights:
    """Finds a file that a library takes from a plain address: in torch's cache, else on its server."""
    if _cached_url(url):
        return Weights.LOCAL
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT):
            return Weights.HUB
    except (OSError, ValueError) as error:
        what = f"the weights are not in the local cache, and {url} gives nothing ({error})"
        raise StudyError(what, remedy=DOWNLOAD) from None


def _cached_url(url: str) -> bool:
    """Whether torch has a file of a plain address in its cache."""
    import torch

    return (Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]).is_file()


def describe_usability(name: str, encoder: dict[str, Any], weights_dir: str | None = None) -> Usability:
    """Says whether an encoder can be used here, without asking the hub.

    Args:
        name: The encoder's name.
        encoder: Its entry.
        weights_dir: Folder that `slidestudy encoders fetch` filled.
    """
    backend, weights = encoder["backend"], encoder.get("weights")
    if backend in WITHOUT_NETWORK:
        return Usability(True, "no weights needed")
    if importlib.util.find_spec(backend) is None:
        return Usability(False, f"the package {backend} is not installed")
    if weights == "none":
        return Usability(True, "untrained: no weights needed")
    if weights == "study":
        return Usability(True, "trained by the study that uses it")
    if weights is None:
        return Usability(False, f"absent: {_file_remedy(encoder)}")
    if weights != "hub":
        present = Path(weights).exists()
        return Usability(present, f"{'weights present' if present else 'absent'}: {weights}")
    try:
        return _hub_usability(name, encoder, weights_dir)
    except StudyError as error:
        problem = error.problems[0]
        return Usability(False, f"{problem.where}: {problem.what} ({problem.remedy})".removeprefix(": "))


def _hub_usability(name: str, encoder: dict[str, Any], weights_dir: str | None) -> Usability:
    """The same for weights of the hub."""
    source = hub_source(encoder)
    if source is None:
        cached = _cached_url(library_url(encoder))
        return Usability(cached, "weights present" if cached else "absent: downloaded at first use")
    found = find_local(name, source, weights_dir)
    if found is not None:
        return Usability(True, f"weights present: {source.repository}@{found.commit[:8]}")
    how = f"slidestudy encoders fetch {name}"
    if encoder.get("gated"):
        page, variable = terms_page(encoder, source.repository), encoder.get("token_env", "HF_TOKEN")
        token = "a token was found" if has_token(encoder) else f"no token in {variable}"
        return Usability(False, f"gated, {token}: terms at {page}, then {how}")
    return Usability(False, f"absent: {how}")
