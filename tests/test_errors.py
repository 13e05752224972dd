"""A mistake is shown as one message that says where it is, what is wrong and how to mend it."""

from __future__ import annotations

import pytest

from slidestudy.errors import Problem, Reason, SlideError, StudyError


def test_a_message_names_place_mistake_and_remedy() -> None:
    error = StudyError("'tils' is 130, which is above 100", "patients.tsv, line 4", "correct the label")
    assert str(error) == "patients.tsv, line 4: 'tils' is 130, which is above 100\n    remedy: correct the label"


def test_a_message_without_place_or_remedy_is_the_mistake_alone() -> None:
    assert str(StudyError("no slide can be used")) == "no slide can be used"


def test_several_problems_are_counted_and_listed_in_their_order() -> None:
    error = StudyError.of([Problem("a.tsv", "first", "mend it"), Problem("b.tsv", "second")])
    assert [p.what for p in error.problems] == ["first", "second"]
    assert str(error) == "2 problems in the study:\n  1. a.tsv: first\n    remedy: mend it\n  2. b.tsv: second"


def test_one_problem_is_not_given_a_plural() -> None:
    assert str(StudyError.of([Problem("a.tsv", "first")])).startswith("1 problem in the study:")


def test_an_error_of_no_problem_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one problem"):
        StudyError.of([])


def test_a_slide_error_carries_its_code_and_its_remedy_in_brackets() -> None:
    error = SlideError(Reason.MPP_MISSING, "nobody says the resolution", "S1", "fill in mpp")
    assert error.reason == "mpp_missing"
    assert error.message == "nobody says the resolution (fill in mpp)"
    assert "S1" in str(error)


def test_a_slide_error_without_remedy_has_no_brackets() -> None:
    assert SlideError(Reason.TRUNCATED, "cut short").message == "cut short"
