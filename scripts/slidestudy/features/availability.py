"""Whether every encoder's weights can be had, found out before any job starts and without a download."""

from __future__ import annotations

import difflib
import urllib.request
from enum import StrEnum
from pathlib import Path
from typing import Any

from slidestudy.errors import StudyError

TIMEOUT = 5.0
"""Seconds that the hub has to answer (our choice)."""
HUB_PREFIXES = ("hf-hub:", "hf_hub:")
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names under which timm looks for weights in a hub repository, in its order."""
DOWNLOAD = "download them on a machine with internet and copy its Hugging Face cache here, or give a file as `weights:`"
TERMS = "accept the model's terms on its page, set HF_TOKEN to your access token, or give a file as `weights:`"


class Weights(StrEnum):
    """Where an encoder's weights are."""

    NOT_NEEDED = "not needed"
    LOCAL = "on this machine"
    HUB = "on the hub, to be downloaded at first use"


def check_encoders(encoders: dict[str, dict[str, Any]]) -> None:
    """Checks that the weights of all encoders can be had.

    Costs nothing unless an encoder has `weights: hub`. Files are checked when the study is loaded.

    Args:
        encoders: The complete configuration's section `encoders`.

    Raises:
        StudyError: With every encoder whose weights are neither in the local cache nor to be had from the hub.
    """
    problems = []
    for name, encoder in encoders.items():
        try:
            find_weights(name, encoder)
        except StudyError as error:
            problems += error.problems
    if problems:
        raise StudyError.of(problems)


def find_weights(name: str, encoder: dict[str, Any]) -> Weights:
    """Finds an encoder's weights.

    Args:
        name: The encoder's name in the study.
        encoder: Its complete entry.

    Raises:
        StudyError: They are neither in the local cache nor to be had from the hub; names the remedy.
    """
    if encoder["backend"] != "timm" or encoder["weights"] == "none":
        return Weights.NOT_NEEDED
    if encoder["weights"] != "hub":
        return Weights.LOCAL
    architecture = str(encoder["architecture"])
    try:
        return _find_hub_weights(architecture)
    except StudyError as error:
        problem = error.problems[0]
        where = f"encoder {name}, architecture {architecture}"
        raise StudyError(problem.what, where, problem.remedy) from None


def _find_hub_weights(architecture: str) -> Weights:
    """Finds the weights that timm would take for an architecture with `pretrained=True`."""
    if architecture.startswith("local-dir:"):
        if Path(architecture.removeprefix("local-dir:")).is_dir():
            return Weights.LOCAL
        raise StudyError("the folder does not exist", remedy="correct the path in `architecture`")
    if architecture.startswith(HUB_PREFIXES):
        repository, _, revision = architecture.split(":", 1)[1].partition("@")
        # Such a model is described by its repository's config.json, which timm needs as well.
        places = [
            _find_in_repository(repository, names, revision or None) for names in (("config.json",), WEIGHT_FILES)
        ]
        return Weights.HUB if Weights.HUB in places else Weights.LOCAL
    repository, filename, url = _registered_source(architecture)
    if repository:
        return _find_in_repository(repository, (filename,) if filename else WEIGHT_FILES, None)
    return _find_url(url)


def _registered_source(architecture: str) -> tuple[str, str, str]:
    """Hub repository, file name there (mostly blank) and URL of the weights of a model of timm's own."""
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
    return found.hf_hub_id or "", found.hf_hub_filename or "", str(found.url or "")


def _find_in_repository(repository: str, names: tuple[str, ...], revision: str | None) -> Weights:
    """Finds one of several files in the local cache, else on the hub."""
    import huggingface_hub as hub
    from huggingface_hub.errors import HFValidationError

    try:
        if any(isinstance(hub.try_to_load_from_cache(repository, name, revision=revision), str) for name in names):
            return Weights.LOCAL
    except HFValidationError:
        what = f"'{repository}' is no name of a hub repository"
        raise StudyError(what, remedy="write hf-hub:owner/name") from None
    if any(_hub_has(repository, name, revision) for name in names):
        return Weights.HUB
    what = f"the weights are not in the local cache, and the hub has no {' or '.join(names)} in {repository}"
    raise StudyError(what, remedy="correct `architecture`, or give a file as `weights:`")


def _hub_has(repository: str, name: str, revision: str | None) -> bool:
    """Asks the hub for a file's metadata, and says why it does not give them."""
    import huggingface_hub as hub
    from huggingface_hub import errors

    try:
        hub.get_hf_file_metadata(hub.hf_hub_url(repository, name, revision=revision), timeout=TIMEOUT)
    except errors.EntryNotFoundError:
        return False
    except errors.GatedRepoError:
        what, remedy = f"the weights are gated: {repository} wants its terms accepted", TERMS
    except errors.RepositoryNotFoundError:
        what, remedy = f"the hub shows no repository {repository}", f"correct the name; if it is gated, {TERMS}"
    except errors.RevisionNotFoundError:
        what, remedy = f"{repository} has no revision '{revision}'", "correct what follows the @"
    except errors.OfflineModeIsEnabled:
        what = "the weights are not in the local cache, and HF_HUB_OFFLINE forbids asking the hub"
        remedy = DOWNLOAD
    except Exception as error:  # Whatever the hub's HTTP client raises; it has been exchanged more than once.
        first = (str(error).splitlines() or [type(error).__name__])[0]
        what, remedy = f"the weights are not in the local cache, and the hub cannot be reached ({first})", DOWNLOAD
    else:
        return True
    raise StudyError(what, remedy=remedy)


def _find_url(url: str) -> Weights:
    """Finds a file that timm takes from a plain address: in torch's cache, else on its server."""
    import torch

    if (Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]).is_file():
        return Weights.LOCAL
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT):
            return Weights.HUB
    except OSError as error:
        what = f"the weights are not in the local cache, and {url} gives nothing ({error})"
        raise StudyError(what, remedy=DOWNLOAD) from None
