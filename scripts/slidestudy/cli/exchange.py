"""`slidestudy export` and `slidestudy import`: feature stores as other tools' files, and back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from slidestudy.features.interchange import Format, export_stores
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
    if empty:
        console.print(f"Without tiles, and so without a file: {', '.join(empty)}.", soft_wrap=True)
