"""Answers as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slidestudy.explanations.answers import AnswerStatus, Conclusion
from slidestudy.explanations.readers.structured import answer_from_json


@pytest.mark.parametrize("conclusion", list(Conclusion))
@pytest.mark.parametrize("dress", ["{}", "```json\n{}\n```", "```\n{}```", "  {}\n"])
def test_each_conclusion_is_read(conclusion: Conclusion, dress: str) -> None:
    text = dress.replace("{}", json.dumps({"conclusion": conclusion.value, "probability_high": 0.5}))
    answer = answer_from_json("p", text)
    assert (answer.status, answer.conclusion, answer.probability) == (AnswerStatus.ANSWERED, conclusion, 0.5)
    assert answer.raw == text


def test_an_abstention_has_no_probability() -> None:
    answer = answer_from_json("p", '{"conclusion": "abstain", "probability_high": 0.5}')
    assert (answer.status, answer.probability) == (AnswerStatus.ABSTAINED, None)


@pytest.mark.parametrize("value", [1.5, -0.1, "0.5", True, None, [0.5], float("nan"), float("inf")])
def test_a_probability_that_is_none_is_not_taken_for_one(value: Any) -> None:
    answer = answer_from_json("p", json.dumps({"conclusion": "VERY LOW", "probability_high": value}))
    assert (answer.conclusion, answer.probability) == (Conclusion.VERY_LOW, None)


@given(st.text() | st.sampled_from(["null", "[]", "3", '"VERY HIGH"', "{}", '{"conclusion": null}', "[" * 100_000]))
def test_anything_else_is_unparsed_and_kept(text: str) -> None:
    answer = answer_from_json("p", text)
    assert (answer.status, answer.raw) == (AnswerStatus.UNPARSED, text)
