"""Kaplan-Meier estimates of patients who are grouped by a score, at given times and as whole curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from lifelines import KaplanMeierFitter
from numpy.typing import NDArray

from slidestudy.statistics import Array
from slidestudy.validation.log_rank import LogRank, log_rank
from slidestudy.validation.survival_rows import SCORE
from slidestudy.validation.views import positives

CUTOFFS, MEDIAN = "cutoffs", "median"
"""Kinds of splits."""
SPLIT_KEYS = ["endpoint", "cohort", "role", "score", "split"]
CURVE_COLUMNS = ["time", "survival", "ci_low", "ci_high", "at_risk"]
TIMES_COLUMNS = [
    *SPLIT_KEYS, "group", *CURVE_COLUMNS, "n", "n_events", "median_survival", "median_low", "median_high",
    "undefined_reason", "median_undefined_reason",
]  # fmt: skip
CURVES_COLUMNS = [*SPLIT_KEYS, "group", *CURVE_COLUMNS]
LOGRANK_COLUMNS = [
    *SPLIT_KEYS, "cutoffs", "n_at_cutoff", "strata", "groups", "statistic", "df", "p", "trend_statistic",
    "trend_p", "n", "n_events", "n_dropped", "undefined_reason",
]  # fmt: skip
ROUNDING = 1e-9
"""Survival that is this near to 0.5 is 0.5: it is a product."""


@dataclass(frozen=True)
class Group:
    """The patients of a cohort whose scores lie between two cut-offs.

    Attributes:
        name: Such as `< 30`, `30 to < 75` or `>= 75`.
        time: Follow-up (n,).
        event: 1 for an event, 0 for a censoring (n,).
        curve: Columns CURVE_COLUMNS, at 0 and at each time of an event; no rows without patients.
    """

    name: str
    time: Array
    event: Array
    curve: pd.DataFrame


@dataclass(frozen=True)
class Split:
    """The patients of a cohort in groups by a score.

    Attributes:
        endpoint: Its name.
        unit: Unit of time.
        cohort: Its name.
        role: `development` or `external`.
        score: Its name.
        kind: CUTOFFS or MEDIAN.
        cutoffs: Where the groups meet; empty where there is no patient and so no median.
        at_cutoff: Patients whose score is exactly a cut-off; they are in the upper group.
        groups: From the lowest scores to the highest, empty ones too.
        strata: Columns that the test is stratified by.
        dropped: Patients of the cohort that the test leaves out, as time, event, a score or a stratum is not known.
        test: The log-rank test of the groups.
    """

    endpoint: str
    unit: str
    cohort: str
    role: str
    score: str
    kind: str
    cutoffs: tuple[float, ...]
    at_cutoff: int
    groups: Sequence[Group]
    strata: tuple[str, ...]
    dropped: int
    test: LogRank

    def keys(self) -> dict[str, str]:
        """What names the rows of this split in a table."""
        values = (self.endpoint, self.cohort, self.role, self.score, self.kind)
        return dict(zip(SPLIT_KEYS, values, strict=True))


def fit_curve(time: Array, event: Array, confidence: float) -> pd.DataFrame:
    """The estimate of Kaplan & Meier (1958, J Am Stat Assoc 53:457) with pointwise log-log intervals.

    The intervals are of log(-log(survival)), with Greenwood's variance (Kalbfleisch & Prentice 1980): R's
    `conf.type = "log-log"`. They stay between 0 and 1. Where survival is 1 or 0 there is none.

    Args:
        time: Follow-up (n,).
        event: 1 for an event, 0 for a censoring (n,).
        confidence: Coverage of the interval, at each time by itself.

    Returns:
        CURVE_COLUMNS at 0 and at each time of an event; `at_risk` counts those who are followed at least till then.
    """
    if not len(time):
        return pd.DataFrame(columns=CURVE_COLUMNS, dtype=float).astype({"at_risk": int})
    fitter = KaplanMeierFitter(alpha=1 - confidence).fit(time, event)
    ends = fitter.confidence_interval_
    found = pd.DataFrame({
        "time": fitter.survival_function_.index.to_numpy(float),
        "survival": fitter.survival_function_.iloc[:, 0].to_numpy(float),
        "ci_low": ends.iloc[:, 0].to_numpy(float),
        "ci_high": ends.iloc[:, 1].to_numpy(float),
        "at_risk": fitter.event_table["at_risk"].to_numpy(int),
    })  # fmt: skip
    certain = (found["survival"] >= 1) | (found["survival"] <= 0)
    found.loc[certain, ["ci_low", "ci_high"]] = np.nan
    happens = fitter.event_table["observed"].to_numpy() > 0
    return found[happens | (found["time"] == 0)].reset_index(drop=True)


def group_names(cutoffs: Sequence[float], kind: str) -> list[str]:
    """Names of the groups between cut-offs, which belong to the group above them; a median is rounded."""
    if not cutoffs:
        return ["< median", ">= median"]
    said = [f"{cutoff:.15g}" if kind == CUTOFFS else f"{cutoff:.4g}" for cutoff in cutoffs]
    between = [f"{low} to < {high}" for low, high in pairwise(said)]
    return [f"< {said[0]}", *between, f">= {said[-1]}"]


def places(score: pd.Series, cutoffs: Sequence[float]) -> NDArray[np.int64]:
    """The group of each patient, from 0 (n,): how many of the rising cut-offs the score has reached."""
    return np.sum([positives(score, cutoff, ">=").to_numpy() for cutoff in cutoffs], axis=0, dtype=np.int64)


def make_splits(
    rows: pd.DataFrame, name: str, endpoint: Mapping[str, Any], roles: Mapping[str, str], patients: Mapping[str, int],
    confidence: float,
) -> list[Split]:  # fmt: skip
    """Groups the patients of each cohort by each score: by its cut-offs, if it has any, and by the cohort's median.

    So that scores can be compared, patients count of whom all scores are known; one that nobody of a cohort has is
    left out of that.

    Args:
        rows: As `survival_rows.endpoint_rows` gives them: `patient_id cohort time event score.<name>` and strata.
        name: The endpoint.
        endpoint: Its settings: `unit scores strata`.
        roles: Cohort -> `development` or `external`, in the order in which they are shown.
        patients: Cohort -> all its patients, also those without a time; 0 where absent.
        confidence: Coverage of the intervals.
    """
    found = []
    for score, options in endpoint["scores"].items():
        for cohort, role in roles.items():
            own = scored(rows[rows["cohort"] == cohort], score, list(endpoint["scores"]))
            keys = (name, endpoint["unit"], cohort, role, score)
            configured = tuple(sorted(float(cutoff) for cutoff in set(options["cutoffs"])))
            medians = (float(own[SCORE + score].median()),) if len(own) else ()
            kinds = {CUTOFFS: configured, MEDIAN: medians} if configured else {MEDIAN: medians}
            for kind, cuts in kinds.items():
                split = _split(own, keys, kind, cuts, endpoint["strata"], confidence)
                found.append(replace(split, dropped=patients.get(cohort, 0) - split.test.n))
    return found


def scored(own: pd.DataFrame, score: str, scores: Sequence[str]) -> pd.DataFrame:
    """The patients of a cohort of whom a score is known, and all others that any of them has."""
    compared = [SCORE + name for name in scores if own[SCORE + name].notna().any()]
    return own[own[[*compared, SCORE + score]].notna().all(axis=1)]


def _split(
    own: pd.DataFrame, keys: tuple[str, str, str, str, str], kind: str, cutoffs: tuple[float, ...],
    strata: Sequence[str], confidence: float,
) -> Split:  # fmt: skip
    """One split of one cohort."""
    score = own[SCORE + keys[-1]].astype(float)
    place = places(score, cutoffs) if cutoffs else np.zeros(len(own), np.int64)
    time, event = own["time"].to_numpy(float), own["event"].to_numpy(float)
    groups = []
    for index, name in enumerate(group_names(cutoffs, kind)):
        inside = place == index
        groups.append(Group(name, time[inside], event[inside], fit_curve(time[inside], event[inside], confidence)))
    known = own[list(strata)].notna().all(axis=1).to_numpy()
    stratum = own[known].groupby(list(strata)).ngroup().to_numpy() if strata else None
    test = log_rank(time[known], event[known], place[known], stratum)
    tied = int(np.sum([np.isclose(score, cutoff, rtol=0, atol=1e-6) for cutoff in cutoffs])) if cutoffs else 0
    return Split(*keys, kind, cutoffs, tied, groups, tuple(strata), 0, test)


def survival_at(group: Group, time: float) -> dict[str, Any]:
    """Survival of a group at a time: CURVE_COLUMNS and `undefined_reason`.

    Beyond the group's last follow-up nothing is known, so survival is blank there.
    """
    row: dict[str, Any] = {"time": time, "survival": None, "ci_low": None, "ci_high": None}
    row |= {"at_risk": int((group.time >= time).sum()), "undefined_reason": ""}
    if not len(group.time):
        return {**row, "undefined_reason": "no patients"}
    if time > group.time.max():
        return {**row, "undefined_reason": f"beyond the last follow-up at {group.time.max():.4g}"}
    last = group.curve[group.curve["time"] <= time].iloc[-1]
    row |= {key: last[key] for key in ("survival", "ci_low", "ci_high")}
    if np.isnan(last["ci_low"]):
        row["undefined_reason"] = f"no interval: {'no event by then' if last['survival'] > 0 else 'nobody is left'}"
    return row


def median_survival(group: Group) -> dict[str, Any]:
    """The first time by which at most half are without the event, and its interval.

    The interval ends where those of the curve do (Brookmeyer & Crowley 1982, Biometrics 38:29). Where the curve is flat
    at exactly 0.5, R's `survfit` gives the middle of that stretch, this its beginning.

    Args:
        group: The group.

    Returns:
        `median_survival median_low median_high median_undefined_reason`, blank where not reached.
    """
    curve = group.curve
    ends = {}
    for name, column in (("median_survival", "survival"), ("median_low", "ci_low"), ("median_high", "ci_high")):
        reached = curve.loc[curve[column] <= 0.5 + ROUNDING, "time"]
        ends[name] = float(reached.iloc[0]) if len(reached) else None
    reason = "no patients" if not len(group.time) else ""
    if not reason and ends["median_survival"] is None:
        reason = "the median is not reached"
    elif not reason and None in ends.values():
        reason = "an end of the median's interval is not reached"
    return {**ends, "median_undefined_reason": reason}


def survival_table(splits: Sequence[Split], times: Sequence[float]) -> pd.DataFrame:
    """Survival of each group at some times, columns TIMES_COLUMNS; one row without a time where there are none.

    Args:
        splits: Splits of one endpoint.
        times: In the endpoint's unit.
    """
    rows = []
    for split in splits:
        for group in split.groups:
            size = {"n": len(group.time), "n_events": int(group.event.sum())}
            keys = {**split.keys(), "group": group.name, **size, **median_survival(group)}
            found = [survival_at(group, float(time)) for time in times]
            found = found or [{"undefined_reason": "no times are configured"}]
            rows += [{**keys, **at} for at in found]
    numbers = ("time", "survival", "ci_low", "ci_high", "median_survival", "median_low", "median_high")
    return pd.DataFrame(rows, columns=TIMES_COLUMNS).astype({**dict.fromkeys(numbers, float), "at_risk": "Int64"})


def curves_table(splits: Sequence[Split]) -> pd.DataFrame:
    """The whole curves, columns CURVES_COLUMNS: a row at 0 and at each time of an event."""
    parts = [
        group.curve.assign(**split.keys(), group=group.name)[CURVES_COLUMNS]
        for split in splits
        for group in split.groups
        if len(group.curve)
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=CURVES_COLUMNS)


def logrank_table(splits: Sequence[Split]) -> pd.DataFrame:
    """The log-rank test of each split, columns LOGRANK_COLUMNS."""
    rows = []
    for split in splits:
        own = {"cutoffs": "; ".join(repr(cutoff) for cutoff in split.cutoffs), "n_at_cutoff": split.at_cutoff}
        own |= {"strata": "; ".join(split.strata), "n_dropped": split.dropped}
        rows.append({**split.keys(), **own, **vars(split.test)})
    numbers = ("statistic", "p", "trend_statistic", "trend_p")
    return pd.DataFrame(rows, columns=LOGRANK_COLUMNS).astype({**dict.fromkeys(numbers, float), "df": "Int64"})


@dataclass(frozen=True)
class Curves:
    """What the splits of all endpoints of a model give.

    Attributes:
        splits: The splits, for figures.
        survival: Columns TIMES_COLUMNS.
        curves: Columns CURVES_COLUMNS.
        tests: Columns LOGRANK_COLUMNS.
    """

    splits: list[Split]
    survival: pd.DataFrame
    curves: pd.DataFrame
    tests: pd.DataFrame


def split_endpoints(
    rows: Mapping[str, pd.DataFrame],
    patients: Mapping[str, Mapping[str, int]],
    roles: Mapping[str, str],
    settings: Mapping[str, Any],
) -> Curves:
    """Splits the patients of all endpoints of a model by its scores.

    Args:
        rows: Endpoint -> its patients, as `survival_rows.endpoint_rows` gives them.
        patients: Endpoint -> cohort -> all patients, also those without a time.
        roles: Cohort -> `development` or `external`.
        settings: `settings/survival.<model>.yaml`: `endpoints confidence`.
    """
    splits, tables = [], []
    for name, endpoint in settings["endpoints"].items():
        found = make_splits(rows[name], name, endpoint, roles, patients[name], settings["confidence"])
        splits += found
        tables.append(survival_table(found, endpoint["times"]))
    return Curves(splits, pd.concat(tables, ignore_index=True), curves_table(splits), logrank_table(splits))
