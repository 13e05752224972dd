"""A model in groups: their metrics are those of their slides, and true differences are found, others seldom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.stats import kstest
from statsmodels.formula.api import logit as logistic_model
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from tests.validation.made_predictions import MULTICLASS, SURVIVAL, ids, of_classes, of_targets, of_times, several
from tests.validation.made_predictions import settings as made_settings

from slidestudy.grouping import UNKNOWN
from slidestudy.tables import load_table, write_table
from slidestudy.validation.metrics import COLUMNS, cohort_metrics
from slidestudy.validation.paired_differences import holm
from slidestudy.validation.subgroup_figure import draw_subgroups
from slidestudy.validation.subgroup_tests import TESTS, wald
from slidestudy.validation.subgroups import SUBGROUPS, complete_groups, measure_subgroups

SITE = [{"column": "site", "edges": [], "smallest": 5}]
REGRESSION = made_settings("regression", cutoffs=[0.5], interval="percentile", subgroups=SITE)
CLASSIFICATION = made_settings("classification", interval="percentile", subgroups=SITE)


def regression(noises: list[float], seed: int = 0, per_patient: int = 1, n: int = 30) -> pd.DataFrame:
    """Slides of as many groups (column `site`: a, b, ...) as there are noises, n each."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=n * len(noises))
    predicted = truth + rng.normal(size=len(truth)) * np.repeat(noises, n)
    site = np.repeat([chr(97 + i) for i in range(len(noises))], n)
    return ids(len(truth), per_patient).assign(prediction=predicted, target=truth, site=site)


def classification(strengths: list[float], seed: int = 0, n: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    truth = (rng.uniform(size=n * len(strengths)) < 0.5).astype(float)
    score = (truth - 0.5) * np.repeat(strengths, n) + rng.normal(size=len(truth))
    site = np.repeat([chr(97 + i) for i in range(len(strengths))], n)
    return ids(len(truth)).assign(prediction=1 / (1 + np.exp(-score)), target=truth, threshold=0.5, site=site)


def groups_of(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The table of groups that the workflow makes of some columns."""
    named = [table[["slide_id"]].assign(cohort="south", column=c, group=table[c].astype(str)) for c in columns]
    return pd.concat(named, ignore_index=True)


def measure(table: pd.DataFrame, options: dict[str, Any], *columns: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The groups of one external cohort."""
    columns = columns or ("site",)
    described = {entry["column"]: entry for entry in options["subgroups"]}
    options = {**options, "subgroups": [described.get(c, {**SITE[0], "column": c}) for c in columns]}
    return measure_subgroups({"south": table}, {"south": "external"}, groups_of(table, *columns), options)


def only(table: pd.DataFrame, **wanted: Any) -> dict[str, Any]:
    """The one row with some values; without a threshold unless one is asked for."""
    keep = np.logical_and.reduce([table[name] == value for name, value in wanted.items()])
    if "threshold" not in wanted:
        keep &= table["threshold"].isna()
    (found,) = table[keep].to_dict("records")
    return {str(key): value for key, value in found.items()}


def test_a_groups_metrics_are_those_of_its_slides_alone():
    table = regression([0.3, 1.0], per_patient=2)
    found, tests = measure(table, REGRESSION)
    assert (list(found), list(tests)) == (SUBGROUPS, TESTS)
    own = found[(found["group"] == "b") & (found["metric"] != "mean_difference")][COLUMNS].reset_index(drop=True)
    expected = cohort_metrics(table[table["site"] == "b"], REGRESSION, "south", "external")
    pd.testing.assert_frame_equal(own, expected, check_dtype=False)
    part = table[table["site"] == "b"]
    bias = only(found, group="b", metric="mean_difference", level="slide")
    assert bias["value"] == pytest.approx((part["prediction"] - part["target"]).mean())
    whole = only(found, group="all", level="slide", column="cohort")
    assert whole["value"] == pytest.approx(np.corrcoef(table["prediction"], table["target"])[0, 1])


def test_a_group_that_is_truly_worse_is_found():
    _, tests = measure(regression([0.3, 0.3, 2.0], n=60), REGRESSION)
    for level in ("slide", "patient"):
        found = only(tests, level=level, test="wald", metric="pearson")
        assert found["p"] < 0.001
        assert found["lowest"] == "c"
        assert found["ci_low"] > 0
        assert (found["df"], found["groups"], found["n"]) == (2, 3, 180)
    at_cutoff = only(tests, level="slide", test="wald", metric="auroc", threshold=0.5)
    assert at_cutoff["p"] < 0.01


def test_a_group_that_is_predicted_too_high_is_found_though_it_is_ranked_as_well():
    table = regression([0.5, 0.5], n=60)
    table.loc[table["site"] == "b", "prediction"] += 0.6
    _, tests = measure(table, REGRESSION)
    bias = only(tests, level="slide", test="wald", metric="mean_difference")
    assert bias["p"] < 0.001
    assert (bias["highest"], bias["lowest"]) == ("b", "a")
    assert bias["ci_low"] < bias["largest_difference"] < bias["ci_high"]
    assert only(tests, level="slide", test="wald", metric="pearson")["p"] > 0.05


def test_p_values_are_about_uniform_where_no_group_differs():
    found = []
    for seed in range(40):
        _, tests = measure(regression([0.7, 0.7, 0.7], seed=seed, n=40), {**REGRESSION, "cutoffs": []})
        rows = tests[(tests["level"] == "patient") & tests["metric"].isin(["pearson", "mean_difference", "slope"])]
        found.append(rows.set_index(["test", "metric"])["p"])
    for name, p in pd.concat(found, axis=1).iterrows():
        assert kstest(p, "uniform").pvalue > 0.01, name
        assert (p < 0.05).mean() <= 0.15, name


@hypothesis_settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-2, 2), st.floats(0.1, 2)), min_size=2, max_size=6))
def test_of_different_patients_the_test_is_cochrans_q(groups):
    effects, errors = np.array(groups).T
    samples = effects[:, None] + errors[:, None] * np.array([-1.0, 1.0, 0.0]) * [[1.0]]
    variances = samples.var(axis=1, ddof=1)
    statistic, freedom, p = wald(effects, samples, shared=False) or (None, None, None)
    # Cochran (1954, Biometrics 10:101) by hand: squared distances from the weighted mean.
    expected = (((effects - np.average(effects, weights=1 / variances)) ** 2) / variances).sum()
    assert statistic == pytest.approx(float(expected), abs=1e-9)
    assert freedom == len(groups) - 1
    assert 0 <= p <= 1


