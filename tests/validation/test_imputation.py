"""Imputed covariates: draws of what is known, the true coefficient, and Rubin's rules."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tests.validation.endpoints import analyse, endpoint, row, simulated

from slidestudy.validation.imputation import impute, pool, pool_chi_squares

COVARIATES = {"age": {}, "grade": {"reference": "1"}}


def with_blanks(rows: pd.DataFrame, share: float = 0.4, seed: int = 0) -> pd.DataFrame:
    """Rows that lack age or grade completely at random."""
    rng = np.random.default_rng(seed)
    return rows.assign(**{name: rows[name].where(rng.uniform(size=len(rows)) > share) for name in ("age", "grade")})


@pytest.fixture(scope="module")
def blank() -> pd.DataFrame:
    return with_blanks(simulated(300, 1))


@pytest.fixture(scope="module")
def completed(blank: pd.DataFrame) -> list[pd.DataFrame]:
    return impute(blank, ["age", "grade"], ["score.til"], 4, seed=2)


def test_what_is_known_stays_and_what_is_blank_is_drawn_from_what_is_known(blank, completed) -> None:
    assert len(completed) == 4
    for rows in completed:
        assert rows[["age", "grade"]].notna().all(axis=None)
        for name in ("age", "grade"):
            known = blank[name].notna()
            assert (rows.loc[known, name] == blank.loc[known, name]).all()
            assert set(rows[name]) == set(blank.loc[known, name])
        others = [name for name in rows if name not in ("age", "grade")]
        pd.testing.assert_frame_equal(rows[others], blank[others])


def test_data_sets_differ_and_come_again_with_the_seed(blank, completed) -> None:
    assert any((completed[0][name] != completed[1][name]).any() for name in ("age", "grade"))
    again = impute(blank, ["age", "grade"], ["score.til"], 4, seed=2)
    for one, other in zip(completed, again, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_imputed_values_go_with_the_score_as_the_true_ones_do(blank, completed) -> None:
    missing = blank["age"].isna()
    found = [np.corrcoef(rows.loc[missing, "age"], rows.loc[missing, "score.til"])[0, 1] for rows in completed]
    assert np.mean(found) == pytest.approx(0.6, abs=0.15)


def test_nothing_blank_is_nothing_imputed() -> None:
    rows = simulated(30, 1)
    assert impute(rows, ["age", "grade"], ["score.til"], 4, seed=2)[0] is rows
    cox, tests = analyse(rows, endpoint({"til": {}}, covariates=COVARIATES, missing="imputation"), bootstrap=2)
    plain, _ = analyse(rows, endpoint({"til": {}}, covariates=COVARIATES), bootstrap=2)
    assert cox["coef"].tolist() == plain["coef"].tolist()
    assert set(cox.loc[cox["analysis"] == "multivariable", "imputations"]) == {0}
    assert "wald" not in set(tests["test"])


def test_blanks_at_random_leave_the_true_coefficients_and_cost_less_than_whole_patients() -> None:
    rows = with_blanks(simulated(600, 5), share=0.35)
    imputing = endpoint({"til": {"per": 1}}, covariates=COVARIATES, missing="imputation", imputations=10)
    cox, tests = analyse(rows, imputing, bootstrap=2)
    whole, _ = analyse(rows, endpoint({"til": {"per": 1}}, covariates=COVARIATES), bootstrap=2)
    for term, level, truth in (("til", "", 0.7), ("age", "", 0.5), ("grade", "3", 0.5)):
        found = row(cox, analysis="multivariable", term=term, level=level)
        assert abs(found["coef"] - truth) < 2.5 * found["se"]
        assert found["n"] == 600
        assert found["imputations"] == 10
    til, complete = (row(table, analysis="multivariable", term="til") for table in (cox, whole))
    assert complete["n"] < 300
    assert til["se"] < complete["se"]
    assert row(tests, test="wald", analysis="multivariable")["p"] == pytest.approx(til["p"])


def test_scores_are_never_imputed() -> None:
    rows = with_blanks(simulated(80, 1))
    rows.loc[:9, "score.til"] = np.nan
    cox, _ = analyse(rows, endpoint({"til": {}}, covariates=COVARIATES, missing="imputation"), bootstrap=2)
    assert set(cox["n"]) == {70}
    assert set(cox["n_dropped"]) == {10}


def test_a_covariate_of_which_nothing_is_known_is_left_out() -> None:
    rows = simulated(60, 1)
    rows["age"] = np.nan
    rows.loc[:5, "grade"] = None
    cox, _ = analyse(rows, endpoint({"til": {}}, covariates=COVARIATES, missing="imputation"), bootstrap=2)
    assert row(cox, analysis="multivariable", term="age")["undefined_reason"] == "no value in this cohort"
    assert np.isfinite(row(cox, analysis="multivariable", term="til")["coef"])


def test_rubins_rules_add_the_variance_between_to_that_within() -> None:
    coefs = np.array([[1.0], [2.0], [3.0]])
    found = pool(coefs, np.full((3, 1, 1), 0.5), complete_df=50)
    total = 0.5 + (1 + 1 / 3) * 1.0
    assert found.coef == pytest.approx([2.0])
    assert found.covariance == pytest.approx(np.array([[total]]))
    lost = (1 + 1 / 3) / total
    old, observed = 2 / lost**2, 51 / 53 * 50 * (1 - lost)
    assert found.df == pytest.approx([old * observed / (old + observed)])


def test_data_sets_that_agree_lose_nothing() -> None:
    found = pool(np.ones((3, 1)), np.full((3, 1, 1), 0.5), complete_df=50)
    assert found.covariance == pytest.approx(np.array([[0.5]]))
    assert found.df == pytest.approx([51 / 53 * 50])
    statistic, p = pool_chi_squares(np.full(5, 6.0), 2)
    assert statistic == pytest.approx(3.0)
    assert p == pytest.approx(np.exp(-3.0))


def test_chi_squares_that_differ_are_worth_less() -> None:
    statistic, p = pool_chi_squares(np.array([2.0, 6.0, 10.0]), 1)
    assert 0 <= statistic < 6.0
    assert p > 0.0143
