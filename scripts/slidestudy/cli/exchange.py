"""`slidestudy export` and `slidestudy import`: feature stores as other tools' files, and back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from slidestudy.errors import Problem, StudyError
from slidestudy.features.foreign_files import Statement
from slidestudy.features.importing import import_features
from slidestudy.features.interchange import TENSORS, Format, export_stores
from slidestudy.features.verification import find_stores


def export_paths(paths: Iterable[Path], tool: Format, output: Path, console: Console) -> None:
    """Exports stores and says what was written, and which slides have no tiles.

    Args:
        paths: Stores, or folders that hold stores.
        tool: Whose layout.
        output: Where to write.
        console: Where to print.

    Raises:
        StudyError: A path holds no store, a store is damaged, or two slides have one name.
    """
    written, empty = export_stores(find_stores(paths), tool, output)
    console.print(f"{len(written)} file{'s' if len(written) != 1 else ''} written to {output}.", soft_wrap=True)
    if tool is Format.CLAM and written:
        console.print(f"As many tensors for CLAM's training, in {output / TENSORS}.", soft_wrap=True)
    if empty:
        console.print(f"Without tiles, and so without a file: {', '.join(empty)}.", soft_wrap=True)


def import_files(
    files: Iterable[Path],
    output: Path,
    user: Statement,
    cohort: str | None,
    patient: str | None,
    console: Console,
    coords: Path | None = None,
) -> None:
    """Imports files, and says where their stores are.

    Args:
        files: H5 files of patch features, or tensors of CLAM (.pt), one per slide.
        output: Where to write `<slide>.zarr`.
        user: What the user says of all of them.
        cohort: The slides' cohort, where the files do not say it.
        patient: Their patient; each slide its own where None.
        console: Where to print.
        coords: For tensors, the folder of the H5 files with their coordinates, or the one file of one tensor.

    Raises:
        StudyError: Files cannot be imported, each with its reasons; the others are.
    """
    problems: list[Problem] = []
    done = 0
    for path in files:
        try:
            import_features(path, output, user, cohort, patient, coords)
            done += 1
        except StudyError as error:
            problems += error.problems
    console.print(f"{done} store{'s' if done != 1 else ''} written to {output}.", soft_wrap=True)
    if problems:
        raise StudyError.of(problems)
