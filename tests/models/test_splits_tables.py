"""Given tables of parts: both forms are read as they are, and what does not fit is named."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.errors import StudyError
from slidestudy.models.splits import SplitScheme, check_disjoint, count_folds, make_splits, read_split_table

NO_PAIRS = pd.DataFrame({"patient_id_a": [], "patient_id_b": []}, dtype=str)


def study(patients: int = 6, slides: int = 2) -> pd.DataFrame:
    rows = [[f"p{i}-{k}", f"p{i}", "north", f"c{i // 2}", i / patients] for i in range(patients) for k in range(slides)]
    return pd.DataFrame(rows, columns=["slide_id", "patient_id", "cohort", "center", "target"])


def deal(labels: pd.DataFrame, path: Path, **options) -> pd.DataFrame:
    scheme = {"scheme": "table", "table": str(path), **options}
    return make_splits(labels, task="regression", seed=0, scheme=scheme, lookalikes=NO_PAIRS)


def write(folder: Path, *lines: str, name: str = "parts.tsv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


LONG = ["patient_id\tfold\tpart", *(f"p{i}\t0\t{'train' if i < 4 else 'val' if i < 5 else 'test'}" for i in range(6))]


def test_a_long_table_of_patients_gives_all_their_slides_the_part(tmp_path):
    splits = deal(study(), write(tmp_path, *LONG))
    part = splits.groupby("patient_id")["part"].agg(set).to_dict()
    assert part == {**{f"p{i}": {"train"} for i in range(4)}, "p4": {"validation"}, "p5": {"test"}}
    assert len(splits) == 12


@pytest.mark.parametrize("separator", ["\t", ",", ";"])
def test_our_own_splits_are_read_back_as_they_are(tmp_path, separator):
    labels = study(12)
    splits = make_splits(labels, task="regression", folds=4, seed=0)
    splits.sample(frac=1, random_state=0).to_csv(tmp_path / "s.csv", sep=separator, index=False)
    pd.testing.assert_frame_equal(deal(labels, tmp_path / "s.csv"), splits)
    assert count_folds(SplitScheme(scheme="table", table=str(tmp_path / "s.csv")), labels) == 4


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["train", "val", "test"]), min_size=5, max_size=5), min_size=1, max_size=4))
def test_both_forms_say_the_same(tmp_path_factory, folds):
    folder = tmp_path_factory.mktemp("forms")
    long = [
        "patient_id,fold,part",
        *(f"p{i},{k},{part}" for k, fold in enumerate(folds) for i, part in enumerate(fold)),
    ]
    names = [(k, part) for k in range(len(folds)) for part in ("train", "val", "test")]
    wide = ["T-number," + ",".join(f"{part}_fold_{k}" for k, part in names)]
    wide += [f"p{i}," + ",".join(str(int(folds[k][i] == part)) for k, part in names) for i in range(5)]
    found = [read_split_table(write(folder, *lines, name=f"{n}.csv")) for n, lines in enumerate((long, wide))]
    pd.testing.assert_frame_equal(*found)
    assert len(found[0]) == 5 * len(folds)


def test_a_patient_of_the_part_none_is_left_out_of_the_fold(tmp_path):
    lines = [line.replace("p0\t0\ttrain", "p0\t0\tnone") for line in LONG]
    assert set(deal(study(), write(tmp_path, *lines))["patient_id"]) == {f"p{i}" for i in range(1, 6)}


def test_a_table_may_have_no_test_part_but_not_lose_one(tmp_path):
    without = write(tmp_path, *(line.replace("test", "train") for line in LONG))
    assert set(deal(study(), without)["part"]) == {"train", "validation"}
    labels = study()
    labels.loc[labels["patient_id"] == "p5", "target"] = float("nan")
    with pytest.raises(StudyError, match="fold 0 has no test slides"):
        deal(labels, write(tmp_path, *LONG))


@pytest.mark.parametrize(
    ("lines", "messages"),
    [
        ([*LONG, "q1\t0\ttrain", "q2\t0\ttest"], ["names 2 patients that .* do not have: q1, q2"]),
        (LONG[:-2], ["gives 2 labelled patients no part in fold 0: p4, p5"]),
        ([*LONG, "p0\t0\ttest", "p1\t0\tval"], ["p0 stands in test and train of fold 0", "p1 stands in train and val"]),
        ([*LONG, "p0\t2\ttrain"], [r"its folds are 0, 2"]),
        ([*LONG[:-1], "p5\t-1\tholdout"], ["line 7: the fold is '-1'", "line 7: the part is 'holdout'"]),
        (["case\tfold\tpart", "p0\t0\ttrain"], ["no column names the patient or slide"]),
        (["patient_id\tsplit", "p0\t0"], ["no columns say the fold and the part"]),
        (["patient_id\tfold\tpart"], ["the table has no row"]),
        (["patient_id,train_fold_0,val_fold_0", "p0,1,x"], ["line 2, column val_fold_0: the cell is 'x'"]),
        (["patient_id,train_fold_0,val_fold_0", "p0,1,1"], ["p0 stands in train and validation of fold 0"]),
        (["patient_id,fold,part,part", "p0,0,train,train"], ["columns stand twice: part"]),
    ],
)
def test_a_table_that_does_not_fit_is_refused_by_name(tmp_path, lines, messages):
    with pytest.raises(StudyError) as caught:
        deal(study(), write(tmp_path, *lines))
    for message in messages:
        caught.match(message)


def test_a_table_that_does_not_exist_is_said(tmp_path):
    with pytest.raises(StudyError, match="the table of parts does not exist"):
        deal(study(), tmp_path / "none.tsv")


def test_slides_of_one_patient_in_two_parts_are_an_overlap(tmp_path):
    labels = study()
    part = {"p0-1": "test", "p1-1": "test", "p4-0": "validation", "p4-1": "validation", "p5-0": "test", "p5-1": "test"}
    lines = ["slide_id\tfold\tpart", *(f"{s}\t0\t{part.get(s, 'train')}" for s in labels["slide_id"])]
    with pytest.raises(
        StudyError, match=r"patient p0 \(test, train\), p1 \(test, train\) stand in two parts of fold 0"
    ):
        deal(labels, write(tmp_path, *lines))


def test_a_centre_in_two_parts_of_a_given_table_is_an_overlap_where_folds_are_by_centre(tmp_path):
    path = write(tmp_path, *LONG)
    with pytest.raises(StudyError, match=r"center c2 \(test, validation\) stands in two parts of fold 0"):
        deal(study(), path, group_by="center")


def test_a_slide_under_another_patient_is_named(tmp_path):
    labels = study(12)
    splits = make_splits(labels, task="regression", folds=4, seed=0)
    splits.loc[splits["slide_id"] == "p3-1", "patient_id"] = "p4"
    splits.to_csv(tmp_path / "s.tsv", sep="\t", index=False)
    with pytest.raises(StudyError, match="names another patient for slide p3-1"):
        deal(labels, tmp_path / "s.tsv")


@pytest.fixture(scope="module")
def ectil(shared) -> tuple[Path, pd.DataFrame]:
    """The published folds of ECTIL-TCGA, and a study of their patients with invented labels, one slide each."""
    path = shared / "ectil_tcga" / "tcga_bc_folds.csv"
    table = pd.read_csv(path)
    labels = pd.DataFrame({"slide_id": table["T-number"] + "-DX1", "patient_id": table["T-number"], "cohort": "tcga"})
    return path, labels.assign(center=table["Medical center"], target=[float(i % 97) for i in range(len(table))])


@pytest.mark.shared
def test_the_published_ectil_folds_are_used_as_they_are(ectil):
    path, labels = ectil
    splits = deal(labels, path, group_by="center")
    published = pd.read_csv(path).set_index("T-number")
    for name, part in {"train": "train", "val": "validation", "test": "test"}.items():
        for fold in range(5):
            found = splits.loc[(splits["fold"] == fold) & (splits["part"] == part), "patient_id"]
            assert set(found) == set(published.index[published[f"{name}_fold_{fold}"] == 1])
    assert len(splits) == 5 * 342


@pytest.mark.shared
def test_the_published_ectil_folds_name_patients_that_a_study_lacks_and_miss_those_it_has_more(ectil):
    path, labels = ectil
    fewer = labels[labels["patient_id"] != "TCGA-A1-A0SB"]
    with pytest.raises(StudyError, match=r"names 1 patients that .* do not have: TCGA-A1-A0SB"):
        deal(fewer, path)
    more = pd.concat([labels, labels.iloc[[0]].assign(slide_id="new-1", patient_id="new")])
    with pytest.raises(StudyError, match="gives 1 labelled patients no part in fold 4: new"):
        deal(more, path)


@pytest.mark.shared
def test_the_published_ectil_folds_with_one_patient_moved_do_not_pass(ectil):
    path, labels = ectil
    splits = deal(labels, path, group_by="center")
    row = splits.index[(splits["fold"] == 3) & (splits["part"] == "test")][0]
    splits.loc[row, "part"] = "train"
    with pytest.raises(StudyError, match=r"center .* \(test, train\) stands in two parts of fold 3"):
        check_disjoint(splits, labels, "center")
