from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slidestudy.explanations.claims import Morphology, parse_claims, strip_comments
from slidestudy.explanations.documents import read_explanation

CONFIG = Path(__file__).resolve().parents[2] / "config" / "explanations"


def signs(text: str) -> str:
    """Claims in text order as ``+lymphocytes -fat``."""
    return " ".join(f"{'+' if claim.direction > 0 else '-'}{claim.morphology}" for claim in parse_claims(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Lymphocytes raise the score.", "+lymphocytes"),
        ("Lymphocytes and stroma raise the score.", "+lymphocytes +stroma"),
        ("Lymphocytes raise and fat lowers the score.", "+lymphocytes -fat"),
        ("The score falls where there is much fat.", "-fat"),
        ("Few lymphocytes lower the score.", "+lymphocytes"),
        ("The absence of lymphocytes lowers the score.", "+lymphocytes"),
        ("Fat does not raise the score.", ""),
        ("Fat doesn't lower the score, but lymphocytes raise it.", "+lymphocytes"),
        ("A higher number of lymphocytes gives a higher score.", "+lymphocytes"),
        ("Low cellularity lowers the score.", "+cellularity"),
        ("Reduced stroma raises the score.", "-stroma"),
        ("Patches rich in fat score low.", "-fat"),
        ("Lymphocyte-rich patches score high.", "+lymphocytes"),
        ("Lymphocytes push the score up.", "+lymphocytes"),
        ("Fat and mucin drag the score down.", "-fat -mucin"),
        ("The more lymphocytes, the higher the score.", "+lymphocytes"),
        ("The fewer lymphocytes, the lower the score.", "+lymphocytes"),
        ("The score rises with lymphocytes and falls with fat.", "+lymphocytes -fat"),
        ("The score rises with lymphocytes, and fat, mucin and stroma lower it.", "+lymphocytes -fat -mucin -stroma"),
        ("The score is high where lymphocytes are dense and low where fat is abundant.", "+lymphocytes -fat"),
        ("As fat decreases, the score increases.", "-fat"),
        ("As lymphocytes decrease, the score decreases.", "+lymphocytes"),
        ("Lymphocytes in the stroma raise the score.", "+lymphocytes"),
        ("Stromal lymphocytes raise the score near tumour.", "+lymphocytes"),
        ("Neither fat nor mucin lowers the score.", ""),
        ("Lymphocytes, not tumour cells, raise the score.", "+lymphocytes"),
        ("Lymphocytes raise the score regardless of stroma.", "+lymphocytes"),
        ("Small, round, dark nuclei raise the score.", "+lymphocytes"),
        ("The TIL score is raised by lymphocytes.", "+lymphocytes"),
        ("High scores are found in patches with few fat cells.", "-fat"),
        ("Fat correlates negatively with the score.", "-fat"),
        ("Lymphocytes are positively associated with the model's score.", "+lymphocytes"),
        ("Lower cellularity raises the score.", "-cellularity"),
        ("Lymphocytes favour a high score.", "+lymphocytes"),
        ("Fat favours a low score.", "-fat"),
        ("Stroma does not raise but lowers the score.", "-stroma"),
        ("Stroma raises rather than lowers the score.", "+stroma"),
        ("Where lymphocytes are sparse, the score is low.", "+lymphocytes"),
        ("Absence of lymphocytes and mucin lowers the score.", "+lymphocytes +mucin"),
        ("More lymphocytes than tumour cells raise the score.", "+lymphocytes"),
        ("Low-grade tumour raises the score.", "+tumour"),
        ("Fat increases with age.", ""),
        ("A patch without lymphocytes scores low.", "+lymphocytes"),
        ("Lymphocytes increase the score while fat and empty glass decrease it.", "+lymphocytes -fat -background"),
        ("If nuclei vary in size, i.e. pleomorphism is high, the score drops.", "-pleomorphism"),
        ("Dark staining raises the score; pink areas lower it.", "+haematoxylin -eosin"),
        ("Not only lymphocytes but also stroma raise the score.", "+lymphocytes +stroma"),
        ("Tumour-free patches score high.", "-tumour"),
        ("Lymphocytes lower scores.", "-lymphocytes"),
        ("The score of fat patches is low.", "-fat"),
        ("High-scoring patches contain many lymphocytes.", "+lymphocytes"),
        ("Lymphocytes raise and lower the score.", ""),
        ("Fat has no effect on the score.", ""),
        ("Increases in stroma lower the score.", "-stroma"),
        ("The tide rises before noon, and the train to the harbour is late.", ""),
        ("Lymphocytes raise the score; lower scores: fat, mucin.", "+lymphocytes -fat -mucin"),
        ("Lymphocytes raise the score and it falls with fat.", "+lymphocytes -fat"),
        ("Lymphocytes (small round dark nuclei) raise the score.", "+lymphocytes"),
        ("The score is not raised by fat.", ""),
        ("Stroma rich in lymphocytes raises the score.", "+stroma +lymphocytes"),
        ("Cancer cells penalise the score.", "-tumour"),
        ("Scores are higher with higher cellularity.", "+cellularity"),
        ("Lymphocytes are low where the score is low.", "+lymphocytes"),
        ("Lymphocytes raise the predicted TIL score.", "+lymphocytes"),
        (
            "High scores go to patches with lymphoid aggregates, and low scores to those with adipocytes.",
            "+lymphocytes -fat",
        ),
        (
            "A high score means many inflammatory cells; a low score means empty glass or fat.",
            "+lymphocytes -background -fat",
        ),
        ("An increased nuclear density increases the prediction.", "+cellularity"),
        ("Lymphocytes do not lower the score.", ""),
        ("If there is no stroma, the score goes up.", "-stroma"),
        ("LYMPHOCYTES RAISE THE SCORE.", "+lymphocytes"),
        ("Crowded nuclei, pleomorphism and large nuclei raise the risk.", "+cellularity +pleomorphism +tumour"),
        ("Fat lowers the score, and so do mucin and stroma.", "-fat -mucin -stroma"),
    ],
)
def test_claims_of_a_sentence_are_read(text: str, expected: str) -> None:
    assert signs(text) == expected