def test_patients_of_several_groups_are_tested_with_their_covariance():
    rng = np.random.default_rng(3)
    # A patient's two slides, one of each site, are predicted almost alike.
    shared = rng.normal(size=60).repeat(2)
    truth = rng.normal(size=60).repeat(2)
    table = ids(120, per_patient=2).assign(target=truth, site=np.tile(["a", "b"], 60))
    table["prediction"] = truth + shared + np.tile([0.0, 0.25], 60) + rng.normal(0, 0.3, 120)
    _, paired = measure(table, REGRESSION)
    alone = table.assign(patient_id=table["slide_id"])
    _, unpaired = measure(alone, REGRESSION)
    ps = [only(t, level="slide", test="wald", metric="mean_difference")["p"] for t in (paired, unpaired)]
    assert ps[0] < 0.01
    assert ps[1] > 0.1
    assert only(paired, level="slide", test="wald", metric="pearson")["n_patients"] == 60
    assert "patients stand in several rows" in only(paired, level="patient", test="f")["undefined_reason"]


def test_the_interaction_of_a_regression_is_the_f_test_of_statsmodels():
    table = regression([0.4, 0.4, 0.4], seed=5)
    table.loc[table["site"] == "c", "prediction"] *= 3
    found = only(measure(table, REGRESSION)[1], level="patient", test="f")
    fits = [ols(f"target ~ C(site) {sign} prediction", table).fit() for sign in ("+", "*")]
    expected = anova_lm(*fits).iloc[1]
    assert (found["statistic"], found["p"]) == pytest.approx((expected["F"], expected["Pr(>F)"]))
    assert found["df"] == expected["df_diff"] == 2
    assert found["p"] < 0.001


def test_the_interaction_of_a_classification_is_a_likelihood_ratio_test():
    table = classification([2.0, 0.2], seed=4)
    found = only(measure(table, CLASSIFICATION)[1], level="patient", test="likelihood_ratio")
    table["x"] = np.log(table["prediction"] / (1 - table["prediction"]))
    fits = [logistic_model(f"target ~ C(site) {sign} x", table).fit(disp=0) for sign in ("+", "*")]
    assert found["statistic"] == pytest.approx(2 * (fits[1].llf - fits[0].llf), rel=1e-6)
    assert found["df"] == 1
    assert only(measure(table, CLASSIFICATION)[1], level="slide", metric="auroc")["p"] < 0.05


def test_classes_that_are_separated_in_a_group_have_no_interaction():
    table = classification([0.5, 0.5])
    table.loc[table["site"] == "b", "prediction"] = 0.1 + 0.8 * table["target"] + 0.001 * np.arange(80)
    _, tests = measure(table, CLASSIFICATION)
    assert "separate the classes" in only(tests, level="patient", test="likelihood_ratio")["undefined_reason"]
    # Of an AUROC of exactly 1 there is no place on the logit scale: one group is left.
    assert "without b" in only(tests, level="slide", metric="auroc")["undefined_reason"]


def test_small_groups_are_listed_with_the_reason_and_tested_with_none():
    table = regression([0.5, 0.5, 0.5])
    table.loc[table.index[60:64], "site"], table.loc[table.index[64:], "site"] = "few", UNKNOWN
    found, tests = measure(table, REGRESSION)
    few = only(found, group="few", level="slide")
    assert (few["metric"], few["n"], few["undefined_reason"]) == ("pearson", 4, "fewer than 5 patients")
    assert pd.isna(few["value"])
    # Slides without a value are measured, but are no group that others could be compared with.
    assert only(found, group=UNKNOWN, level="slide", metric="pearson")["n"] == 26
    tested = only(tests, level="slide", test="wald", metric="pearson")
    assert (tested["groups"], tested["n"]) == (2, 60)


