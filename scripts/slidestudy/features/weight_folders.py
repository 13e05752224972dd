"""Folders of downloaded weights (`weights_dir`): a manifest in each says what it holds, and is held against it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slidestudy.errors import StudyError
from slidestudy.features.hub_sources import HubSource
from slidestudy.files import file_digest, read_json, write_json

MANIFEST = "manifest.json"
FORMAT = "slidestudy-weights/1"
SHORTEST = 7
"""Digits of a commit that are enough to name it."""
AGAIN = "remove the folder and download it again: slidestudy encoders fetch"


@dataclass(frozen=True)
class Manifest:
    """What a folder of downloaded weights holds.

    Attributes:
        repository: `owner/name` on the hub.
        revision: The revision that was asked for; None for the default branch.
        commit: The commit that this was at the time.
        files: SHA-256 of every file by its name.
    """

    repository: str
    revision: str | None
    commit: str
    files: dict[str, str]

    def holds(self, source: HubSource) -> bool:
        """Whether the files of a source are here, at the revision that it wants."""
        asked = source.revision or ""
        wanted = source.revision in (None, self.revision) or (len(asked) >= SHORTEST and self.commit.startswith(asked))
        complete = set(source.required) <= self.files.keys() and any(name in self.files for name in source.weights)
        return self.repository.lower() == source.repository.lower() and wanted and complete


def write_manifest(folder: Path, source: HubSource, commit: str, names: list[str]) -> Manifest:
    """Writes the manifest of a folder whose files are complete.

    Args:
        folder: The folder.
        source: Where the files come from.
        commit: The commit of the repository.
        names: The files.
    """
    files = {name: file_digest(folder / name) for name in names}
    manifest = Manifest(source.repository, source.revision, commit, files)
    write_json(folder / MANIFEST, {"format": FORMAT, **asdict(manifest)})
    return manifest


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder; None where it has none.

    Raises:
        StudyError: It cannot be read.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        content: Any = read_json(path)
        if content.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        return Manifest(**content)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise StudyError(f"the manifest cannot be read ({error})", str(path), AGAIN) from None


def find_folder(weights_dir: Path, name: str, source: HubSource) -> tuple[Path, Manifest] | None:
    """Finds the folder that holds an encoder's weights: its own, else any that holds the same files.

    Args:
        weights_dir: The folder of such folders.
        name: The encoder's name.
        source: The files that are wanted.

    Raises:
        StudyError: The encoder's own folder holds something else, or files are missing in the folder that was found.
    """
    if not weights_dir.is_dir():
        return None
    own = weights_dir / name
    others = sorted(p for p in weights_dir.iterdir() if p != own and p.is_dir() and not p.name.startswith("."))
    for folder in [own, *others]:
        manifest = read_manifest(folder)
        if manifest is not None and manifest.holds(source):
            absent = [n for n in manifest.files if not (folder / n).is_file()]
            if absent:
                raise StudyError(f"{absent[0]} is missing", str(folder), f"{AGAIN} {folder.name}")
            return folder, manifest
    manifest = read_manifest(own)
    if manifest is not None:
        wanted = f"{source.repository}@{source.revision or 'default'}"
        what = f"holds {manifest.repository}@{manifest.commit}, the entry wants {wanted}"
        raise StudyError(what, str(own), f"{AGAIN} {name}")
    return None


def verify_folder(folder: Path, manifest: Manifest) -> None:
    """Holds a folder's files against their digests.

    Raises:
        StudyError: A file differs.
    """
    for name, digest in manifest.files.items():
        if file_digest(folder / name) != digest:
            raise StudyError(f"{name} differs from its manifest: the file is corrupt", str(folder), AGAIN)
