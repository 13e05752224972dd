"""Answers as numbers, shufflings, agreement of repeats, and the patches that are most wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.explanations.made_answers import (
    HB,
    LB,
    VH,
    VL,
    A,
    F,
    U,
    an_answer,
    answered,
    make_sample,
    patches_of,
    truthful,
)

from slidestudy.errors import StudyError
from slidestudy.explanations.agreement import ordinal_alpha
from slidestudy.explanations.answers import Answer, AnswerStatus
from slidestudy.explanations.reading import as_reading, derangement, shuffle_answers
from slidestudy.explanations.wrong import MOST_WRONG, most_wrong


def test_answers_become_ordinals_and_repeats_their_mean() -> None:
    sample = make_sample(5)
    found = answered(sample, [VH, HB, LB, VL, F], [VH, A, LB, F, U])
    assert found.ordinals.tolist()[0][:4] == [3, 1.75, 1, 0]
    assert np.isnan(found.ordinals[0, 4])
    counts = {status.value: of.tolist() for status, of in found.counts.items()}
    assert (counts["answered"], counts["abstained"]) == ([2, 1, 2, 1, 0], [0, 1, 0, 0, 0])
    assert (counts["unparsed"], counts["failed"]) == ([0, 0, 0, 0, 1], [0, 0, 0, 1, 1])


@pytest.mark.parametrize("change", ["another patch", "another order", "one fewer"])
def test_answers_of_another_sample_are_refused(change: str) -> None:
    ids = [f"s/{i}" for i in range(6)]
    answers = [an_answer(patch, VH) for patch in ids]
    other = {"another patch": [*ids[:-1], "s/x"], "another order": ids[::-1], "one fewer": ids[:-1]}[change]
    with pytest.raises(StudyError, match="explanation text: the answers belong to another sample"):
        as_reading("text", answers, other, "scripted", False)


@given(st.integers(2, 40), st.integers(0, 1000))
def test_a_derangement_leaves_nothing_in_its_place(count: int, seed: int) -> None:
    order = derangement(np.random.default_rng(seed), count)
    assert sorted(order) == list(range(count))
    assert not (order == np.arange(count)).any()


def test_shuffled_answers_are_the_same_answers_of_other_patches() -> None:
    sample = make_sample(30)
    text = answered(sample, truthful(sample))
    first, again = (shuffle_answers("text.shuffled", text, 7) for _ in range(2))
    assert (first.ordinals == again.ordinals).all()
    assert not (first.ordinals == shuffle_answers("text.shuffled", text, 8).ordinals).all()
    for row in first.ordinals:
        assert sorted(row) == sorted(text.ordinals[0])


def test_alpha_is_that_of_krippendorffs_own_example() -> None:
    """Computing Krippendorff's alpha-reliability (2011), the reliability data of four observers, ordinal: 0.815."""
    nan = np.nan
    ratings = np.array([
        [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
        [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
    ])  # fmt: skip
    assert ordinal_alpha(ratings, np.ones((1, 12)))[0] == pytest.approx(0.815, abs=0.0006)


def test_alpha_in_its_limits() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 4, 200).astype(float)
    ones = np.ones((1, 200))
    assert ordinal_alpha(np.array([first, first]), ones)[0] == 1
    assert ordinal_alpha(np.array([first, rng.permutation(first)]), ones)[0] == pytest.approx(0, abs=0.2)
    assert ordinal_alpha(np.array([first, 3 - first]), ones)[0] < -0.8
    assert np.isnan(ordinal_alpha(np.ones((2, 200)), ones)[0])
    assert np.isnan(ordinal_alpha(first[None], ones)[0])


def test_a_weight_of_two_is_a_unit_that_stands_twice() -> None:
    ratings = np.array([[0, 1, 2, 3, 3.0], [0, 1, 1, 3, 2.0]])
    weights = np.array([[1, 2, 0, 3, 1.0]])
    copied = ratings[:, [0, 1, 1, 3, 3, 3, 4]]
    assert ordinal_alpha(ratings, weights)[0] == pytest.approx(ordinal_alpha(copied, np.ones((1, 7)))[0])


def test_the_patches_farthest_from_the_model_are_listed_first() -> None:
    sample = make_sample(20, seed=5)
    values = truthful(sample)
    values[0], values[1] = VL, VH
    found = most_wrong(
        [answered(sample, values), answered(sample, values, name="text.inverted")], patches_of(sample), 3
    )
    assert list(found.columns) == MOST_WRONG
    assert set(found["explanation"]) == {"text"}
    assert set(found["patch_id"][:2]) == {"s/000", "s/001"}
    assert found["place"].tolist() == [1, 2, 3]
    assert found["error"].is_monotonic_decreasing
    assert dict(zip(found["patch_id"], found["answer"], strict=True))["s/000"] == 0


def test_a_text_that_ranks_all_patches_rightly_lists_none() -> None:
    sample = make_sample(4).assign(logit=[4.0, 3.0, -3.0, -4.0])
    assert len(most_wrong([answered(sample, [VH, HB, LB, VL])], patches_of(sample))) == 0


def test_an_answer_keeps_its_probability_and_repeat_and_old_files_still_read() -> None:
    answer = Answer("p", AnswerStatus.ABSTAINED, None, "?", 0.25, 2)
    assert Answer.from_dict(answer.to_dict()) == answer
    old = {"patch_id": "p", "status": "abstained", "conclusion": None, "raw": "?"}
    assert Answer.from_dict(old) == Answer("p", AnswerStatus.ABSTAINED, None, "?")
    with pytest.raises(ValueError, match="probability"):
        Answer("p", AnswerStatus.ABSTAINED, None, "?", 1.5)
