"""The morphometry reader follows an explanation's claims to the letter."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.explanations.readers.vlm_readers import said

from slidestudy.explanations import morphometry
from slidestudy.explanations.answers import AnswerStatus, Conclusion, parse_conclusion
from slidestudy.explanations.claims import Morphology
from slidestudy.explanations.controls import invert_text
from slidestudy.explanations.documents import read_explanation
from slidestudy.explanations.naming import IMAGE_ONLY
from slidestudy.explanations.protocol import Patch, Question
from slidestudy.explanations.readers.morphometric import MEASUREMENT_OF, MorphometryReader

CONFIG = Path(__file__).resolve().parents[3] / "config"
READER = MorphometryReader()
LABELS = {entry.key: entry.label for entry in morphometry.MEASUREMENTS}
NAMES = {
    Morphology.LYMPHOCYTES: "lymphocytes",
    Morphology.FAT: "fat",
    Morphology.STROMA: "stroma",
    Morphology.MUCIN: "mucin",
}


def patch(name: str, lymphocytes: int) -> Patch:
    """A pink field with a number of small dark nuclei."""
    image = np.full((240, 240, 3), (228, 170, 205), dtype=np.uint8)
    for number in range(lymphocytes):
        cv2.circle(image, (20 + 22 * (number % 10), 20 + 22 * (number // 10)), 5, (80, 45, 120), -1)
    return Patch(name, image, 0.5)


def described(levels: dict[Morphology, float]) -> str:
    """A description with the given percentiles."""
    lines = [morphometry.OPENING_LINE]
    for morphology, percentile in levels.items():
        word = morphometry.LEVEL_WORDS[morphometry.level_of(percentile) + 2]
        lines.append(f"- {LABELS[MEASUREMENT_OF[morphology]]}: 1 x; level {word} (percentile {percentile:.1f}).")
    return "\n".join(lines)


def conclusion(levels: dict[Morphology, float], explanation: str) -> Conclusion | None:
    return READER.answer("p", described(levels), explanation).conclusion


def test_every_morphology_that_can_be_claimed_is_measured() -> None:
    assert set(MEASUREMENT_OF) == set(Morphology)
    assert set(MEASUREMENT_OF.values()) <= set(LABELS)


def test_patches_with_more_lymphocytes_are_predicted_higher() -> None:
    patches = [patch(f"p{count}", count) for count in (2, 15, 30, 50, 80)]
    descriptions = READER.describe_patches(patches)
    explanation = read_explanation(CONFIG / "explanations" / "lymphocytes-raise.md", "lymphocytes-raise")
    asked = [Question(p.patch_id, text, None) for p, text in zip(patches, descriptions, strict=True)]
    answers = READER.answer_all(asked, explanation)
    assert [answer.patch_id for answer in answers] == [p.patch_id for p in patches]
    ordinals = [answer.conclusion.ordinal for answer in answers if answer.conclusion]
    assert ordinals == sorted(ordinals)
    assert (ordinals[0], ordinals[-1], len(ordinals)) == (0, 3, 5)


def test_describing_twice_gives_the_same_text() -> None:
    patches = [patch("a", 4), patch("b", 40)]
    assert READER.describe_patches(patches) == READER.describe_patches(patches)


def test_nothing_to_describe_is_no_error() -> None:
    assert READER.describe_patches([]) == []


@pytest.mark.parametrize(
    ("percentile", "expected"),
    [
        (95.0, Conclusion.VERY_HIGH),
        (70.0, Conclusion.VERY_HIGH),
        (55.0, Conclusion.HIGH_NEAR_BOUNDARY),
        (50.0, Conclusion.LOW_NEAR_BOUNDARY),
        (45.0, Conclusion.LOW_NEAR_BOUNDARY),
        (25.0, Conclusion.VERY_LOW),
        (5.0, Conclusion.VERY_LOW),
    ],
)
def test_one_claim_follows_its_level(percentile: float, expected: Conclusion) -> None:
    assert conclusion({Morphology.LYMPHOCYTES: percentile}, "Lymphocytes raise the score.") is expected


def test_claims_are_averaged() -> None:
    levels = {Morphology.LYMPHOCYTES: 70.0, Morphology.FAT: 50.0}
    assert conclusion(levels, "Lymphocytes raise and fat lowers the score.") is Conclusion.HIGH_NEAR_BOUNDARY


def test_a_tie_is_decided_by_the_percentiles_and_says_so() -> None:
    answer = READER.answer("p", described({Morphology.FAT: 55.0}), "Fat lowers the score.")
    assert answer.conclusion is Conclusion.LOW_NEAR_BOUNDARY
    assert "tie" in answer.raw


def test_an_explanation_without_claims_makes_it_abstain() -> None:
    irrelevant = (CONFIG / "explanations" / "controls" / "irrelevant.md").read_text(encoding="utf-8")
    for explanation in ("", irrelevant):
        answer = READER.answer("p", described({Morphology.FAT: 55.0}), explanation)
        assert answer.status is AnswerStatus.ABSTAINED
        assert "makes none that can be read" in answer.raw


def test_a_claim_about_what_was_not_measured_makes_it_abstain() -> None:
    answer = READER.answer("p", described({Morphology.FAT: 55.0}), "Nuclear size raises the score.")
    assert answer.status is AnswerStatus.ABSTAINED
    assert "nuclear_size: claimed, but not measured" in answer.raw


def test_the_text_shows_each_contribution() -> None:
    levels = {Morphology.LYMPHOCYTES: 90.0, Morphology.FAT: 30.0}
    raw = READER.answer("p", described(levels), "Lymphocytes raise and fat lowers the score.").raw
    assert "lymphocytes: raises the score, level very high: +2." in raw
    assert "fat: lowers the score, level low: +1." in raw
    assert "+1.50" in raw


LEVELS = st.dictionaries(st.sampled_from(list(NAMES)), st.floats(0, 100).map(lambda p: round(p, 1)), min_size=1)
EXPLANATIONS = st.lists(
    st.tuples(st.sampled_from(list(NAMES.values())), st.sampled_from(["raises", "lowers"])), max_size=4
).map(lambda claims: " ".join(f"More {name} {verb} the score." for name, verb in claims))


@given(LEVELS, EXPLANATIONS)
def test_the_raw_text_alone_gives_the_answer_again(levels: dict[Morphology, float], explanation: str) -> None:
    answer = READER.answer("p", described(levels), explanation)
    assert parse_conclusion(answer.raw) == (answer.conclusion, answer.status)


@given(LEVELS, EXPLANATIONS)
def test_the_inverted_explanation_never_gains_the_same_very_answer(
    levels: dict[Morphology, float], explanation: str
) -> None:
    plain = conclusion(levels, explanation)
    inverted = conclusion(levels, invert_text(explanation))
    assert (plain is None) == (inverted is None)
    if plain in (Conclusion.VERY_HIGH, Conclusion.VERY_LOW):
        assert plain is not None
        assert inverted is not None
        assert inverted.ordinal == 3 - plain.ordinal


def test_statements_are_claims_too() -> None:
    explanation = said(higher=("many lymphocytes",), lower=("fat", "pools of mucin"))
    levels = {Morphology.LYMPHOCYTES: 90.0, Morphology.FAT: 10.0, Morphology.MUCIN: 10.0}
    (answer,) = READER.answer_all([Question("p", described(levels), None, repeat=2)], explanation)
    assert (answer.conclusion, answer.repeat) == (Conclusion.VERY_HIGH, 2)
    for line in ("lymphocytes: raises", "fat: lowers", "mucin: lowers"):
        assert line in answer.raw


def test_without_an_explanation_it_abstains() -> None:
    patch_alone = Question("p", "", patch("p", 40))
    (answer,) = READER.answer_all([patch_alone], said(name=IMAGE_ONLY))
    assert answer.status is AnswerStatus.ABSTAINED
    assert (READER.is_vlm, READER.needs_images) == (False, False)
