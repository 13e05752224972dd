"""Names of what is answered and scored, and the controls and variants behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slidestudy.errors import StudyError
from slidestudy.explanations.claims import parse_claims
from slidestudy.explanations.controls import invert_explanation, read_variant, without_statement
from slidestudy.explanations.documents import parse_explanation, read_explanation
from slidestudy.explanations.naming import asked_names, explanation_names, kind_of, read_texts, text_of

ALL = ["empty", "irrelevant", "inverted", "shuffled", "image-only"]


def section(folder: Path, reader: str = "morphometry", **changed: Any) -> dict[str, Any]:
    """A section `explanations`, with its two texts on disk."""
    texts = {"short": "---\nhigher: [lymphocytes]\nlower: [fat]\n---\n", "long": "Mucin lowers the score."}
    for name, text in texts.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    found = {"texts": {k: str(folder / f"{k}.md") for k in texts}, "controls": ALL, "statements": True}
    return {**found, "models": ["til"], "reader": {"kind": reader}, **changed}


def test_every_text_is_named_with_its_controls_and_its_statements(tmp_path: Path) -> None:
    explanations = section(tmp_path)
    names = explanation_names(explanations, read_texts(explanations), "til")
    assert names == [
        "short", "long", "short.inverted", "long.inverted", "short.shuffled", "long.shuffled", "control.empty",
        "control.irrelevant", "control.image-only", "short.without-1", "short.without-2",
    ]  # fmt: skip
    kinds = ["text"] * 2 + ["inverted"] * 2 + ["shuffled"] * 2 + ["empty", "irrelevant", "image-only"] + ["without"] * 2
    assert [kind_of(name) for name in names] == kinds
    assert [text_of(name) for name in names] == [*(["short", "long"] * 3), "", "", "", "short", "short"]
    assert kind_of("imported.theirs") == "imported"


@pytest.mark.parametrize(("reader", "looks"), [("morphometry", False), ("clip", False), ("openai", True)])
def test_only_a_vision_language_model_is_asked_about_the_image_alone(tmp_path: Path, reader: str, looks: bool) -> None:
    explanations = section(tmp_path, reader)
    names = explanation_names(explanations, read_texts(explanations), "til")
    asked = asked_names(explanations, names)
    assert ("control.image-only" in asked) == looks
    assert not [name for name in asked if name.endswith(".shuffled")]


def test_controls_and_statements_can_be_left_out(tmp_path: Path) -> None:
    explanations = section(tmp_path, controls=[], statements=False)
    assert explanation_names(explanations, read_texts(explanations), "til") == ["short", "long"]


def test_a_text_for_one_model_is_not_read_for_another(tmp_path: Path) -> None:
    explanations = section(tmp_path, controls=["inverted"])
    (tmp_path / "short.md").write_text("---\nmodel: other\nhigher: [fat]\n---\n")
    texts = read_texts(explanations)
    assert explanation_names(explanations, texts, "til") == ["long", "long.inverted"]
    (tmp_path / "long.md").write_text("---\nmodel: other\nhigher: [fat]\n---\n")
    with pytest.raises(StudyError, match="every text is written for another model than 'til'"):
        read_texts(explanations)


def test_the_problems_of_all_texts_are_told_together(tmp_path: Path) -> None:
    explanations = section(tmp_path)
    for name in ("short", "long"):
        (tmp_path / f"{name}.md").write_text("---\nhigh: [a]\n---\n")
    with pytest.raises(StudyError) as caught:
        read_texts(explanations)
    assert len(caught.value.problems) == 2


def test_what_is_answered_from_under_each_name(tmp_path: Path) -> None:
    section(tmp_path)
    path = tmp_path / "short.md"
    found = {name: read_variant(name, path) for name in ("short", "short.inverted", "short.without-1")}
    assert {name: (e.name, e.higher, e.lower) for name, e in found.items()} == {
        "short": ("short", ("lymphocytes",), ("fat",)),
        "short.inverted": ("short.inverted", ("fat",), ("lymphocytes",)),
        "short.without-1": ("short.without-1", (), ("fat",)),
    }
    for name in ("control.empty", "control.image-only"):
        nothing = read_variant(name, None)
        assert (nothing.name, nothing.text) == (name, "")
    assert read_variant("control.irrelevant", tmp_path / "long.md").name == "control.irrelevant"
    with pytest.raises(StudyError, match="has no statement 3"):
        read_variant("short.without-3", path)


def test_an_inverted_explanation_makes_the_opposite_claims_and_inverting_twice_the_same() -> None:
    body = "Stroma raises the score."
    text = f"---\nhigher: [plasma cells, mucin lowers the score]\nlower: [few large nuclei]\n---\n{body}"
    explanation = parse_explanation(text, "mine", "mine.md")

    def claims(of: str) -> set[tuple[str, int]]:
        return {(claim.morphology.value, claim.direction) for claim in parse_claims(of)}

    inverted = invert_explanation(explanation)
    assert claims(inverted.text) == {(name, -sign) for name, sign in claims(explanation.text)}
    assert len(claims(explanation.text)) == 4
    assert claims(invert_explanation(inverted).text) == claims(explanation.text)


def test_each_statement_of_the_projects_texts_carries_a_claim_of_its_own(repository: Path) -> None:
    """Otherwise leaving it out could not be told from leaving it in."""
    for path in sorted((repository / "config" / "explanations").glob("*.md")):
        whole = read_explanation(path, path.stem)
        for k in range(1, 1 + len(whole.statements)):
            assert len(parse_claims(without_statement(whole, k).text)) < len(parse_claims(whole.text)), (path, k)
