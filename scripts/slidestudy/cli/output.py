"""How the commands print: tables and amounts that a person can read, on a terminal and in a log file."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

LOG_WIDTH = 160
"""Characters per line where the output is no terminal."""


def make_console() -> Console:
    """A console on standard output, wide enough for messages where that is a file or a pipe."""
    return Console(width=None if sys.stdout.isatty() else LOG_WIDTH, highlight=False, markup=False)


def print_table(console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a titled table; long cells are wrapped, never cut."""
    table = Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        table.add_row(*[str(cell) for cell in row])
    console.print(f"\n{title}", style="bold")
    console.print(table)


def _short(number: float) -> str:
    """A number with two digits or more."""
    return f"{number:.1f}" if number < 10 else f"{number:.0f}"


def size_text(size: float) -> str:
    """A number of bytes in words, e.g. `1.5 GB` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{_short(size)} {unit}"
        size /= 1000
    return f"{_short(size)} TB"


def duration_text(seconds: float) -> str:
    """A duration in words, e.g. `2.5 h`."""
    for limit, unit in ((60, "s"), (60, "min"), (24, "h")):
        if seconds < limit:
            return f"{_short(seconds)} {unit}"
        seconds /= limit
    return f"{_short(seconds)} days"
