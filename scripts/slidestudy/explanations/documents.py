"""Explanations as documents: Markdown with a front matter that lists what raises and what lowers the score.

::

    ---
    id: lymphocytes-raise
    author: A. Pathologist
    higher: [many small round dark nuclei]
    lower: [fat, white background]
    ---

    # Lymphocytes raise the score

    The model looks for inflammation.

All keys are optional, and so is the front matter: a file without one is a body alone. Statements are what can be left
out one at a time, so what they say should not be said again in the body.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slidestudy.errors import Problem, StudyError
from slidestudy.explanations.grammar import strip_comments
from slidestudy.tables import did_you_mean
from slidestudy.yaml_files import parse_yaml

__all__ = ["Explanation", "parse_explanation", "read_explanation"]

FENCE = "---"
TEXT_KEYS = ("id", "model", "author")
LIST_KEYS = ("higher", "lower")
RAISES, LOWERS = "Raises the score:", "Lowers the score:"

_HEADING = re.compile(r"^#+[ \t]+(?P<title>.+?)[ \t#]*$", re.MULTILINE)


@dataclass(frozen=True)
class Explanation:
    """What somebody says of a model: free text, and statements of what raises or lowers its score.

    Attributes:
        name: Its name in the configuration, or that of a control made of it.
        title: The first heading of its body, or its name.
        author: Who wrote it; blank where unknown.
        model: The model it speaks of; blank: any.
        higher: What raises the score, one statement each.
        lower: What lowers it.
        body: Free text in Markdown, as written.
    """

    name: str
    title: str
    author: str
    model: str
    higher: tuple[str, ...]
    lower: tuple[str, ...]
    body: str

    @property
    def text(self) -> str:
        """What a reader is given: the body without comments, then the statements as two lists; blank if neither."""
        parts = [strip_comments(self.body).strip()]
        for lead, statements in ((RAISES, self.higher), (LOWERS, self.lower)):
            if statements:
                parts.append("\n".join([lead, "", *(f"- {statement}" for statement in statements)]))
        return "\n\n".join(part for part in parts if part)

    @property
    def statements(self) -> tuple[str, ...]:
        """All statements, those that raise the score first; the k-th is the one left out in `.without-<k>`."""
        return self.higher + self.lower


def read_explanation(path: str | os.PathLike[str], name: str) -> Explanation:
    """Reads an explanation.

    Args:
        path: A Markdown file.
        name: Its name in the configuration.

    Raises:
        StudyError: The file cannot be read, or with every problem of its front matter.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"cannot be read ({error})", str(path), "save it as UTF-8 text") from None
    return parse_explanation(text, name, str(path))


def parse_explanation(text: str, name: str, where: str) -> Explanation:
    """Reads an explanation from its text.

    Args:
        text: Markdown, with a front matter or without.
        name: Its name in the configuration.
        where: Its file, for the messages.

    Raises:
        StudyError: With every problem found: a front matter that is not closed or not YAML, an unknown key, a value of
            the wrong type, another `id` than the name, or an explanation that says nothing.
    """
    front, body = _split(text, where)
    problems = _front_problems(front, name, where)
    if problems:
        raise StudyError.of(problems)
    higher, lower = (tuple(" ".join(statement.split()) for statement in front.get(key) or ()) for key in LIST_KEYS)
    heading = _HEADING.search(strip_comments(body))
    explanation = Explanation(
        name=name,
        title=heading["title"] if heading else name,
        author=(front.get("author") or "").strip(),
        model=(front.get("model") or "").strip(),
        higher=higher,
        lower=lower,
        body=body.strip(),
    )
    if not explanation.text:
        raise StudyError("the explanation says nothing", where, "give it a body, or statements in higher or lower")
    return explanation


def _split(text: str, where: str) -> tuple[dict[Any, Any], str]:
    """The front matter, empty without one, and the body."""
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[0].rstrip() != FENCE:
        return {}, "\n".join(lines)
    end = next((i for i, line in enumerate(lines[1:], 1) if line.rstrip() == FENCE), None)
    if end is None:
        raise StudyError("the front matter is not closed", where, f"end it with a line {FENCE}")
    front = parse_yaml("\n".join(lines[1:end]), where, first_line=2)
    if front is None:
        front = {}
    if not isinstance(front, dict):
        keys = ", ".join(TEXT_KEYS + LIST_KEYS)
        raise StudyError("the front matter is not a list of keys", where, f"write `key: value`; keys are {keys}")
    return front, "\n".join(lines[end + 1 :])


def _front_problems(front: dict[Any, Any], name: str, where: str) -> list[Problem]:
    """Unknown keys, values of a wrong type, and an id that is not the name."""
    known = [*TEXT_KEYS, *LIST_KEYS]
    problems = [
        Problem(f"{where}, key {key}", "unknown key in the front matter", did_you_mean(str(key), known))
        for key in front
        if key not in known
    ]
    for key in TEXT_KEYS:
        value = front.get(key)
        if value is not None and not isinstance(value, str):
            problems.append(Problem(f"{where}, key {key}", f"'{value}' is not text", "put it in quotes"))
    for key in LIST_KEYS:
        problems += _list_problems(front.get(key), f"{where}, key {key}")
    if isinstance(front.get("id"), str) and front["id"] != name:
        what = f"the id is '{front['id']}', but the configuration names this text '{name}'"
        problems.append(Problem(f"{where}, key id", what, "give both the same name, or leave id out"))
    return problems


def _list_problems(value: Any, where: str) -> list[Problem]:
    """A list of statements that is none, or holds something else than text."""
    if value is None:
        return []
    if not isinstance(value, list):
        return [Problem(where, f"'{value}' is not a list", "write one statement per line, each after `- `")]
    return [
        Problem(f"{where}, statement {k}", f"'{statement}' is not text", "put it in quotes, or take it out")
        for k, statement in enumerate(value, 1)
        if not isinstance(statement, str) or not statement.strip()
    ]
