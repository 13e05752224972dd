"""Cox models and their tests agree with R's package `survival`: ties, strata, clusters and categories."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.validation.endpoints import analyse, endpoint, row
from tests.validation.survival_data import gbsg2, has_r, lung, rerun, rossi, stored

from slidestudy.validation.cox_fits import Outcome, fit_cox

REFERENCE = stored("cox")


@dataclass(frozen=True)
class Case:
    """A model that R fitted: the first covariate is our score."""

    table: pd.DataFrame
    score: str
    covariates: dict[str, dict[str, Any]] = field(default_factory=dict)
    strata: tuple[str, ...] = ()
    cluster: str | None = None

    @property
    def rows(self) -> pd.DataFrame:
        groups = [*self.strata, *([self.cluster] if self.cluster else [])]
        columns = {name: self.table[name].astype(str) for name in groups}
        columns |= {name: self.table[name] for name in self.covariates}
        scores = {f"score.{self.score}": self.table[self.score].astype(float)}
        return pd.DataFrame({"time": self.table["time"], "event": self.table["status"], **scores, **columns})

    @property
    def options(self) -> dict[str, Any]:
        groups = {"strata": list(self.strata), "cluster": self.cluster}
        return endpoint({self.score: {"per": 1}}, covariates=self.covariates, **groups)


ROSSI = ("age", "race", "wexp", "mar", "paro", "prio")
KNOWN = lung().dropna(subset=["inst"])
CASES = {
    "rossi": Case(rossi(), "fin", {name: {} for name in ROSSI}),
    "rossi-alone": Case(rossi(), "prio"),
    "gbsg2": Case(gbsg2(), "age", {"horTh": {"reference": "no"}, "tgrade": {"reference": "II"}}),
    "gbsg2-strata": Case(gbsg2(), "age", {"pnodes": {}}, ("tgrade",)),
    "lung": Case(lung().dropna(subset=["ph_ecog"]), "age", {"sex": {}, "ph_ecog": {}}),
    "lung-cluster": Case(KNOWN, "age", {"sex": {}}, cluster="inst"),
    "lung-both": Case(KNOWN.dropna(subset=["ph_ecog"]), "age", {}, ("ph_ecog",), "inst"),
}
LEVELS = {"horThyes": ("horTh", "yes"), "ph.ecog": ("ph_ecog", "")}
GRADE = 'relevel(factor(tgrade), ref = "II")'


def ours(term: str) -> tuple[str, str]:
    """Our name of R's term, and its level."""
    if term.startswith(GRADE):
        return "tgrade", term.removeprefix(GRADE)
    return LEVELS.get(term, (term, ""))


def reference(model: str, statistic: str) -> dict[str, float]:
    """R's values of a statistic, by R's term."""
    rows = REFERENCE[(REFERENCE["model"] == model) & (REFERENCE["statistic"] == statistic)]
    return dict(zip(rows["term"], rows["value"], strict=True))


@pytest.fixture(scope="module", params=CASES)
def fitted(request: pytest.FixtureRequest) -> tuple[str, pd.DataFrame, pd.DataFrame]:
    """A case's name and the rows of its largest model."""
    case = CASES[request.param]
    name = "multivariable" if case.covariates else "univariable"
    cox, tests = analyse(case.rows, case.options)
    return request.param, cox[cox["analysis"] == name], tests[tests["analysis"] == name]


@pytest.mark.parametrize("statistic", ["coef", "se", "z", "p", "ci_low", "ci_high"])
def test_every_coefficient_has_rs_estimate_error_and_test(fitted, statistic: str) -> None:
    model, cox, _ = fitted
    expected = reference(model, statistic)
    assert len(expected) == len(cox)
    for term, value in expected.items():
        name, level = ours(term)
        # R writes intervals that are this much less exact.
        assert row(cox, term=name, level=level)[statistic] == pytest.approx(value, rel=1e-8)


def test_patients_and_events_are_counted_as_in_r(fitted) -> None:
    model, cox, _ = fitted
    assert set(cox["n"]) == {reference(model, "n")[""]}
    assert set(cox["n_events"]) == {reference(model, "n_events")[""]}


def test_hazards_are_tested_for_being_proportional_as_in_r(fitted) -> None:
    model, cox, tests = fitted
    terms = set(cox["term"])
    for term, value in reference(model, "zph").items():
        name = "global" if term == "GLOBAL" else ours(term)[0]
        if name == "global" and len(terms) == 1:
            continue
        found = row(tests, test="proportional_hazards", term=name)
        assert found["statistic"] == pytest.approx(value, rel=1e-8)
        assert found["df"] == reference(model, "zph_df")[term]
        assert found["p"] == pytest.approx(reference(model, "zph_p")[term], rel=1e-8)


def test_the_linear_predictor_ranks_patients_as_in_r(fitted) -> None:
    model, cox, tests = fitted
    found = row(tests, test="c_index")["statistic"]
    if set(cox["analysis"]) == {"univariable"} and cox["coef"].item() < 0:
        found = 1 - found
    assert found == pytest.approx(reference(model, "concordance")[""], abs=1e-12)


@pytest.mark.parametrize("model", CASES)
def test_partial_likelihoods_are_rs(model: str) -> None:
    case = CASES[model]
    rows, categories = case.rows, [name for name, options in case.covariates.items() if "reference" in options]
    numbers = rows[[f"score.{case.score}", *(name for name in case.covariates if name not in categories)]]
    levels = [rows[name] == level for name in categories for level in sorted(rows[name].unique())[:-1]]
    matrix = np.column_stack([numbers, *levels]).astype(float)
    strata = pd.factorize(rows[case.strata[0]])[0] if case.strata else np.zeros(len(rows), int)
    fit = fit_cox(matrix, Outcome(rows["time"].to_numpy(float), rows["event"].to_numpy(float), strata))
    assert fit.log_likelihood == pytest.approx(reference(model, "loglik")[""], rel=1e-12)
    assert fit.null == pytest.approx(reference(model, "loglik_null")[""], rel=1e-12)


def test_the_likelihood_ratio_of_a_score_alone_is_rs() -> None:
    _, tests = analyse(CASES["rossi-alone"].rows, CASES["rossi-alone"].options)
    found = row(tests, test="likelihood_ratio")
    assert found["statistic"] == pytest.approx(reference("rossi-alone", "lr")[""], rel=1e-10)


@pytest.mark.skipif(not has_r(), reason="R and its package survival are not installed")
def test_the_stored_numbers_are_what_r_gives_now() -> None:
    now = rerun("cox")
    assert now[["model", "term", "statistic"]].equals(REFERENCE[["model", "term", "statistic"]])
    assert now["value"].tolist() == pytest.approx(REFERENCE["value"].tolist(), rel=1e-9)
