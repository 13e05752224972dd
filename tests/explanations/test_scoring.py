"""Scores of explanations in their limits, their counts, and the pairing of their differences."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from slidestudy.errors import StudyError
from slidestudy.explanations.answering import Answers
from slidestudy.explanations.answers import Answer, AnswerStatus, Conclusion
from slidestudy.explanations.scoring import PAIRS, SCORES, kind_of, score_all, subsets

SETTINGS = {"bootstrap": 200, "confidence": 0.95, "seed": 3, "x1": 0.5, "x3": 1.5}
CARD = {"threshold": 0.4, "spread": 2.0, "digest": "abc"}
A, F, U = AnswerStatus.ABSTAINED, AnswerStatus.FAILED, AnswerStatus.UNPARSED
VH, HB, LB, VL = Conclusion


def make_sample(n: int = 40, seed: int = 0, per_patient: int = 2) -> pd.DataFrame:
    logits = np.random.default_rng(seed).normal(CARD["threshold"], CARD["spread"], n)
    logits[:2] = [3.9, -3.1]
    ids = {"patch_id": [f"s/{i}" for i in range(n)], "patient_id": [f"p{i // per_patient}" for i in range(n)]}
    return pd.DataFrame({**ids, "logit": logits})


def answered(sample: pd.DataFrame, values, reader: str = "scripted") -> Answers:
    """Answers in the sample's order; each value is a conclusion or a status without one."""
    rows = []
    for patch, value in zip(sample["patch_id"], values, strict=True):
        known = isinstance(value, Conclusion)
        rows.append(Answer(patch, AnswerStatus.ANSWERED if known else value, value if known else None, ""))
    return Answers(reader, False, rows)


def truthful(sample: pd.DataFrame, inverted: bool = False) -> list[Conclusion]:
    """What a perfect explanation, or its inverse, leads to."""
    distance = (sample["logit"] - CARD["threshold"]) / CARD["spread"] * (-1 if inverted else 1)
    return [VH if d > 0.5 else HB if d > 0 else LB if d > -0.5 else VL for d in distance]


def scored(sample: pd.DataFrame, values, name: str = "text") -> pd.DataFrame:
    return score_all({name: answered(sample, values)}, sample, CARD, SETTINGS)[0].set_index(["subset", "metric"])


def test_a_perfect_explanation_scores_one_in_both_orientations():
    found = scored(make_sample(), truthful(make_sample()))
    assert found["value"].to_numpy() == pytest.approx(1)
    assert found.loc["X", ["ci_low", "ci_high"]].to_numpy() == pytest.approx(1)
    assert set(found.loc["X", "n_answered"]) == {40}


def test_an_inverted_explanation_scores_zero_in_both_orientations():
    found = scored(make_sample(), truthful(make_sample(), inverted=True))
    assert found["value"].to_numpy() == pytest.approx(0, abs=1e-12)


def test_a_row_says_who_answered_which_sample():
    found, _ = score_all({"text": answered(make_sample(), truthful(make_sample()))}, make_sample(), CARD, SETTINGS)
    assert list(found.columns) == SCORES
    assert found[["explanation", "reader", "is_vlm", "sample_digest"]].drop_duplicates().to_numpy().tolist() == [
        ["text", "scripted", False, "abc"]
    ]
    assert found[["subset", "metric"]].to_numpy().tolist() == [
        [s, m] for s in ("X", "X1", "X3") for m in ("auroc", "auroc_reference")
    ]


def test_a_reader_that_always_abstains_knows_nothing():
    found = scored(make_sample(), [A] * 40)
    main, reference = found.loc[("X", "auroc")], found.loc[("X", "auroc_reference")]
    assert main["value"] == 0.5
    assert (main["n"], main["n_abstained"], main["n_answered"]) == (40, 40, 0)
    assert pd.isna(reference["value"])
    assert (reference["n"], reference["undefined_reason"]) == (0, "no rows")


def test_an_abstention_lies_between_low_and_high():
    """Abstaining where the model is low costs less than saying high, and more than saying low."""
    sample = make_sample()
    low = np.flatnonzero(sample["logit"] <= CARD["threshold"])[:8]
    found = {}
    for name, value in {"low": LB, "abstained": A, "high": HB}.items():
        values = truthful(sample)
        for i in low:
            values[i] = value
        found[name] = scored(sample, values).loc[("X", "auroc"), "value"]
    assert found["low"] == pytest.approx(1)
    assert found["high"] < found["abstained"] <= 1


