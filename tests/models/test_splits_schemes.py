"""Every scheme of splits: whole groups, disjoint parts, balanced labels, and the same bytes for the same seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.errors import StudyError
from slidestudy.models.splits import SplitScheme, count_folds, make_splits, splits_for
from slidestudy.models.splits.groups import group_slides, linked_patients
from slidestudy.models.splits.random_parts import deal_parts
from slidestudy.models.splits.strata import first_component, label_strata

NO_PAIRS = pd.DataFrame({"patient_id_a": [], "patient_id_b": []}, dtype=str)
SCHEMES: list[dict[str, Any]] = [
    {"scheme": "k-fold", "folds": 3},
    {"scheme": "repeated-k-fold", "folds": 3, "repeats": 2},
    {"scheme": "monte-carlo", "folds": 3, "test_share": 0.3, "validation_share": 0.2},
    {"scheme": "monte-carlo", "folds": 2, "test_share": 0.0, "validation_share": 0.3},
    {"scheme": "leave-one-center-out", "validation_share": 0.25},
    {"scheme": "leave-one-cohort-out", "validation_share": 0.25, "repeats": 2},
]


def study(patients: int, *, centres: int = 6, cohorts: int = 2, slides: int = 1, seed: int = 0) -> pd.DataFrame:
    """Labels of every task; a centre belongs to one cohort."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(patients):
        centre = i % centres
        patient = [f"p{i}", f"cohort{centre % cohorts}", f"c{centre}", float(rng.random() < 0.4), rng.random()]
        patient += [rng.choice(["luminal", "basal", "her2"]), float(rng.exponential(5)), int(rng.random() < 0.5)]
        rows += [[f"p{i}-{k}", *patient] for k in range(slides)]
    columns = ["slide_id", "patient_id", "cohort", "center", "target", "til", "subtype", "time", "event"]
    return pd.DataFrame(rows, columns=columns)


def pairs(*links: tuple[str, str]) -> pd.DataFrame:
    """Look-alike slides of patients."""
    return pd.DataFrame(links, columns=["patient_id_a", "patient_id_b"])


