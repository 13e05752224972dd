"""Tests of Cox models: what a score adds, whether hazards are proportional, and how well the models rank patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2
from scipy.stats import f as f_distribution

from slidestudy import statistics
from slidestudy.difference_statistics import difference_of_draws
from slidestudy.statistics import Estimate, PatientDraws
from slidestudy.survival_statistics import harrells_c, why_nothing_is_ranked
from slidestudy.validation.cox_analyses import COVARIATES, MULTIVARIABLE, UNIVARIABLE, Analysis, EndpointCohort
from slidestudy.validation.imputation import pool_chi_squares
from slidestudy.validation.proportional_hazards import proportional_hazards
from slidestudy.validation.survival_rows import SCORE

Array = NDArray[np.float64]
Row = dict[str, Any]
TEST_COLUMNS = [
    "endpoint", "cohort", "role", "score", "analysis", "test", "term", "statistic", "df", "p", "ci_low", "ci_high", "n",
    "n_events", "undefined_reason",
]  # fmt: skip
AGAINST_HALF, ADDED = "against 0.5", f"{MULTIVARIABLE} - {COVARIATES}"


def tests(of: EndpointCohort, found: Sequence[Analysis], draws: PatientDraws, confidence: float) -> list[Row]:
    """All tests of a cohort's models.

    Args:
        of: The patients.
        found: Their models, as `cox_analyses.analyses` gives them.
        draws: Bootstrap samples of the patients.
        confidence: Coverage of the intervals.

    Returns:
        Rows of TEST_COLUMNS.
    """
    adjusting = next((analysis for analysis in found if analysis.name == COVARIATES), None)
    rows = []
    for analysis in found:
        if analysis.score:
            rows.append(_added(analysis, adjusting if analysis.name == MULTIVARIABLE else None))
        rows += _proportional(analysis)
    return rows + _ranking(of, found, draws, confidence)


def _row(analysis: Analysis, test: str, term: str, **more: Any) -> Row:
    """A row of the table, undefined unless more is said."""
    of = analysis.of
    row = {**of.keys(analysis.score, analysis.name), "test": test, "term": term}
    return {**row, "n": len(of.rows), "n_events": of.outcome.n_events, "undefined_reason": "", **more}


def _added(analysis: Analysis, without: Analysis | None) -> Row:
    """What the score adds to the model without it: a likelihood ratio, or Wald's test where there is no likelihood.

    Standard errors by clusters go with no likelihood, and pooled estimates have none of their own: Wald's test is of
    the robust, or of the pooled estimate (D1 of Li et al. 1991, J Am Stat Assoc 86:1065, which for one coefficient is
    the square of its t value).
    """
    wald = analysis.of.options["cluster"] is not None or analysis.pooled
    test = "wald" if wald else "likelihood_ratio"
    why = analysis.undefined_reason or (without.undefined_reason if without and without.design.columns else "")
    if wald and not why:
        why = analysis.reason(0)
    if why:
        return _row(analysis, test, analysis.score, undefined_reason=why)
    if wald:
        statistic, df = float(analysis.coef[0] ** 2 / analysis.covariance[0, 0]), float(analysis.df[0])
        p = chi2.sf(statistic, 1) if np.isinf(df) else f_distribution.sf(statistic, 1, df)
    else:
        # Without any covariate that has two values, the model without the score is the empty one.
        before = without.fits[0].log_likelihood if without and without.design.columns else analysis.fits[0].null
        statistic = max(0.0, 2 * (analysis.fits[0].log_likelihood - before))
        p = chi2.sf(statistic, 1)
    return _row(analysis, test, analysis.score, statistic=statistic, df=1, p=float(p))


def _proportional(analysis: Analysis) -> list[Row]:
    """Whether the hazards of each term, and of all, are proportional; pooled over imputed data sets by D2."""
    test, terms = "proportional_hazards", analysis.design.positions()
    if analysis.undefined_reason:
        return [_row(analysis, test, term, undefined_reason=analysis.undefined_reason) for term in terms]
    if any(fit.infinite.any() for fit in analysis.fits):
        why = "a coefficient has no finite estimate"
        return [_row(analysis, test, term, undefined_reason=why) for term in terms]
    outcome = analysis.of.outcome
    found = [
        proportional_hazards(matrix, outcome, fit, terms)
        for matrix, fit in zip(analysis.matrices, analysis.fits, strict=True)
    ]
    rows = []
    for term in dict.fromkeys([*terms, *found[0]]):
        if not all(term in results for results in found):
            rows.append(_row(analysis, test, term, undefined_reason="too few event times"))
            continue
        statistic, df, p = found[0][term]
        if len(found) > 1:
            statistic, p = pool_chi_squares(np.array([results[term][0] for results in found]), df)
        rows.append(_row(analysis, test, term, statistic=statistic, df=df, p=p))
    return rows


def _ranking(of: EndpointCohort, found: Sequence[Analysis], draws: PatientDraws, confidence: float) -> list[Row]:
    """How well scores and models rank the patients: Harrell's C, of pairs of one stratum where there are strata.

    A score alone is ranked as it is, a model by its linear predictor in the patients it was fitted to. What a score
    adds to C has an interval but no p-value: of nested models that is the likelihood ratio's to test (Demler et al.
    2012, Stat Med 31:2577).
    """
    rows, ranked = [], dict[tuple[str, str], tuple[Estimate, Array]]()
    for analysis in found:
        if analysis.name == UNIVARIABLE and of.rows[SCORE + analysis.score].isna().any():
            rows.append(_row(analysis, "c_index", AGAINST_HALF, undefined_reason=analysis.undefined_reason))
        elif analysis.name == UNIVARIABLE:
            estimate, sampled = _concordance(of, of.rows[SCORE + analysis.score].to_numpy(float), draws, confidence)
            rows.append(_row(analysis, "c_index", AGAINST_HALF, **_told(estimate)))
            if estimate.value is not None:
                n = len(of.rows)
                above = difference_of_draws(estimate.value - 0.5, sampled - 0.5, n, n, confidence)
                rows[-1]["p"] = above["p"]
        elif analysis.undefined_reason:
            rows.append(_row(analysis, "c_index", "", undefined_reason=analysis.undefined_reason))
        else:
            ranked[analysis.name, analysis.score] = _concordance(of, analysis.linear, draws, confidence)
            rows.append(_row(analysis, "c_index", "", **_told(ranked[analysis.name, analysis.score][0])))
    for analysis in found:
        if analysis.name == MULTIVARIABLE:
            pair = ranked.get((MULTIVARIABLE, analysis.score)), ranked.get((COVARIATES, ""))
            rows.append(_row(analysis, "c_index_difference", ADDED, **_difference(pair, analysis, confidence)))
    return rows


def _concordance(of: EndpointCohort, risk: Array, draws: PatientDraws, confidence: float) -> tuple[Estimate, Array]:
    """Harrell's C with its interval, and its bootstrap samples."""
    outcome = of.outcome
    statistic = harrells_c(outcome.event, outcome.strata if of.options["strata"] else None)
    patients = of.rows["patient_id"].to_numpy()
    return statistics.measure(statistic, outcome.time, risk, patients, draws, confidence, why_nothing_is_ranked)


def _told(estimate: Estimate) -> Row:
    """An estimate as cells."""
    ends = {"ci_low": estimate.ci_low, "ci_high": estimate.ci_high}
    return {"statistic": estimate.value, **ends, "undefined_reason": estimate.undefined_reason}


def _difference(
    pair: Sequence[tuple[Estimate, Array] | None], analysis: Analysis, confidence: float
) -> Mapping[str, Any]:
    """The difference of two models' C over the same samples, as cells."""
    (first, second) = pair
    if first is None or second is None:
        return {"undefined_reason": analysis.undefined_reason or "the covariates alone cannot be fitted"}
    if first[0].value is None or second[0].value is None:
        return {"undefined_reason": first[0].undefined_reason or second[0].undefined_reason}
    value = first[0].value - second[0].value
    if first[0].ci_low is None or second[0].ci_low is None:
        return {"statistic": value, "undefined_reason": first[0].undefined_reason or second[0].undefined_reason}
    return _told(statistics.with_interval(value, first[1] - second[1], confidence, first[0].n))
