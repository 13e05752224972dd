"""Folds: nothing leaks between parts, everything is tested once, and what cannot be dealt is refused in words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.errors import StudyError
from slidestudy.models.splits import check_disjoint, make_splits

pytestmark = pytest.mark.filterwarnings("ignore:The least populated class")


def layout(centres: list[int], slides: list[int], targets: list[float]) -> pd.DataFrame:
    """A development cohort: one entry per patient, the slides counted, targets dealt in turn."""
    rows = [
        [f"p{i}-{k}", f"p{i}", f"c{centre}", targets[(i + k) % len(targets)]]
        for i, (centre, count) in enumerate(zip(centres, slides, strict=True))
        for k in range(count)
    ]
    return pd.DataFrame(rows, columns=["slide_id", "patient_id", "center", "target"])


@st.composite
def cohorts(draw: st.DrawFn) -> pd.DataFrame:
    patients = draw(st.integers(3, 25))
    centres = draw(st.lists(st.integers(0, 8), min_size=patients, max_size=patients))
    slides = draw(st.lists(st.integers(1, 4), min_size=patients, max_size=patients))
    return layout(centres, slides, draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=9)))


@settings(max_examples=120, deadline=None)
@given(
    cohorts(),
    st.integers(3, 6),
    st.sampled_from(["patient", "center"]),
    st.sampled_from(["regression", "classification"]),
    st.integers(0, 10**6),
)
def test_no_group_stands_in_two_parts_and_every_slide_is_tested_once(labels, folds, group_by, task, seed):
    column = "patient_id" if group_by == "patient" else "center"
    if labels[column].nunique() < folds:
        with pytest.raises(StudyError, match=f"{labels[column].nunique()} {group_by}s"):
            make_splits(labels, task=task, folds=folds, group_by=group_by, seed=seed)
        return
    splits = make_splits(labels, task=task, folds=folds, group_by=group_by, seed=seed)
    assert list(splits.columns) == ["patient_id", "slide_id", "fold", "part"]
    tested = splits.loc[splits["part"] == "test", "slide_id"]
    assert sorted(tested) == sorted(labels["slide_id"])
    group_of = labels.set_index("slide_id")[column]
    patient_of = labels.set_index("slide_id")["patient_id"]
    for fold in range(folds):
        rows = splits[splits["fold"] == fold]
        assert sorted(rows["slide_id"]) == sorted(labels["slide_id"])
        assert set(rows["part"]) == {"train", "validation", "test"}
        for owner in (group_of, patient_of):
            groups = [
                set(owner[rows.loc[rows["part"] == part, "slide_id"]]) for part in ("train", "validation", "test")
            ]
            assert sum(map(len, groups)) == len(set.union(*groups))
        assert (rows["patient_id"].to_numpy() == patient_of[rows["slide_id"]].to_numpy()).all()


@settings(max_examples=20, deadline=None)
@given(cohorts(), st.randoms(use_true_random=False))
def test_folds_do_not_depend_on_the_order_of_the_rows(labels, random):
    order = list(range(len(labels)))
    random.shuffle(order)
    common = dict(task="classification", folds=3, group_by="patient", seed=4)
    pd.testing.assert_frame_equal(make_splits(labels, **common), make_splits(labels.iloc[order], **common))


def test_a_seed_gives_the_same_folds_and_another_seed_others():
    labels = layout([0] * 30, [1] * 30, [0.0, 1.0, 1.0])
    deal = [make_splits(labels, task="classification", folds=5, group_by="patient", seed=s) for s in (1, 1, 2)]
    pd.testing.assert_frame_equal(deal[0], deal[1])
    assert not deal[0].equals(deal[2])


def test_classes_are_balanced_over_folds():
    labels = layout([0] * 100, [1] * 100, [1.0] + [0.0] * 4)
    splits = make_splits(labels, task="classification", folds=5, group_by="patient", seed=0)
    share = splits[splits["part"] == "test"].merge(labels[["slide_id", "target"]]).groupby("fold")["target"].mean()
    assert share.to_numpy() == pytest.approx(0.2, abs=0.051)


def test_a_continuous_target_is_balanced_over_folds():
    labels = layout([0] * 100, [1] * 100, [float(i) for i in range(100)])
    splits = make_splits(labels, task="regression", folds=5, group_by="patient", seed=0)
    tested = splits[splits["part"] == "test"].merge(labels[["slide_id", "target"]])
    high = tested.groupby("fold")["target"].agg(lambda targets: (targets >= 75).mean())
    assert high.to_numpy() == pytest.approx(0.25, abs=0.051)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_fewer_slides_per_stratum_than_folds_is_no_obstacle(task):
    """Six patients in five folds: neither a class nor a quarter of the targets reaches every fold."""
    labels = layout([0] * 6, [1] * 6, [0.0, 1.0])
    splits = make_splits(labels, task=task, folds=5, group_by="patient", seed=0)
    assert splits["fold"].nunique() == 5


def test_a_patient_of_two_centres_is_refused_where_folds_are_by_centre():
    labels = layout([0, 1, 2, 3], [2, 2, 2, 2], [0.0, 1.0])
    labels.loc[0, "center"] = "c3"
    with pytest.raises(StudyError, match="patient p0 has slides of two centres"):
        make_splits(labels, task="classification", folds=3, group_by="center", seed=0)


@pytest.mark.parametrize("group_by", ["patient", "center"])
def test_a_planted_leak_of_a_patient_is_caught(group_by):
    labels = layout([0, 1, 2, 3, 4], [2] * 5, [0.0, 1.0])
    splits = make_splits(labels, task="classification", folds=4, group_by=group_by, seed=0)
    row = splits[(splits["fold"] == 2) & (splits["part"] == "test")].index[0]
    splits.loc[row, "part"] = "train"
    with pytest.raises(StudyError, match=f"patient_id {splits.loc[row, 'patient_id']} stands in two parts of fold 2"):
        check_disjoint(splits, labels, group_by)


def test_a_planted_leak_of_a_centre_is_caught_only_where_folds_are_by_centre():
    labels = layout([0, 0, 1, 1, 2, 2], [1] * 6, [0.0, 1.0])
    splits = make_splits(labels, task="classification", folds=3, group_by="center", seed=0)
    row = splits[(splits["fold"] == 1) & (splits["part"] == "test")].index[0]
    splits.loc[row, "part"] = "train"
    check_disjoint(splits, labels, "patient")
    with pytest.raises(StudyError, match=r"center c\d stands in two parts of fold 1"):
        check_disjoint(splits, labels, "center")


def test_a_fold_without_a_part_is_caught():
    labels = layout([0] * 6, [1] * 6, [0.0, 1.0])
    splits = make_splits(labels, task="classification", folds=3, group_by="patient", seed=0)
    splits.loc[(splits["fold"] == 0) & (splits["part"] == "validation"), "part"] = "train"
    with pytest.raises(StudyError, match="fold 0 has no validation slides"):
        check_disjoint(splits, labels, "patient")


@pytest.fixture(scope="module")
def ectil_folds(shared) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The published folds of ECTIL-TCGA as splits, one slide per patient, and their labels."""
    table = pd.read_csv(shared / "ectil_tcga" / "tcga_bc_folds.csv")
    names = {"train": "train", "val": "validation", "test": "test"}
    columns = [f"{part}_fold_{k}" for part in names for k in range(5)]
    long = table.melt(id_vars=["T-number"], value_vars=columns)
    long = long[long["value"] == 1]
    part = long["variable"].str.split("_").str[0].map(names)
    splits = pd.DataFrame({
        "patient_id": long["T-number"], "slide_id": long["T-number"],
        "fold": long["variable"].str[-1].astype(int), "part": part,
    })  # fmt: skip
    labels = pd.DataFrame({"slide_id": table["T-number"], "center": table["Medical center"]})
    return splits.reset_index(drop=True), labels


@pytest.mark.shared
def test_the_published_ectil_folds_pass_our_check(ectil_folds):
    splits, labels = ectil_folds
    assert set(splits["fold"]) == set(range(5))
    check_disjoint(splits, labels, "center")


@pytest.mark.shared
def test_the_published_ectil_folds_with_one_patient_moved_do_not_pass(ectil_folds):
    splits, labels = ectil_folds
    row = np.flatnonzero((splits["fold"] == 3) & (splits["part"] == "test"))[0]
    with pytest.raises(StudyError, match="stands in two parts of fold 3"):
        check_disjoint(splits.assign(part=splits["part"].where(splits.index != row, "train")), labels, "center")
