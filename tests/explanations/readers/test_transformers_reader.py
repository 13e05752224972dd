"""A vision-language model on this machine: a small one that is made here, with random or chosen words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.explanations.readers.small_vlm import save_vlm
from tests.explanations.readers.vlm_readers import LYMPHOCYTES, PATHS, patch, questions, said

from slidestudy.errors import StudyError
from slidestudy.explanations.answers import AnswerStatus, Conclusion
from slidestudy.explanations.ledger import Job
from slidestudy.explanations.naming import IMAGE_ONLY
from slidestudy.explanations.protocol import Question
from slidestudy.explanations.readers.building import build_reader
from slidestudy.explanations.readers.local import folder_digest


@pytest.fixture(scope="module")
def babbling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vlm") / "babbling"
    save_vlm(folder)
    return folder


@pytest.fixture(scope="module")
def sure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vlm") / "sure"
    save_vlm(folder, "CONCLUSION=VERY LOW")
    return folder


def reader(folder: Path, ledger: Path, **changes: Any) -> Any:
    settings = {"kind": "transformers", "weights": str(folder), "device": "cpu", "max_tokens": 12, **PATHS}
    return build_reader(settings | changes, Job(ledger, "til", "rule", "a-text"))


def records(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for path in folder.rglob("*.jsonl") for line in path.read_text().splitlines()]
    return [line for line in lines if "note" not in line]


def test_the_model_sees_the_patch_and_says_the_same_every_time(babbling: Path, tmp_path: Path) -> None:
    texts = reader(babbling, tmp_path / "a").describe_patches([patch(0), patch(1), patch(0)])
    assert texts[0] == texts[2] != texts[1]
    assert reader(babbling, tmp_path / "b").describe_patches([patch(0), patch(1), patch(0)]) == texts
    first, _ = records(tmp_path / "a")
    assert (first["output_tokens"], first["cost"], first["request"]["kind"]) == (12, 0.0, "transformers")
    # Sixteen of them are the image's.
    assert first["input_tokens"] > 16


def test_answers_are_read_and_kept(sure: Path, tmp_path: Path) -> None:
    made = reader(sure, tmp_path)
    assert (made.name, made.is_vlm, made.needs_images) == ("transformers:sure", True, False)
    answers = made.answer_all(questions(2, repeats=2), LYMPHOCYTES)
    assert [(answer.conclusion, answer.repeat) for answer in answers] == [
        (Conclusion.VERY_LOW, 0), (Conclusion.VERY_LOW, 0), (Conclusion.VERY_LOW, 1), (Conclusion.VERY_LOW, 1),
    ]  # fmt: skip
    assert len(records(tmp_path)) == 4
    assert reader(sure, tmp_path).answer_all(questions(2, repeats=2), LYMPHOCYTES) == answers
    assert len(records(tmp_path)) == 4


def test_without_an_explanation_it_looks_at_the_patch(sure: Path, tmp_path: Path) -> None:
    (answer,) = reader(sure, tmp_path).answer_all([Question("p", "", patch(0))], said(name=IMAGE_ONLY))
    assert answer.conclusion is Conclusion.VERY_LOW
    (record,) = records(tmp_path)
    assert [part["type"] for part in record["request"]["messages"][0]["content"]] == ["text", "image"]


def test_words_without_a_conclusion_are_unparsed_and_not_asked_for_again_where_they_would_be_the_same(
    babbling: Path, tmp_path: Path
) -> None:
    (answer,) = reader(babbling, tmp_path / "a").answer_all(questions(1), LYMPHOCYTES)
    assert answer.status is AnswerStatus.UNPARSED
    assert len(records(tmp_path / "a")) == 1
    reader(babbling, tmp_path / "b", temperature=1.0).answer_all(questions(1), LYMPHOCYTES)
    replies = [record["reply"] for record in records(tmp_path / "b")]
    assert len(replies) == 2
    assert replies[0] != replies[1]


def test_sampling_follows_the_seed(babbling: Path, tmp_path: Path) -> None:
    def words(name: str, seed: int) -> list[str]:
        made = reader(babbling, tmp_path / name, temperature=1.0, seed=seed)
        return [answer.raw for answer in made.answer_all(questions(2, repeats=2), LYMPHOCYTES)]

    assert words("a", 1) == words("b", 1) != words("c", 2)


def test_other_weights_of_the_same_name_are_another_model(babbling: Path, sure: Path, tmp_path: Path) -> None:
    assert folder_digest(babbling) != folder_digest(sure)
    twin = tmp_path / "babbling"
    save_vlm(twin, "CONCLUSION=VERY HIGH")
    reader(babbling, tmp_path / "l").answer_all(questions(1), LYMPHOCYTES)
    (answer,) = reader(twin, tmp_path / "l").answer_all(questions(1), LYMPHOCYTES)
    assert answer.conclusion is Conclusion.VERY_HIGH


def test_a_model_that_cannot_be_had_or_talked_to_is_a_user_error(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(StudyError, match="cannot be loaded"):
        reader(empty, tmp_path / "l").describe_patches([patch()])
    save_vlm(tmp_path / "mute", template=None)
    with pytest.raises(StudyError, match="no chat template"):
        reader(tmp_path / "mute", tmp_path / "l").describe_patches([patch()])
