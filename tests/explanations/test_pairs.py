"""Paired differences between explanations, and the gain of each statement."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from tests.explanations.made_answers import (
    CARD,
    LB,
    SETTINGS,
    VH,
    VL,
    A,
    F,
    U,
    answered,
    make_sample,
    pairs_of,
    patches_of,
    random_values,
    scored,
    truthful,
)

from slidestudy.difference_statistics import holm
from slidestudy.explanations.documents import parse_explanation
from slidestudy.explanations.pairs import PAIRS, STATEMENTS, compare_readings, pair_names, score_statements
from slidestudy.explanations.reading import not_asked, shuffle_answers


def test_a_text_is_compared_with_other_texts_with_its_own_controls_and_the_common_ones() -> None:
    names = ["a", "b", "a.inverted", "b.inverted", "a.shuffled", "b.shuffled", "control.empty", "a.without-1"]
    assert pair_names(names, ["a", "b"]) == [
        *(("a", other) for other in ("b", "a.inverted", "a.shuffled", "control.empty")),
        *(("b", other) for other in ("b.inverted", "b.shuffled", "control.empty")),
    ]


def test_a_difference_is_of_the_patches_that_both_could_use() -> None:
    sample = make_sample()
    first, second = random_values(1), random_values(2)
    found = pairs_of(sample, a=first, b=second).loc["X"]
    both = np.array([U not in pair for pair in zip(first, second, strict=True)])
    label = (sample["logit"] > CARD["threshold"])[both]
    areas = [
        roc_auc_score(label, [1.5 if v is A else v.ordinal for v, keep in zip(values, both, strict=True) if keep])
        for values in (first, second)
    ]
    assert found["n"] == both.sum() < 40
    assert found["difference"] == pytest.approx(areas[0] - areas[1])


def test_a_difference_turned_round_is_its_negative() -> None:
    sample = make_sample()
    straight = pairs_of(sample, a=random_values(1), b=random_values(2))
    turned = pairs_of(sample, b=random_values(2), a=random_values(1))
    assert straight["explanation_a"].tolist() == turned["explanation_b"].tolist() == ["a"] * 3
    for name, other in (("difference", "difference"), ("ci_low", "ci_high"), ("ci_high", "ci_low")):
        assert straight[name].to_numpy(float) == pytest.approx(-turned[other].to_numpy(float), nan_ok=True)
    assert straight["p"].to_numpy(float) == pytest.approx(turned["p"].to_numpy(float), nan_ok=True)


def test_the_same_answers_differ_by_exactly_zero() -> None:
    found = pairs_of(make_sample(), a=random_values(1), b=random_values(1))
    assert found.loc["X", ["difference", "ci_low", "ci_high", "p"]].tolist() == [0, 0, 0, 1]


def test_the_interval_of_a_difference_is_paired() -> None:
    """Two nearly equal explanations: their difference is known far better than either score."""
    sample = make_sample(80, seed=2)
    first = [LB if v in (A, U) else v for v in random_values(5, 80)]
    second = list(first)
    second[10] = VH if first[10] is not VH else VL
    single, pair = scored(sample, first).loc[("X", "auroc")], pairs_of(sample, a=first, b=second).loc["X"]
    assert pair["ci_high"] - pair["ci_low"] < 0.25 * (single["ci_high"] - single["ci_low"])


def test_a_true_text_differs_from_its_controls_and_two_chance_ones_do_not() -> None:
    sample = make_sample(80, seed=1)
    text = answered(sample, truthful(sample), name="a")
    found = pairs_of(
        sample,
        a=text,
        inverted=answered(sample, truthful(sample, inverted=True), name="a.inverted"),
        shuffled=shuffle_answers("a.shuffled", text, 3),
        empty=answered(sample, [A] * 80, name="control.empty"),
    ).loc["X"]
    assert found["explanation_b"].tolist() == ["a.inverted", "a.shuffled", "control.empty"]
    assert (found["p_holm"].astype(float) < 0.05).all()
    assert found["difference"].tolist() == pytest.approx([1, 0.5, 0.5], abs=0.03)
    chance = pairs_of(sample, a=random_values(1, 80), b=random_values(2, 80)).loc["X"]
    assert chance["p"] > 0.05


def test_p_values_are_corrected_over_the_pairs_of_a_subset() -> None:
    sample = make_sample(60)
    found = pairs_of(sample, **{name: random_values(i, 60) for i, name in enumerate("abcd")})
    assert list(found.reset_index()[PAIRS].columns) == PAIRS
    for part in ("X", "X1", "X3"):
        rows = found.loc[part]
        assert len(rows) == 6
        assert rows["p_holm"].astype(float).tolist() == pytest.approx(
            [np.nan if p is None else p for p in holm([None if pd.isna(p) else p for p in rows["p"]])], nan_ok=True
        )


def test_one_explanation_has_no_pair() -> None:
    found = compare_readings([answered(make_sample(), random_values(1))], patches_of(make_sample()), SETTINGS)
    assert (list(found.columns), len(found)) == (PAIRS, 0)


def test_pairs_that_cannot_be_compared_say_why() -> None:
    sample = make_sample()
    found = pairs_of(sample, a=[F] * 40, b=random_values(1)).loc["X"]
    assert (found["n"], found["undefined_reason"]) == (0, "no rows")
    assert pd.isna(found["difference"])
    unasked = pairs_of(sample, a=random_values(1), image=not_asked("control.image-only", 40, "it cannot see")).loc["X"]
    assert unasked["undefined_reason"] == "it cannot see"
    few = make_sample(per_patient=20)
    row = pairs_of(few, a=random_values(1), b=random_values(2)).loc["X"]
    assert row["undefined_reason"] == "no interval: 2 patients"
    assert np.isfinite(row["difference"])


def test_a_statement_is_worth_what_the_text_loses_without_it() -> None:
    sample = make_sample(80, seed=4)
    text = parse_explanation("---\nhigher: [what counts]\nlower: [what does not]\n---\n", "text", "text.md")
    whole = answered(sample, truthful(sample))
    readings = [
        whole,
        answered(sample, [A] * 80, name="text.without-1"),
        answered(sample, truthful(sample), name="text.without-2"),
    ]
    found = score_statements(readings, {"text": text}, patches_of(sample), SETTINGS)
    assert list(found.columns) == STATEMENTS
    rows = found[found["subset"] == "X"].set_index("number")
    assert rows[["side", "statement"]].to_numpy().tolist() == [["higher", "what counts"], ["lower", "what does not"]]
    assert rows.loc[1, ["auroc", "auroc_without", "gain"]].tolist() == pytest.approx([1, 0.5, 0.5])
    assert rows.loc[1, "p_holm"] < 0.05
    assert rows.loc[2, ["gain", "ci_low", "ci_high"]].tolist() == [0, 0, 0]


def test_texts_without_statements_give_an_empty_table() -> None:
    sample = make_sample()
    text = parse_explanation("Lymphocytes raise the score.", "text", "text.md")
    found = score_statements([answered(sample, truthful(sample))], {"text": text}, patches_of(sample), SETTINGS)
    assert (list(found.columns), len(found)) == (STATEMENTS, 0)
