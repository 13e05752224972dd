"""Descriptions and answers as JSON lines, and the text that each explanation or control is answered from."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slidestudy.errors import StudyError
from slidestudy.explanations.answers import Answer
from slidestudy.explanations.controls import invert_text
from slidestudy.explanations.protocol import Patch, Reader

INVERTED = ".inverted"


@dataclass(frozen=True)
class Answers:
    """The answers from one explanation.

    Attributes:
        reader: Who answered.
        is_vlm: Whether that was a vision-language model.
        answers: One per patch.
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


def explanation_text(name: str, text: str) -> str:
    """The text that is answered from: as written, or with its directions inverted for the control `.inverted`."""
    return invert_text(text) if name.endswith(INVERTED) else text


def answer_all(reader: Reader, descriptions: str, text: str) -> str:
    """Answers for every described patch, as JSON lines: the answer's fields, `reader`, `is_vlm`."""
    rows = _rows(descriptions)
    common = {"reader": reader.name, "is_vlm": reader.is_vlm}
    return _lines([{**reader.answer(row["patch_id"], row["description"], text).to_dict(), **common} for row in rows])


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
