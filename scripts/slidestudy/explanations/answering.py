"""Descriptions and answers as JSON lines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slidestudy.errors import StudyError
from slidestudy.explanations.answers import Answer
from slidestudy.explanations.documents import Explanation
from slidestudy.explanations.naming import IMAGE_ONLY
from slidestudy.explanations.protocol import Patch, Question, Reader


@dataclass(frozen=True)
class Answers:
    """The answers from one explanation.

    Attributes:
        reader: Who answered.
        is_vlm: Whether that was a vision-language model.
        answers: One per patch and repeat.
    """

    reader: str
    is_vlm: bool
    answers: list[Answer]


def _lines(rows: Sequence[dict[str, Any]]) -> str:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    # Half of a surrogate pair, which a reader may send, cannot be UTF-8: it stays as JSON's own escape.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _rows(text: str) -> list[dict[str, Any]]:
    """The rows of JSON lines; only a line feed ends one, as a text may hold Unicode's other line ends."""
    return [json.loads(line) for line in text.split("\n") if line]


def describe_sample(reader: Reader, patches: Sequence[Patch]) -> str:
    """Describes a whole sample at once, as JSON lines `patch_id reader is_vlm description`."""
    descriptions = reader.describe_patches(patches)
    common = {"reader": reader.name, "is_vlm": reader.is_vlm}
    return _lines(
        [{"patch_id": p.patch_id, **common, "description": d} for p, d in zip(patches, descriptions, strict=True)]
    )


def answer_sample(
    reader: Reader, descriptions: str, explanation: Explanation, patches: Iterable[Patch] = (), repeats: int = 1
) -> str:
    """Answers for every described patch, as JSON lines: the answer's fields, `reader`, `is_vlm`.

    Args:
        reader: Who answers.
        descriptions: What `describe_sample` gave.
        explanation: What is answered from.
        patches: The described patches, where the reader is to see them.
        repeats: How often each question is asked.
    """
    images = {patch.patch_id: patch for patch in patches}
    # Without an explanation the patch itself is looked at, and a description of it would be a second hint.
    alone = explanation.name == IMAGE_ONLY
    questions = [
        Question(row["patch_id"], "" if alone else row["description"], images.get(row["patch_id"]), repeat)
        for repeat in range(repeats)
        for row in _rows(descriptions)
    ]
    common = {"reader": reader.name, "is_vlm": reader.is_vlm}
    return _lines([{**answer.to_dict(), **common} for answer in reader.answer_all(questions, explanation)])


def read_answers(path: str | os.PathLike[str]) -> Answers:
    """Reads the answers from one explanation.

    Raises:
        StudyError: The file is empty or not of this form.
    """
    try:
        rows = _rows(Path(path).read_text(encoding="utf-8"))
        keys = ("reader", "is_vlm")
        answers = [Answer.from_dict({k: v for k, v in row.items() if k not in keys}) for row in rows]
        return Answers(str(rows[0]["reader"]), bool(rows[0]["is_vlm"]), answers)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise StudyError(f"holds no answers ({error})", str(path), "remove it; it will be made anew") from None


def read_descriptions(path: str | os.PathLike[str]) -> dict[str, str]:
    """Patch id -> its description.

    Raises:
        StudyError: The file is not of the form that `describe_sample` gives.
    """
    try:
        rows = _rows(Path(path).read_text(encoding="utf-8"))
        return {str(row["patch_id"]): str(row["description"]) for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(f"holds no descriptions ({error})", str(path), "remove it; it will be made anew") from None