def test_one_group_cannot_differ_and_says_so():
    _, tests = measure(regression([0.5]), REGRESSION)
    assert set(tests["undefined_reason"]) == {"fewer than two groups of 5 patients or more"}
    assert tests[["statistic", "p", "p_holm", "largest_difference"]].isna().all(axis=None)


def test_slides_without_a_label_or_a_prediction_make_no_row():
    nothing = regression([0.5])[:0]
    found, tests = measure(nothing, REGRESSION)
    assert set(found["group"]) == {"all"}
    assert found["value"].isna().all()
    assert tests["p"].isna().all()


def test_p_values_are_corrected_over_the_columns():
    table = regression([0.4, 0.9]).assign(half=np.tile(["x", "y"], 30), third=np.tile(["u", "v", "w"], 20))
    _, tests = measure(table, REGRESSION, "site", "half", "third")
    for _, part in tests.groupby(["level", "test", "metric", "threshold"], dropna=False):
        assert part["p_holm"].astype(float).tolist() == pytest.approx(holm(part["p"].tolist()))
        assert len(part) == 3


def test_edges_give_the_order_of_the_groups():
    table = regression([0.5, 0.5, 0.5])
    table["age"] = table["site"].map({"a": ">= 65", "b": "< 50", "c": "50 to < 65"})
    found, _ = measure(table, {**REGRESSION, "subgroups": [{"column": "age", "edges": [50, 65], "smallest": 5}]}, "age")
    assert list(dict.fromkeys(found["group"])) == ["all", "< 50", "50 to < 65", ">= 65"]


def test_groups_of_the_slides_files_are_added_where_no_table_has_them():
    table = regression([0.5, 0.5])
    options = {"subgroups": [*SITE, {**SITE[0], "column": "scanner"}]}
    records = [{"slide_id": "s000", "cohort": "south", "scanner": "A1"}, {"slide_id": "s001", "cohort": "south"}]
    found = complete_groups(groups_of(table, "site"), records, options)
    added = found[found["column"] == "scanner"].set_index("slide_id")["group"]
    assert added.to_dict() == {"s000": "A1", "s001": UNKNOWN}
    assert len(complete_groups(found, records, options)) == len(found)


TASKS = {
    "multiclass": ({**MULTICLASS, "subgroups": SITE}, of_classes(90, 1)),
    "multi-regression": ({**several(["a", "b"]), "subgroups": SITE}, of_targets(90, ["a", "b"], 1)),
    "survival-cox": ({**SURVIVAL, "cutoffs": [20], "subgroups": SITE}, of_times(90, 1)),
}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_measured_and_tested(task: str, tmp_path: Path):
    options, table = TASKS[task]
    found, tests = measure(table.assign(site=np.tile(["a", "b", "c"], 30)), options)
    assert set(found["group"]) == {"all", "a", "b", "c"}
    main = tests[(tests["level"] == "slide") & tests["threshold"].isna()]
    assert main["p"].between(0, 1).all()
    draw_subgroups(found, tests, options, tmp_path / "a.svg")
    assert "site" in (tmp_path / "a.svg").read_text()


def test_tables_come_back_as_they_were_written(tmp_path: Path):
    table = regression([0.5, 0.5])
    table["site"] = table["site"].map({"a": "1", "b": "NA"})
    found, tests = measure(table, REGRESSION)
    write_table(tmp_path / "a.tsv", found)
    write_table(tmp_path / "b.tsv", tests)
    assert load_table(tmp_path / "a.tsv")["group"].tolist() == found["group"].tolist()
    assert set(load_table(tmp_path / "b.tsv")["highest"]) <= {"1", "NA", ""}


def test_the_figure_shows_every_group_its_size_and_the_test_and_is_the_same_each_time(tmp_path: Path):
    table = regression([0.3, 0.3, 2.0], n=60)
    table.loc[table.index[:3], "site"] = "few & <small>"
    found, tests = measure(table, REGRESSION)
    paths = [tmp_path / name for name in ("a.svg", "b.svg", "a.png", "b.png")]
    draw_subgroups(found, tests, REGRESSION, paths[0], paths[2])
    draw_subgroups(found, tests, REGRESSION, paths[1], paths[3])
    text = paths[0].read_text()
    shown = ("south (external)", "a  (57, 57)", "c  (60, 60)", "p &lt; 0.001", "fewer than 5 patients", "all  (180")
    for words in shown:
        assert words in text, words
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[2].read_bytes() == paths[3].read_bytes()


def test_without_slides_the_figure_says_so(tmp_path: Path):
    draw_subgroups(pd.DataFrame(columns=SUBGROUPS), pd.DataFrame(columns=TESTS), REGRESSION, tmp_path / "a.svg")
    assert "no slide was predicted" in (tmp_path / "a.svg").read_text()
