import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slidestudy.explanations.answers import (
    Answer,
    AnswerStatus,
    Conclusion,
    answer_from_text,
    parse_conclusion,
)

CONCLUSIONS = st.sampled_from(list(Conclusion))
CONTROL_FREE = st.text(st.characters(exclude_categories=["Cs"]))


def test_ordinals_rise_from_very_low_to_very_high() -> None:
    order = [
        Conclusion.VERY_LOW,
        Conclusion.LOW_NEAR_BOUNDARY,
        Conclusion.HIGH_NEAR_BOUNDARY,
        Conclusion.VERY_HIGH,
    ]
    assert [conclusion.ordinal for conclusion in order] == [0, 1, 2, 3]
    assert [conclusion.high for conclusion in order] == [False, False, True, True]


@pytest.mark.parametrize(
    "line",
    [
        "CONCLUSION=HIGH NEAR BOUNDARY",
        "conclusion = high near boundary.",
        "**CONCLUSION=HIGH NEAR BOUNDARY**",
        "**CONCLUSION**: `High Near Boundary`!",
        "> CONCLUSION=  HIGH   NEAR\tBOUNDARY  ",
        "CONCLUSION=HIGH_NEAR_BOUNDARY",
        "CONCLUSION=HIGH NEAR BOUNDARY\n\nThank you.",
    ],
)
def test_case_spaces_stars_and_punctuation_do_not_matter(line: str) -> None:
    assert parse_conclusion(f"Because of fat.\n{line}") == (
        Conclusion.HIGH_NEAR_BOUNDARY,
        AnswerStatus.ANSWERED,
    )


def test_the_last_conclusion_line_counts() -> None:
    text = "CONCLUSION=VERY HIGH\nOn second thoughts:\nCONCLUSION=VERY LOW"
    assert parse_conclusion(text)[0] is Conclusion.VERY_LOW


def test_abstaining_is_not_the_same_as_being_unreadable() -> None:
    assert parse_conclusion("CONCLUSION=ABSTAIN") == (None, AnswerStatus.ABSTAINED)
    assert parse_conclusion("**CONCLUSION = abstain.**") == (None, AnswerStatus.ABSTAINED)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "VERY HIGH",
        "The CONCLUSION=VERY HIGH is tempting",
        "CONCLUSION=",
        "CONCLUSION=HIGH",
        "CONCLUSION=VERY HIGH or VERY LOW",
        "CONCLUSION=NOT VERY HIGH",
        "CONCLUSION=VERY HIGH\nCONCLUSION=perhaps",
    ],
)
def test_hedged_or_missing_conclusions_are_unparsed(text: str) -> None:
    assert parse_conclusion(text) == (None, AnswerStatus.UNPARSED)


@given(CONTROL_FREE, CONCLUSIONS)
def test_a_well_formed_last_line_is_read_whatever_stands_before_it(before: str, conclusion: Conclusion) -> None:
    answer = answer_from_text("p", f"{before}\nCONCLUSION={conclusion.value}")
    assert (answer.conclusion, answer.status) == (conclusion, AnswerStatus.ANSWERED)


@given(CONTROL_FREE)
def test_every_text_gets_a_status_and_a_conclusion_only_when_answered(text: str) -> None:
    answer = answer_from_text("p", text)
    assert (answer.conclusion is not None) == (answer.status is AnswerStatus.ANSWERED)
    assert answer.raw == text


@given(CONTROL_FREE, CONTROL_FREE, st.one_of(st.none(), CONCLUSIONS))
def test_an_answer_survives_json(patch_id: str, raw: str, conclusion: Conclusion | None) -> None:
    status = AnswerStatus.FAILED if conclusion is None else AnswerStatus.ANSWERED
    answer = Answer(patch_id, status, conclusion, raw)
    line = json.dumps(answer.to_dict())
    assert Answer.from_dict(json.loads(line)) == answer
    assert json.dumps(Answer.from_dict(json.loads(line)).to_dict()) == line


@pytest.mark.parametrize(
    ("status", "conclusion"),
    [(AnswerStatus.ANSWERED, None), (AnswerStatus.FAILED, Conclusion.VERY_LOW)],
)
def test_a_status_that_contradicts_the_conclusion_is_refused(
    status: AnswerStatus, conclusion: Conclusion | None
) -> None:
    with pytest.raises(ValueError, match="p7"):
        Answer("p7", status, conclusion, "")
