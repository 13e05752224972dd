"""Whether a model's metrics differ between groups of a cohort."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logit
from scipy.stats import chi2
from statsmodels.discrete.discrete_model import Logit
from statsmodels.regression.linear_model import OLS
from statsmodels.tools.sm_exceptions import ConvergenceWarning, PerfectSeparationError, PerfectSeparationWarning

from slidestudy.statistics import Array, PatientDraws, with_interval
from slidestudy.validation.agreement import mean_difference
from slidestudy.validation.cohort_levels import Pairs
from slidestudy.validation.measuring import PERCENTILE, Measured, Sample, measure_view
from slidestudy.validation.metrics import MAIN_METRIC, main_metric, rows_of
from slidestudy.validation.paired_differences import holm
from slidestudy.validation.pooling import OF_ONE_TARGET, SCALES, samples_on_scale
from slidestudy.validation.views import View

TESTS = [
    "column", "cohort", "role", "level", "test", "metric", "threshold", "statistic", "df", "p", "p_holm",
    "largest_difference", "ci_low", "ci_high", "highest", "lowest", "groups", "n", "n_patients", "undefined_reason",
]  # fmt: skip
MEAN_DIFFERENCE = "mean_difference"
OF_ONE_NUMBER = ("regression", "classification")
"""Tasks of which the mean of prediction less label is told, and the line of labels on predictions."""
WALD, F_TEST, RATIO = "wald", "f", "likelihood_ratio"
SLOPE = "slope"
SHARED = "patients stand in several rows: a model of independent rows does not hold"
NEAREST = 1e-6
"""Probabilities nearer to 0 or 1 count as that far from them, as in the calibration."""
FAILURES = (PerfectSeparationError, PerfectSeparationWarning, ConvergenceWarning, RuntimeWarning, np.linalg.LinAlgError)
"""What a logistic model without a finite estimate ends in."""
Key = tuple[str, float | None]
"""A metric and its threshold."""
Groups = Mapping[str, Sequence[View]]


def group_tests(found: Groups, level: str, smallest: int, settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Tests of a cohort's groups at one level: of each metric, then of the line of labels on predictions.

    Args:
        found: Group -> its views; only those that count.
        level: `slide` or `patient`.
        smallest: Fewest patients of a group that counts, for the reason.
        settings: `task cutoffs cutoff_rule bootstrap confidence seed`.

    Yields:
        The columns of TESTS from `test` on, without `p_holm`.
    """
    too_few = "" if len(found) > 1 else f"fewer than two groups of {smallest} patients or more"
    rows = {name: rows_of(views) for name, views in found.items()}
    draws = PatientDraws(
        np.concatenate([np.zeros(0, object), *(table["patient_id"].to_numpy(object) for table in rows.values())]),
        settings["bootstrap"],
        settings["seed"],
    )
    # A small group may have none of its patients in a sample, where its metrics are undefined.
    with np.errstate(invalid="ignore", divide="ignore"):
        measured = {} if too_few else {name: _measure(views, draws, settings) for name, views in found.items()}
    for metric, threshold in _keys(settings):
        keys = {"test": WALD, "metric": metric, "threshold": threshold}
        if too_few:
            yield {**keys, **_size(rows, list(rows)), "undefined_reason": too_few}
        else:
            of_metric = {name: of_group[metric, threshold] for name, of_group in measured.items()}
            yield {**keys, **_compare(of_metric, rows, settings["confidence"])}
    if settings["task"] in OF_ONE_NUMBER and level == "patient":
        test = F_TEST if settings["task"] == "regression" else RATIO
        row = {"undefined_reason": too_few} if too_few else _interaction(found, settings["task"])
        yield {"test": test, "metric": SLOPE, "threshold": None, **_size(rows, list(rows)), **row}


def correct(tests: pd.DataFrame) -> pd.DataFrame:
    """Adds p-values corrected by Holm's method over the columns, of each cohort, level, test, metric and threshold."""
    tests = tests.assign(p_holm=pd.Series(dtype=object), threshold=tests["threshold"].astype(float))
    for _, part in tests.groupby(["cohort", "level", "test", "metric", "threshold"], sort=False, dropna=False):
        tests.loc[part.index, "p_holm"] = holm([None if pd.isna(p) else float(p) for p in part["p"]])
    return tests[TESTS].astype(dict.fromkeys(("df", "groups", "n", "n_patients"), "Int64"))


def _keys(settings: Mapping[str, Any]) -> list[Key]:
    """What is compared: the headline, the AUROC at each cut-off, and how much is predicted on average."""
    keys: list[Key] = [(MAIN_METRIC[settings["task"]], None)]
    if settings["task"] in OF_ONE_TARGET:
        keys += [("auroc", cutoff) for cutoff in settings["cutoffs"]]
    return keys + ([(MEAN_DIFFERENCE, None)] if settings["task"] in OF_ONE_NUMBER else [])


def _measure(found: Sequence[View], draws: PatientDraws, settings: dict[str, Any]) -> dict[Key, Measured]:
    """The metrics of a group that are compared, on draws of the patients of all groups."""
    settings = {**settings, "interval": PERCENTILE}
    main = main_metric(found, draws, settings)
    measured = [] if settings["task"] not in OF_ONE_TARGET else measure_view(found[0], draws, settings)
    kept: dict[Key, Measured] = {(m.metric, m.threshold): m for m in measured if m.metric == "auroc"}
    if settings["task"] in OF_ONE_NUMBER:
        pairs = Pairs.of(found[0], draws)
        sample = Sample(pairs.patients, draws, settings)
        kept[MEAN_DIFFERENCE, None] = sample.measure(MEAN_DIFFERENCE, mean_difference, pairs.truth, pairs.prediction)
    return {**kept, (main.metric, None): main}


