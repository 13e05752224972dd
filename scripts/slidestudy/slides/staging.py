"""Opening a slide as the configuration says: read again after failures, and from a copy on fast local disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from slidestudy.errors import Reason, SlideError, StudyError
from slidestudy.slides.reader import Slide
from slidestudy.slides.retrying import Retries

SIDE_FOLDER = {".mrxs"}
"""Formats whose pixels lie in a folder beside the file, of the same name."""
SIDE_FILES = {".vms", ".vmu"}
"""Formats whose file names further ones of its folder."""
DICOM = ".dcm"
"""DICOM keeps each level in a file of its own; the files of a slide share the number of their series."""
SERIES = b"\x20\x00\x0e\x00UI"
"""The tag of the series' number, followed by its length in two bytes."""
HEADER_BYTES = 262_144
"""The number is looked for in this part of a DICOM file."""


def parts_of(path: Path) -> list[Path]:
    """The files and folders that make up a slide, the file itself first."""
    suffix = path.suffix.lower()
    if suffix in SIDE_FOLDER and path.with_suffix("").is_dir():
        return [path, path.with_suffix("")]
    if suffix in SIDE_FILES:
        named = path.read_bytes()
        return [path, *(p for p in _siblings(path) if p.name.encode() in named)]
    if suffix == DICOM:
        series = _series(path)
        return [path, *(p for p in _siblings(path) if series and _series(p) == series)]
    return [path]


def _siblings(path: Path) -> list[Path]:
    """The other files of a file's folder."""
    return sorted(p for p in path.parent.iterdir() if p.is_file() and p != path)


def _series(path: Path) -> bytes:
    """The number of the series that a DICOM file belongs to; empty where none is found."""
    with path.open("rb") as stream:
        header = stream.read(HEADER_BYTES)
    at = header.find(SERIES)
    if at < 0:
        return b""
    start = at + len(SERIES) + 2
    return header[start : start + int.from_bytes(header[start - 2 : start], "little")].rstrip(b"\0 ")


@contextmanager
def staged(path: str | os.PathLike[str], folder: str | None, slide_id: str, retries: Retries) -> Iterator[str]:
    """Copies a slide to a scratch folder while it is needed.

    Args:
        path: The slide's file.
        folder: The scratch folder, in which environment variables such as $TMPDIR are replaced; None copies nothing.
        slide_id: Its id, for messages.
        retries: How often a failed copy is tried again.

    Yields:
        The path to read from.

    Raises:
        StudyError: The scratch folder cannot be used.
        SlideError: `unreadable` where the slide cannot be copied.
    """
    if folder is None:
        yield os.fspath(path)
        return
    scratch = os.path.expandvars(folder)
    where = f"reading.staging = {folder}"
    if "$" in scratch:
        raise StudyError("names an environment variable that is not set", where, "set it, or name a folder")
    try:
        # A folder for each job, since jobs of one slide run side by side.
        Path(scratch).mkdir(parents=True, exist_ok=True)
        home = Path(tempfile.mkdtemp(prefix="slidestudy-", dir=scratch))
    except OSError as error:
        raise StudyError(f"cannot be used ({error.strerror})", where, "name a folder that can be written") from None
    try:
        yield str(_copy(Path(path), home, slide_id, retries))
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _copy_part(part: Path, target: Path) -> None:
    if part.is_dir():
        shutil.copytree(part, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(part, target)


def _copy(path: Path, home: Path, slide_id: str, retries: Retries) -> Path:
    try:
        for part in retries.call(partial(parts_of, path)):
            retries.call(partial(_copy_part, part, home / part.name))
    except OSError as error:
        what = f"cannot be copied to {home.parent} ({error.strerror or error})"
        raise SlideError(Reason.UNREADABLE, what, slide_id, "check the disk's space and the slide's file") from None
    return home / path.name


@contextmanager
def opened(path: str | os.PathLike[str], slide_id: str, reading: Mapping[str, Any]) -> Iterator[Slide]:
    """Opens a slide as the configuration's section `reading` says.

    Args:
        path: The slide's file.
        slide_id: Its id, for messages.
        reading: `retries`, `retry_wait_s` and `staging`; the defaults where absent.

    Raises:
        SlideError: As `Slide` and `staged`.
        StudyError: As `staged`.
    """
    retries = Retries(reading.get("retries", Retries.count), reading.get("retry_wait_s", Retries.wait_s))
    with staged(path, reading.get("staging"), slide_id, retries) as local, Slide(local, slide_id, retries) as slide:
        yield slide
