from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from slidestudy.explanations.claims import Claim, parse_claims
from slidestudy.explanations.controls import invert_explanation, invert_text
from slidestudy.explanations.documents import read_explanation

CONFIG = Path(__file__).resolve().parents[2] / "config" / "explanations"

NAMES = ["lymphocytes", "tumour cells", "stroma", "fat", "mucin", "plasma cells", "crowded nuclei", "empty glass"]
QUANTITIES = ["", "many ", "few ", "a higher number of ", "low ", "the absence of ", "reduced ", "dense "]
PREDICATES = [
    "{raise} the score",
    "do not {raise} the score",
    "{raise} it",
    "are found where the score is {high}",
    "go with a {higher} score",
    "mean {higher} predicted scores",
    "push the score {up}",
    "correlate {positively} with the score",
    "favour a {high} score",
    "are {rewarded} by the score",
]
LEADS = [
    "The score {rises} with ",
    "The score is {raised} by ",
    "The score is {high} where there are ",
    "{High} scores are seen with ",
    "{Increases} in the score come from ",
    "It {drops} near ",
]
WORDS = {
    "raise": ["raise", "lower", "increase", "decrease", "reduce", "boost"],
    "high": ["high", "low", "higher", "lowest"],
    "higher": ["higher", "lower", "high", "low"],
    "up": ["up", "down"],
    "positively": ["positively", "negatively"],
    "rewarded": ["rewarded", "penalised"],
    "rises": ["rises", "falls", "increases", "decreases", "goes up", "goes down"],
    "raised": ["raised", "lowered", "increased", "reduced"],
    "High": ["High", "Low", "LOWER", "Higher"],
    "Increases": ["Increases", "Decreases", "Reductions"],
    "drops": ["drops", "climbs", "falls", "rises"],
}


@st.composite
def clauses(draw: st.DrawFn) -> str:
    names = [draw(st.sampled_from(QUANTITIES)) + draw(st.sampled_from(NAMES)) for _ in range(draw(st.integers(1, 3)))]
    subject = ", ".join(names[:-1]) + " and " * (len(names) > 1) + names[-1]
    first = draw(st.booleans())
    pattern = subject + " " + draw(st.sampled_from(PREDICATES)) if first else draw(st.sampled_from(LEADS)) + subject
    for field, words in WORDS.items():
        pattern = pattern.replace(f"{{{field}}}", draw(st.sampled_from(words)))
    return pattern


JOINTS = st.sampled_from([". ", ", and ", " while ", "; ", ", but ", ".\n\n- ", ".\n# Heading\n\n"])


@st.composite
def explanations(draw: st.DrawFn) -> str:
    text = draw(clauses())
    for _ in range(draw(st.integers(0, 3))):
        text += draw(JOINTS) + draw(clauses())
    return text + "."


def directions(claims: list[Claim]) -> set[tuple[str, int]]:
    return {(claim.morphology.value, claim.direction) for claim in claims}


def flipped(claims: list[Claim]) -> set[tuple[str, int]]:
    return {(claim.morphology.value, -claim.direction) for claim in claims}


@given(explanations())
def test_inverting_turns_every_claim_round(text: str) -> None:
    claims = parse_claims(text)
    assume(claims)
    assert directions(parse_claims(invert_text(text))) == flipped(claims)


@given(explanations())
def test_inverting_twice_gives_the_claims_back(text: str) -> None:
    assert directions(parse_claims(invert_text(invert_text(text)))) == directions(parse_claims(text))


VOCABULARY = sorted(
    {word for words in WORDS.values() for word in words}
    | set(NAMES)
    | {"the", "score", "it", "is", "are", "where", "not", "few", "no", "in", "with"}
    | {"and", "but", ",", ";", "while", "raises", "lowers", "falls"}
)


@given(st.lists(st.sampled_from(VOCABULARY), max_size=14))
def test_even_word_salad_is_turned_round(words: list[str]) -> None:
    text = " ".join(words)
    assert directions(parse_claims(invert_text(text))) == flipped(parse_claims(text))


@given(st.text())
def test_any_text_can_be_inverted(text: str) -> None:
    assert directions(parse_claims(invert_text(text))) == flipped(parse_claims(text))


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.md")), ids=lambda path: path.name)
def test_shipped_explanations_are_inverted_claim_by_claim(path: Path) -> None:
    explanation = read_explanation(path, path.stem)
    inverted = invert_explanation(explanation)
    claims = parse_claims(explanation.text)
    assert claims
    assert sorted(directions(parse_claims(inverted.text))) == sorted(flipped(claims))
    assert invert_explanation(inverted).text == explanation.text


@pytest.mark.parametrize(
    ("text", "inverted"),
    [
        ("Lymphocytes raise the score.", "Lymphocytes lower the score."),
        ("FAT LOWERS THE SCORE.", "FAT RAISES THE SCORE."),
        ("Lower scores: fat.", "Higher scores: fat."),
        ("Few lymphocytes lower the score.", "Few lymphocytes raise the score."),
        ("Lower cellularity gives a lower score.", "Lower cellularity gives a higher score."),
        ("The more fat, the lower the score.", "The more fat, the higher the score."),
        ("The score is high in fat and low in mucin.", "The score is low in fat and high in mucin."),
        ("# Fat raises the score", "# Fat lowers the score"),
        ("<!-- fat raises the score -->", "<!-- fat raises the score -->"),
        ("Fat **raises** the _score_.", "Fat **lowers** the _score_."),
        ("Low-grade tumour raises the score.", "Low-grade tumour lowers the score."),
        ("Nothing to swap here.", "Nothing to swap here."),
    ],
)
def test_only_words_about_the_score_are_swapped(text: str, inverted: str) -> None:
    assert invert_text(text) == inverted
    assert invert_text(inverted) == text
