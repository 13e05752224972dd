"""Metrics pooled over the external cohorts: fixed and random effects, and how much the cohorts differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import chi2, norm, t

from slidestudy.statistics import Array
from slidestudy.validation.cohort_levels import CohortLevel
from slidestudy.validation.measuring import Measured, measure_view
from slidestudy.validation.metrics import main_metric

OF_ONE_TARGET = ("regression", "survival-cox", "survival-discrete")
"""Tasks of which cut-offs are pooled too; a classification has none."""
ROUNDING = 1e-9
"""Values nearer to an end of their scale are at it but for rounding."""
FEWEST_POOLED = 2
FEWEST_PREDICTED = 3
"""Fewest cohorts of which a prediction interval is given."""
POOLED_COLUMNS = [
    "level", "metric", "threshold", "effect", "cohort", "value", "ci_low", "ci_high", "scale", "transformed", "se",
    "weight_fixed", "weight_random", "n_cohorts", "n", "n_patients", "q", "p", "i2", "tau2", "predicted_low",
    "predicted_high", "undefined_reason",
]  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """A scale on which the scatter of a metric hardly depends on its value.

    Attributes:
        name: `fisher-z` or `logit`.
        low: The metric's lowest value, at which the scale has no end.
        forward: From the metric to the scale.
        back: From the scale to the metric.
    """

    name: str
    low: float
    forward: Callable[[Any], Any]
    back: Callable[[Any], Any]


FISHER_Z = Scale("fisher-z", -1.0, np.arctanh, np.tanh)
"""Of correlations (Fisher 1921, Metron 1:3)."""
LOGIT = Scale("logit", 0.0, logit, expit)
"""Of areas and shares of pairs (for the AUROC: Pepe 2003, The Statistical Evaluation of Medical Tests, section 4.3)."""
SCALES = {
    "pearson": FISHER_Z, "spearman": FISHER_Z, "ccc": FISHER_Z, "pearson_mean": FISHER_Z,
    "auroc": LOGIT, "auroc_macro": LOGIT, "c_index": LOGIT,
}  # fmt: skip


@dataclass(frozen=True)
class Pooled:
    """Effects of k cohorts, pooled on the scale on which they are given.

    Attributes:
        fixed: The fixed effect and its standard error.
        random: The random effect and its standard error.
        weights: Shares of the cohorts in the fixed and in the random effect, (2, k).
        q: Cochran's Q.
        p: Its p-value, of a chi-squared distribution with k - 1 degrees of freedom.
        i2: Share of the scatter that is not chance (Higgins & Thompson 2002, Stat Med 21:1539).
        tau2: Variance of the true effects.
    """

    fixed: tuple[float, float]
    random: tuple[float, float]
    weights: Array
    q: float
    p: float
    i2: float
    tau2: float


def pool(effects: Array, errors: Array) -> Pooled:
    """Pools effects by inverse variance, fixed and random (DerSimonian & Laird 1986, Control Clin Trials 7:177).

    Own code, since `statsmodels.stats.meta_analysis.combine_effects` lets the variance between cohorts be negative.

    Args:
        effects: Of k cohorts, two at least (k,).
        errors: Their standard errors, above 0 (k,).
    """
    weights, freedom = errors**-2.0, len(effects) - 1
    total = weights.sum()
    fixed = float(weights @ effects / total)
    q = float(weights @ (effects - fixed) ** 2)
    tau2 = max(0.0, (q - freedom) / float(total - (weights**2).sum() / total))
    random_weights = 1 / (errors**2 + tau2)
    random = float(random_weights @ effects / random_weights.sum())
    return Pooled(
        fixed=(fixed, float(total**-0.5)),
        random=(random, float(random_weights.sum() ** -0.5)),
        weights=np.stack([weights / total, random_weights / random_weights.sum()]),
        q=q,
        p=float(chi2.sf(q, freedom)),
        i2=max(0.0, 1 - freedom / q) if q > 0 else 0.0,
        tau2=tau2,
    )


def samples_on_scale(found: Measured, scale: Scale) -> tuple[float, Array] | str:
    """A metric on a scale, and its bootstrap samples there.

    A sample at the metric's very end has no place on the scale; it is put halfway between the end and the sample that
    is nearest to it (our choice).

    Args:
        found: The metric.
        scale: The scale.

    Returns:
        Effect and samples (b,), NaN where undefined; or why it has no place on the scale.
    """
    value = found.estimate.value
    if value is None or found.estimate.ci_low is None or found.replicates is None:
        return found.estimate.undefined_reason
    samples, low, high = found.replicates, scale.low + ROUNDING, 1 - ROUNDING
    with np.errstate(invalid="ignore"):
        inside = samples[(samples > low) & (samples < high)]
    if not low < value < high or len(inside) < np.isfinite(samples).sum() / 2:
        return f"the value, or most bootstrap samples, are exactly {scale.low:g} or 1"
    samples = np.where(samples >= high, (inside.max() + 1) / 2, samples)
    samples = np.where(samples <= low, (inside.min() + scale.low) / 2, samples)
    if np.ptp(samples[np.isfinite(samples)]) == 0:
        return "all bootstrap samples are the same"
    return float(scale.forward(value)), scale.forward(samples)


def on_scale(found: Measured, scale: Scale) -> tuple[float, float] | str:
    """A cohort's metric on a scale, and its standard error there: the SD of its bootstrap samples.

    Args:
        found: The cohort's metric.
        scale: The scale.

    Returns:
        Effect and standard error; or why the cohort cannot be pooled.
    """
    placed = samples_on_scale(found, scale)
    if isinstance(placed, str):
        return placed if found.estimate.ci_low is None else f"cannot be pooled: {placed}"
    effect, samples = placed
    return effect, float(np.std(samples[np.isfinite(samples)], ddof=1))


def pool_cohorts(levels: Sequence[CohortLevel], settings: dict[str, Any]) -> pd.DataFrame:
    """Pools the headline metric, and of a model of one target the AUROC at each cut-off, over the external cohorts.

    Of a regression Spearman's and Lin's coefficients too.

    Args:
        levels: The cohorts' slides and patients.
        settings: `task columns cutoffs cutoff_rule confidence interval`.

    Returns:
        The columns of POOLED_COLUMNS, of each level and metric a row for every external cohort, then `fixed` and
        `random`; no rows with fewer than two external cohorts.
    """
    rows: list[dict[str, Any]] = []
    external = [level for level in levels if level.role == "external"]
    for level in dict.fromkeys(found.level for found in external):
        of_level = [found for found in external if found.level == level]
        if len(of_level) < FEWEST_POOLED:
            continue
        measured: dict[tuple[str, float | None], dict[str, Measured]] = {}
        for cohort in of_level:
            for found in _measure(cohort, settings):
                measured.setdefault((found.metric, found.threshold), {})[cohort.cohort] = found
        for (metric, threshold), cohorts in measured.items():
            keys = {"level": level, "metric": metric, "threshold": threshold, "scale": SCALES[metric].name}
            rows += [{**keys, **row} for row in pooled_rows(cohorts, SCALES[metric], settings["confidence"])]
    return pd.DataFrame(rows, columns=POOLED_COLUMNS).astype(dict.fromkeys(("n_cohorts", "n", "n_patients"), "Int64"))


def _measure(level: CohortLevel, settings: dict[str, Any]) -> list[Measured]:
    """The metrics of a cohort that are pooled: the headline, and of a model's only target all with a scale."""
    if settings["task"] in OF_ONE_TARGET:
        return [found for found in measure_view(level.views[0], level.draws, settings) if found.metric in SCALES]
    return [main_metric(level.views, level.draws, settings)]


