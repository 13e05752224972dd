"""The log-rank test of groups of patients and its trend, by statsmodels, and what keeps them from being defined."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import chi2
from statsmodels.duration.hazard_regression import PHReg
from statsmodels.duration.survfunc import survdiff

from slidestudy.statistics import Array

Places = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class LogRank:
    """A log-rank test.

    Attributes:
        groups: Groups that are compared.
        statistic: Chi-squared statistic, or None where undefined.
        df: Its degrees of freedom, or None.
        p: Its p-value, or None.
        n: Patients of all groups.
        n_events: Their events.
        undefined_reason: Why there is no test; empty otherwise.
        trend_statistic: Chi-squared statistic (1 degree of freedom) of a trend over the ordered groups; None of two.
        trend_p: Its p-value.
    """

    groups: int
    statistic: float | None
    df: int | None
    p: float | None
    n: int
    n_events: int
    undefined_reason: str = ""
    trend_statistic: float | None = None
    trend_p: float | None = None


def log_rank(time: Array, event: Array, group: Places, stratum: Places | None = None) -> LogRank:
    """The log-rank test (Mantel 1966, Cancer Chemother Rep 50:163; Peto & Peto 1972, J R Stat Soc A 135:185).

    Of three or more groups the trend over their order too (Tarone 1975, Biometrika 62:679): the score test of a Cox
    model (Efron's ties) for the group's number 0, 1, 2 and so on, as of R's `coxph`. With strata, observed less
    expected events and their variances are summed over the strata. A group of which nobody is at risk when an event
    happens tells nothing and is left out, as R's `survdiff` does.

    Args:
        time: Follow-up (n,).
        event: 1 for an event, 0 for a censoring (n,).
        group: Group of each patient (n,), rising with what the groups are ordered by.
        stratum: Stratum of each patient (n,); None for a single one.

    Returns:
        The test; undefined with the reason where the groups cannot be compared.
    """
    stratum = np.zeros(len(time), np.int64) if stratum is None else stratum
    n, n_events = len(time), int(event.sum())
    count = len(np.unique(group))
    if count < 2:
        return LogRank(count, None, None, None, n, n_events, "fewer than two groups")
    if not n_events:
        return LogRank(count, None, None, None, n, n_events, "no events")
    names, at_risk, spared = _groups_at_risk(time, event, group, stratum)
    counted = np.asarray(at_risk.any(axis=0))
    count = int(counted.sum())
    if count < 2 or not _hang_together(at_risk[spared][:, counted]):
        reason = "the groups are not at risk together when events happen"
        return LogRank(count, None, None, None, n, n_events, reason)
    kept = np.isin(group, names[counted])
    statistic, _ = survdiff(time[kept], event[kept], group[kept], strata=stratum[kept])
    # statsmodels' own p-value is 1 - cdf, which is 0 where it is small.
    p = float(chi2.sf(statistic, count - 1))
    found = LogRank(count, float(statistic), count - 1, p, n, n_events)
    if count < 3:
        return found
    ranks = np.searchsorted(names[counted], group[kept]).astype(float)
    trend = _trend(time[kept], event[kept], ranks, stratum[kept])
    return replace(found, trend_statistic=trend, trend_p=float(chi2.sf(trend, 1)))


def _trend(time: Array, event: Array, ranks: Array, stratum: Places) -> float:
    """The score statistic of the ranks at a coefficient of 0: the slope squared over the information."""
    model = PHReg(time, ranks, status=event, ties="efron", strata=stratum)
    slope, curve = model.score(np.zeros(1)), model.hessian(np.zeros(1))
    return float(slope[0] ** 2 / -curve[0, 0])


def _groups_at_risk(time: Array, event: Array, group: Places, stratum: Places) -> tuple[Places, Flags, Flags]:
    """Which groups are at risk at each event.

    Returns:
        The groups (g,); for each time of an event in each stratum the groups at risk then (t, g), and whether
        somebody at risk is spared (t,): where all have the event at once, nothing is compared.
    """
    names = np.unique(group)
    present, spared = [], []
    for own in np.unique(stratum):
        inside = stratum == own
        for at in np.unique(time[inside & (event == 1)]):
            risk = inside & (time >= at)
            present.append(np.isin(names, group[risk]))
            spared.append(bool((risk & ~((time == at) & (event == 1))).any()))
    return names, np.array(present), np.array(spared)


def _hang_together(at_risk: Flags) -> bool:
    """Whether each of the groups is compared with each other one, if by others: else the variance has no inverse.

    Args:
        at_risk: The groups at risk at each event that is a comparison (t, g).
    """
    together = csr_array(at_risk.T.astype(int) @ at_risk.astype(int))
    parts, _ = connected_components(together, directed=False)
    return bool(parts == 1)
