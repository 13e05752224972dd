"""Kaplan-Meier estimates of groups: what always holds, what is blank and why, and whom the groups hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.tables import load_table, write_table
from slidestudy.validation.kaplan_meier import (
    CUTOFFS,
    MEDIAN,
    Group,
    Split,
    curves_table,
    fit_curve,
    logrank_table,
    make_splits,
    median_survival,
    split_endpoints,
    survival_at,
    survival_table,
)
from slidestudy.validation.log_rank import log_rank

ROLES = {"north": "development", "south": "external"}
ENDPOINT: dict[str, Any] = {
    "unit": "years", "scores": {"til": {"per": 10, "cutoffs": [75, 30]}, "tils": {"per": "sd", "cutoffs": []}},
    "strata": [], "times": [1, 3, 10],
}  # fmt: skip
ALL = {"north": 100, "south": 90}
"""Cohort -> patients, with those without a time."""
FOLLOW_UP = st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=40)


def endpoint(**changed: Any) -> dict[str, Any]:
    return {**ENDPOINT, **changed}


def patients(n: int, seed: int = 0, cohort: str = "north") -> pd.DataFrame:
    """Patients with more of the score live longer; times have ties, and the stratum's baseline differs."""
    rng = np.random.default_rng(seed)
    score = rng.uniform(0, 100, n).round()
    stratum = rng.integers(0, 2, n)
    happens, censored = rng.exponential(np.exp(0.03 * score - stratum)), rng.uniform(0, 12, n)
    return pd.DataFrame({
        "patient_id": [f"{cohort}{i}" for i in range(n)], "cohort": cohort,
        "time": np.minimum(happens, censored).round(1), "event": (happens <= censored).astype(int),
        "score.til": score, "score.tils": rng.uniform(0, 100, n), "grade": np.where(stratum == 0, "1", "2"),
    })  # fmt: skip


def split_of(splits: list[Split], score: str = "til", kind: str = CUTOFFS, cohort: str = "north") -> Split:
    return next(s for s in splits if (s.score, s.kind, s.cohort) == (score, kind, cohort))


def group_of(pairs: list[tuple[float, bool]]) -> Group:
    time, event = (np.array(values, float) for values in zip(*pairs, strict=True))
    return Group("all", time, event, fit_curve(time, event, 0.95))


@given(FOLLOW_UP)
@settings(max_examples=60, deadline=None)
def test_a_curve_falls_from_one_within_its_interval_as_those_at_risk_do(pairs) -> None:
    group = group_of(pairs)
    curve = group.curve
    assert curve["time"].iloc[0] == 0
    assert curve["survival"].iloc[0] == 1 or (group.time[group.event == 1] == 0).any()
    assert curve["survival"].between(0, 1).all()
    assert (curve["survival"].diff().dropna() < 0).all()
    assert (curve["at_risk"][curve["time"] > 0].diff().dropna() < 0).all()
    assert curve["at_risk"].iloc[0] == len(pairs) >= curve["at_risk"].max()
    known = curve.dropna()
    assert (known["ci_low"] <= known["survival"]).all()
    assert (known["survival"] <= known["ci_high"]).all()
    assert (known["ci_low"] >= 0).all()
    assert (known["ci_high"] <= 1).all()
    assert set(curve["time"]) == {0, *group.time[group.event == 1]}


