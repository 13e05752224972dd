"""Cox models of scores: units, patients, warnings, and what is said where nothing can be estimated."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.validation.endpoints import analyse, endpoint, row, simulated

from slidestudy.validation.cox import COX_COLUMNS
from slidestudy.validation.cox_fits import Outcome, event_parts, fit_cox, score_residuals
from slidestudy.validation.cox_tests import TEST_COLUMNS

BOTH = {"til": {}, "tils": {}}
ADJUSTED = {"age": {}, "grade": {"reference": "1"}}
ALONE = {"analysis": "univariable", "term": "til"}


@pytest.fixture(scope="module")
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    return analyse(simulated(400, 1), endpoint(BOTH, covariates=ADJUSTED))


@settings(max_examples=15, deadline=None)
@given(per=st.floats(0.01, 100), seed=st.integers(0, 50))
def test_a_hazard_ratio_per_some_amount_is_the_power_of_that_per_one(per: float, seed: int) -> None:
    rows = simulated(60, seed)
    one, many = (
        row(analyse(rows, endpoint({"til": {"per": amount}}), bootstrap=2)[0], term="til") for amount in (1, per)
    )
    for name in ("hazard_ratio", "ci_low", "ci_high"):
        assert np.log(many[name]) == pytest.approx(per * np.log(one[name]), rel=1e-6, abs=1e-9)
    assert many["p"] == pytest.approx(one["p"], rel=1e-6)


def test_per_sd_is_the_standard_deviation_of_the_patients_and_says_so() -> None:
    rows = simulated(80, 2)
    found = row(analyse(rows, endpoint({"til": {}}))[0], term="til")
    assert found["scale"] == "sd"
    assert found["per"] == pytest.approx(rows["score.til"].std(ddof=1))
    one = row(analyse(rows, endpoint({"til": {"per": 1}}))[0], term="til")
    assert found["coef"] == pytest.approx(one["coef"] * found["per"])


def test_tables_have_each_model_of_each_score(tables) -> None:
    cox, tests = tables
    assert list(cox) == COX_COLUMNS
    assert list(tests) == TEST_COLUMNS
    found = cox.groupby(["score", "analysis"], sort=False)["term"].agg(list).to_dict()
    assert found == {
        ("til", "univariable"): ["til"],
        ("tils", "univariable"): ["tils"],
        ("", "covariates only"): ["age", "grade", "grade"],
        ("til", "multivariable"): ["til", "age", "grade", "grade"],
        ("tils", "multivariable"): ["tils", "age", "grade", "grade"],
    }
    assert set(cox["role"]) == {"external"}
    assert cox["undefined_reason"].eq("").all()


def test_the_true_coefficients_are_within_their_intervals(tables) -> None:
    rows = simulated(1500, 7)
    cox, _ = analyse(rows, endpoint({"til": {"per": 1}}, covariates=ADJUSTED), bootstrap=2)
    for term, level, truth in (("til", "", 0.7), ("age", "", 0.5), ("grade", "3", 0.5), ("grade", "2", 0.0)):
        found = row(cox, analysis="multivariable", term=term, level=level)
        assert abs(found["coef"] - truth) < 3 * found["se"]
        assert found["se"] < 0.15


def test_all_analyses_are_of_the_patients_with_both_scores_and_all_covariates() -> None:
    rows = simulated(100, 3)
    rows.loc[:4, "score.til"] = np.nan
    rows.loc[5:7, "score.tils"] = np.nan
    rows.loc[8:9, "age"] = np.nan
    cox, tests = analyse(rows, endpoint(BOTH, covariates={"age": {}}), n_patients=110)
    assert set(cox["n"]) == set(tests["n"]) == {90}
    assert set(cox["n_dropped"]) == {20}
    whole, _ = analyse(rows[10:], endpoint(BOTH, covariates={"age": {}}))
    assert cox["coef"].tolist() == pytest.approx(whole["coef"].tolist())


@pytest.mark.parametrize("missing", ["complete-case", "imputation"])
def test_what_nobody_of_a_cohort_has_is_left_out_and_said_and_leaves_the_rest_alone(missing: str) -> None:
    rows = simulated(100, 3)
    options = {"covariates": {"age": {}, "grade": {"reference": "1"}}, "missing": missing}
    blank = rows.assign(**{"score.tils": np.nan, "grade": None})
    cox, tests = analyse(blank, endpoint(BOTH, **options))
    alone, alone_tests = analyse(rows, endpoint({"til": {}}, covariates={"age": {}}, missing=missing))
    kept = {"analysis": "multivariable", "score": "til", "term": "til"}
    assert row(cox, **kept)["coef"] == pytest.approx(row(alone, **kept)["coef"])
    assert row(cox, **kept)["n"] == 100
    assert "grade left out: no level in this cohort" in row(cox, **kept)["warning"]
    unknown = cox[cox["score"] == "tils"]
    assert unknown["coef"].isna().all()
    assert unknown["undefined_reason"].ne("").all()
    found, expected = (
        row(table, test="c_index", analysis="univariable", score="til")["statistic"] for table in (tests, alone_tests)
    )
    assert found == pytest.approx(expected)
    nothing = tests[tests["score"] == "tils"]
    assert nothing[["statistic", "p", "ci_low"]].isna().all(axis=None)
    assert nothing["undefined_reason"].ne("").all()


def test_the_likelihood_ratio_tests_what_a_score_adds_to_the_covariates(tables) -> None:
    rows = simulated(400, 1)
    outcome = Outcome(rows["time"].to_numpy(), rows["event"].to_numpy(), np.zeros(len(rows), int))
    covariates = np.column_stack([rows["age"], rows["grade"] == "2", rows["grade"] == "3"]).astype(float)
    without = fit_cox(covariates, outcome)
    both = fit_cox(np.column_stack([rows["score.til"], covariates]), outcome)
    found = row(tables[1], test="likelihood_ratio", analysis="multivariable", score="til")
    assert found["statistic"] == pytest.approx(2 * (both.log_likelihood - without.log_likelihood))
    alone = row(tables[1], test="likelihood_ratio", analysis="univariable", score="til")
    assert alone["statistic"] > found["statistic"] > 0


def test_without_any_useful_covariate_the_score_is_added_to_the_empty_model() -> None:
    rows = simulated(60, 3).assign(age=50.0)
    cox, tests = analyse(rows, endpoint({"til": {}}, covariates={"age": {}}))
    assert row(cox, analysis="multivariable", term="age")["undefined_reason"] == "one value in this cohort"
    assert row(cox, analysis="multivariable", term="til")["warning"] == "age left out: one value in this cohort"
    alone, both = (row(tests, test="likelihood_ratio", analysis=name) for name in ("univariable", "multivariable"))
    assert both["statistic"] == pytest.approx(alone["statistic"])
    difference = row(tests, test="c_index_difference")
    assert difference["undefined_reason"]
    assert np.isnan(difference["statistic"])


def test_a_score_that_goes_with_long_survival_has_a_c_below_a_half_and_its_test_says_that_it_is_not_chance() -> None:
    rows = simulated(200, 4).assign(**{"score.noise": np.random.default_rng(0).normal(size=200)})
    rows["score.til"] *= -1
    _, tests = analyse(rows, endpoint({"til": {}, "noise": {}}))
    til, noise = (row(tests, test="c_index", score=name) for name in ("til", "noise"))
    assert til["ci_low"] < til["statistic"] < til["ci_high"] < 0.5
    assert til["p"] == pytest.approx(2 / 101)
    assert noise["ci_low"] < 0.5 < noise["ci_high"]
    assert noise["p"] > 0.05


def test_the_c_of_a_model_has_an_interval_and_the_gain_is_their_difference(tables) -> None:
    tests = tables[1]
    both = row(tests, test="c_index", analysis="multivariable", score="til")
    covariates = row(tests, test="c_index", analysis="covariates only")
    gain = row(tests, test="c_index_difference", score="til")
    assert gain["statistic"] == pytest.approx(both["statistic"] - covariates["statistic"])
    assert gain["ci_low"] < gain["statistic"] < gain["ci_high"]
    assert np.isnan(gain["p"])


def test_few_events_are_a_warning() -> None:
    rows = simulated(400, 1)
    rows["event"] = (np.arange(400) < 29).astype(float)
    cox, _ = analyse(rows, endpoint({"til": {}}, covariates={"age": {}, "grade": {"reference": "1"}}), bootstrap=2)
    said = cox.groupby("analysis")["warning"].agg(set).to_dict()
    few = {"fewer than 10 events per coefficient"}
    assert said == {"univariable": {""}, "covariates only": few, "multivariable": few}


@pytest.mark.parametrize("events", [0, 1])
def test_without_two_events_nothing_is_estimated(events: int) -> None:
    rows = simulated(30, 1)
    rows["event"] = (np.arange(30) < events).astype(float)
    cox, tests = analyse(rows, endpoint({"til": {}}, covariates={"age": {}}))
    assert set(cox["undefined_reason"]) == {"fewer than two events"}
    assert cox[["coef", "hazard_ratio", "ci_low", "p"]].isna().all(axis=None)
    assert tests.loc[tests["test"] != "c_index", "statistic"].isna().all()
    assert tests.loc[tests["statistic"].isna(), "undefined_reason"].ne("").all()


def test_a_cohort_without_patients_has_rows_that_say_so() -> None:
    cox, tests = analyse(simulated(5, 1)[:0], endpoint({"til": {}}, covariates={"age": {}}), n_patients=4)
    assert set(cox["n"]) == {0}
    assert set(cox["n_dropped"]) == {4}
    assert cox["undefined_reason"].ne("").all()
    assert tests["undefined_reason"].ne("").all()


def test_a_constant_score_has_no_hazard_ratio_and_leaves_the_covariates_alone() -> None:
    cox, tests = analyse(simulated(60, 1).assign(**{"score.til": 3.0}), endpoint({"til": {}}, covariates={"age": {}}))
    assert row(cox, **ALONE)["undefined_reason"] == "one value in this cohort"
    assert np.isfinite(row(cox, analysis="covariates only", term="age")["coef"])
    multivariable = cox[cox["analysis"] == "multivariable"]
    assert multivariable["coef"].isna().all()
    assert row(tests, test="c_index", analysis="univariable")["statistic"] == 0.5
    assert row(tests, test="likelihood_ratio", analysis="univariable")["undefined_reason"]


SEPARATED = {
    "by a level": ([0.0] * 20 + [1.0] * 20, [*range(21, 41), *range(1, 21)], [0.0] * 20 + [1.0] * 20),
    "in order": ([-1.0 * i for i in range(40)], list(range(1, 41)), [1.0] * 40),
}


@pytest.mark.parametrize("how", SEPARATED)
def test_separated_events_have_no_finite_hazard_ratio(how: str) -> None:
    score, time, event = SEPARATED[how]
    cox, tests = analyse(pd.DataFrame({"time": time, "event": event, "score.til": score}), endpoint({"til": {}}))
    found = row(cox, term="til")
    assert np.isnan(found["hazard_ratio"])
    assert "separated" in found["undefined_reason"]
    assert np.isnan(row(tests, test="proportional_hazards")["p"])


def test_terms_that_determine_each_other_are_refused() -> None:
    rows = simulated(60, 1)
    rows["age"] = 2 * rows["score.til"]
    cox, _ = analyse(rows, endpoint({"til": {}}, covariates={"age": {}}))
    reasons = set(cox.loc[cox["analysis"] == "multivariable", "undefined_reason"])
    assert all("determine each other" in why or "finite" in why for why in reasons)


def test_a_cohort_without_the_reference_level_is_compared_with_its_commonest_one() -> None:
    rows = simulated(90, 1)
    rows["grade"] = np.where(np.arange(90) < 60, "2", "3")
    cox, _ = analyse(rows, endpoint({"til": {}}, covariates={"grade": {"reference": "1"}}))
    found = row(cox, analysis="covariates only")
    assert (found["level"], found["reference"]) == ("3", "2")
    assert found["warning"] == "no patient has the reference level 1 of grade: compared with 2"


def test_clusters_make_robust_errors_and_walds_test_and_too_few_of_them_none() -> None:
    rows = simulated(90, 1).assign(center=[f"c{i % 30}" for i in range(90)])
    cox, tests = analyse(rows, endpoint({"til": {}}, cluster="center"))
    plain, _ = analyse(rows, endpoint({"til": {}}))
    robust = row(cox, term="til")
    assert robust["standard_errors"] == "cluster-robust"
    assert robust["coef"] == row(plain, term="til")["coef"]
    assert robust["se"] != row(plain, term="til")["se"]
    assert row(tests, test="wald")["statistic"] == pytest.approx(robust["z"] ** 2)
    assert tests["test"].ne("likelihood_ratio").all()
    one, _ = analyse(rows.assign(center="c1"), endpoint({"til": {}}, cluster="center"))
    assert row(one, term="til")["undefined_reason"] == "not more clusters than terms"


def test_clusters_of_single_patients_are_the_robust_errors_of_score_residuals() -> None:
    rows = simulated(50, 5)
    outcome = Outcome(rows["time"].to_numpy().round(1), rows["event"].to_numpy(), np.arange(50) % 2, np.arange(50))
    matrix = rows[["score.til", "age"]].to_numpy()
    fit = fit_cox(matrix, outcome)
    residuals = score_residuals(matrix, outcome, fit.coef)
    assert residuals.sum(0) == pytest.approx([0, 0], abs=1e-6)
    information = sum(part.information for part in event_parts(matrix, outcome, fit.coef))
    bread = np.linalg.inv(information)
    assert fit.covariance == pytest.approx(bread @ residuals.T @ residuals @ bread)


@pytest.mark.parametrize("coef", [[0.0, 0.0], [0.4, -0.3]])
def test_score_and_information_are_the_derivatives_of_the_likelihood(coef: list[float]) -> None:
    rows = simulated(40, 6)
    outcome = Outcome(rows["time"].to_numpy().round(1), rows["event"].to_numpy(), np.arange(40) % 2)
    matrix, at, step = rows[["score.til", "age"]].to_numpy(), np.array(coef), 1e-4

    def likelihood(where: np.ndarray) -> float:
        return sum(part.log_likelihood for part in event_parts(matrix, outcome, where))

    def score(where: np.ndarray) -> np.ndarray:
        return sum(part.score for part in event_parts(matrix, outcome, where))

    ways = np.eye(2) * step
    slopes = [(likelihood(at + way) - likelihood(at - way)) / (2 * step) for way in ways]
    bends = [(score(at + way) - score(at - way)) / (2 * step) for way in ways]
    assert score(at) == pytest.approx(slopes, rel=1e-5)
    information = sum(part.information for part in event_parts(matrix, outcome, at))
    assert -np.array(bends) == pytest.approx(information, rel=1e-5)


def test_the_order_of_the_patients_changes_nothing() -> None:
    rows = simulated(60, 1).assign(center=[f"c{i % 25}" for i in range(60)], patient_id=[f"p{i:02}" for i in range(60)])
    rows["age"] = rows["age"].where(np.arange(60) % 7 > 0)
    options = endpoint(BOTH, covariates=ADJUSTED, missing="imputation", cluster="center")
    first, second = analyse(rows, options), analyse(rows.sample(frac=1, random_state=1), options)
    for one, other in zip(first, second, strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