@pytest.mark.parametrize("status", [U, F])
def test_answers_without_a_conclusion_are_counted_and_not_used(status):
    """Whatever the model says of those patches, the score is that of the others."""
    sample = make_sample()
    values = truthful(sample)
    for i in range(0, 40, 4):
        values[i] = status
    found = scored(sample, values)
    row = found.loc[("X", "auroc")]
    assert (row["n"], row[f"n_{status}"], row["n_answered"]) == (30, 10, 30)
    flipped = sample.assign(logit=sample["logit"].where(sample.index % 4 != 0, 0.8 - sample["logit"]))
    assert scored(flipped, values).loc[("X", "auroc"), "value"] == row["value"] == pytest.approx(1)


def test_a_reader_that_always_fails_has_no_score():
    row = scored(make_sample(), [F] * 40).loc[("X", "auroc")]
    assert pd.isna(row["value"])
    assert (row["n"], row["n_failed"], row["undefined_reason"]) == (0, 40, "no rows")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([VH, HB, LB, VL, A, U, F]), min_size=6, max_size=40), st.integers(0, 1000))
def test_the_counts_of_a_subset_add_up_and_scores_are_those_of_scikit_learn(values, seed):
    sample = make_sample(len(values), seed)
    found = scored(sample, values)
    distance = (sample["logit"] - CARD["threshold"]).abs() / CARD["spread"]
    for part, beyond in (("X", -1), ("X1", 0.5), ("X3", 1.5)):
        inside = (distance > beyond).to_numpy()
        row = found.loc[(part, "auroc")]
        assert row[["n_answered", "n_abstained", "n_unparsed", "n_failed"]].sum() == inside.sum()
        assert row["n"] == row["n_answered"] + row["n_abstained"]
        assert found.loc[(part, "auroc_reference"), "n"] == row["n_answered"]
        usable = inside & np.array([v not in (U, F) for v in values])
        label = (sample["logit"] > CARD["threshold"])[usable]
        if label.nunique() == 2:
            ordinal = [1.5 if v is A else v.ordinal for v, u in zip(values, usable, strict=True) if u]
            assert row["value"] == pytest.approx(roc_auc_score(label, ordinal))
        else:
            assert pd.isna(row["value"])
            assert row["undefined_reason"]


def test_the_reference_orientation_has_the_answer_as_truth_and_the_logit_as_score():
    """By hand, as X2X computes it: pairs of a HIGH and a LOW answer in which the HIGH one has the larger logit."""
    sample = pd.DataFrame({
        "patch_id": list("abcdef"), "patient_id": list("abcdef"), "logit": [3.0, 2.0, 1.0, 0.5, 0.0, -1.0],
    })  # fmt: skip
    # HIGH at 3.0, 1.0 and 0.0; LOW at 2.0 and -1.0; the abstention is dropped.
    found = scored(sample, [VH, LB, HB, A, HB, VL])
    # 3.0 beats both, 1.0 and 0.0 beat -1.0 only: 4 of 6 pairs.
    row = found.loc[("X", "auroc_reference")]
    assert (row["value"], row["n"]) == (pytest.approx(4 / 6), 5)
    # The usual way round: labels 1 1 1 1 0 0, ordinals 3 1 2 1.5 2 0. Of 8 pairs 3 and the four over -1.0 win,
    # 2 against 2 ties: (1 + 0 + 0.5 + 0) + 4.
    assert found.loc[("X", "auroc"), "value"] == pytest.approx(5.5 / 8)


def test_answers_all_of_one_class_have_no_reference_score():
    row = scored(make_sample(), [VH] * 40).loc[("X", "auroc_reference")]
    assert pd.isna(row["value"])
    assert row["undefined_reason"] == "all answers of one class"
    assert scored(make_sample(), [VH] * 40).loc[("X", "auroc"), "value"] == 0.5


def test_subsets_are_farther_than_a_distance_from_the_threshold_on_either_side():
    sample = pd.DataFrame({"logit": [0.4, 1.4, 1.5, -0.6, -0.7, 3.4, 3.5, -2.7]})
    parts = {part.name: np.flatnonzero(part.rows).tolist() for part in subsets(sample, 0.4, 2.0, 0.5, 1.5)}
    assert parts == {"X": list(range(8)), "X1": [2, 4, 5, 6, 7], "X3": [6, 7]}


def test_a_logit_on_the_threshold_is_low():
    sample = make_sample(8).assign(logit=[0.4, 0.4, 0.4, 0.4, 0.41, 0.5, 0.6, 0.7])
    assert scored(sample, [VL] * 4 + [VH] * 4).loc[("X", "auroc"), "value"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("lymphocytes", "text"), ("lymphocytes.inverted", "inverted"), ("control.irrelevant", "irrelevant")],
)
def test_controls_are_told_from_texts(name, kind):
    assert kind_of(name) == kind


def random_values(seed: int, n: int = 40) -> list:
    return list(np.random.default_rng(seed).choice(np.array([VH, HB, LB, VL, A, U], object), n))