@pytest.mark.parametrize(
    ("term", "morphology"),
    [
        ("TILs", Morphology.LYMPHOCYTES),
        ("tumour-infiltrating lymphocytes", Morphology.LYMPHOCYTES),
        ("tumor-infiltrating lymphocytes", Morphology.LYMPHOCYTES),
        ("inflammatory cells", Morphology.LYMPHOCYTES),
        ("small, round, dark nuclei", Morphology.LYMPHOCYTES),
        ("epithelial cells", Morphology.TUMOUR),
        ("cancer cells", Morphology.TUMOUR),
        ("large nuclei", Morphology.TUMOUR),
        ("nuclear density", Morphology.CELLULARITY),
        ("crowded nuclei", Morphology.CELLULARITY),
        ("nuclear size", Morphology.NUCLEAR_SIZE),
        ("variation in nuclear size", Morphology.PLEOMORPHISM),
        ("pleomorphic nuclei", Morphology.PLEOMORPHISM),
        ("collagen", Morphology.STROMA),
        ("fibrous tissue", Morphology.STROMA),
        ("adipose tissue", Morphology.FAT),
        ("mucinous areas", Morphology.MUCIN),
        ("white space", Morphology.BACKGROUND),
        ("dark staining", Morphology.HAEMATOXYLIN),
        ("hematoxylin", Morphology.HAEMATOXYLIN),
        ("pink material", Morphology.EOSIN),
        ("eosinophilic areas", Morphology.EOSIN),
    ],
)
def test_terms_name_their_morphology(term: str, morphology: Morphology) -> None:
    assert [claim.morphology for claim in parse_claims(f"More {term} would raise the score.")] == [morphology]


def test_eosinophils_are_not_eosin() -> None:
    assert parse_claims("Eosinophils raise the score.") == []


def test_a_claim_keeps_its_sentence() -> None:
    claims = parse_claims("The model is old. Lymphocytes\nraise the **score**. It ignores fat.")
    assert [claim.sentence for claim in claims] == ["Lymphocytes raise the score ."]


def test_a_claim_made_twice_counts_once() -> None:
    assert signs("Fat lowers the score. A patch with much fat has a low score.") == "-fat"


def test_contradictory_sentences_are_both_kept() -> None:
    assert signs("Fat lowers the score. Fat raises the score.") == "-fat +fat"


def test_headings_and_comments_claim_nothing() -> None:
    assert signs("# Fat raises the score\n<!-- Mucin\nraises the score. -->\nStroma lowers the score.") == "-stroma"


def test_an_unclosed_comment_swallows_the_rest() -> None:
    assert signs("Fat lowers the score. <!-- Mucin raises the score.") == "-fat"
    assert strip_comments("a<!-- b -->c<!-- d") == "ac"


def test_list_items_share_their_lead_in() -> None:
    text = "What raises the score:\n\n- lymphocytes\n2. crowded nuclei\n- no fat\n\nMucin is common."
    assert signs(text) == "+lymphocytes +cellularity -fat"


def test_a_list_item_with_its_own_direction_ignores_the_lead_in() -> None:
    assert signs("What raises the score:\n- lymphocytes\n- fat lowers it") == "+lymphocytes -fat"


def test_the_irrelevant_control_claims_nothing() -> None:
    assert parse_claims((CONFIG / "controls" / "irrelevant.md").read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lymphocytes-raise.md", "+lymphocytes"),
        ("tumour-raises.md", "+tumour +pleomorphism -lymphocytes"),
        ("detailed.md", "+lymphocytes +cellularity -fat -mucin -background -stroma -tumour"),
    ],
)
def test_shipped_explanations_say_what_they_mean(name: str, expected: str) -> None:
    assert signs(read_explanation(CONFIG / name, Path(name).stem).text) == expected


TERMS = st.sampled_from(["lymphocytes", "fat", "stroma", "mucin", "tumour cells"])


@given(TERMS, st.booleans(), st.booleans())
def test_few_and_many_are_opposite_quantities(term: str, raises: bool, few: bool) -> None:
    verb = "raise" if raises else "lower"
    (claim,) = parse_claims(f"{'Few' if few else 'Many'} {term} {verb} the score.")
    assert claim.direction == (1 if raises else -1) * (-1 if few else 1)


@given(st.lists(TERMS, min_size=1, max_size=5, unique=True), st.booleans())
def test_subjects_may_stand_on_either_side_of_the_direction(terms: list[str], up: bool) -> None:
    before = f"{', '.join(terms)} {'raise' if up else 'lower'} the score."
    after = f"The score {'rises' if up else 'falls'} with {', '.join(terms)}."
    assert signs(before) == signs(after)
    assert len(parse_claims(before)) == len(terms)


@given(st.text())
def test_any_text_is_read_without_error_and_twice_alike(text: str) -> None:
    assert parse_claims(text) == parse_claims(text)
    assert parse_claims(f"<!--{text.replace('-->', '')}-->") == []
