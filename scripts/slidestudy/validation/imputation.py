"""Multiple imputation of covariates by chained equations, and how its results are pooled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from lifelines import NelsonAalenFitter
from numpy.typing import NDArray
from scipy.stats import chi2
from scipy.stats import f as f_distribution
from sklearn.linear_model import LinearRegression, LogisticRegression

Array = NDArray[np.float64]
CYCLES = 10
"""Rounds over the covariates, each predicted from all others, before a data set is taken."""
DONORS = 5
"""Patients of nearest prediction, of whom one lends the value."""


def impute(
    rows: pd.DataFrame, covariates: Sequence[str], predictors: Sequence[str], imputations: int, seed: int
) -> list[pd.DataFrame]:
    """Fills in blank covariates several times, each time by draws from what the other columns tell of them.

    Chained equations (van Buuren et al. 1999, Stat Med 18:681). Among the predictors are the event and the Nelson-Aalen
    estimate of the cumulative hazard at the patient's time (White & Royston 2009, Stat Med 28:1982). A number comes
    from a donor by predictive mean matching (Little 1988, J Bus Econ Stat 6:287), a level from a logistic regression;
    both regressions are fitted to a bootstrap sample of the known patients, so that their own uncertainty counts.
    scikit-learn's and statsmodels' imputers take numbers only.

    Args:
        rows: `time event` and the columns; neither time, event nor predictors have a blank.
        covariates: Numeric columns, and columns of text.
        predictors: Further columns that are known of all, numeric or text.
        imputations: Data sets.
        seed: Of the draws.

    Returns:
        The rows with the covariates completed, once for each imputation; one as it is where nothing is blank.
    """
    blank = {name: rows[name].isna().to_numpy() for name in covariates if rows[name].isna().any()}
    if not blank:
        return [rows]
    hazard = NelsonAalenFitter().fit(rows["time"], rows["event"])
    known = {f"known {name}": rows[name].to_numpy() for name in [*predictors, "event"]}
    known["known hazard"] = hazard.cumulative_hazard_at_times(rows["time"]).to_numpy(float)
    outcome = pd.DataFrame(known, index=rows.index)
    # The rarest blanks first, as is usual.
    order = sorted(blank, key=lambda name: int(blank[name].sum()))
    streams = np.random.default_rng(seed).spawn(imputations)
    return [_one(rows, outcome, list(covariates), order, blank, rng) for rng in streams]


def _one(
    rows: pd.DataFrame,
    outcome: pd.DataFrame,
    covariates: list[str],
    order: list[str],
    blank: dict[str, NDArray[np.bool_]],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """One completed data set."""
    done = rows.copy()
    for name in order:
        donors = rows[name].dropna().to_numpy()
        done[name] = _filled(done[name], blank[name], rng.choice(donors, int(blank[name].sum())))
    for _ in range(CYCLES):
        for name in order:
            others = pd.concat([done[[c for c in covariates if c != name]], outcome], axis=1)
            draw = _number if pd.api.types.is_numeric_dtype(rows[name]) else _level
            done[name] = _filled(
                done[name], blank[name], draw(done[name].to_numpy(), _design(others), blank[name], rng)
            )
    return done


def _filled(column: pd.Series, blank: NDArray[np.bool_], values: NDArray[np.generic]) -> pd.Series:
    """A column with its blanks replaced."""
    filled = column.to_numpy(copy=True)
    filled[blank] = values
    return pd.Series(filled, index=column.index, dtype=column.dtype)


def _design(table: pd.DataFrame) -> Array:
    """Columns as numbers of mean 0 and variance 1, a column for each level but one."""
    coded = pd.get_dummies(table, drop_first=True).to_numpy(float)
    spread = coded.std(0)
    return (coded - coded.mean(0))[:, spread > 0] / spread[spread > 0]


def _sample(known: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """A bootstrap sample of patients."""
    return rng.choice(known, len(known))


def _number(values: Array, design: Array, blank: NDArray[np.bool_], rng: np.random.Generator) -> Array:
    """Values for the blanks of a number, by predictive mean matching."""
    known = np.flatnonzero(~blank)
    sample = _sample(known, rng)
    predicted = LinearRegression().fit(design[sample], values[sample].astype(float)).predict(design)
    gaps = np.abs(predicted[blank][:, None] - predicted[known])
    nearest = np.argsort(gaps, axis=1, kind="stable")[:, :DONORS]
    chosen = nearest[np.arange(len(nearest)), rng.integers(0, nearest.shape[1], len(nearest))]
    return values[known[chosen]]


def _level(
    values: NDArray[np.object_], design: Array, blank: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.object_]:
    """Levels for the blanks of a category, drawn by their probabilities."""
    known = np.flatnonzero(~blank)
    sample = _sample(known, rng)
    if len(set(values[sample])) < 2:
        return rng.choice(values[known], int(blank.sum()))
    # A weak penalty keeps the coefficients of separated levels finite.
    model = LogisticRegression(C=10, max_iter=500).fit(design[sample], values[sample].astype(str))
    shares = np.cumsum(model.predict_proba(design[blank]), axis=1)
    drawn = (rng.uniform(size=(len(shares), 1)) > shares).sum(1)
    return model.classes_[np.minimum(drawn, shares.shape[1] - 1)]


@dataclass(frozen=True)
class Pooled:
    """Estimates over imputed data sets.

    Attributes:
        coef: Their means (k,).
        covariance: Within and between the data sets (k, k).
        df: Degrees of freedom (k,).
    """

    coef: Array
    covariance: Array
    df: Array


def pool(coefs: Array, covariances: Array, complete_df: float) -> Pooled:
    """Pools by Rubin's rules (1987), with the degrees of freedom of Barnard & Rubin (1999, Biometrika 86:948).

    Args:
        coefs: Estimates of each data set (m, k), m at least 2.
        covariances: Their covariances (m, k, k).
        complete_df: Degrees of freedom that complete data would have: events less coefficients.
    """
    m = len(coefs)
    mean, within = coefs.mean(0), covariances.mean(0)
    between = np.atleast_2d(np.cov(coefs, rowvar=False, ddof=1)).reshape(within.shape)
    total = within + (1 + 1 / m) * between
    lost = (1 + 1 / m) * np.diag(between) / np.diag(total)
    observed = (complete_df + 1) / (complete_df + 3) * complete_df * (1 - lost)
    with np.errstate(divide="ignore"):
        df = 1 / (lost**2 / (m - 1) + 1 / observed)
    return Pooled(mean, total, df)


def pool_chi_squares(statistics: Array, df: int) -> tuple[float, float]:
    """Pools chi-squared statistics by D2 (Li et al. 1991, Stat Sinica 1:65).

    Args:
        statistics: Of each data set (m,), m at least 2.
        df: Their degrees of freedom.

    Returns:
        The pooled statistic, which is compared with an F distribution, and its p-value.
    """
    m = len(statistics)
    r = (1 + 1 / m) * float(np.sqrt(statistics).var(ddof=1))
    pooled = max(0.0, (float(statistics.mean()) / df - (m + 1) / (m - 1) * r) / (1 + r))
    if r == 0:
        return pooled, float(chi2.sf(pooled * df, df))
    return pooled, float(f_distribution.sf(pooled, df, df ** (-3 / m) * (m - 1) * (1 + 1 / r) ** 2))
