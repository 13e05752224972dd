"""Kaplan-Meier estimates, log-rank tests and concordance equal those of R's package `survival`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tests.validation.survival_data import TABLES, has_r, rerun, stored

from slidestudy.censoring_statistics import unos_c
from slidestudy.survival_statistics import harrells_c
from slidestudy.validation.kaplan_meier import Group, fit_curve, median_survival, survival_at
from slidestudy.validation.log_rank import log_rank

REFERENCE = stored("kaplan_meier")
TIGHT = 1e-9
"""Relative; R's numbers are stored with 15 digits."""
GROUPED = {"lung": ["sex"], "gbsg2": ["tgrade", "horTh"], "rossi": ["fin"]}
SCORES = {"lung": "age", "gbsg2": "pnodes", "rossi": "prio"}


def groups_of(data: str, column: str | None) -> dict[str, Group]:
    """The groups of a table under R's labels, each with its curve."""
    table = TABLES[data]()
    parts = {"": table} if column is None else {f"{column}={value}": own for value, own in table.groupby(column)}
    found = {}
    for label, own in parts.items():
        time, event = own["time"].to_numpy(float), own["status"].to_numpy(float)
        found[label] = Group(label, time, event, fit_curve(time, event, 0.95))
    return found


ALL = {
    (data, label): group
    for data, columns in {**GROUPED, "lung": [None, "sex"]}.items()
    for column in columns
    for label, group in groups_of(data, column).items()
}


def test_rscript_prints_what_is_stored() -> None:
    if not has_r():
        pytest.skip("Rscript with the package survival is not installed")
    pd.testing.assert_frame_equal(rerun("kaplan_meier"), REFERENCE, rtol=1e-12)


def test_survival_intervals_and_numbers_at_risk() -> None:
    rows = REFERENCE[REFERENCE["analysis"] == "survfit"]
    compared = 0
    for (data, label, at), own in rows.groupby(["data", "group", "at"]):
        r = own.set_index("item")["value"]
        found = survival_at(ALL[data, label], float(at))
        assert found["survival"] == pytest.approx(r["surv"], rel=TIGHT)
        assert found["at_risk"] == r["n.risk"]
        if 0 < r["surv"] < 1:
            assert (found["ci_low"], found["ci_high"]) == pytest.approx((r["lower"], r["upper"]), rel=TIGHT)
            compared += 1
        else:
            assert np.isnan(found["ci_low"])
            assert found["undefined_reason"] == "no interval: no event by then"
    assert compared >= 20


def test_medians_and_their_intervals() -> None:
    rows = REFERENCE[REFERENCE["analysis"] == "median"]
    for (data, label), own in rows.groupby(["data", "group"]):
        r = own.set_index("item")["value"]
        found = median_survival(ALL[data, label])
        ours = [found[name] for name in ("median_survival", "median_low", "median_high")]
        theirs = [None if np.isnan(r[item]) else r[item] for item in ("quantile", "lower", "upper")]
        assert ours == theirs
        assert (found["median_undefined_reason"] == "") == (None not in theirs)
    assert set(rows["group"]) >= {"", "sex=1", "tgrade=III", "horTh=yes", "fin=0"}


LOG_RANKS = sorted({(row.data, row.analysis) for row in REFERENCE.itertuples() if row.analysis.startswith("log-rank")})


@pytest.mark.parametrize(("data", "analysis"), LOG_RANKS)
def test_log_rank_tests(data: str, analysis: str) -> None:
    column, _, within = analysis.removeprefix("log-rank by ").partition(" within ")
    strata = within.split(" and ") if within else []
    table = TABLES[data]().dropna(subset=[column, *strata])
    group = table.groupby(column).ngroup().to_numpy()
    stratum = table.groupby(strata).ngroup().to_numpy() if strata else None
    found = log_rank(table["time"].to_numpy(float), table["status"].to_numpy(float), group, stratum)
    r = REFERENCE[(REFERENCE["data"] == data) & (REFERENCE["analysis"] == analysis)].set_index("item")["value"]
    assert found.statistic == pytest.approx(r["chisq"], rel=TIGHT)
    assert found.df == (r_df := r["df"])
    assert found.p == pytest.approx(r["p"], rel=TIGHT)
    name = analysis.replace("log-rank", "trend")
    r = REFERENCE[(REFERENCE["data"] == data) & (REFERENCE["analysis"] == name)].set_index("item")["value"]
    assert len(r) == (2 if r_df > 1 else 0)
    if len(r):
        assert (found.trend_statistic, found.trend_p) == pytest.approx((r["chisq"], r["p"]), rel=TIGHT)
    else:
        assert found.trend_p is None


@pytest.mark.parametrize("data", SCORES)
def test_harrells_and_unos_c(data: str) -> None:
    table = TABLES[data]()
    time, score, event = (table[name].to_numpy(float) for name in ("time", SCORES[data], "status"))
    rows = REFERENCE[(REFERENCE["data"] == data) & (REFERENCE["analysis"] == "concordance")]
    once = np.ones((1, len(time)))
    harrell = rows[rows["item"] == "harrell"]["value"].item()
    assert harrells_c(event)(time, score, once)[0] == pytest.approx(harrell, rel=TIGHT)
    uno = rows[rows["item"] == "uno"]
    assert len(uno) == 2
    for at, value in zip(uno["at"], uno["value"], strict=True):
        until = float(at) if at else None
        assert unos_c(event, until)(time, score, once)[0] == pytest.approx(value, rel=TIGHT)