def pooled_rows(cohorts: Mapping[str, Measured], scale: Scale, confidence: float) -> list[dict[str, Any]]:
    """The rows of a metric: its cohorts, the fixed effect and the random one.

    Args:
        cohorts: External cohort -> its metric.
        scale: Where it is pooled.
        confidence: Coverage of the intervals.

    Returns:
        The columns of POOLED_COLUMNS from `effect` on; values blank where there is nothing to pool, with the reason.
    """
    placed = [on_scale(found, scale) for found in cohorts.values()]
    known = [(at, place) for at, place in enumerate(placed) if not isinstance(place, str)]
    rows = [_cohort_row(*item, place) for item, place in zip(cohorts.items(), placed, strict=True)]
    pooled_from = [list(cohorts.values())[at] for at, _ in known]
    size = {
        "n_cohorts": len(known),
        "n": sum(found.estimate.n for found in pooled_from),
        "n_patients": sum(found.patients for found in pooled_from),
    }
    if len(known) < FEWEST_POOLED:
        reason = "fewer than two external cohorts can be pooled"
        return [*rows, *({"effect": e, **size, "undefined_reason": reason} for e in ("fixed", "random"))]
    pooled = pool(*np.array([place for _, place in known]).T)
    for (at, _), shares in zip(known, pooled.weights.T, strict=True):
        rows[at] |= {"weight_fixed": shares[0], "weight_random": shares[1]}
    spread = {"q": pooled.q, "p": pooled.p, "i2": pooled.i2, "tau2": pooled.tau2}
    reach = float(norm.ppf((1 + confidence) / 2))
    for effect, (mean, error) in (("fixed", pooled.fixed), ("random", pooled.random)):
        low, value, high = (float(scale.back(mean + side * reach * error)) for side in (-1, 0, 1))
        row = {"effect": effect, "value": value, "ci_low": low, "ci_high": high, "transformed": mean, "se": error}
        rows.append({**row, **size, **spread, "undefined_reason": ""})
    rows[-1] |= _prediction_interval(pooled, len(known), scale, confidence)
    return rows


def _cohort_row(cohort: str, found: Measured, place: tuple[float, float] | str) -> dict[str, Any]:
    """The row of a cohort: its value with the bootstrap interval, and where it lies on the scale."""
    estimate = found.estimate
    transformed, error = (None, None) if isinstance(place, str) else place
    return {
        "effect": "cohort",
        "cohort": cohort,
        "value": estimate.value,
        "ci_low": estimate.ci_low,
        "ci_high": estimate.ci_high,
        "transformed": transformed,
        "se": error,
        "n": estimate.n,
        "n_patients": found.patients,
        "undefined_reason": place if isinstance(place, str) else estimate.undefined_reason,
    }


def _prediction_interval(pooled: Pooled, cohorts: int, scale: Scale, confidence: float) -> dict[str, Any]:
    """Where the metric of a further cohort is expected (Higgins et al. 2009, J R Stat Soc A 172:137, section 4.1)."""
    if cohorts < FEWEST_PREDICTED:
        return {"undefined_reason": "no prediction interval: fewer than three cohorts"}
    mean, error = pooled.random
    reach = float(t.ppf((1 + confidence) / 2, cohorts - 2)) * (pooled.tau2 + error**2) ** 0.5
    return {"predicted_low": float(scale.back(mean - reach)), "predicted_high": float(scale.back(mean + reach))}
