"""k-fold: nothing leaks between parts, everything is tested once, and what cannot be dealt is refused in words."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.errors import StudyError
from slidestudy.models.splits import PARTS, check_disjoint, check_labels, make_splits


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


@settings(max_examples=100, deadline=None)
@given(
    cohorts(),
    st.integers(3, 6),
    st.sampled_from(["patient", "center"]),
    st.sampled_from(["regression", "classification"]),
    st.integers(0, 10**6),
)
def test_no_group_stands_in_two_parts_and_every_slide_is_tested_once(labels, folds, group_by, task, seed):
    column = "patient_id" if group_by == "patient" else "center"
    options = dict(task=task, folds=folds, group_by=group_by, seed=seed)
    if labels["target"].nunique() < 2:
        with pytest.raises(StudyError, match=r"target is always [01]"):
            make_splits(labels, **options)
        return
    if labels[column].nunique() < folds:
        with pytest.raises(StudyError, match=f"{labels[column].nunique()} {group_by}s"):
            make_splits(labels, **options)
        return
    # Rare labels may leave a training part with one value only, which another test is about.
    splits = make_splits(labels, **options, labelled_parts=())
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
    common = dict(task="regression", folds=3, group_by="patient", seed=4, labelled_parts=())
    labels = labels.assign(target=[float(i) for i in range(len(labels))])
    pd.testing.assert_frame_equal(make_splits(labels, **common), make_splits(labels.iloc[order], **common))


def test_a_seed_gives_the_same_folds_and_another_seed_others():
    labels = layout([0] * 30, [1] * 30, [0.0, 1.0, 1.0])
    deal = [make_splits(labels, task="classification", folds=5, group_by="patient", seed=s) for s in (1, 1, 2)]
    pd.testing.assert_frame_equal(deal[0], deal[1])
    assert not deal[0].equals(deal[2])


def test_a_fold_validates_on_what_the_next_one_tests():
    labels = layout([0] * 20, [1] * 20, [0.0, 1.0])
    splits = make_splits(labels, task="classification", folds=5, group_by="patient", seed=0)
    held = {key: set(rows["slide_id"]) for key, rows in splits.groupby(["fold", "part"])}
    assert all(held[fold, "validation"] == held[(fold + 1) % 5, "test"] for fold in range(5))


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
    with pytest.raises(
        StudyError, match=rf"patient {splits.loc[row, 'patient_id']} \(test, train\) stands in two parts of fold 2"
    ):
        check_disjoint(splits, labels, group_by)


def test_a_planted_leak_of_a_centre_is_caught_only_where_folds_are_by_centre():
    labels = layout([0, 0, 1, 1, 2, 2], [1] * 6, [0.0, 1.0])
    splits = make_splits(labels, task="classification", folds=3, group_by="center", seed=0)
    row = splits[(splits["fold"] == 1) & (splits["part"] == "test")].index[0]
    splits.loc[row, "part"] = "train"
    check_disjoint(splits, labels, "patient")
    with pytest.raises(StudyError, match=r"center c\d \(test, train\) stands in two parts of fold 1"):
        check_disjoint(splits, labels, "center")


def test_a_fold_without_a_part_is_caught():
    labels = layout([0] * 6, [1] * 6, [0.0, 1.0])
    splits = make_splits(labels, task="classification", folds=3, group_by="patient", seed=0)
    splits.loc[(splits["fold"] == 0) & (splits["part"] == "validation"), "part"] = "train"
    with pytest.raises(StudyError, match="fold 0 has no validation slides"):
        check_disjoint(splits, labels, "patient")


def test_every_overlap_is_named_and_not_the_first_only():
    labels = layout([0] * 40, [2] * 40, [0.0, 1.0])
    splits = make_splits(labels, task="classification", folds=4, group_by="patient", seed=0)
    moved = splits[(splits["part"] == "test") & splits["slide_id"].str.endswith("-0")]
    splits.loc[moved.index, "part"] = "train"
    with pytest.raises(StudyError) as caught:
        check_disjoint(splits, labels, "patient")
    for patient, fold in zip(moved["patient_id"], moved["fold"], strict=True):
        said = next(p.what for p in caught.value.problems if p.what.endswith(f"fold {fold}"))
        assert f"{patient} (test, train)" in said


def test_a_long_list_of_overlaps_is_cut_and_counted():
    splits = pd.DataFrame([[f"p{i}", f"p{i}-{k}", 0, part] for i in range(30) for k, part in enumerate(PARTS)])
    splits.columns = ["patient_id", "slide_id", "fold", "part"]
    with pytest.raises(StudyError, match="and 10 more stand in two parts of fold 0"):
        check_disjoint(splits, splits, "patient")


def test_a_slide_that_stands_twice_in_a_fold_is_caught():
    labels = layout([0] * 6, [1] * 6, [0.0, 1.0])
    splits = make_splits(labels, task="regression", folds=3, group_by="patient", seed=0)
    with pytest.raises(StudyError, match="slides stand twice in a fold: p"):
        check_disjoint(pd.concat([splits, splits.iloc[[0]]]), labels, "patient")


def test_a_slide_without_a_centre_is_not_let_through_where_folds_are_by_centre():
    labels = layout([0, 1, 2, 3], [1] * 4, [0.0, 1.0, 2.0, 3.0])
    splits = make_splits(labels, task="regression", folds=4, group_by="center", seed=0)
    with pytest.raises(StudyError, match="slides without a centre: p3-0"):
        check_disjoint(splits, labels.iloc[:3], "center")


def test_a_training_part_without_a_class_is_an_error_that_names_fold_and_class():
    labels = layout([0, 1, 2, 3, 4], [4] * 5, [0.0]).assign(target=lambda t: (t["center"] == "c1").astype(float))
    with pytest.raises(StudyError) as caught:
        make_splits(labels, task="classification", folds=5, group_by="center", seed=0)
    # The one centre with positives is tested by one fold and validated on by another.
    assert [problem.what for problem in caught.value.problems] == [
        f"fold {fold}, train part (12 slides): no slide of class 1"
        for fold in sorted({int(p.what.split()[1].rstrip(",")) for p in caught.value.problems})
    ]
    assert len(caught.value.problems) == 2


def test_a_validation_part_of_one_class_is_an_error_where_it_is_asked_for():
    splits = pd.DataFrame({"slide_id": list("abcd"), "fold": 0, "part": ["train", "train", "validation", "test"]})
    labels = pd.DataFrame({"slide_id": list("abcd"), "target": [0.0, 1.0, 1.0, 0.0]})
    check_labels(splits, labels, "classification")
    with pytest.raises(StudyError, match=r"fold 0, validation part \(1 slides\): slides of class 1 only"):
        check_labels(splits, labels, "classification", parts=("train", "validation"))


def test_no_usable_slide_with_a_label_is_said():
    labels = layout([0] * 6, [1] * 6, [0.0, 1.0])
    with pytest.raises(StudyError, match="no usable slide has a label"):
        make_splits(labels.assign(target=float("nan")), task="regression", folds=3, group_by="patient", seed=0)
