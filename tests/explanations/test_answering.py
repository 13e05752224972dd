"""Descriptions and answers on their way through files, and the text that each explanation is answered from."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.errors import StudyError
from slidestudy.explanations.answering import answer_sample, describe_sample, read_answers
from slidestudy.explanations.answers import Answer, AnswerStatus, Conclusion
from slidestudy.explanations.documents import Explanation
from slidestudy.explanations.naming import IMAGE_ONLY
from slidestudy.explanations.protocol import Patch, Question
from slidestudy.files import write_text

IMAGE = np.zeros((4, 4, 3), np.uint8)


class ScriptedReader:
    """Describes and answers with given texts."""

    def __init__(self, descriptions: list[str], answers: dict[str, Answer], is_vlm: bool = True) -> None:
        self.name, self.is_vlm = "scripted", is_vlm
        self.descriptions, self.answers = descriptions, answers
        self.needs_images = False
        self.asked: list[Question] = []

    def describe_patches(self, patches):
        return self.descriptions

    def answer_all(self, questions, explanation):
        self.asked += questions
        return [replace(self.answers[question.patch_id], repeat=question.repeat) for question in questions]


def explanation(name: str = "a-text") -> Explanation:
    return Explanation(name, name, "", "", (), (), "An explanation.")


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
    write_text(folder / "answers.jsonl", answer_sample(reader, descriptions, explanation()))
    assert reader.asked == [Question(p.patch_id, row[0], None) for p, row in zip(sample, rows, strict=True)]
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
    answered = json.loads(answer_sample(reader, described, explanation()).splitlines()[1])
    assert answered == {
        "patch_id": "s/1-0-0.5",
        "status": "failed",
        "conclusion": None,
        "raw": "",
        "probability": None,
        "repeat": 0,
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


def test_each_repeat_asks_about_every_patch():
    answers = {p.patch_id: an_answer(p.patch_id, AnswerStatus.ANSWERED, "r") for p in patches(2)}
    reader = ScriptedReader(["one", "two"], answers)
    text = answer_sample(reader, describe_sample(reader, patches(2)), explanation(), repeats=3)
    found = [(row["patch_id"], row["repeat"]) for row in map(json.loads, text.splitlines())]
    assert found == [(f"s/{i}-0-0.5", repeat) for repeat in range(3) for i in range(2)]


def test_patches_are_shown_where_they_are_given_and_descriptions_are_not_where_there_is_no_explanation():
    sample = patches(2)
    answers = {p.patch_id: an_answer(p.patch_id, AnswerStatus.ABSTAINED, "r") for p in sample}
    reader = ScriptedReader(["one", "two"], answers)
    described = describe_sample(reader, sample)
    answer_sample(reader, described, explanation(), sample)
    answer_sample(reader, described, explanation(IMAGE_ONLY), sample)
    assert [question.patch for question in reader.asked] == sample * 2
    assert [question.description for question in reader.asked] == ["one", "two", "", ""]
