"""Fits of Cox models (Cox 1972, J R Stat Soc B 34:187), ties by Efron's method (1977, J Am Stat Assoc 72:557)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from lifelines.exceptions import ConvergenceError
from numpy.typing import NDArray

Array = NDArray[np.float64]
MIN_EVENTS = 2
"""Fewest events with which a model is fitted."""
PRECISION = {"precision": 1e-15, "r_precision": 1e-16, "max_steps": 100}
"""When the fit ends: far closer to the optimum than lifelines' own settings."""
INFINITE = 20.0
"""A standard error per standard deviation of the column above which a coefficient has no finite estimate: that of a
finite one is of the order of 1 / sqrt(events)."""
UNFINISHED = 1e-8
"""Gain in likelihood from which on a fit has not reached its end."""
NO_CONVERGENCE = "no convergence: terms that determine each other, or events that are separated"
NO_FINITE_ESTIMATE = "no finite estimate: the patients with events are separated from the others"


@dataclass(frozen=True)
class Outcome:
    """Times to an event, and what groups the patients.

    Attributes:
        time: (n,).
        event: 1 for an event, 0 for a censoring, (n,).
        strata: The group whose baseline hazard is the patient's, as a number (n,); zeros where all share one.
        cluster: The group within which patients are alike, as a number (n,); None for none.
    """

    time: Array
    event: Array
    strata: NDArray[np.int64]
    cluster: NDArray[np.int64] | None = None

    @property
    def n_events(self) -> int:
        """Patients with the event."""
        return int((self.event == 1).sum())


@dataclass(frozen=True)
class Fit:
    """A fitted model.

    Attributes:
        coef: Log hazard ratios (k,); NaN where not fitted.
        covariance: Their covariance (k, k), cluster-robust where there are clusters.
        log_likelihood: The partial log likelihood at `coef`.
        null: The same at 0.
        linear: The linear predictor of each patient (n,).
        infinite: Whether a coefficient has no finite estimate (k,).
        undefined_reason: Why there is no fit; empty otherwise.
    """

    coef: Array
    covariance: Array
    log_likelihood: float
    null: float
    linear: Array
    infinite: NDArray[np.bool_]
    undefined_reason: str = ""


def no_fit(k: int, n: int, why: str) -> Fit:
    """What stands for a model that cannot be fitted."""
    nothing = np.full(k, np.nan)
    finite = np.zeros(k, bool)
    return Fit(nothing, np.full((k, k), np.nan), np.nan, np.nan, np.full(n, np.nan), finite, why)


def fit_cox(matrix: Array, outcome: Outcome) -> Fit:
    """Fits a model by maximum partial likelihood.

    With clusters the covariance is the sandwich of Lin & Wei (1989, J Am Stat Assoc 84:1074), summed over clusters.

    Args:
        matrix: Columns (n, k).
        outcome: Of the same patients.

    Returns:
        The fit, or why there is none.
    """
    n, k = matrix.shape
    if why := why_no_fit(k, outcome):
        return no_fit(k, n, why)
    frame = pd.DataFrame(matrix, columns=[f"x{i}" for i in range(k)])
    frame = frame.assign(time=outcome.time, event=outcome.event)
    grouped = {}
    if np.ptp(outcome.strata):
        frame["stratum"], grouped = outcome.strata, {"strata": ["stratum"]}
    try:
        # What it warns of is found below in the numbers themselves, and told in the table.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            fitter = CoxPHFitter().fit(frame, "time", "event", fit_options=PRECISION, **grouped)
    except (ConvergenceError, np.linalg.LinAlgError):
        return no_fit(k, n, NO_CONVERGENCE)
    return _checked(matrix, outcome, fitter.params_.to_numpy(float))


def why_no_fit(k: int, outcome: Outcome) -> str:
    """Why a model of k columns cannot be fitted; empty if it can."""
    if outcome.n_events < MIN_EVENTS:
        return "fewer than two events"
    if k == 0:
        return "no term has two values in this cohort"
    if outcome.cluster is not None and len(np.unique(outcome.cluster)) <= k:
        return "not more clusters than terms"
    return ""


def _checked(matrix: Array, outcome: Outcome, coef: Array) -> Fit:
    """A fit with its covariance and likelihoods, once it is known for an optimum."""
    n, k = matrix.shape
    if not np.isfinite(coef).all():
        return no_fit(k, n, NO_CONVERGENCE)
    parts, at_zero = (list(event_parts(matrix, outcome, at)) for at in (coef, np.zeros(k)))
    score, information = sum(part.score for part in parts), sum(part.information for part in parts)
    try:
        covariance = np.asarray(np.linalg.inv(information), np.float64)
    except np.linalg.LinAlgError:
        return no_fit(k, n, NO_CONVERGENCE)
    spread, variances = matrix.std(0), np.diag(covariance)
    infinite = ~(variances > 0) | (spread * np.sqrt(np.abs(variances)) > INFINITE)
    # Twice the gain in likelihood that is left: where it is not nearly 0 there is no optimum here.
    if not infinite.any() and not abs(score @ covariance @ score) < UNFINISHED:
        return no_fit(k, n, NO_CONVERGENCE)
    if outcome.cluster is not None:
        influence = score_residuals(matrix, outcome, coef) @ covariance
        summed = np.array([influence[outcome.cluster == group].sum(0) for group in np.unique(outcome.cluster)])
        covariance = summed.T @ summed
    likelihood, null = (float(sum(part.log_likelihood for part in found)) for found in (parts, at_zero))
    # Rounded, so that patients who are alike are tied whatever the order of the sums.
    return Fit(coef, covariance, likelihood, null, np.round(matrix @ coef, 10), infinite)


