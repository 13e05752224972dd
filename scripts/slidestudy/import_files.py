"""Where other tools' features lie: the files of each slide, and what is wrong with how a study names them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from slidestudy.errors import Problem
from slidestudy.settings import Config

FIELDS = {"slide": "slide_id", "patient": "patient_id", "cohort": "cohort"}
"""What may stand in braces in a pattern -> the column of the slide table that replaces it."""
TENSOR = ".pt"
SUFFIXES = (".h5", ".hdf5", TENSOR)
SHOWN = 3
"""Slides or files that a message names before it says `...`."""


@dataclass(frozen=True)
class Source:
    """The files that a slide's features are imported from.

    Attributes:
        features: The H5 file, or a tensor of features (.pt).
        coords: For a tensor, the H5 file with the coordinates; None where the features' own file has them.
    """

    features: Path
    coords: Path | None = None

    @property
    def files(self) -> list[Path]:
        """All files that are needed."""
        return [self.features] if self.coords is None else [self.features, self.coords]

    @property
    def missing(self) -> list[Path]:
        """Those that are not there."""
        return [path for path in self.files if not path.is_file()]


def fill_pattern(pattern: str, entry: Mapping[str, Any]) -> Path:
    """The path that a pattern gives for a slide, e.g. `h5/{slide}.h5`."""
    return Path(re.sub(rf"\{{({'|'.join(FIELDS)})\}}", lambda found: str(entry[FIELDS[found[1]]]), pattern))


def coordinates_beside(tensor: Path) -> Path:
    """The H5 file that belongs to a tensor of CLAM, `pt_files/<slide>.pt`.

    Args:
        tensor: The tensor's path.

    Returns:
        `h5_files/<slide>.h5` beside its folder, or `<slide>.h5` there where only that exists.
    """
    name, above = f"{tensor.stem}.h5", tensor.parent.parent
    usual, flat = above / "h5_files" / name, above / name
    return flat if flat.is_file() and not usual.is_file() else usual


def source_of(options: Config, entry: Mapping[str, Any]) -> Source:
    """The files of one slide.

    Args:
        options: A section `features.import.<encoder>`, its paths absolute.
        entry: The slide's row: `slide_id patient_id cohort`.
    """
    features = fill_pattern(options["files"], entry)
    if features.suffix != TENSOR:
        return Source(features)
    if "coords" in options:
        return Source(features, fill_pattern(options["coords"], entry))
    return Source(features, coordinates_beside(features))


def import_problems(config: Config, slides: pd.DataFrame, source: str, *, files: bool = True) -> list[Problem]:
    """Imports that cannot work, and slides without a file that something needs.

    A file that is missing costs its slide; a cohort of which all are missing is a mistake in the pattern.

    Args:
        config: The configuration, complete, its input paths absolute.
        slides: The table of slides.
        source: The configuration's file, for the messages.
        files: Whether to look for the files on disk.
    """
    problems = _blank_path_problems(config, slides, source)
    entries = slides[list(FIELDS.values())].to_dict("records")
    for name, options in config["features"]["import"].items():
        where = f"{source}, key features.import.{name}"
        found = list(_statement_problems(name, options, config, source))
        found = found or list(_shared_file_problems(options, entries, where))
        if not found and files:
            found = list(_absence_problems(options, entries, config, where))
        problems += found
    return problems


def _blank_path_problems(config: Config, slides: pd.DataFrame, source: str) -> list[Problem]:
    """Slides without a file, where anything of the study needs pixels."""
    blank = [row for row, path in enumerate(slides["path"]) if not isinstance(path, str)]
    if not blank:
        return []
    which = some_of([str(slides["slide_id"].iloc[row]) for row in blank])
    count = f"{len(blank)} slide{'s have' if len(blank) > 1 else ' has'} no file ({which})"
    where = f"{config['slides']}, column path"
    problems = []
    extracted = [name for name in config["encoders"] if name not in config["features"]["import"]]
    if extracted:
        what = f"{count}, but {', '.join(extracted)} must be extracted from pixels"
        problems.append(Problem(where, what, "fill it in, or say in features.import where these features lie"))
    if config["explanations"]["models"]:
        what = f"explanations show patches, but {count}"
        problems.append(Problem(f"{source}, key explanations.models", what, "set models: [], or fill in their paths"))
    what = "belongs to a slide without a file"
    problems += [
        Problem(f"{config['slides']}, line {row + 2}, column {column}", what, "remove it, or fill in the path")
        for column in ("roi", "mask")
        for row in blank
        if isinstance(slides[column].iloc[row], str)
    ]
    return problems


def _statement_problems(name: str, options: Config, config: Config, source: str) -> Iterator[Problem]:
    """What a section says that cannot be, whichever files there are."""
    where = f"{source}, key features.import.{name}"
    encoder = config["encoders"].get(name, {})
    if "dim" not in encoder:
        what = "an imported encoder needs its dim, by which the files are checked"
        yield Problem(f"{source}, key encoders.{name}", what, "e.g. dim: 1024")
    for key in ("files", "coords"):
        for field in re.findall(r"\{([^{}]*)\}", options.get(key, "")):
            if field not in FIELDS:
                remedy = f"use {', '.join('{' + known + '}' for known in FIELDS)}"
                yield Problem(f"{where}.{key}", f"unknown field {{{field}}}", remedy)
    suffix = Path(options["files"]).suffix
    if suffix not in SUFFIXES:
        what = f"'{suffix}' is no kind of file that can be imported"
        yield Problem(f"{where}.files", what, f"use {', '.join(SUFFIXES)}")
    elif suffix != TENSOR and "coords" in options:
        what = f"only {TENSOR} files need a file of coordinates; H5 files have their own"
        yield Problem(f"{where}.coords", what, "remove it")
    for key, own in (("tile_size", "size"), ("tile_mpp", "mpp")):
        if key in options and options[key] != config["tiles"][own]:
            what = f"{options[key]} is not the study's tiles.{own}, {config['tiles'][own]}"
            yield Problem(f"{where}.{key}", what, f"set tiles.{own} to that of the files, or correct this")


def _shared_file_problems(options: Config, entries: Sequence[Mapping[str, Any]], where: str) -> Iterator[Problem]:
    """Files that several slides would be imported from."""
    slides: dict[Path, list[str]] = defaultdict(list)
    for entry in entries:
        slides[fill_pattern(options["files"], entry)].append(str(entry["slide_id"]))
    for path, same in slides.items():
        if len(same) > 1:
            what = f"{path} would be the file of {len(same)} slides ({some_of(same)})"
            yield Problem(f"{where}.files", what, "use {slide} in the pattern")


def _absence_problems(
    options: Config, entries: Sequence[Mapping[str, Any]], config: Config, where: str
) -> Iterator[Problem]:
    """Cohorts of which no slide has its files."""
    for cohort, spec in config["cohorts"].items():
        own = [entry for entry in entries if entry["cohort"] == cohort]
        missing = [source_of(options, entry).missing for entry in own]
        if spec["role"] == "pretraining" or not own or not all(missing):
            continue
        listed = some_of([str(path) for paths in missing for path in paths])
        what = f"cohort '{cohort}': no slide has its files; missing: {listed}"
        coords = " or coords (the H5 file with the coordinates)" if Path(options["files"]).suffix == TENSOR else ""
        yield Problem(f"{where}.files", what, f"correct the pattern{coords}, or take the cohort out")


def some_of(names: Sequence[str]) -> str:
    """The first few of some names, for a message."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
