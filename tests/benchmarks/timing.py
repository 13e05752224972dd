"""Timing of ours and of a reference side by side, and the table of the ratios."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """The fastest of some runs: the others measure what else the machine did."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


@dataclass
class Table:
    """Rows of a benchmark: what, how long ours and the reference took."""

    rows: list[tuple[str, str, str, str, str]] = field(default_factory=list)

    def add(self, what: str, ours: float, reference: float, name: str) -> None:
        """Adds a comparison; a ratio above 1 means that ours is faster."""
        self.rows.append((what, f"{ours:.4f} s", name, f"{reference:.4f} s", f"{reference / ours:.2f}x"))

    def __str__(self) -> str:
        header = ("what", "ours", "reference", "time", "reference / ours")
        rows = [header, *self.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