@dataclass(frozen=True)
class EventPart:
    """What the d events of one stratum at one time add.

    Attributes:
        stratum: The stratum.
        time: The time.
        log_likelihood: To the partial log likelihood.
        score: To its gradient, the sum of the Schoenfeld residuals (k,).
        information: To its negative Hessian (k, k).
        mean: The weighted mean of those at risk that each event sees (d, k).
        hazard: The log of their summed hazard (d,).
    """

    stratum: int
    time: float
    log_likelihood: float
    score: Array
    information: Array
    mean: Array
    hazard: Array


def event_parts(matrix: Array, outcome: Outcome, coef: Array) -> Iterator[EventPart]:
    """Takes the partial likelihood apart by event times, ties by Efron's method: each of d tied events sees a share of
    the others' hazard less.

    Args:
        matrix: Columns (n, k).
        outcome: Of the same patients.
        coef: Where (k,).
    """
    for stratum in np.unique(outcome.strata):
        own = np.flatnonzero(outcome.strata == stratum)
        # The latest first, so that who is at risk stands before who is not.
        own = own[np.argsort(-outcome.time[own], kind="stable")]
        time, event = outcome.time[own], outcome.event[own] == 1
        centre = matrix[own].mean(0)
        yield from _stratum_parts(int(stratum), time, event, matrix[own] - centre, coef, centre)


def _stratum_parts(
    stratum: int, time: Array, event: NDArray[np.bool_], x: Array, coef: Array, centre: Array
) -> Iterator[EventPart]:
    """The parts of one stratum, whose times fall."""
    eta = x @ coef
    # A constant factor of all hazards cancels, and keeps the exponentials in range.
    shift = eta.max()
    hazard = np.exp(eta - shift)
    total, sums, squares = 0.0, np.zeros(x.shape[1]), np.zeros((x.shape[1], x.shape[1]))
    start = 0
    for t in np.unique(time[event])[::-1]:
        stop = int(np.searchsorted(-time, -t, side="right"))
        joining = slice(start, stop)
        weighted = hazard[joining, None] * x[joining]
        total += hazard[joining].sum()
        sums = sums + weighted.sum(0)
        squares = squares + x[joining].T @ weighted
        start = stop
        dead = np.flatnonzero(event[:stop] & (time[:stop] == t))
        gone = np.arange(len(dead)) / len(dead)
        lost = hazard[dead, None] * x[dead]
        left = total - gone * hazard[dead].sum()
        mean = (sums - gone[:, None] * lost.sum(0)) / left[:, None]
        second = (squares - gone[:, None, None] * (x[dead].T @ lost)) / left[:, None, None]
        covariance = second - mean[:, :, None] * mean[:, None, :]
        logs = np.log(left) + shift
        likelihood = float(eta[dead].sum() - logs.sum())
        score = x[dead].sum(0) - mean.sum(0)
        yield EventPart(stratum, float(t), likelihood, score, covariance.sum(0), mean + centre, logs + centre @ coef)


def score_residuals(matrix: Array, outcome: Outcome, coef: Array) -> Array:
    """What each patient adds to the gradient (n, k) (Therneau et al. 1990, Biometrika 77:147), ties by Efron's method.

    Args:
        matrix: Columns (n, k).
        outcome: Of the same patients.
        coef: Where (k,).
    """
    residuals, linear = np.zeros_like(matrix), matrix @ coef
    for part in event_parts(matrix, outcome, coef):
        at_risk = np.flatnonzero((outcome.strata == part.stratum) & (outcome.time >= part.time))
        dead = (outcome.time[at_risk] == part.time) & (outcome.event[at_risk] == 1)
        gone = np.arange(len(part.hazard)) / len(part.hazard)
        # Of each patient's hazard, what each of the tied events sees (n_at_risk, d).
        share = np.exp(linear[at_risk, None] - part.hazard) * (1 - dead[:, None] * gone)
        residuals[at_risk] -= share.sum(1)[:, None] * matrix[at_risk] - share @ part.mean
        residuals[at_risk[dead]] += matrix[at_risk[dead]] - part.mean.mean(0)
    return residuals
