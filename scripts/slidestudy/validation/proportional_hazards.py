"""Whether hazards are proportional: the score test of Grambsch & Therneau (1994, Biometrika 81:515)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from slidestudy.validation.cox_fits import Fit, Outcome, event_parts

Array = NDArray[np.float64]
GLOBAL = "global"
"""The test of all terms together."""


def proportional_hazards(
    matrix: Array, outcome: Outcome, fit: Fit, terms: Mapping[str, Sequence[int]]
) -> dict[str, tuple[float, int, float]]:
    """Tests whether coefficients change with g(t) = 1 - S(t-), S the Kaplan-Meier estimate of all patients.

    It is the score test that adding g(t) times the term's columns to the model improves nothing, as R's
    `survival::cox.zph` from version 3 on computes it with `transform = "km"`; no approximation of the variance.

    Args:
        matrix: Columns (n, k).
        outcome: Of the same patients.
        fit: The model.
        terms: Term -> places of its columns.

    Returns:
        Term, and GLOBAL where there are several -> chi-squared statistic, degrees of freedom, p-value. A term whose
        test is singular, as with fewer event times than columns, is left out.
    """
    parts = list(event_parts(matrix, outcome, fit.coef))
    g = transformed(outcome, np.array([part.time for part in parts]))
    g = g - g.mean()
    scores = np.array([part.score for part in parts])
    information = np.array([part.information for part in parts])
    gained = g @ scores
    own, cross, added = (np.tensordot(weight, information, 1) for weight in (np.ones_like(g), g, g**2))
    found = {}
    for term, places in {**terms, **({GLOBAL: range(matrix.shape[1])} if len(terms) > 1 else {})}.items():
        chosen = list(places)
        try:
            rest = added[np.ix_(chosen, chosen)] - cross[chosen] @ np.linalg.solve(own, cross[:, chosen])
            statistic = float(gained[chosen] @ np.linalg.solve(rest, gained[chosen]))
        except np.linalg.LinAlgError:
            continue
        if np.isfinite(statistic) and statistic >= 0:
            found[term] = statistic, len(chosen), float(chi2.sf(statistic, len(chosen)))
    return found


def transformed(outcome: Outcome, times: Array) -> Array:
    """1 - S(t-) at some times, S the Kaplan-Meier estimate over all strata.

    Args:
        outcome: The patients.
        times: Event times (m,).
    """
    happened = outcome.event == 1
    at, deaths = np.unique(outcome.time[happened], return_counts=True)
    at_risk = len(outcome.time) - np.searchsorted(np.sort(outcome.time), at, side="left")
    before = np.r_[1.0, np.cumprod(1 - deaths / at_risk)]
    return 1 - before[np.searchsorted(at, times, side="left")]