def pairs_of(sample: pd.DataFrame, **values) -> pd.DataFrame:
    given_ = {name: answered(sample, v) for name, v in values.items()}
    return score_all(given_, sample, CARD, SETTINGS)[1].set_index("subset")


def test_a_difference_is_of_the_patches_that_both_could_use():
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


def test_a_difference_turned_round_is_its_negative():
    sample = make_sample()
    straight = pairs_of(sample, a=random_values(1), b=random_values(2))
    turned = pairs_of(sample, b=random_values(2), a=random_values(1))
    assert straight["explanation_a"].tolist() == turned["explanation_b"].tolist() == ["a"] * 3
    for name, other in (("difference", "difference"), ("ci_low", "ci_high"), ("ci_high", "ci_low")):
        assert straight[name].to_numpy(float) == pytest.approx(-turned[other].to_numpy(float), nan_ok=True)


def test_the_same_answers_differ_by_exactly_zero():
    found = pairs_of(make_sample(), a=random_values(1), b=random_values(1))
    assert found.loc["X", ["difference", "ci_low", "ci_high"]].tolist() == [0, 0, 0]


def test_the_interval_of_a_difference_is_paired():
    """Two nearly equal explanations: their difference is known far better than either score."""
    sample = make_sample(80, seed=2)
    first = random_values(5, 80)
    first = [LB if v in (A, U) else v for v in first]
    second = list(first)
    second[10] = VH if first[10] is not VH else VL
    given_ = {"a": answered(sample, first), "b": answered(sample, second)}
    scores, pairs = score_all(given_, sample, CARD, SETTINGS)
    single = scores[(scores["subset"] == "X") & (scores["metric"] == "auroc")].iloc[0]
    pair = pairs[pairs["subset"] == "X"].iloc[0]
    assert pair["ci_high"] - pair["ci_low"] < 0.25 * (single["ci_high"] - single["ci_low"])


def test_every_pair_of_explanations_is_compared_once_in_every_subset():
    sample = make_sample()
    given_ = {name: answered(sample, random_values(i)) for i, name in enumerate("abcd")}
    pairs = score_all(given_, sample, CARD, SETTINGS)[1]
    assert list(pairs.columns) == PAIRS
    assert len(pairs) == 6 * 3
    assert not pairs.duplicated(["explanation_a", "explanation_b", "subset"]).any()


def test_one_explanation_has_no_pair():
    found = score_all({"a": answered(make_sample(), random_values(1))}, make_sample(), CARD, SETTINGS)[1]
    assert (list(found.columns), len(found)) == (PAIRS, 0)


def test_a_pair_without_a_common_patch_is_undefined():
    found = pairs_of(make_sample(), a=[F] * 40, b=random_values(1)).loc["X"]
    assert pd.isna(found["difference"])
    assert (found["n"], found["undefined_reason"]) == (0, "no rows")


@pytest.mark.parametrize("change", ["another patch", "another order", "one fewer"])
def test_answers_of_another_sample_are_refused(change):
    sample = make_sample()
    given_ = answered(sample, truthful(sample))
    other = {
        "another patch": sample.assign(patch_id=[*sample["patch_id"][:-1], "s/other"]),
        "another order": sample[::-1],
        "one fewer": sample[:-1],
    }[change]
    with pytest.raises(StudyError, match="explanation text: the answers belong to another sample"):
        score_all({"text": given_}, other, CARD, SETTINGS)


def test_copies_of_a_patients_patches_do_not_narrow_the_interval():
    sample = make_sample(per_patient=1)
    values = [LB if v in (A, U) else v for v in random_values(4)]
    copies = pd.concat([sample.assign(patch_id=sample["patch_id"] + f"-{k}") for k in range(6)], ignore_index=True)
    single, copied = scored(sample, values).loc[("X", "auroc")], scored(copies, values * 6).loc[("X", "auroc")]
    assert copied[["value", "ci_low", "ci_high"]].tolist() == pytest.approx(
        single[["value", "ci_low", "ci_high"]].tolist()
    )


def test_two_patients_give_a_score_without_an_interval():
    sample = make_sample(per_patient=20)
    found, pairs = score_all(
        {name: answered(sample, random_values(i)) for i, name in enumerate("ab")}, sample, CARD, SETTINGS
    )
    row = found[(found["subset"] == "X") & (found["metric"] == "auroc")].iloc[0]
    assert np.isfinite(row["value"])
    assert pd.isna(row["ci_low"])
    assert "2 patients" in row["undefined_reason"]
    assert pd.isna(pairs.loc[0, "ci_low"])
    assert "too few patients" in pairs.loc[0, "undefined_reason"]
