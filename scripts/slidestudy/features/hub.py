"""Weights of the Hugging Face hub: found in its cache or in `weights_dir`, downloaded, and known by their commit."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slidestudy.errors import StudyError
from slidestudy.features.hub_sources import SHARDS, HubSource
from slidestudy.features.weight_folders import Manifest, find_folder, verify_folder, write_manifest
from slidestudy.files import remove

DOWNLOAD = (
    "download them on a machine with internet (slidestudy encoders fetch) and set `weights_dir`, copy its Hugging Face"
    " cache here, or give a file as `weights:`"
)


@dataclass(frozen=True)
class HubFiles:
    """Files of a hub repository on this machine.

    Attributes:
        folder: Where they lie, under their names in the repository.
        commit: The commit of the repository.
        weights: Name of the weights file.
    """

    folder: Path
    commit: str
    weights: str


def hub_token(entry: dict[str, Any]) -> str | None:
    """The access token in the variable that an entry names; None where it is not set."""
    return os.environ.get(entry.get("token_env", "HF_TOKEN")) or None


def has_token(entry: dict[str, Any]) -> bool:
    """Whether there is an access token, in the entry's variable or stored by the hub's own login."""
    import huggingface_hub as hub

    return bool(hub_token(entry) or hub.get_token())


def terms_page(entry: dict[str, Any], repository: str) -> str:
    """The page on which a gated model's terms are accepted."""
    return entry.get("page") or f"https://huggingface.co/{repository}"


def terms(entry: dict[str, Any], repository: str) -> str:
    """What to do about a gated model."""
    page, variable = terms_page(entry, repository), entry.get("token_env", "HF_TOKEN")
    return f"accept the terms at {page}, set {variable} to your access token, or give a file as `weights:`"


def find_cached(source: HubSource) -> HubFiles | None:
    """Finds files in the hub's local cache, without asking the hub.

    Raises:
        StudyError: The repository's name is none.
    """
    import huggingface_hub as hub
    from huggingface_hub.errors import HFValidationError

    def cached(name: str) -> Path | None:
        found = hub.try_to_load_from_cache(source.repository, name, revision=source.revision)
        return Path(found) if isinstance(found, str) else None

    try:
        weights = next((name for name in source.weights if cached(name)), None)
        complete = weights is not None and all(cached(name) for name in source.required)
    except HFValidationError:
        what = f"'{source.repository}' is no name of a hub repository"
        raise StudyError(what, remedy="write hf-hub:owner/name") from None
    place = cached(weights) if weights is not None and complete else None
    if weights is None or place is None:
        return None
    if weights.endswith(SHARDS):
        shards = set(json.loads(place.read_text(encoding="utf-8"))["weight_map"].values())
        if not all(cached(shard) for shard in shards):
            return None
    # .../snapshots/<commit>/<name>
    folder = place.parents[len(Path(weights).parts) - 1]
    return HubFiles(folder, folder.name, weights)


def find_local(name: str, source: HubSource, weights_dir: str | None) -> HubFiles | None:
    """Finds files in `weights_dir`, else in the hub's cache, without asking the hub.

    Args:
        name: The encoder's name.
        source: The files.
        weights_dir: Folder that `fetch` filled.

    Raises:
        StudyError: A folder of `weights_dir` is incomplete, or the repository's name is none.
    """
    found = find_folder(Path(weights_dir), name, source) if weights_dir else None
    if found is None:
        return find_cached(source)
    folder, manifest = found
    return HubFiles(folder, manifest.commit, _weights_name(source, manifest))


def _weights_name(source: HubSource, manifest: Manifest) -> str:
    """The weights file of a folder."""
    return next(name for name in source.weights if name in manifest.files)


def obtain(name: str, entry: dict[str, Any], source: HubSource, weights_dir: str | None) -> HubFiles:
    """Finds files on this machine, held against their digests where there are any, or else downloads them.

    Args:
        name: The encoder's name.
        entry: Its entry.
        source: The files.
        weights_dir: Folder that `fetch` filled.

    Raises:
        StudyError: The files are corrupt, or neither here nor to be had.
    """
    found = find_folder(Path(weights_dir), name, source) if weights_dir else None
    if found is not None:
        folder, manifest = found
        verify_folder(folder, manifest)
        return HubFiles(folder, manifest.commit, _weights_name(source, manifest))
    cached = find_cached(source)
    if cached is not None:
        return cached
    import huggingface_hub as hub

    try:
        _, names = _list_files(entry, source)
        folder = Path(
            hub.snapshot_download(
                source.repository, revision=source.revision, allow_patterns=names, token=hub_token(entry)
            )
        )
    except Exception as error:  # Whatever the hub's client raises; explained for the user.
        raise explain(error, entry, source) from None
    weights = next(name for name in source.weights if name in names)
    return HubFiles(folder, folder.name, weights)


