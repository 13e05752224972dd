"""The Cox models of a cohort: of each score alone, of the covariates, and of both, all on the same patients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slidestudy.validation.cox_design import Design, design_of
from slidestudy.validation.cox_fits import NO_FINITE_ESTIMATE, Fit, Outcome, fit_cox, no_fit
from slidestudy.validation.imputation import impute, pool
from slidestudy.validation.survival_rows import SCORE

Array = NDArray[np.float64]
UNIVARIABLE, COVARIATES, MULTIVARIABLE = "univariable", "covariates only", "multivariable"
EVENTS_PER_TERM = 10
"""Fewest events for each coefficient below which there is a warning (Peduzzi et al. 1995, J Clin Epidemiol 48:1503)."""
FEW_CLUSTERS = 20
"""Clusters below which there is a warning: robust standard errors are then too small."""


@dataclass(frozen=True)
class EndpointCohort:
    """The patients of a cohort who count for an endpoint.

    Attributes:
        endpoint: Its name.
        options: Its configuration, of one model.
        cohort: The cohort.
        role: `development` or `external`.
        rows: The patients, a row each; only covariates may be blank, where they are imputed.
        completed: The rows with the covariates imputed, several times; `rows` alone where nothing is.
        n_dropped: Patients of the cohort who do not count, as time, event, a score or a covariate is unknown.
    """

    endpoint: str
    options: Mapping[str, Any]
    cohort: str
    role: str
    rows: pd.DataFrame
    completed: list[pd.DataFrame]
    n_dropped: int

    @property
    def outcome(self) -> Outcome:
        """Times, events, strata and clusters."""
        strata, cluster = self.options["strata"], self.options["cluster"]
        # The numbers of groups follow their names, whatever the order of the rows.
        groups = self.rows.groupby(strata, sort=True).ngroup() if strata else pd.Series(0, index=self.rows.index)
        codes = None if cluster is None else pd.factorize(self.rows[cluster], sort=True)[0]
        time, event = (self.rows[name].to_numpy(float) for name in ("time", "event"))
        return Outcome(time, event, groups.to_numpy(np.int64), codes)

    @property
    def imputed(self) -> bool:
        """Whether any covariate was blank and filled in."""
        return len(self.completed) > 1

    def keys(self, score: str, analysis: str) -> dict[str, str]:
        """What names the rows of an analysis in a table."""
        named = {"endpoint": self.endpoint, "cohort": self.cohort, "role": self.role}
        return {**named, "score": score, "analysis": analysis}


def select(
    endpoint: str,
    options: Mapping[str, Any],
    rows: pd.DataFrame,
    cohort: tuple[str, str],
    n_patients: int,
    seed: int,
) -> EndpointCohort:
    """Chooses the patients of a cohort: those of whom all scores are known, so that scores can be compared.

    A score or a covariate that nobody of the cohort has is no reason to leave the others out.

    Args:
        endpoint: Its name.
        options: Its configuration, of one model.
        rows: As `survival_rows.endpoint_rows` gives them, of all cohorts.
        cohort: Its name and role.
        n_patients: All patients of the cohort.
        seed: Of the imputation.
    """
    own = rows[rows["cohort"] == cohort[0]]
    cluster = [options["cluster"]] if options["cluster"] is not None else []
    scores = [SCORE + name for name in options["scores"]]
    imputing = options["missing"] == "imputation"
    terms = [name for name in [*scores, *([] if imputing else options["covariates"])] if own[name].notna().any()]
    # Without any score there is nothing to analyse.
    needed = [*(terms if set(terms) & set(scores) else scores), *options["strata"], *cluster]
    own = own[own[needed].notna().all(axis=1)].sort_values("patient_id").reset_index(drop=True)
    completed = [own]
    if imputing and len(own):
        # A covariate of which nothing is known is left out, and predicts nothing.
        some = [name for name in options["covariates"] if own[name].notna().any()]
        known = [name for name in scores if own[name].notna().any()]
        completed = impute(own, some, [*known, *options["strata"]], options["imputations"], seed)
    return EndpointCohort(endpoint, options, *cohort, own, completed, n_patients - len(own))


@dataclass(frozen=True)
class Analysis:
    """A fitted model of a cohort.

    Attributes:
        of: The patients.
        score: The score; blank of the covariates alone.
        name: UNIVARIABLE, COVARIATES or MULTIVARIABLE.
        design: Its columns.
        fits: A fit for each imputed data set.
        matrices: The columns' values, of each.
        coef: Log hazard ratios, pooled (k,).
        covariance: Their covariance (k, k).
        df: Their degrees of freedom (k,), infinite of one data set.
        undefined_reason: Why there is no estimate; empty otherwise.
    """

    of: EndpointCohort
    score: str
    name: str
    design: Design
    fits: list[Fit]
    matrices: list[Array]
    coef: Array
    covariance: Array
    df: Array
    undefined_reason: str

    @property
    def pooled(self) -> bool:
        """Whether estimates are pooled over imputed data sets."""
        return len(self.fits) > 1

    @property
    def linear(self) -> Array:
        """The linear predictor of each patient (n,), its mean over imputed data sets."""
        return np.mean([fit.linear for fit in self.fits], axis=0)

    def reason(self, column: int) -> str:
        """Why a coefficient has no value; empty if it has."""
        if self.undefined_reason:
            return self.undefined_reason
        return NO_FINITE_ESTIMATE if any(fit.infinite[column] for fit in self.fits) else ""

    @property
    def warnings(self) -> list[str]:
        """What a reader must know."""
        found, outcome = list(self.design.warnings), self.of.outcome
        columns = len(self.design.columns)
        found += [f"{term} left out: {why}" for term, why in self.design.left_out if term != self.score]
        if outcome.n_events < EVENTS_PER_TERM * columns:
            found.append(f"fewer than {EVENTS_PER_TERM} events per coefficient")
        if outcome.cluster is not None and (count := len(np.unique(outcome.cluster))) < FEW_CLUSTERS:
            found.append(f"{count} cluster{'' if count == 1 else 's'} only")
        return found


def analyses(of: EndpointCohort) -> Iterator[Analysis]:
    """All models of a cohort: each score alone; where there are covariates these alone, and with each score.

    Args:
        of: The patients.
    """
    covariates = of.options["covariates"]
    for score, options in of.options["scores"].items():
        yield _analyse(of, score, UNIVARIABLE, design_of(of.rows, {score: options}, SCORE), [of.rows])
    if not covariates:
        return
    adjusting = design_of(of.rows, covariates)
    yield _analyse(of, "", COVARIATES, adjusting, of.completed)
    for score, options in of.options["scores"].items():
        both = design_of(of.rows, {score: options}, SCORE) + adjusting
        yield _analyse(of, score, MULTIVARIABLE, both, of.completed)


def _analyse(of: EndpointCohort, score: str, name: str, design: Design, completed: list[pd.DataFrame]) -> Analysis:
    """Fits a model to each data set and pools the results."""
    outcome, k, n = of.outcome, len(design.columns), len(of.rows)
    matrices = [design.matrix(rows) for rows in completed]
    without = dict(design.left_out).get(score)
    if without:
        fits = [no_fit(k, n, f"the score has {without}")]
    elif name != UNIVARIABLE and of.imputed and outcome.n_events <= k:
        fits = [no_fit(k, n, "not more events than coefficients, so that imputations cannot be pooled")]
    else:
        fits = [fit_cox(matrix, outcome) for matrix in matrices]
    why = next((fit.undefined_reason for fit in fits if fit.undefined_reason), "")
    if len(fits) == 1 or why:
        fits = fits if len(fits) == 1 else [no_fit(k, n, why)]
        coef, covariance, df = fits[0].coef, fits[0].covariance, np.full(k, np.inf)
    else:
        found = pool(
            np.array([fit.coef for fit in fits]), np.array([fit.covariance for fit in fits]), outcome.n_events - k
        )
        coef, covariance, df = found.coef, found.covariance, found.df
    return Analysis(of, score, name, design, fits, matrices, coef, covariance, df, why)
