"""Which folds predict a patient: those that tested the patient, never one that learnt from the patient."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.models import splits as module
from slidestudy.models.splits import make_splits, no_splits, predicting_folds
from slidestudy.tables import load_table, write_table

NO_PAIRS = pd.DataFrame({"patient_id_a": [], "patient_id_b": []}, dtype=str)
PARTS = ["train", "validation", "test", None]


def table(parts: dict[str, list[str | None]]) -> pd.DataFrame:
    """Splits of patients with one slide, from each patient's part in fold 0, 1, ..."""
    rows = [[p, f"{p}-0", fold, part] for p, of in parts.items() for fold, part in enumerate(of) if part]
    return pd.DataFrame(rows, columns=["patient_id", "slide_id", "fold", "part"])


def study(patients: int) -> pd.DataFrame:
    rows = [[f"p{i}-0", f"p{i}", "north", f"c{i % 5}", i / patients] for i in range(patients)]
    return pd.DataFrame(rows, columns=["slide_id", "patient_id", "cohort", "center", "target"])


@pytest.mark.parametrize(
    ("scheme", "times"),
    [({"scheme": "k-fold"}, {1}), ({"scheme": "repeated-k-fold", "repeats": 3}, {3})],
)
def test_every_patient_is_tested_once_by_each_repeat(scheme, times):
    splits = make_splits(study(30), task="regression", seed=0, scheme=scheme, lookalikes=NO_PAIRS)
    tested = module.testing_folds(splits)
    assert set(tested) == set(splits["patient_id"])
    assert {len(folds) for folds in tested.values()} == times
    assert all([fold // 5 for fold in folds] == list(range(len(folds))) for folds in tested.values())


def test_monte_carlo_predicts_the_tested_by_those_folds_and_the_never_tested_not_at_all():
    scheme = {"scheme": "monte-carlo", "folds": 4, "test_share": 0.2}
    splits = make_splits(study(40), task="regression", seed=0, scheme=scheme, lookalikes=NO_PAIRS)
    tested = module.testing_folds(splits)
    never = set(splits["patient_id"]) - set(tested)
    assert never
    assert any(len(folds) > 1 for folds in tested.values())
    found = predicting_folds(splits, splits["patient_id"].unique())
    assert all(found[patient] == folds for patient, folds in tested.items())
    # Every fold trained or validated on a patient whom none tested.
    assert all(found[patient] == [] for patient in never)


def test_a_patient_outside_the_splits_is_predicted_by_all_folds():
    assert predicting_folds(table({"a": PARTS[:3]}), ["x"]) == {"x": [0, 1, 2]}


def test_a_patient_whom_a_table_leaves_out_of_a_fold_is_predicted_by_that_fold():
    splits = table({"a": ["train", None, "validation"], "b": ["test", "train", "train"]})
    assert predicting_folds(splits, ["a", "b"]) == {"a": [1], "b": [0]}


def test_a_patient_outside_the_splits_is_not_predicted_by_a_fold_that_learnt_from_a_look_alike():
    splits = table({"a": ["train", "validation", "test"], "b": ["test", "train", "train"]})
    linked = pd.DataFrame({"patient_id_a": ["x"], "patient_id_b": ["a"]})
    assert predicting_folds(splits, ["x", "y"], linked) == {"x": [2], "y": [0, 1, 2]}


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdefg"), st.lists(st.sampled_from(PARTS), min_size=4, max_size=4), min_size=1)
)
def test_no_fold_predicts_a_patient_it_learnt_from(parts):
    splits = table({**parts, "always": ["train"] * 4})
    found = predicting_folds(splits, [*parts, "always", "outside"])
    assert found["always"] == []
    for patient, folds in found.items():
        of = parts.get(patient, [None] * 4) if patient != "always" else ["train"] * 4
        assert not {of[fold] for fold in folds} & {"train", "validation"}
        assert (module.testing_folds(splits).get(patient, folds)) == folds


def test_without_splits_every_patient_is_predicted_by_all_folds_that_are_named() -> None:
    """Published weights: no patient here was dealt into any part, nor has a look-alike that was."""
    alike = pd.DataFrame({"patient_id_a": ["a"], "patient_id_b": ["b"]})
    assert predicting_folds(no_splits(), ["a", "b", "c"], alike, range(3)) == {patient: [0, 1, 2] for patient in "abc"}
    assert predicting_folds(no_splits(), ["a"]) == {"a": []}


def test_an_empty_table_of_splits_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    write_table(tmp_path / "splits.tsv", no_splits())
    assert (tmp_path / "splits.tsv").read_text(encoding="utf-8") == "patient_id\tslide_id\tfold\tpart\n"
    assert predicting_folds(load_table(tmp_path / "splits.tsv"), ["a"], None, [0, 1]) == {"a": [0, 1]}
