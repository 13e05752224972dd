"""Descriptions and answers on their way through files, and the text that each explanation is answered from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.errors import StudyError
from slidestudy.explanations.answering import answer_all, describe_sample, explanation_text, read_answers
from slidestudy.explanations.answers import Answer, AnswerStatus, Conclusion
from slidestudy.explanations.controls import invert_text
from slidestudy.explanations.protocol import Patch
from slidestudy.files import write_text

IMAGE = np.zeros((4, 4, 3), np.uint8)


class ScriptedReader:
    """Describes and answers with given texts."""

    def __init__(self, descriptions: list[str], answers: dict[str, Answer], is_vlm: bool = True) -> None:
        self.name, self.is_vlm = "scripted", is_vlm
        self.descriptions, self.answers = descriptions, answers
        self.asked: list[tuple[str, str, str]] = []

    def describe_patches(self, images):
        return self.descriptions

    def answer(self, patch_id, description, explanation):
        self.asked.append((patch_id, description, explanation))
        return self.answers[patch_id]


def patches(count: int) -> list[Patch]:
    return [Patch(f"s/{i}-0-0.5", IMAGE, 0.5) for i in range(count)]


def an_answer(patch_id: str, status: AnswerStatus, raw: str) -> Answer:
    return Answer(patch_id, status, Conclusion.VERY_HIGH if status is AnswerStatus.ANSWERED else None, raw)


# Any text that a reader may send: also Unicode's line ends and half surrogate pairs.
any_text = st.text(st.characters(), max_size=40) | st.sampled_from(
    ["a\u2028b", "a\x85b", "a\u2029\r\n\x0b\x0cb", "\ud83d half a pair", '{"quote": "\\"}', "µm – größer"]
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(any_text, st.sampled_from(AnswerStatus), any_text), min_size=1, max_size=5))
def test_descriptions_and_answers_come_back_as_they_were_given(tmp_path_factory, rows):
    sample = patches(len(rows))
    answers = {p.patch_id: an_answer(p.patch_id, row[1], row[2]) for p, row in zip(sample, rows, strict=True)}
    reader = ScriptedReader([row[0] for row in rows], answers)
    folder = tmp_path_factory.mktemp("answers")
    write_text(folder / "descriptions.jsonl", describe_sample(reader, sample))
    descriptions = (folder / "descriptions.jsonl").read_text(encoding="utf-8")
    write_text(folder / "answers.jsonl", answer_all(reader, descriptions, "an explanation"))
    assert reader.asked == [(p.patch_id, row[0], "an explanation") for p, row in zip(sample, rows, strict=True)]
    found = read_answers(folder / "answers.jsonl")
    assert found.answers == list(answers.values())
    assert (found.reader, found.is_vlm) == ("scripted", True)


def test_a_line_is_a_json_object_with_the_patch_and_its_reader():
    reader = ScriptedReader(
        ["one", "two"], {p.patch_id: an_answer(p.patch_id, AnswerStatus.FAILED, "") for p in patches(2)}, False
    )
    described = describe_sample(reader, patches(2))
    assert [json.loads(line) for line in described.splitlines()] == [
        {"patch_id": f"s/{i}-0-0.5", "reader": "scripted", "is_vlm": False, "description": text}
        for i, text in enumerate(["one", "two"])
    ]
    answered = json.loads(answer_all(reader, described, "").splitlines()[1])
    assert answered == {
        "patch_id": "s/1-0-0.5",
        "status": "failed",
        "conclusion": None,
        "raw": "",
        "reader": "scripted",
        "is_vlm": False,
    }


def test_a_reader_that_leaves_a_patch_out_is_noticed():
    with pytest.raises(ValueError, match="shorter"):
        describe_sample(ScriptedReader(["one"], {}), patches(2))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json\n",
        "[]\n",
        '{"patch_id": "a"}\n',
        '{"patch_id": "a", "status": "guessed", "conclusion": null, "raw": "", "reader": "r", "is_vlm": false}\n',
        '{"patch_id": "a", "status": "answered", "conclusion": null, "raw": "", "reader": "r", "is_vlm": false}\n',
    ],
)
def test_a_file_that_holds_no_answers_is_refused(tmp_path, text):
    (tmp_path / "answers.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(StudyError, match=r"answers.jsonl: holds no answers"):
        read_answers(tmp_path / "answers.jsonl")


def test_an_explanation_is_answered_from_as_written_and_its_control_from_the_inverse():
    text = "Lymphocytes raise the score, tumour cells lower it."
    assert explanation_text("lymphocytes-raise", text) == text
    assert explanation_text("lymphocytes-raise.inverted", text) == "Lymphocytes lower the score, tumour cells raise it."
    assert explanation_text("inverted", text) == text


def test_the_projects_own_explanations_have_an_inverse(repository: Path):
    files = sorted((repository / "config" / "explanations").glob("*.md"))
    assert files
    for path in files:
        text = path.read_text(encoding="utf-8")
        inverse = explanation_text(f"{path.stem}.inverted", text)
        assert inverse == invert_text(text) != text