def _size(rows: Mapping[str, pd.DataFrame], names: Sequence[str]) -> dict[str, int]:
    """How many groups, rows and patients count; a patient of several groups once."""
    patients = {patient for name in names for patient in rows[name]["patient_id"]}
    return {"groups": len(names), "n": sum(len(rows[name]) for name in names), "n_patients": len(patients)}


def _compare(measured: Mapping[str, Measured], rows: Mapping[str, pd.DataFrame], confidence: float) -> dict[str, Any]:
    """The test of one metric, of the groups in which it has a place on its scale."""
    placed = {name: _placed(found) for name, found in measured.items()}
    known = {name: place for name, place in placed.items() if not isinstance(place, str)}
    left_out = _left_out({name: place for name, place in placed.items() if isinstance(place, str)})
    size = _size(rows, list(known))
    if len(known) < 2:
        return {**size, "undefined_reason": f"fewer than two groups ({left_out})"}
    patients = [set(rows[name]["patient_id"]) for name in known]
    shared = len(set.union(*patients)) < sum(map(len, patients))
    effects, samples = (np.array(part) for part in zip(*known.values(), strict=True))
    tested = wald(effects, samples, shared)
    if tested is None:
        return {**size, "undefined_reason": "the groups' bootstrap samples determine each other"}
    values = {name: float(measured[name].estimate.value or 0.0) for name in known}
    highest, lowest = max(values, key=values.__getitem__), min(values, key=values.__getitem__)
    difference = values[highest] - values[lowest]
    ends = [measured[name].replicates for name in (highest, lowest)]
    row = {"statistic": tested[0], "df": tested[1], "p": tested[2], "highest": highest, "lowest": lowest}
    if ends[0] is None or ends[1] is None:
        raise ValueError("a metric that is tested has bootstrap samples")
    interval = with_interval(difference, ends[0] - ends[1], confidence, size["n"])
    row |= {"largest_difference": difference, "ci_low": interval.ci_low, "ci_high": interval.ci_high}
    return {**row, **size, "undefined_reason": "; ".join(filter(None, [interval.undefined_reason, left_out]))}


def _left_out(reasons: Mapping[str, str]) -> str:
    """Which groups do not count, by reason."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return "; ".join(f"without {', '.join(of_reason)}: {reason}" for reason, of_reason in names.items())


def _placed(found: Measured) -> tuple[float, Array] | str:
    """A metric and its samples on its scale, that of the mean difference being its own; or why it has no place."""
    if found.metric in SCALES:
        return samples_on_scale(found, SCALES[found.metric])
    value, samples = found.estimate.value, found.replicates
    if value is None or samples is None or found.estimate.ci_low is None:
        return found.estimate.undefined_reason
    return (value, samples) if np.ptp(samples[np.isfinite(samples)]) > 0 else "all bootstrap samples are the same"


def wald(effects: Array, samples: Array, shared: bool) -> tuple[float, int, float] | None:
    """Wald's test that k effects are the same; of groups of different patients it is Cochran's Q (1954).

    Args:
        effects: (k,).
        samples: Their bootstrap samples (k, b); NaN where undefined.
        shared: Whether groups have patients in common; if not, their covariances are 0.

    Returns:
        The statistic, its degrees of freedom, k - 1, and the p-value of a chi-squared distribution; None where the
        covariance is singular.
    """
    if shared:
        covariance = np.cov(samples[:, np.isfinite(samples).all(0)])
    else:
        covariance = np.diag(np.nanvar(samples, axis=1, ddof=1))
    freedom = len(effects) - 1
    contrast = np.hstack([-np.ones((freedom, 1)), np.eye(freedom)])
    gaps, spread = contrast @ effects, contrast @ covariance @ contrast.T
    if not np.isfinite(spread).all() or np.linalg.matrix_rank(spread) < freedom:
        return None
    statistic = float(gaps @ np.linalg.solve(spread, gaps))
    return statistic, freedom, float(chi2.sf(statistic, freedom))


def _interaction(found: Groups, task: str) -> dict[str, Any]:
    """Whether the line of labels on predictions has another slope in some group: prediction x group in a model.

    Of a regression the F test of two nested linear models, of a classification the likelihood-ratio test of two
    logistic ones on the probability's logit, both with an intercept for each group.
    """
    tables = pd.concat([views[0].table.assign(group=name) for name, views in found.items()])
    if tables["patient_id"].duplicated().any():
        return {"undefined_reason": SHARED}
    groups = pd.get_dummies(tables["group"]).to_numpy(float)
    truth, predicted = tables["truth"].to_numpy(float), tables["prediction"].to_numpy(float)
    if task == "classification":
        truth = (truth > 0.5).astype(float)
        predicted = logit(np.clip(predicted, NEAREST, 1 - NEAREST))
    small = np.column_stack([groups, predicted])
    large = np.column_stack([groups, groups * predicted[:, None]])
    if np.linalg.matrix_rank(large) < large.shape[1] or len(truth) <= large.shape[1]:
        return {"undefined_reason": "constant prediction in a group, or too few patients"}
    if task == "regression":
        statistic, p, freedom = OLS(truth, large).fit().compare_f_test(OLS(truth, small).fit())
        return {"statistic": float(statistic), "df": int(freedom), "p": float(p), "undefined_reason": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            fits = [Logit(truth, design).fit(disp=0, maxiter=100) for design in (small, large)]
        except FAILURES:
            return {"undefined_reason": "the predictions separate the classes of a group"}
    ratio, freedom = max(0.0, 2 * (fits[1].llf - fits[0].llf)), groups.shape[1] - 1
    return {"statistic": ratio, "df": freedom, "p": float(chi2.sf(ratio, freedom)), "undefined_reason": ""}
