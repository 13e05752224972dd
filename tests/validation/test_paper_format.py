"""Tables as Markdown and LaTeX: whatever stands in a cell, it breaks neither the table nor the document."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slidestudy.validation.paper_format import (
    PaperCell,
    PaperTable,
    escape_latex,
    escape_markdown,
    to_latex,
    to_markdown,
)

NASTY = r"50% of a_b & c | {d} ~ ^e \f #1 $2 < 3 > 4 – -0.5 ≥ ρ"
TABLE = PaperTable(
    "a_b c", NASTY, ["Metric", "north & west", "south_1"],
    [
        ("AUROC, > 30", [PaperCell("0.71 (0.45 to 0.87)"), PaperCell("–", "one class | only & 100 %")]),
        (NASTY, [PaperCell("-0.50 (-1.00 to 0.20)"), PaperCell("–", "one class | only & 100 %")]),
        ("C", [PaperCell("–", "other"), PaperCell("1")]),
    ],
)  # fmt: skip
COMMANDS = (
    r"\\(?:begin|end|centering|caption|label|toprule|midrule|bottomrule|textsuperscript|par|smallskip|footnotesize|"
    r"textbackslash|textasciitilde|textasciicircum|geq|leq|rho|Delta|mu|times)(?![A-Za-z])"
)


def check_latex(text: str) -> None:
    """A strict reader: known commands only, braces, environments and dollars in pairs, rows of equal length."""
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    opened = []
    for line in lines:
        for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", line):
            if kind == "begin":
                opened.append(name)
            else:
                assert opened.pop() == name
    assert not opened
    bare = re.sub(r"\\\\(?=\s*$)", "", "\n".join(lines), flags=re.MULTILINE)
    bare = re.sub(r"\\[&%$#_{}]", "", bare)
    bare = re.sub(COMMANDS, "", bare)
    assert "\\" not in bare
    assert not set("%#_~") & set(re.sub(r"\{tab:[^}]*\}", "", bare))
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == 0
    assert not re.search(r"\^", re.sub(r"\$[^$]*\$", "", bare))
    columns = None
    for line in lines:
        if found := re.search(r"\\begin\{tabular\}\{(\w+)\}", line):
            columns = len(found[1])
        elif line.rstrip().endswith("\\\\"):
            assert len(re.findall(r"(?<!\\)&", line)) + 1 == columns


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_latex_is_well_formed_whatever_is_in_the_cells():
    check_latex(to_latex([TABLE, TABLE], "my_model"))


@given(st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=30))
def test_any_text_is_one_cell_of_latex_and_of_markdown(text):
    table = PaperTable("n", text, ["a", text], [(text, [PaperCell(text, text)])])
    check_latex(to_latex([table], "m"))
    lines = [line for line in to_markdown([table]).splitlines() if line.startswith("|")]
    assert {len(cells_of(line)) for line in lines} == {2}


def test_labels_are_safe_and_name_model_and_table():
    assert r"\label{tab:my-model-a-b-c}" in to_latex([TABLE], "my_model")


def test_equal_reasons_share_a_footnote_and_others_have_their_own():
    text = to_markdown([TABLE])
    assert text.count("<sup>a</sup>") == 3
    assert text.count("<sup>b</sup>") == 2
    assert "<sup>a</sup> one class \\| only & 100 %." in text
    latex = to_latex([TABLE], "m")
    assert latex.count(r"\textsuperscript{a}") == 3
    assert r"\textsuperscript{a} one class $|$ only \& 100 \%." in latex


def test_a_minus_is_no_hyphen_and_a_hyphen_no_minus():
    assert escape_latex("til-2: -0.5 to 3-4") == "til-2: $-$0.5 to 3-4"
    assert escape_markdown("til-2: -0.5") == "til-2: −0.5"


def test_the_27th_footnote_has_two_letters():
    rows = [(str(i), [PaperCell("–", f"reason {i}")]) for i in range(28)]
    assert list(PaperTable("n", "", ["", ""], rows).marks().values())[-3:] == ["z", "aa", "ab"]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(tmp_path):
    document = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n%s\n\\end{document}\n"
    (tmp_path / "a.tex").write_text(document % to_latex([TABLE], "m"), encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "a.tex"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stdout[-2000:]