def _list_files(entry: dict[str, Any], source: HubSource) -> tuple[str, list[str]]:
    """The commit of a repository's revision, and the files there that are needed."""
    import huggingface_hub as hub

    info = hub.HfApi().model_info(source.repository, revision=source.revision, token=hub_token(entry))
    return str(info.sha), source.choose(sibling.rfilename for sibling in info.siblings or [])


def explain(error: Exception, entry: dict[str, Any], source: HubSource) -> StudyError:
    """An error of the hub's client in words, with what to do.

    Args:
        error: What was raised.
        entry: The encoder's entry.
        source: The files that were asked for.
    """
    from huggingface_hub import errors

    if isinstance(error, StudyError):
        return error
    repository, first = source.repository, (str(error).splitlines() or [type(error).__name__])[0]
    if isinstance(error, errors.GatedRepoError):
        return StudyError(f"the weights are gated: {repository} wants its terms accepted", "", terms(entry, repository))
    if isinstance(error, errors.RepositoryNotFoundError):
        remedy = f"correct the name; if it is gated, {terms(entry, repository)}"
        return StudyError(f"the hub shows no repository {repository}", remedy=remedy)
    if isinstance(error, errors.RevisionNotFoundError):
        return StudyError(f"{repository} has no revision '{source.revision}'", remedy="correct `revision`")
    if isinstance(error, errors.OfflineModeIsEnabled):
        what = "the weights are not in the local cache, and HF_HUB_OFFLINE forbids asking the hub"
        return StudyError(what, remedy=DOWNLOAD)
    what = f"the weights are not in the local cache, and the hub cannot be reached ({first})"
    return StudyError(what, remedy=DOWNLOAD)


def fetch(name: str, entry: dict[str, Any], source: HubSource, weights_dir: Path) -> tuple[Path, Manifest, bool]:
    """Downloads an encoder's files into `<weights_dir>/<name>`, with a manifest.

    What a killed download left is gone on with. Several may run beside each other: the second of two for one encoder
    waits, and then finds the files there.

    Args:
        name: The encoder's name.
        entry: Its entry.
        source: The files.
        weights_dir: Where the folder goes.

    Returns:
        The folder, its manifest, and whether anything was downloaded.

    Raises:
        StudyError: The files cannot be had.
    """
    import huggingface_hub as hub
    from huggingface_hub.utils import WeakFileLock

    where = f"encoder {name}"
    if entry.get("gated") and not has_token(entry):
        what = f"the weights are gated, and {entry.get('token_env', 'HF_TOKEN')} holds no access token"
        raise StudyError(what, where, terms(entry, source.repository))
    folder, partial = weights_dir / name, weights_dir / f".{name}.partial"
    weights_dir.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(weights_dir / f".{name}.lock"):
        try:
            commit, names = _list_files(entry, source)
            present = _complete(folder, source, commit, names)
            if present is not None:
                return folder, present, False
            hub.snapshot_download(
                source.repository, revision=commit, allow_patterns=names, local_dir=partial, token=hub_token(entry)
            )
        except Exception as error:  # Whatever the hub's client raises; explained for the user.
            told = explain(error, entry, source).problems[0]
            raise StudyError(told.what, where, told.remedy) from None
        remove(partial / ".cache")
        manifest = write_manifest(partial, source, commit, names)
        remove(folder)
        partial.replace(folder)
    return folder, manifest, True


def _complete(folder: Path, source: HubSource, commit: str, names: list[str]) -> Manifest | None:
    """The manifest of a folder that holds just these files of just this commit, intact; else None."""
    try:
        found = find_folder(folder.parent, folder.name, source)
        if found is None or found[0] != folder or found[1].commit != commit or set(found[1].files) != set(names):
            return None
        verify_folder(*found)
    except StudyError:
        # Incomplete or corrupt, which is what a new download mends.
        return None
    return found[1]
