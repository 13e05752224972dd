"""What a section is made of: tables of cells, pictures and drawings; and how numbers are written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup

from slidestudy.validation.metric_names import METRIC_NAMES as VALIDATION_NAMES
from slidestudy.validation.metric_names import UNBOUNDED

MINUS = "\N{MINUS SIGN}"
METRIC_NAMES = {**VALIDATION_NAMES, "auroc_reference": "AUROC, X2X's orientation"}


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: What stands in it.
        note: A smaller second line.
        flag: A warning that must be seen.
        muted: Whether there is no value here.
    """

    text: str
    note: str = ""
    flag: str = ""
    muted: bool = False


Value = Cell | str | int | None
"""What a table can be made of; None leaves a cell without a value."""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        title: Its heading.
        note: A smaller second line of the heading.
        numeric: Whether its cells are aligned right.
    """

    title: str
    note: str = ""
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """A table with its caption.

    Attributes:
        caption: What it shows.
        columns: Its columns; the first one holds the rows' headings.
        rows: Cells, as many per row as there are columns.
    """

    caption: str
    columns: list[Column]
    rows: list[list[Cell]]


@dataclass(frozen=True)
class Picture:
    """An image with its caption.

    Attributes:
        uri: The image as a data URI.
        alt: What it shows, in words.
        title: The first line of the caption.
        lines: Further lines.
        flag: A warning that must be seen.
    """

    uri: str
    alt: str
    title: str
    lines: tuple[str, ...] = ()
    flag: str = ""


@dataclass(frozen=True)
class Drawing:
    """An SVG figure with its caption.

    Attributes:
        svg: The element, safe to inline.
        caption: What it shows.
    """

    svg: Markup
    caption: str


def make_table(caption: str, columns: Sequence[str | Column], rows: Iterable[Sequence[Value]]) -> Table:
    """Makes a table of plain values; a title that starts with `#` makes a column of numbers."""
    heads = [c if isinstance(c, Column) else Column(c.removeprefix("#"), numeric=c.startswith("#")) for c in columns]
    return Table(caption, heads, [[as_cell(value) for value in row] for row in rows])


def as_cell(value: Value) -> Cell:
    """A plain value as a cell; None as a muted dash."""
    if isinstance(value, Cell):
        return value
    if value is None or value == "":
        return Cell("\N{EN DASH}", muted=True)
    return Cell(count(value) if isinstance(value, int) else value)


def count(value: int) -> str:
    """A whole number with thousands set apart."""
    return f"{value:,}".replace("-", MINUS)


def plural(value: int, noun: str, many: str = "") -> str:
    """A count with its noun, e.g. `1 slide`, `2 slides`; `many` where the plural is not formed with an s."""
    return f"{count(value)} {noun if value == 1 else many or noun + 's'}"


def number(value: float, decimals: int) -> str:
    """A number with fixed decimals, a true minus sign, and no negative zero."""
    text = f"{value:,.{decimals}f}"
    return text.replace("-", MINUS if float(text.replace(",", "")) else "")


def is_missing(value: Any) -> bool:
    """Whether a table's cell is blank."""
    return value is None or bool(pd.isna(value))


def _decimals(value: float, metric: str) -> int:
    """Decimals of a metric's value and of its interval."""
    if metric not in UNBOUNDED or value == 0:
        return 2
    return min(4, max(0, 2 - math.floor(math.log10(abs(value)))))


def interval(value: float, low: float | None, high: float | None, metric: str, signed: bool = False) -> str:
    """A value with its interval, e.g. `0.71 (0.55–0.82)`; blank ends leave the interval out."""
    decimals = _decimals(value, metric)
    text = number(value, decimals)
    if signed and value > 0 and float(f"{value:.{decimals}f}"):
        text = f"+{text}"
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return text
    ends = [number(low, decimals), number(high, decimals)]
    # A dash between negative ends would read as a second minus sign.
    return f"{text} ({(' to ' if min(low, high) < 0 else '–').join(ends)})"


def estimate_cell(row: Mapping[str, Any] | None, metric: str, column: str = "value", note: str = "") -> Cell:
    """An estimate with its interval, or why it is undefined.

    Args:
        row: A row with the value's column, `ci_low ci_high undefined_reason`; None where there is no such row.
        metric: The metric, which decides the decimals.
        column: Where the value stands; a `difference` is written with its sign.
        note: What else to say below the value.
    """
    if row is None:
        return Cell("\N{EN DASH}", muted=True)
    reason = "" if is_missing(row["undefined_reason"]) else str(row["undefined_reason"])
    if is_missing(row[column]):
        return Cell("undefined", "; ".join(filter(None, [reason or "no reason given", note])), muted=True)
    text = interval(row[column], row["ci_low"], row["ci_high"], metric, signed=column == "difference")
    return Cell(text, "; ".join(filter(None, [reason, note])))


def first_row(table: pd.DataFrame, **wanted: str) -> dict[str, Any] | None:
    """The first row whose columns have the values wanted, or None."""
    keep = pd.Series(True, index=table.index)
    for name, value in wanted.items():
        keep &= table[name] == value
    rows = table[keep].to_dict("records")
    return {str(key): value for key, value in rows[0].items()} if rows else None


def spread_evenly(size: int, most: int) -> list[int]:
    """At most so many indices of a sequence, spread evenly from its first to its last."""
    if size <= most:
        return list(range(size))
    if most <= 1:
        return [0][:most]
    return [round(i * (size - 1) / (most - 1)) for i in range(most)]


def interval_note(intervals: Mapping[str, Any], percentile: bool = False) -> str:
    """How the intervals were made, as far as it is known.

    Args:
        intervals: `confidence bootstrap interval`, those that are known.
        percentile: Whether they are percentile intervals whatever `interval` says.
    """
    if "confidence" not in intervals:
        return "Intervals come from bootstrap samples of whole patients."
    draws = f"{count(int(intervals['bootstrap']))} " if "bootstrap" in intervals else ""
    kind = "percentile" if percentile else str(intervals.get("interval", ""))
    said = {"percentile": "percentile ", "bca": "BCa "}.get(kind, "")
    means = " Those of means over targets are percentile intervals." if kind == "bca" else ""
    return (
        f"{float(intervals['confidence']):.0%} {said}intervals from {draws}bootstrap samples of whole patients.{means}"
    )
