"""Atomic publication of files and folders, and digests of what is in them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import slidestudy


def _partial(path: Path) -> Path:
    """The hidden neighbour under which an output is written; a fixed name, so that a killed job's is reused."""
    return path.with_name(f".{path.name}.partial")


def remove(path: Path) -> None:
    """Removes a file or a folder if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary neighbour of `path` that takes its name only if the block succeeds.

    The block may create a file or a folder there. What a killed job left is removed first.

    Args:
        path: The final name. Its folder is made if missing.

    Yields:
        The temporary path, of the same suffix, on the same file system.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(final).with_suffix(".partial" + final.suffix)
    remove(partial)
    try:
        yield partial
    except BaseException:
        remove(partial)
        raise
    if final.is_dir() and partial.exists():
        remove(final)
    _share(partial)
    partial.replace(final)


def _share(path: Path) -> None:
    """Gives files that a library made private the mode of any new file, so that a group can read its results."""
    mask = os.umask(0)
    os.umask(mask)
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file() and file.stat().st_mode & 0o777 == 0o600:
            file.chmod(0o666 & ~mask)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text file atomically, UTF-8, with Unix line ends."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_text_if_changed(path: str | os.PathLike[str], text: str) -> bool:
    """Writes a text file only if its content differs, so that its time stamp means a change.

    Returns:
        Whether the file was written.
    """
    final = Path(path)
    if final.exists() and final.read_text(encoding="utf-8") == text:
        return False
    write_text(final, text)
    return True


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes JSON atomically: indented, key order kept, NaN refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def digest(value: Any) -> str:
    """SHA-256 of a JSON-able value's canonical form, first 16 hex digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def versions(*packages: str) -> dict[str, str]:
    """Versions of slidestudy and of the installed packages named, for the provenance of an output."""
    found = {"slidestudy": slidestudy.__version__}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