@given(st.lists(st.integers(0, 20), min_size=1, max_size=30), st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_without_censoring_survival_is_the_share_beyond_the_time(times, at) -> None:
    group = group_of([(time, True) for time in times])
    found = survival_at(group, at)
    if at > max(times):
        assert found["survival"] is None
        assert found["undefined_reason"] == f"beyond the last follow-up at {max(times)}"
    else:
        assert found["survival"] == pytest.approx(np.mean(np.array(times) > at), abs=1e-12)
    assert found["at_risk"] == sum(time >= at for time in times)


@given(FOLLOW_UP, st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_a_censoring_after_the_time_changes_nothing_before_it(pairs, at) -> None:
    later = [(time + 5, happened) if time > at else (time, happened) for time, happened in pairs]
    for key in ("survival", "ci_low", "ci_high", "at_risk"):
        before, after = survival_at(group_of(pairs), at)[key], survival_at(group_of(later), at)[key]
        assert before == after or (np.isnan(before) and np.isnan(after))


@given(st.lists(st.floats(0, 100), min_size=1, max_size=40), st.sets(st.integers(0, 100), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_every_patient_is_in_one_group_of_each_split(scores, cutoffs) -> None:
    n = len(scores)
    rows = pd.DataFrame({"cohort": "north", "time": np.arange(n) + 1.0, "event": 1, "score.til": scores})
    options = endpoint(scores={"til": {"cutoffs": list(cutoffs)}})
    for split in make_splits(rows, "os", options, {"north": "external"}, ALL, 0.95):
        assert sum(len(group.time) for group in split.groups) == n == split.test.n
        assert len(split.groups) == (len(cutoffs) + 1 if split.kind == CUTOFFS else 2)


def test_groups_are_between_the_cut_offs_and_hold_their_lower_one() -> None:
    rows = pd.DataFrame({"cohort": "north", "time": 1.0, "event": 1, "score.til": [0, 29.9, 30, 74, 75, 100, np.nan]})
    options = endpoint(scores={"til": {"cutoffs": [75, 30]}})
    split = make_splits(rows, "os", options, {"north": "external"}, ALL, 0.95)[0]
    assert [group.name for group in split.groups] == ["< 30", "30 to < 75", ">= 75"]
    assert [len(group.time) for group in split.groups] == [2, 2, 2]
    assert split.at_cutoff == 2


def test_the_median_split_is_of_the_cohort_and_counts_its_ties() -> None:
    rows = pd.concat([patients(41), patients(30, 1, "south").assign(**{"score.til": 40.0})])
    splits = make_splits(rows, "os", ENDPOINT, ROLES, ALL, 0.95)
    north = split_of(splits, kind=MEDIAN)
    assert north.cutoffs == (patients(41)["score.til"].median(),)
    assert north.at_cutoff == (patients(41)["score.til"] == north.cutoffs[0]).sum() >= 1
    south = split_of(splits, kind=MEDIAN, cohort="south")
    assert [len(group.time) for group in south.groups] == [0, 30]
    assert south.at_cutoff == 30
    assert (south.test.statistic, south.test.undefined_reason) == (None, "fewer than two groups")


def test_scores_without_cut_offs_have_the_median_split_only() -> None:
    splits = make_splits(patients(30), "os", ENDPOINT, {"north": "external"}, ALL, 0.95)
    assert [(split.score, split.kind) for split in splits] == [("til", CUTOFFS), ("til", MEDIAN), ("tils", MEDIAN)]


def test_tables_have_a_row_for_each_group_and_time_with_the_numbers_of_the_curve() -> None:
    rows = pd.concat([patients(60), patients(50, 1, "south")])
    splits = make_splits(rows, "os", ENDPOINT, ROLES, ALL, 0.95)
    table, curves, tests = survival_table(splits, ENDPOINT["times"]), curves_table(splits), logrank_table(splits)
    groups = 2 * (3 + 2 + 2)
    assert len(table) == groups * 3
    assert len(tests) == 6
    keys = ["cohort", "score", "split", "group"]
    assert len(curves.drop_duplicates(keys)) == groups
    for row in table[table["survival"].notna()].itertuples():
        same = np.logical_and.reduce([curves[key] == getattr(row, key) for key in keys])
        own = curves[same & (curves["time"] <= row.time)]
        assert own["survival"].iloc[-1] == row.survival
    for row in tests.itertuples():
        one_time = table[(table["time"] == 1) & (table["score"] == row.score) & (table["split"] == row.split)]
        assert one_time[one_time["cohort"] == row.cohort]["n"].sum() == row.n
    assert tests["p"].iloc[0] < 0.01


def test_endpoints_have_their_own_patients_times_and_scores() -> None:
    long = patients(60).assign(time=lambda t: t["time"] * 2)
    options = {"os": ENDPOINT, "dfs": endpoint(times=[2], scores={"til": {"cutoffs": []}}, unit="months")}
    found = split_endpoints(
        {"os": patients(60), "dfs": long}, {"os": {"north": 70}, "dfs": {"north": 61}}, {"north": "external"},
        {"endpoints": options, "confidence": 0.95},
    )  # fmt: skip
    keys = [(split.endpoint, split.unit, split.score, split.dropped) for split in found.splits]
    own = [("os", "years", "til", 10), ("os", "years", "til", 10), ("os", "years", "tils", 10)]
    assert keys == [*own, ("dfs", "months", "til", 1)]
    assert {name: set(own["time"]) for name, own in found.survival.groupby("endpoint")} == {
        "os": {1, 3, 10},
        "dfs": {2},
    }
    assert list(found.tests["endpoint"]) == ["os"] * 3 + ["dfs"]
    os, dfs = (found.survival.query("endpoint == @n and score == 'til' and split == 'median'") for n in ("os", "dfs"))
    one = os["survival"][os["time"] == 1].to_numpy()
    assert np.allclose(one, dfs["survival"].to_numpy())


def test_tables_read_back_as_they_were_written(tmp_path) -> None:
    """Names that look like numbers stay text."""
    rows = patients(60).rename(columns={"score.til": "score.7"})
    options = endpoint(scores={"7": {"cutoffs": [30]}})
    found = split_endpoints(
        {"1": rows}, {"1": ALL}, {"north": "external"}, {"endpoints": {"1": options}, "confidence": 0.9}
    )
    for table in (found.survival, found.curves, found.tests):
        write_table(tmp_path / "t.tsv", table)
        read = load_table(tmp_path / "t.tsv")
        assert list(read.columns) == list(table.columns)
        for name in table:
            if name.endswith("undefined_reason"):
                assert ["" if pd.isna(value) else value for value in read[name]] == list(table[name])
            elif pd.api.types.is_numeric_dtype(table[name]):
                assert np.allclose(read[name].astype(float), table[name].astype(float), rtol=0, atol=0, equal_nan=True)
            else:
                assert list(read[name]) == list(table[name])


def test_without_times_each_group_has_a_row_with_its_median() -> None:
    table = survival_table(make_splits(patients(60), "os", ENDPOINT, {"north": "external"}, ALL, 0.95), [])
    assert len(table) == 7
    assert table["survival"].isna().all()
    assert set(table["undefined_reason"]) == {"no times are configured"}
    assert table["median_survival"].notna().any()


def test_the_test_is_stratified_and_leaves_out_patients_whose_stratum_is_unknown() -> None:
    rows = patients(80)
    rows.loc[:4, "grade"] = None
    options = endpoint(strata=["grade"])
    split = split_of(make_splits(rows, "os", options, {"north": "external"}, ALL, 0.95))
    known = rows.iloc[5:]
    place = np.digitize(known["score.til"], [30, 75])
    by_hand = [known["time"].to_numpy(), known["event"].to_numpy(float), place]
    assert split.test == log_rank(*by_hand, (known["grade"] == "2").astype(int).to_numpy())
    assert split.test.statistic != log_rank(*by_hand).statistic
    assert (split.test.n, sum(len(group.time) for group in split.groups)) == (75, 80)
    assert logrank_table([split])[["strata", "n_dropped"]].to_numpy().tolist() == [["grade", 100 - 75]]


def test_patients_count_of_whom_all_scores_are_known_that_anyone_has() -> None:
    rows = pd.concat([patients(50), patients(40, 1, "south")])
    rows.loc[(rows["cohort"] == "north") & (rows.index < 8), "score.tils"] = np.nan
    rows.loc[rows["cohort"] == "south", "score.tils"] = np.nan
    splits = make_splits(rows, "os", ENDPOINT, ROLES, ALL, 0.95)
    sizes = {(s.cohort, s.score): (s.test.n, s.dropped) for s in splits if s.kind == MEDIAN}
    assert sizes == {
        ("north", "til"): (42, 58), ("north", "tils"): (42, 58), ("south", "til"): (40, 50), ("south", "tils"): (0, 90),
    }  # fmt: skip
    times = [np.sort(np.concatenate([g.time for g in split_of(splits, s, MEDIAN).groups])) for s in ("til", "tils")]
    assert np.array_equal(*times)


def test_a_cohort_without_scores_or_patients_is_blank_with_the_reason() -> None:
    rows = pd.concat([patients(30), patients(20, 1, "south").assign(**{"score.til": np.nan})])
    splits = make_splits(rows, "os", ENDPOINT, ROLES, ALL, 0.95)
    table = survival_table(splits, [3]).query("cohort == 'south' and score == 'til'")
    assert set(table["undefined_reason"]) == {"no patients"}
    assert set(table["median_undefined_reason"]) == {"no patients"}
    assert table[["survival", "ci_low", "median_survival"]].isna().all(axis=None)
    assert (table[["n", "at_risk"]] == 0).all(axis=None)
    assert list(table["group"]) == ["< 30", "30 to < 75", ">= 75", "< median", ">= median"]
    tests = logrank_table(splits).query("cohort == 'south' and score == 'til'")
    assert set(tests["undefined_reason"]) == {"fewer than two groups"}
    assert make_splits(rows[:0], "os", ENDPOINT, ROLES, ALL, 0.95)[0].test.p is None


def test_patients_who_are_all_censored_have_survival_one_without_an_interval() -> None:
    rows = patients(30).assign(event=0, time=np.linspace(4, 9, 30))
    splits = make_splits(rows, "os", ENDPOINT, {"north": "external"}, ALL, 0.95)
    table = survival_table(splits, [3])
    assert (table["survival"] == 1).all()
    assert table[["ci_low", "ci_high", "median_survival"]].isna().all(axis=None)
    assert set(table["undefined_reason"]) == {"no interval: no event by then"}
    assert set(table["median_undefined_reason"]) == {"the median is not reached"}
    assert {split.test.undefined_reason for split in splits} == {"no events"}


def test_one_patient_has_a_curve_and_no_test() -> None:
    rows = patients(1).assign(event=1, time=2.0)
    splits = make_splits(rows, "os", ENDPOINT, {"north": "external"}, ALL, 0.95)
    table = survival_table(splits, [1, 2, 3]).query("n == 1 and split == 'median' and score == 'til'")
    assert list(table["survival"].fillna(-1)) == [1, 0, -1]
    reasons = ["no interval: no event by then", "no interval: nobody is left", "beyond the last follow-up at 2"]
    assert list(table["undefined_reason"]) == reasons
    assert set(table["median_survival"]) == {2}
    assert {split.test.undefined_reason for split in splits} == {"fewer than two groups"}


def test_the_median_is_the_first_time_by_which_half_had_the_event() -> None:
    found = median_survival(group_of([(1, True), (2, True), (3, True), (4, True)]))
    assert found["median_survival"] == 2
    # As a product in floating point this is a little above 0.5.
    assert median_survival(group_of([(t, True) for t in range(1, 61)]))["median_survival"] == 30
    reached = median_survival(group_of([(1, True), (2, False), (3, False)]))
    assert reached["median_survival"] is None
    assert reached["median_undefined_reason"] == "the median is not reached"


def test_a_wider_interval_holds_a_narrower_one() -> None:
    rows = patients(50)
    wide, narrow = (fit_curve(rows["time"].to_numpy(), rows["event"].to_numpy(), c).dropna() for c in (0.99, 0.9))
    assert (wide["ci_low"] < narrow["ci_low"]).all()
    assert (wide["ci_high"] > narrow["ci_high"]).all()


def test_groups_that_are_never_at_risk_together_have_no_test() -> None:
    time, event = np.array([1.0, 2, 3, 4]), np.ones(4)
    apart = log_rank(time, event, np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]))
    assert apart.p is None
    assert apart.undefined_reason == "the groups are not at risk together when events happen"
    at_once = log_rank(np.ones(4), event, np.array([0, 0, 1, 1]))
    assert at_once.undefined_reason == "the groups are not at risk together when events happen"


def test_a_group_that_leaves_before_the_first_event_does_not_change_the_test() -> None:
    rows = patients(40).assign(time=lambda t: t["time"] + 1)
    time, event, group = rows["time"].to_numpy(), rows["event"].to_numpy(float), (rows["score.til"] > 50).to_numpy(int)
    alone = log_rank(time, event, group)
    more = log_rank(np.r_[time, 0.5, 0.5], np.r_[event, 0, 0], np.r_[group, 2, 2])
    assert (more.statistic, more.df, more.groups, more.trend_p) == (alone.statistic, 1, 2, None)
    assert more.n == alone.n + 2


@given(st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_the_test_does_not_depend_on_the_order_or_the_names_of_groups(seed) -> None:
    rows = patients(40, seed)
    time, event = rows["time"].to_numpy(), rows["event"].to_numpy(float)
    group = np.digitize(rows["score.til"], [30, 75])
    order = np.random.default_rng(seed).permutation(40)
    plain, turned = log_rank(time, event, group), log_rank(time[order], event[order], 2 - group[order])
    assert turned.statistic == pytest.approx(plain.statistic, rel=1e-9)
    assert turned.trend_statistic == pytest.approx(plain.trend_statistic, rel=1e-9)


def test_a_trend_is_found_where_the_order_of_groups_is_that_of_survival() -> None:
    rows = patients(90)
    time, event = rows["time"].to_numpy(), rows["event"].to_numpy(float)
    group = np.digitize(rows["score.til"], [30, 75])
    shuffled = np.array([0, 2, 1])[group]
    ordered, other = log_rank(time, event, group), log_rank(time, event, shuffled)
    assert ordered.statistic == pytest.approx(other.statistic)
    assert ordered.trend_p is not None
    assert other.trend_p is not None
    assert ordered.trend_p < other.trend_p
    assert ordered.trend_p < 0.001


def test_small_p_values_are_not_zero() -> None:
    time = np.r_[np.linspace(1, 2, 200), np.linspace(50, 60, 200)]
    found = log_rank(time, np.ones(400), np.repeat([0, 1], 200))
    assert found.p is not None
    assert 0 < found.p < 1e-30
