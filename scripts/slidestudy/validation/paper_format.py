"""Tables of a paper as Markdown and as LaTeX (booktabs)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

DASH = "\N{EN DASH}"
"""What stands where there is no value."""
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "|": r"$|$",
    DASH: "--", "\N{MINUS SIGN}": "$-$", "\N{GREATER-THAN OR EQUAL TO}": r"$\geq$",
    "\N{LESS-THAN OR EQUAL TO}": r"$\leq$", "\N{GREEK SMALL LETTER RHO}": r"$\rho$",
    "\N{GREEK CAPITAL LETTER DELTA}": r"$\Delta$", "\N{SUPERSCRIPT TWO}": r"$^2$",
    "\N{MICRO SIGN}": r"$\mu$", "\N{MULTIPLICATION SIGN}": r"$\times$",
}  # fmt: skip
"""Character -> what it is in LaTeX; all others stay as they are (UTF-8)."""
MARKDOWN = set("\\`*_{}[]<>|#~$")
"""Characters that Markdown would read as more than themselves."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"
_NEGATIVE = re.compile(r"(?<![\w-])-(?=\d)")


@dataclass(frozen=True)
class PaperCell:
    """A cell.

    Attributes:
        text: What stands in it.
        note: A footnote, e.g. why there is no value; equal notes of a table share a mark.
    """

    text: str
    note: str = ""


@dataclass(frozen=True)
class PaperTable:
    """A table with its caption.

    Attributes:
        name: What it is called in the file, for LaTeX's label.
        caption: What it shows and how the intervals were made.
        columns: Headings, the first one of the rows' names.
        rows: Each row's name and its cells.
        notes: Sentences below the table.
    """

    name: str
    caption: str
    columns: list[str]
    rows: list[tuple[str, list[PaperCell]]]
    notes: list[str] = field(default_factory=list)

    def marks(self) -> dict[str, str]:
        """Footnote -> its mark: a, b, ..., z, aa, ..."""
        found = dict.fromkeys(cell.note for _, cells in self.rows for cell in cells if cell.note)
        return {note: _mark(place) for place, note in enumerate(found)}


def _mark(place: int) -> str:
    """The mark of a footnote by its place."""
    above, own = divmod(place, len(LETTERS))
    return (_mark(above - 1) if above else "") + LETTERS[own]


def escape_latex(text: str) -> str:
    """Text as LaTeX sets it: nothing in it is a command, and a minus is as long as a plus."""
    return "".join(LATEX.get(character, character) for character in _NEGATIVE.sub("\N{MINUS SIGN}", text))


def escape_markdown(text: str) -> str:
    """Text as Markdown shows it, within one cell of a table."""
    escaped = "".join(f"\\{c}" if c in MARKDOWN else c for c in " ".join(text.split()))
    return _NEGATIVE.sub("\N{MINUS SIGN}", escaped)


def to_markdown(tables: Sequence[PaperTable]) -> str:
    """Tables below each other, each with its caption above and its footnotes below."""
    return "\n".join(_markdown(table) for table in tables)


def _markdown(table: PaperTable) -> str:
    marks = table.marks()

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    lines = [escape_markdown(table.caption), "", line([escape_markdown(head) for head in table.columns])]
    lines.append(line([":---", *["---:"] * (len(table.columns) - 1)]))
    for name, cells in table.rows:
        raised = [f"<sup>{marks[cell.note]}</sup>" if cell.note else "" for cell in cells]
        texts = [escape_markdown(cell.text) + mark for cell, mark in zip(cells, raised, strict=True)]
        lines.append(line([escape_markdown(name), *texts]))
    below = [f"<sup>{mark}</sup> {escape_markdown(note)}." for note, mark in marks.items()]
    below += [escape_markdown(note) for note in table.notes]
    return "\n".join([*lines, *(["", "<br>\n".join(below)] if below else []), ""])


def to_latex(tables: Sequence[PaperTable], prefix: str) -> str:
    """Tables as floats below each other; the document needs the package booktabs.

    Args:
        tables: The tables.
        prefix: What labels begin with, e.g. the model: `tab:<prefix>-<name>`.
    """
    return "% \\usepackage{booktabs}\n" + "\n".join(_latex(table, prefix) for table in tables)


def _latex(table: PaperTable, prefix: str) -> str:
    marks = table.marks()
    label = re.sub(r"[^A-Za-z0-9:.-]+", "-", f"tab:{prefix}-{table.name}")
    lines = [
        r"\begin{table}[htbp]",
        r"  \centering",
        f"  \\caption{{{escape_latex(table.caption)}}}",
        f"  \\label{{{label}}}",
        f"  \\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
        r"    \toprule",
        f"    {' & '.join(escape_latex(head) for head in table.columns)} \\\\",
        r"    \midrule",
    ]
    for name, cells in table.rows:
        raised = [f"\\textsuperscript{{{marks[cell.note]}}}" if cell.note else "" for cell in cells]
        texts = [escape_latex(cell.text) + mark for cell, mark in zip(cells, raised, strict=True)]
        lines.append(f"    {' & '.join([escape_latex(name), *texts])} \\\\")
    lines += [r"    \bottomrule", r"  \end{tabular}"]
    below = [f"\\textsuperscript{{{mark}}} {escape_latex(note)}." for note, mark in marks.items()]
    below += [escape_latex(note) for note in table.notes]
    if below:
        lines += ["", "  \\par\\smallskip", f"  {{\\footnotesize {' '.join(below)}\\par}}"]
    return "\n".join([*lines, r"\end{table}", ""])