@st.composite
def random_studies(draw: st.DrawFn) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Labels of any layout, and look-alike pairs within a centre."""
    patients, centres = draw(st.integers(6, 24)), draw(st.integers(2, 7))
    labels = study(patients, centres=centres, cohorts=min(3, centres), slides=draw(st.integers(1, 3)))
    keep = draw(st.lists(st.booleans(), min_size=len(labels), max_size=len(labels)))
    labels = labels[keep]
    labels["target"] = draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=len(labels), max_size=len(labels)))
    numbers = st.integers(0, patients // centres)
    centre = st.integers(0, centres - 1)
    linked = draw(st.lists(st.tuples(centre, numbers, numbers), max_size=3))
    return labels, pairs(*((f"p{c + centres * a}", f"p{c + centres * b}") for c, a, b in linked))


def outcome(deal: Callable[[], pd.DataFrame]) -> pd.DataFrame | str:
    """The splits, or what was said against making them."""
    try:
        return deal()
    except StudyError as error:
        return str(error)


def parts_of(splits: pd.DataFrame, groups: pd.Series) -> pd.Series:
    """How many parts of each fold a group stands in."""
    return splits.assign(group=splits["slide_id"].map(groups)).groupby(["fold", "group"])["part"].nunique()


@settings(max_examples=100, deadline=None)
@given(
    random_studies(),
    st.sampled_from(SCHEMES),
    st.sampled_from(["patient", "center"]),
    st.sampled_from(["regression", "classification", "multiclass", "survival-cox"]),
    st.integers(0, 10**6),
)
def test_every_scheme_keeps_groups_whole_and_gives_every_slide_one_part_per_fold(drawn, options, group_by, task, seed):
    labels, linked = drawn
    scheme = SplitScheme(**options, group_by=group_by)
    splits = outcome(lambda: make_splits(labels, task=task, seed=seed, scheme=scheme, lookalikes=linked))
    if isinstance(splits, str):
        said = ("groups", "have usable slides", "train part", "teach nothing", "no usable slide")
        assert any(words in splits for words in said), splits
        return
    assert list(splits.columns) == ["patient_id", "slide_id", "fold", "part"]
    assert splits.equals(splits.sort_values(["fold", "slide_id"], ignore_index=True))
    assert set(splits["fold"]) == set(range(count_folds(scheme, labels)))
    for _, rows in splits.groupby("fold"):
        assert list(rows["slide_id"]) == sorted(labels["slide_id"])
        assert {"train", "validation"} <= set(rows["part"])
        assert "test" in set(rows["part"]) or scheme.test_share == 0
    by_slide = labels.set_index("slide_id")
    assert (splits["patient_id"] == splits["slide_id"].map(by_slide["patient_id"])).all()
    assert (parts_of(splits, by_slide["patient_id"]) == 1).all()
    if group_by == "center":
        assert (parts_of(splits, by_slide["center"]) == 1).all()
    part_of = {patient: list(rows.drop_duplicates("fold")["part"]) for patient, rows in splits.groupby("patient_id")}
    for a, b in zip(linked["patient_id_a"], linked["patient_id_b"], strict=True):
        if {a, b} <= set(part_of):
            assert part_of[a] == part_of[b]
    held_out = {"leave-one-center-out": "center", "leave-one-cohort-out": "cohort"}.get(scheme.scheme)
    if held_out:
        tested = splits[splits["part"] == "test"]
        for fold, rows in tested.groupby("fold"):
            name = sorted(labels[held_out].unique())[fold // scheme.repeats]
            assert set(rows["slide_id"]) == set(labels.loc[labels[held_out] == name, "slide_id"])


@pytest.mark.parametrize("group_by", ["patient", "center"])
@pytest.mark.parametrize("options", SCHEMES, ids=lambda options: options["scheme"])
@pytest.mark.parametrize("task", ["regression", "classification", "multiclass", "survival-discrete"])
def test_every_scheme_deals_an_ordinary_study(options, group_by, task):
    """The test above may not pass by refusing all it is given."""
    labels = study(60, slides=2).assign(target=lambda t: t["subtype"] if task == "multiclass" else t["target"])
    scheme = {**options, "group_by": group_by}
    splits = make_splits(labels, task=task, seed=3, scheme=scheme, lookalikes=NO_PAIRS)
    assert splits.groupby("fold").size().eq(120).all()


@pytest.mark.parametrize("options", SCHEMES, ids=lambda options: options["scheme"])
def test_the_same_seed_gives_the_same_bytes_whatever_the_order_of_the_rows(options):
    labels = study(50)
    common = dict(task="survival-cox", scheme=options, lookalikes=NO_PAIRS)
    first = make_splits(labels, seed=1, **common)
    assert first.to_csv() == make_splits(labels.sample(frac=1, random_state=0), seed=1, **common).to_csv()
    assert first.to_csv() != make_splits(labels, seed=2, **common).to_csv()


def test_repeats_deal_anew_and_the_first_is_plain_k_fold():
    labels = study(40)
    common = dict(task="classification", seed=5, lookalikes=NO_PAIRS)
    repeated = make_splits(labels, scheme={"scheme": "repeated-k-fold", "folds": 4, "repeats": 3}, **common)
    pd.testing.assert_frame_equal(
        repeated[repeated["fold"] < 4], make_splits(labels, scheme={"scheme": "k-fold", "folds": 4}, **common)
    )
    tested = repeated[repeated["part"] == "test"]
    assert tested.groupby("slide_id").size().eq(3).all()
    shares = [set(rows["slide_id"]) for _, rows in tested.groupby("fold")]
    assert not any(share in shares[:i] for i, share in enumerate(shares))


@settings(max_examples=25, deadline=None)
@given(st.integers(60, 150), st.floats(0.1, 0.4), st.floats(0.1, 0.4), st.integers(0, 1000))
def test_monte_carlo_parts_hold_to_their_shares_in_every_stratum(patients, test, validation, seed):
    labels = study(patients, seed=seed)
    scheme = SplitScheme(scheme="monte-carlo", folds=2, test_share=test, validation_share=validation)
    splits = make_splits(labels, task="classification", seed=seed, scheme=scheme, lookalikes=NO_PAIRS)
    shares = {"train": 1 - test - validation, "validation": validation, "test": test}
    for _, rows in splits.merge(labels[["slide_id", "target"]]).groupby(["fold", "target"]):
        for part, share in shares.items():
            # Whole patients, rounded within each class and for the class sizes' sum.
            assert abs((rows["part"] == part).sum() - share * len(rows)) <= 2


def test_few_uneven_centres_come_close_to_their_shares():
    """Sizes of the 17 centres of ECTIL-TCGA, as far as these numbers go: one draw can be off by a large centre."""
    sizes = [54, 49, 48, 32, 23, 23, 22, 20, 13, 13, 12, 11, 11, 7, 2, 1, 1]
    groups = pd.Series(np.repeat([f"c{i:02d}" for i in range(len(sizes))], sizes))
    strata = np.arange(len(groups)) % 3
    shares = {"train": 0.6, "validation": 0.2, "test": 0.2}
    drawn = [deal_parts(groups, strata, shares, np.random.default_rng(seed)) for seed in range(20)]
    for parts in drawn:
        found = pd.Series(parts).value_counts(normalize=True)
        assert all(abs(found[part] - share) < 0.06 for part, share in shares.items())
    assert len({tuple(parts) for parts in drawn}) > 10


def test_training_parts_get_every_class_where_groups_allow_it():
    """Two of ten centres have positives: a training part must get one of them in every draw."""
    labels = study(50, centres=10).assign(target=lambda t: t["center"].isin(["c1", "c4"]).astype(float))
    scheme = {"scheme": "monte-carlo", "folds": 20, "group_by": "center"}
    splits = make_splits(labels, task="classification", seed=0, scheme=scheme, lookalikes=NO_PAIRS)
    positives = splits.merge(labels[["slide_id", "target"]]).query("part == 'train' and target == 1")
    assert positives["fold"].nunique() == 20


def test_survival_parts_are_balanced_over_events_and_times():
    for seed in range(4):
        labels = study(200, seed=seed)
        splits = make_splits(labels, task="survival-cox", seed=seed, scheme={"scheme": "k-fold"}, lookalikes=NO_PAIRS)
        tested = splits[splits["part"] == "test"].merge(labels[["slide_id", "time", "event"]])
        for _, rows in tested.groupby("event"):
            assert np.ptp(rows.groupby("fold").size()) <= 3
            late = rows[rows["time"] > rows["time"].median()]
            assert np.ptp(late.groupby("fold").size()) <= 3


def test_survival_columns_may_have_other_names():
    labels = study(30)
    common = dict(task="survival-cox", seed=0, folds=3)
    renamed = labels.rename(columns={"time": "months", "event": "death"})
    assert make_splits(labels, **common).equals(make_splits(renamed, **common, columns=["months", "death"]))


def test_several_targets_are_balanced_over_their_first_component():
    rng = np.random.default_rng(0)
    common = rng.normal(size=120)
    labels = study(120).assign(**{f"g{i}": common + 0.3 * rng.normal(size=120) for i in range(5)})
    labels.loc[:30, "g0"] = np.nan
    genes = [f"g{i}" for i in range(5)]
    assert abs(np.corrcoef(first_component(labels[genes]), common)[0, 1]) > 0.9
    splits = make_splits(
        labels, task="multi-regression", columns=genes, seed=0, scheme={"scheme": "k-fold"}, lookalikes=NO_PAIRS
    )
    strata = pd.Series(label_strata(labels, "multi-regression", genes, 5), index=labels["slide_id"])
    tested = splits[splits["part"] == "test"].assign(stratum=lambda t: t["slide_id"].map(strata))
    counts = tested.groupby(["fold", "stratum"]).size()
    assert len(counts) == 5 * 4
    assert counts.to_numpy() == pytest.approx(6, abs=1)


def test_a_slide_with_one_of_several_targets_is_dealt_and_one_without_any_is_not():
    labels = study(30).assign(a=1.0, b=range(30))
    labels["a"] = labels["b"].where(labels["b"] % 2 == 0)
    labels.loc[[4, 5], ["a", "b"]] = np.nan
    options = dict(task="multi-regression", columns=["a", "b"], seed=0, lookalikes=NO_PAIRS)
    splits = make_splits(labels, scheme={"scheme": "k-fold", "folds": 3}, **options)
    assert set(labels["slide_id"]) - set(splits["slide_id"]) == {"p4-0", "p5-0"}


def test_patients_with_look_alike_slides_are_one_group_also_through_one_without_a_label():
    labels = study(12)
    linked = pairs(("p0", "outside"), ("outside", "p7"), ("p3", "p3"), ("p5", "p4"))
    groups = group_slides(labels, "patient", linked)
    assert dict(zip(labels["patient_id"], groups, strict=True)) == {f"p{i}": f"p{i}" for i in range(12)} | {
        "p7": "p0",
        "p5": "p4",
    }
    assert linked_patients(linked)["p7"] == {"p0", "p7", "outside"}
    assert "p3" not in linked_patients(linked)


def test_centres_joined_by_look_alike_slides_are_one_group():
    groups = group_slides(study(12), "center", pairs(("p0", "p7")))
    assert sorted(set(groups)) == ["c0", "c2", "c3", "c4", "c5"]


def test_look_alike_slides_across_the_held_out_part_are_an_error_that_names_the_patients():
    labels, linked = study(24), pairs(("p0", "p1"), ("p2", "p8"))
    scheme = {"scheme": "leave-one-center-out"}
    with pytest.raises(StudyError) as caught:
        make_splits(labels, task="regression", seed=0, scheme=scheme, lookalikes=linked)
    assert all("p0 (" in p.what and "p1 (" in p.what for p in caught.value.problems)
    assert {p.what.split(" of fold ")[1].split()[0] for p in caught.value.problems} >= {"0", "1"}
    ignored = {**scheme, "lookalikes": "ignore"}
    assert len(make_splits(labels, task="regression", seed=0, scheme=ignored, lookalikes=linked)) == 24 * 6


def test_keeping_look_alikes_together_needs_their_table():
    with pytest.raises(ValueError, match="no table of them was given"):
        make_splits(study(12), task="regression", seed=0, scheme={"scheme": "k-fold"})


def test_only_the_named_cohort_is_held_out_and_the_folds_draw_other_validation_parts():
    labels = study(40, cohorts=3)
    scheme = SplitScheme(scheme="leave-one-cohort-out", held_out=("cohort1",), repeats=5)
    splits = make_splits(labels, task="regression", seed=0, scheme=scheme, lookalikes=NO_PAIRS)
    assert count_folds(scheme, labels) == splits["fold"].nunique() == 5
    assert set(splits.loc[splits["part"] == "test", "slide_id"]) == set(labels.query("cohort == 'cohort1'")["slide_id"])
    validated = {tuple(rows["slide_id"]) for _, rows in splits[splits["part"] == "validation"].groupby("fold")}
    assert len(validated) == 5


def test_a_named_centre_that_lost_its_slides_costs_its_test_part_only():
    labels = study(30)
    usable = set(labels.loc[labels["center"] != "c2", "slide_id"])
    scheme = SplitScheme(scheme="leave-one-center-out", held_out=tuple(f"c{i}" for i in range(6)))
    splits = make_splits(labels, task="regression", seed=0, scheme=scheme, lookalikes=NO_PAIRS, usable=usable)
    assert set(splits["fold"]) == set(range(6))
    assert set(splits.loc[splits["fold"] == 2, "part"]) == {"train", "validation"}
    assert set(splits["slide_id"]) == usable


@pytest.mark.parametrize("name", ["c9", "c5"])
def test_a_centre_that_no_development_cohort_has_cannot_be_held_out(name):
    """c5 is a centre of an external cohort, whose labels stand in the table and whose slides are not dealt."""
    labels = study(30).assign(cohort=lambda t: np.where(t["center"] == "c5", "external", t["cohort"]))
    usable = set(labels.loc[labels["cohort"] != "external", "slide_id"])
    scheme = {"scheme": "leave-one-center-out", "held_out": ["c0", name]}
    with pytest.raises(StudyError, match=f"no patient has the center {name}"):
        make_splits(labels, task="regression", seed=0, scheme=scheme, lookalikes=NO_PAIRS, usable=usable)


def test_one_centre_left_cannot_be_dealt_into_training_and_validation():
    scheme = {"scheme": "leave-one-center-out", "group_by": "center"}
    with pytest.raises(StudyError, match="with center c0 held out, fewer than two groups are left"):
        make_splits(study(20, centres=2), task="regression", seed=0, scheme=scheme, lookalikes=NO_PAIRS)


def test_fewer_groups_than_parts_are_refused():
    scheme = {"scheme": "monte-carlo", "group_by": "center"}
    with pytest.raises(StudyError, match="2 groups of slides cannot be dealt into 3 parts"):
        make_splits(study(20, centres=2), task="regression", seed=0, scheme=scheme, lookalikes=NO_PAIRS)


def test_groups_joined_by_look_alikes_are_counted_where_folds_need_more():
    linked = pairs(("p0", "p1"), ("p1", "p2"))
    with pytest.raises(StudyError, match=r"5 patients have usable slides with a label, joined .* into 3 groups"):
        make_splits(study(5), task="regression", seed=0, scheme={"scheme": "k-fold"}, lookalikes=linked)


def test_patients_without_a_centre_are_named_where_centres_count():
    labels = study(12)
    labels.loc[[2, 3], "center"] = ["", None]
    with pytest.raises(StudyError, match="patient p2, p3 has no centre"):
        make_splits(labels, task="regression", seed=0, folds=3, group_by="center")


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("regression", {"target": 0.25}, r"12 labelled slides teach nothing: target is always 0\.25"),
        ("multiclass", {"target": "luminal"}, "target is always luminal"),
        ("survival-cox", {"event": 0}, "no patient has an event"),
        ("multi-regression", {"til": np.nan}, "til is always blank"),
    ],
)
def test_labels_without_variety_are_refused(task, change, message):
    columns = ["target", "til"] if task == "multi-regression" else None
    with pytest.raises(StudyError, match=message):
        make_splits(study(12).assign(**change), task=task, seed=0, folds=3, columns=columns)


def test_the_training_part_of_a_fold_without_an_event_is_named():
    labels = study(12, centres=4).assign(event=lambda t: (t["center"] == "c0").astype(int))
    scheme = {"scheme": "leave-one-center-out"}
    with pytest.raises(StudyError, match=r"fold 0, train part \(\d slides\): no patient has an event"):
        make_splits(labels, task="survival-cox", seed=0, scheme=scheme, lookalikes=NO_PAIRS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "kfold"}, "splits.scheme: is 'kfold'"),
        ({"scheme": "k-fold", "folds": 2}, "splits.folds: is 2"),
        ({"scheme": "repeated-k-fold"}, "splits.repeats: is 1"),
        ({"scheme": "monte-carlo", "test_share": 0.6, "validation_share": 0.4}, "leave slides to train on"),
        ({"scheme": "monte-carlo", "test_share": -0.1}, "splits.test_share"),
        ({"scheme": "leave-one-center-out", "held_out": ["a", "a"]}, "give each name once"),
        ({"scheme": "table"}, "give the path of the table"),
        ({"group_by": "centre"}, "give patient or center"),
        ({"lookalikes": "drop"}, "give keep-together or ignore"),
        ({"fold": 3}, "did you mean 'folds'"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(StudyError, match=message):
        SplitScheme.of({"splits": options})


def test_settings_of_before_are_understood_and_the_section_counts_before_them():
    plain = SplitScheme.of({"folds": 4, "group_by": "center", "task": "regression"})
    assert (plain.scheme, plain.folds, plain.group_by, plain.lookalikes) == ("k-fold", 4, "center", "ignore")
    section = {"scheme": "k-fold", "folds": 6, "table": None}
    both = SplitScheme.of({"folds": 4, "group_by": "center", "splits": section})
    assert (both.folds, both.group_by, both.lookalikes) == (6, "center", "keep-together")


def test_the_splits_of_a_model_hold_usable_labelled_slides_and_check_validation_classes():
    labels = study(30)
    labels.loc[3, "target"] = np.nan
    usable = set(labels["slide_id"]) - {"p7-0"}
    options = {"task": "classification", "seed": 2, "splits": {"scheme": "k-fold", "folds": 3}}
    splits = splits_for(labels, options, usable=usable, lookalikes=NO_PAIRS)
    assert set(splits["slide_id"]) == usable - {"p3-0"}
    rare = labels.assign(target=labels["slide_id"].isin(["p0-0", "p1-0", "p2-0"]).astype(float))
    by_seed = {"task": "classification", "folds": 5, "group_by": "patient"}
    with pytest.raises(StudyError, match=r"validation part \(\d+ slides\): slides of class 0 only"):
        splits_for(rare, {**by_seed, "seed": 2}, usable=usable)
