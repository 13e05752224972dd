"""Explanations as documents: what is read of them, what a reader is given, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slidestudy.errors import StudyError
from slidestudy.explanations.documents import parse_explanation, read_explanation

WHOLE = """---
id: mine
model: til
author: A. Person
higher:
  - lymphocytes
  - crowded
    nuclei
lower: [fat]
---

# What the model sees

<!-- a note to the author -->
It looks for inflammation.
"""


def test_all_parts_are_read_and_the_reader_gets_body_and_statements() -> None:
    found = parse_explanation(WHOLE, "mine", "mine.md")
    assert (found.title, found.author, found.model) == ("What the model sees", "A. Person", "til")
    assert found.statements == ("lymphocytes", "crowded nuclei", "fat")
    assert found.text == (
        "# What the model sees\n\n\nIt looks for inflammation.\n\n"
        "Raises the score:\n\n- lymphocytes\n- crowded nuclei\n\nLowers the score:\n\n- fat"
    )


def test_a_file_without_front_matter_is_a_body_alone() -> None:
    found = parse_explanation("Lymphocytes raise the score.\n---\nFat lowers it.", "mine", "mine.md")
    assert found.text == "Lymphocytes raise the score.\n---\nFat lowers it."
    assert (found.statements, found.title, found.model) == ((), "mine", "")


def test_statements_alone_are_an_explanation() -> None:
    assert parse_explanation("---\r\nlower: [fat]\r\n---\r\n", "m", "m.md").text == "Lowers the score:\n\n- fat"


STATEMENT = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=12)


@given(st.lists(STATEMENT, max_size=4), st.lists(STATEMENT, max_size=4))
def test_statements_come_back_as_they_were_written(higher: list[str], lower: list[str]) -> None:
    quoted = [", ".join(f'"{s}"' for s in said) for said in (higher, lower)]
    text = f"---\nhigher: [{quoted[0]}]\nlower: [{quoted[1]}]\n---\nBody."
    found = parse_explanation(text, "m", "m.md")
    assert (list(found.higher), list(found.lower)) == (higher, lower)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("---\nhigher: [a]\n", "the front matter is not closed"),
        ("---\nhigher: [a\n---\n", "m.md, line"),
        ("---\nid: other\nhigher: [a]\n---\n", "the id is 'other', but the configuration names this text 'm'"),
        ("---\nhigh: [a]\n---\nBody.", "did you mean 'higher'"),
        ("---\nhigher: a\n---\n", "'a' is not a list"),
        ("---\nlower: [a, 3]\n---\n", "key lower, statement 2: '3' is not text"),
        ("---\nauthor: [x]\n---\nBody.", "is not text"),
        ("---\n- a\n---\nBody.", "is not a list of keys"),
        ("---\nid: m\n---\n<!-- only a note -->\n", "the explanation says nothing"),
        ("", "the explanation says nothing"),
    ],
)
def test_mistakes_are_told(text: str, said: str) -> None:
    with pytest.raises(StudyError) as caught:
        parse_explanation(text, "m", "m.md")
    assert said in str(caught.value)


def test_all_problems_are_told_together() -> None:
    with pytest.raises(StudyError) as caught:
        parse_explanation("---\nid: x\nhigh: [a]\nlower: b\n---\n", "m", "m.md")
    assert len(caught.value.problems) == 3


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.md").write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(StudyError, match="save it as UTF-8"):
        read_explanation(tmp_path / "m.md", "m")


def test_the_projects_own_explanations_are_named_as_their_files(repository: Path) -> None:
    files = sorted((repository / "config" / "explanations").glob("*.md"))
    assert len(files) >= 3
    for path in files:
        assert read_explanation(path, path.stem).statements
