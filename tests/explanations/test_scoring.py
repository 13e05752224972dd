"""Scores of explanations in their limits, and their counts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, balanced_accuracy_score, brier_score_loss, roc_auc_score
from tests.explanations.made_answers import (
    CARD,
    HB,
    LB,
    SETTINGS,
    VH,
    VL,
    A,
    F,
    U,
    answered,
    make_sample,
    patches_of,
    random_values,
    scored,
    scores_of,
    truthful,
)

from slidestudy.explanations.reading import not_asked, shuffle_answers
from slidestudy.explanations.scoring import SCORES, score_all
from slidestudy.explanations.subsets import subsets

METRICS = ["auroc", "auroc_reference", "spearman", "accuracy", "balanced_accuracy", "brier", "repeat_agreement"]
METRICS += ["abstention_rate", "unparsed_rate", "failed_rate"]
AREAS = ["auroc", "auroc_reference"]


def test_a_perfect_explanation_scores_one_in_both_orientations() -> None:
    found = scored(make_sample(), truthful(make_sample()))
    assert found.loc[(slice(None), AREAS), "value"].to_numpy() == pytest.approx(1)
    assert found.loc["X"].loc[AREAS, ["ci_low", "ci_high"]].to_numpy() == pytest.approx(1)
    assert found.loc[("X", "accuracy"), "value"] == found.loc[("X", "balanced_accuracy"), "value"] == 1
    assert set(found.loc["X", "n_answered"]) == {40}


def test_an_inverted_explanation_scores_zero_in_both_orientations() -> None:
    found = scored(make_sample(), truthful(make_sample(), inverted=True))
    assert found.loc[(slice(None), AREAS), "value"].to_numpy() == pytest.approx(0, abs=1e-12)
    assert found.loc[("X", "spearman"), "value"] < -0.9
    assert found.loc[("X", "accuracy"), "value"] == 0


def test_a_row_says_who_answered_which_sample_and_whether_the_reader_passed_its_test() -> None:
    sample = make_sample()
    found = score_all([answered(sample, truthful(sample))], patches_of(sample), SETTINGS, "passed")
    assert list(found.columns) == SCORES
    columns = ["explanation", "kind", "patches", "reader", "is_vlm", "gate", "sample_digest"]
    row = ["text", "text", "frozen sample", "scripted", False, "passed", "abc"]
    assert found[columns].drop_duplicates().to_numpy().tolist() == [row]
    assert found[["subset", "metric"]].to_numpy().tolist() == [[s, m] for s in ("X", "X1", "X3") for m in METRICS]


def test_a_reader_that_always_abstains_knows_nothing() -> None:
    found = scored(make_sample(), [A] * 40).loc["X"]
    assert found.loc["auroc", "value"] == 0.5
    assert found.loc["auroc", ["n", "n_abstained", "n_answered"]].tolist() == [40, 40, 0]
    assert found.loc["abstention_rate", "value"] == 1
    for metric in ("auroc_reference", "accuracy"):
        assert pd.isna(found.loc[metric, "value"])
        assert found.loc[metric, ["n", "undefined_reason"]].tolist() == [0, "no rows"]


def test_an_abstention_lies_between_low_and_high() -> None:
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
def test_answers_without_a_conclusion_are_counted_and_not_used(status) -> None:
    """Whatever the model says of those patches, the score is that of the others."""
    sample = make_sample()
    values = truthful(sample)
    for i in range(0, 40, 4):
        values[i] = status
    found = scored(sample, values).loc["X"]
    row = found.loc["auroc"]
    assert (row["n"], row[f"n_{status}"], row["n_answered"]) == (30, 10, 30)
    rate = found.loc[f"{status}_rate"]
    assert (rate["value"], rate["n"]) == (0.25, 40)
    assert rate["ci_low"] < 0.25 < rate["ci_high"]
    flipped = sample.assign(logit=sample["logit"].where(sample.index % 4 != 0, 0.8 - sample["logit"]))
    assert scored(flipped, values).loc[("X", "auroc"), "value"] == row["value"] == pytest.approx(1)


def test_a_reader_that_always_fails_has_no_score() -> None:
    row = scored(make_sample(), [F] * 40).loc[("X", "auroc")]
    assert pd.isna(row["value"])
    assert (row["n"], row["n_failed"], row["undefined_reason"]) == (0, 40, "no rows")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([VH, HB, LB, VL, A, U, F]), min_size=6, max_size=40), st.integers(0, 1000))
def test_the_counts_of_a_subset_add_up_and_scores_are_those_of_scikit_learn(values, seed) -> None:
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
        ordinal = [1.5 if v is A else v.ordinal for v, u in zip(values, usable, strict=True) if u]
        if label.nunique() == 2:
            assert row["value"] == pytest.approx(roc_auc_score(label, ordinal))
        else:
            assert pd.isna(row["value"])
            assert row["undefined_reason"]
        if len(set(ordinal)) > 1:
            expected = spearmanr(sample["logit"][usable], ordinal).statistic
            assert found.loc[(part, "spearman"), "value"] == pytest.approx(expected)


def test_accuracy_is_of_the_patches_with_a_side() -> None:
    sample, values = make_sample(), random_values(3)
    found = scored(sample, values).loc["X"]
    kept = [i for i, v in enumerate(values) if v not in (A, U, F)]
    sides = [values[i].high for i in kept]
    label = (sample["logit"] > CARD["threshold"])[kept]
    assert found.loc["accuracy", "n"] == len(kept) < 40
    assert found.loc["accuracy", "value"] == pytest.approx(accuracy_score(label, sides))
    assert found.loc["balanced_accuracy", "value"] == pytest.approx(balanced_accuracy_score(label, sides))


def test_probabilities_are_scored_where_the_reader_gives_them() -> None:
    sample = make_sample()
    assert scored(sample, [VH] * 40).loc[("X", "brier"), "undefined_reason"] == "the reader gives no probability"
    chances = np.linspace(0, 1, 40).round(3).tolist()
    found = scores_of(sample, answered(sample, [VH] * 40, given=chances)).loc[("X", "brier")]
    label = sample["logit"] > CARD["threshold"]
    assert found["value"] == pytest.approx(brier_score_loss(label, chances))
    assert found["ci_low"] < found["value"] < found["ci_high"]


def test_the_reference_orientation_has_the_answer_as_truth_and_the_logit_as_score() -> None:
    """By hand, as X2X computes it: pairs of a HIGH and a LOW answer in which the HIGH one has the larger logit."""
    sample = make_sample(6, per_patient=1).assign(logit=[3.0, 2.0, 1.0, 0.5, 0.0, -1.0])
    # HIGH at 3.0, 1.0 and 0.0; LOW at 2.0 and -1.0; the abstention is dropped.
    found = scored(sample, [VH, LB, HB, A, HB, VL])
    # 3.0 beats both, 1.0 and 0.0 beat -1.0 only: 4 of 6 pairs.
    row = found.loc[("X", "auroc_reference")]
    assert (row["value"], row["n"]) == (pytest.approx(4 / 6), 5)
    # The usual way round: labels 1 1 1 1 0 0, ordinals 3 1 2 1.5 2 0. Of 8 pairs 3 and the four over -1.0 win,
    # 2 against 2 ties: (1 + 0 + 0.5 + 0) + 4.
    assert found.loc[("X", "auroc"), "value"] == pytest.approx(5.5 / 8)


def test_answers_all_of_one_class_have_no_reference_score() -> None:
    found = scored(make_sample(), [VH] * 40).loc["X"]
    assert pd.isna(found.loc["auroc_reference", "value"])
    assert found.loc["auroc_reference", "undefined_reason"] == "all answers of one class"
    assert found.loc["auroc", "value"] == 0.5
    assert found.loc["spearman", "undefined_reason"] == "all answers equal"


def test_too_few_usable_patches_give_no_score_but_their_rates() -> None:
    sample, values = make_sample(), [VH] * 9 + [VL] * 10 + [F] * 21
    found = scored(sample, values, smallest=20).loc["X"]
    assert found.loc["auroc", ["n", "undefined_reason"]].tolist() == [19, "19 patches, fewer than 20"]
    assert found.loc[["auroc", "auroc_reference", "spearman", "accuracy"], "value"].isna().all()
    assert found.loc["failed_rate", "value"] == pytest.approx(21 / 40)
    assert scored(sample, values, smallest=19).loc[("X", "auroc"), "value"] > 0


@pytest.mark.parametrize(("unit", "inside"), [("sd", [2, 4, 5, 6, 7]), ("logit", [1, 2, 3, 4, 5, 6, 7])])
def test_subsets_are_farther_than_a_distance_from_the_threshold_on_either_side(unit, inside) -> None:
    sample = make_sample(8).assign(logit=[0.4, 1.4, 1.5, -0.6, -0.7, 3.4, 3.5, -2.7])
    parts = {part.name: part for part in subsets(sample, 0.4, 2.0, {**SETTINGS, "unit": unit})}
    assert np.flatnonzero(parts["X1"].rows).tolist() == inside
    assert np.flatnonzero(parts["X"].rows).tolist() == list(range(8))
    assert not parts["X1"].weights[:, ~parts["X1"].rows].any()


def test_a_logit_on_the_threshold_is_low() -> None:
    sample = make_sample(8).assign(logit=[0.4, 0.4, 0.4, 0.4, 0.41, 0.5, 0.6, 0.7])
    assert scored(sample, [VL] * 4 + [VH] * 4).loc[("X", "auroc"), "value"] == pytest.approx(1)


def test_copies_of_a_patients_patches_do_not_narrow_the_interval() -> None:
    sample = make_sample(per_patient=1)
    values = [LB if v in (A, U) else v for v in random_values(4)]
    copies = pd.concat([sample.assign(patch_id=sample["patch_id"] + f"-{k}") for k in range(6)], ignore_index=True)
    single, copied = scored(sample, values).loc[("X", "auroc")], scored(copies, values * 6).loc[("X", "auroc")]
    numbers = ["value", "ci_low", "ci_high"]
    assert copied[numbers].tolist() == pytest.approx(single[numbers].tolist())


def test_two_patients_give_a_score_without_an_interval() -> None:
    row = scored(make_sample(per_patient=20), random_values(0)).loc[("X", "auroc")]
    assert np.isfinite(row["value"])
    assert pd.isna(row["ci_low"])
    assert row["undefined_reason"] == "no interval: 2 patients"


def test_a_rate_that_is_the_same_for_every_patch_has_no_interval() -> None:
    row = scored(make_sample(), [VH] * 40).loc[("X", "failed_rate")]
    assert row["value"] == 0
    assert pd.isna(row["ci_low"])
    assert "the same for every patch" in row["undefined_reason"]


def test_the_mean_of_repeats_is_scored_and_their_agreement_told() -> None:
    sample = make_sample()
    first, second = truthful(sample), truthful(sample)
    second[0], second[1], second[2] = A, F, LB
    found = scores_of(sample, answered(sample, first, second)).loc["X"]
    assert found.loc["auroc", ["n", "n_answered", "n_abstained", "n_failed"]].tolist() == [40, 78, 1, 1]
    assert found.loc["failed_rate", "value"] == pytest.approx(1 / 80)
    agreement = found.loc["repeat_agreement"]
    assert 0.8 < agreement["value"] < 1
    assert agreement["n"] == 39
    assert agreement["ci_low"] <= agreement["value"] <= agreement["ci_high"]
    once = scored(sample, first).loc[("X", "repeat_agreement")]
    assert once["undefined_reason"] == "every question was asked once"


def test_shuffled_answers_score_about_one_half_with_the_width_of_chance() -> None:
    sample = make_sample(120)
    text = answered(sample, truthful(sample))
    found = scores_of(sample, shuffle_answers("text.shuffled", text, 7)).loc["X"]
    assert set(found["kind"]) == {"shuffled"}
    row = found.loc["auroc"]
    assert row["value"] == pytest.approx(0.5, abs=0.02)
    assert row["ci_low"] < 0.45 < 0.55 < row["ci_high"]
    assert "failed_rate" not in found.index


def test_a_control_that_was_not_asked_is_listed_with_the_reason() -> None:
    sample = make_sample()
    found = scores_of(sample, not_asked("control.image-only", 40, "it cannot see")).loc["X"]
    assert found["value"].isna().all()
    assert set(found["undefined_reason"]) == {"it cannot see"}
    assert set(found["kind"]) == {"image-only"}
