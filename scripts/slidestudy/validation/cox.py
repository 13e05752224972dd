"""Cox models of the scores of an endpoint: `cox.tsv` and `cox_tests.tsv`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm, t

from slidestudy.statistics import PatientDraws
from slidestudy.validation.cox_analyses import Analysis, analyses, select
from slidestudy.validation.cox_tests import TEST_COLUMNS, tests

COX_COLUMNS = [
    "endpoint", "cohort", "role", "score", "analysis", "term", "level", "reference", "per", "scale", "coef", "se",
    "hazard_ratio", "ci_low", "ci_high", "z", "p", "n", "n_events", "n_dropped", "standard_errors", "strata", "missing",
    "imputations", "warning", "undefined_reason",
]  # fmt: skip


def analyse_endpoints(
    rows: Mapping[str, pd.DataFrame],
    patients: Mapping[str, Mapping[str, int]],
    roles: Mapping[str, str],
    settings: Mapping[str, Any],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fits and tests the Cox models of all endpoints in all cohorts.

    Args:
        rows: Endpoint -> its patients, as `survival_rows.endpoint_rows` gives them.
        patients: Endpoint -> cohort -> all of its patients.
        roles: Cohort -> `development` or `external`.
        settings: `settings/survival.<model>.yaml`: `endpoints bootstrap confidence seed`.

    Returns:
        The columns of COX_COLUMNS and of TEST_COLUMNS; blank where undefined, with the reason.
    """
    terms, tested = [], []
    for endpoint, options in settings["endpoints"].items():
        for cohort, role in roles.items():
            n = patients[endpoint].get(cohort, 0)
            of = select(endpoint, options, rows[endpoint], (cohort, role), n, settings["seed"])
            draws = PatientDraws(of.rows["patient_id"], settings["bootstrap"], settings["seed"])
            found = list(analyses(of))
            terms += [row for analysis in found for row in term_rows(analysis, settings["confidence"])]
            tested += tests(of, found, draws, settings["confidence"])
    counts = dict.fromkeys(("n", "n_events", "n_dropped", "imputations"), "Int64")
    cox = pd.DataFrame(terms, columns=COX_COLUMNS).astype(counts)
    return cox, pd.DataFrame(tested, columns=TEST_COLUMNS).astype({"df": "Int64", "n": "Int64", "n_events": "Int64"})


def term_rows(analysis: Analysis, confidence: float) -> list[dict[str, Any]]:
    """A row for each coefficient of a model, and for each term that the cohort tells nothing of.

    Args:
        analysis: The model.
        confidence: Coverage of the intervals.
    """
    common = _common(analysis)
    rows = []
    for place, column in enumerate(analysis.design.columns):
        named = {"term": column.term, "level": column.level, "reference": column.reference, "per": column.per}
        row = {**common, **named, "scale": column.scale, "undefined_reason": analysis.reason(place)}
        if not row["undefined_reason"]:
            row |= _estimate(analysis, place, confidence)
        rows.append(row)
    return rows + [{**common, "term": term, "undefined_reason": why} for term, why in analysis.design.left_out]


def _common(analysis: Analysis) -> dict[str, Any]:
    """What all rows of a model share."""
    of = analysis.of
    imputing = of.options["missing"] == "imputation" and analysis.name != "univariable"
    return {
        **of.keys(analysis.score, analysis.name),
        "n": len(of.rows),
        "n_events": of.outcome.n_events,
        "n_dropped": of.n_dropped,
        "standard_errors": "model" if of.options["cluster"] is None else "cluster-robust",
        "strata": ", ".join(of.options["strata"]),
        "missing": of.options["missing"],
        "imputations": (len(of.completed) if of.imputed else 0) if imputing else None,
        "warning": "; ".join(analysis.warnings),
    }


def _estimate(analysis: Analysis, place: int, confidence: float) -> dict[str, float]:
    """A coefficient with its interval and its test, normal or, where pooled, by the t distribution."""
    coef, df = float(analysis.coef[place]), float(analysis.df[place])
    error = float(np.sqrt(analysis.covariance[place, place]))
    law = norm() if np.isinf(df) else t(df)
    half, z = float(law.ppf((1 + confidence) / 2)) * error, coef / error
    with np.errstate(over="ignore"):
        ratio, low, high = (float(np.exp(value)) for value in (coef, coef - half, coef + half))
    found = {"coef": coef, "se": error, "hazard_ratio": ratio, "ci_low": low, "ci_high": high}
    return {**found, "z": z, "p": 2 * float(law.sf(abs(z)))}
