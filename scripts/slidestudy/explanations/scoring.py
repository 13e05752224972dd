"""Scoring explanations: does the answer given from a text alone tell where the model's output lies?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slidestudy import statistics
from slidestudy.explanations.agreement import ordinal_alpha
from slidestudy.explanations.answers import AnswerStatus
from slidestudy.explanations.reading import ABSTAINED, Reading
from slidestudy.explanations.subsets import Bools, Patches, Subset, estimate, over_rows
from slidestudy.statistics import Estimate, Statistic

Array = NDArray[np.float64]

SCORES = [
    "explanation", "kind", "patches", "subset", "metric", "value", "ci_low", "ci_high", "n", "n_patients", "n_answered",
    "n_abstained", "n_unparsed", "n_failed", "undefined_reason", "reader", "is_vlm", "gate", "sample_digest",
]  # fmt: skip
RATES = {
    "abstention_rate": AnswerStatus.ABSTAINED,
    "unparsed_rate": AnswerStatus.UNPARSED,
    "failed_rate": AnswerStatus.FAILED,
}


def reference_auroc(truth: Array, prediction: Array, weights: Array) -> Array:
    """X2X's own orientation: the reader's side as truth, the model's logit as score (see `auroc_reference`)."""
    return statistics.auroc((prediction > ABSTAINED).astype(float), truth, weights)


def accuracy(truth: Array, prediction: Array, weights: Array) -> Array:
    """Share of answers on the model's side of the threshold."""
    total = weights.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, weights @ ((prediction > ABSTAINED) == (truth > 0)) / total, np.nan)


def balanced_accuracy(truth: Array, prediction: Array, weights: Array) -> Array:
    """Mean over the model's two sides of the share of answers on that side."""
    return statistics.balanced_accuracy(truth, (prediction > ABSTAINED).astype(float), weights)


def brier(truth: Array, prediction: Array, weights: Array) -> Array:
    """Mean squared error of the reader's probabilities; 0.25 where it always says one half."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return statistics.mean_squared_error(truth, prediction, weights)


def score_all(
    readings: Sequence[Reading], patches: Patches, settings: Mapping[str, Any], gate: str = "not tested"
) -> pd.DataFrame:
    """The scores of every explanation on one set of patches.

    `auroc` has the model's side of the threshold as truth and the ordinal answer as score, abstentions half way;
    `auroc_reference` follows X2X: the answered side as truth, the model's logit as score. It, `accuracy` and
    `balanced_accuracy` leave out patches without a side. `spearman` is between ordinal answer and logit, `brier` the
    mean squared error of the reader's probabilities, `repeat_agreement` Krippendorff's ordinal alpha of the repeats.
    Rates are shares of all answers. The control `shuffled` has the mean over its shufflings with the interval of one.

    Args:
        readings: The answers from each explanation.
        patches: The patches.
        settings: `confidence smallest`; with fewer usable patches than `smallest` there is no score.
        gate: What the reader's test said: passed, failed, not tested.

    Returns:
        The columns of SCORES.
    """
    rows: list[dict[str, Any]] = []
    for reading in readings:
        provenance = {"reader": reading.reader, "is_vlm": reading.is_vlm, "gate": gate}
        common = {"explanation": reading.name, "kind": reading.kind, "patches": patches.name}
        for part in patches.parts:
            counts = {f"n_{status.value}": int(of[part.rows].sum()) for status, of in reading.counts.items()}
            for metric, used, found in _metrics(reading, patches, part, settings):
                numbers = {"value": found.value, "ci_low": found.ci_low, "ci_high": found.ci_high, "n": found.n}
                numbers["n_patients"] = len(np.unique(patches.patients[used]))
                row = {**common, "subset": part.name, "metric": metric, **numbers, **counts, **provenance}
                rows.append({**row, "undefined_reason": found.undefined_reason, "sample_digest": patches.digest})
    return pd.DataFrame(rows, columns=SCORES)


def _metrics(
    reading: Reading, patches: Patches, part: Subset, settings: Mapping[str, Any]
) -> list[tuple[str, Bools, Estimate]]:
    """All metrics of one explanation on one subset: name, the patches used, and the estimate."""
    label, logits, ordinals, given = patches.label, patches.logits, reading.ordinals, reading.probabilities
    answered = part.rows & np.isfinite(ordinals)
    sided = answered & (ordinals != ABSTAINED)
    likely = part.rows & np.isfinite(given)
    listed: list[tuple[str, Statistic, Array, Array, Bools]] = [
        ("auroc", statistics.auroc, label, ordinals, answered),
        ("auroc_reference", reference_auroc, logits, ordinals, sided),
        ("spearman", statistics.spearman, logits, ordinals, answered),
        ("accuracy", accuracy, label, ordinals, sided),
        ("balanced_accuracy", balanced_accuracy, label, ordinals, sided),
        ("brier", brier, label, given, likely),
    ]
    found = []
    for metric, statistic, truth, values, usable in listed:
        used: Bools = np.any(usable, axis=0)
        reason = reading.unasked or _why_not(metric, truth[usable[0]], values[0][usable[0]], settings["smallest"])
        if reason:
            result = Estimate(None, None, None, int(used.sum()), reason)
        else:
            result = estimate(
                over_rows(statistic, truth, values, usable), used, part, patches.patients, settings["confidence"]
            )
        found.append((metric, used, result))
    # The answers are those to the text, which tells how they agree and how many are missing.
    if reading.kind != "shuffled":
        found.append(("repeat_agreement", *_agreement(reading, patches, part, settings)))
        found += [(name, part.rows, _rate(status, reading, patches, part, settings)) for name, status in RATES.items()]
    return found


def _why_not(metric: str, truth: Array, values: Array, smallest: int) -> str:
    """Why a score cannot be given; blank where it can."""
    if metric == "brier" and len(values) == 0:
        return "the reader gives no probability"
    if len(values) == 0:
        return "no rows"
    if len(values) < smallest:
        return f"{len(values)} patches, fewer than {smallest}"
    if metric == "auroc_reference" and len(np.unique(values > ABSTAINED)) < 2:
        return "all answers of one class"
    if metric in ("auroc", "balanced_accuracy") and np.ptp(truth) == 0:
        return "one class only"
    if metric == "spearman" and (np.ptp(truth) == 0 or np.ptp(values) == 0):
        return "constant score" if np.ptp(truth) == 0 else "all answers equal"
    return ""


def _agreement(reading: Reading, patches: Patches, part: Subset, settings: Mapping[str, Any]) -> tuple[Bools, Estimate]:
    """Agreement of the repeats: the patches with two usable answers, and alpha."""
    used = part.rows & (np.isfinite(reading.repeats).sum(0) >= 2)
    n, reason = int(used.sum()), reading.unasked
    values = reading.repeats[:, used]
    if not reason and len(reading.repeats) < 2:
        reason = "every question was asked once"
    elif not reason and n == 0:
        reason = "no rows"
    elif not reason and np.ptp(values[np.isfinite(values)]) == 0:
        reason = "all answers equal"
    if reason:
        return used, Estimate(None, None, None, n, reason)

    def alpha(weights: Array) -> Array:
        return ordinal_alpha(values, weights[:, used])

    return used, estimate(alpha, used, part, patches.patients, settings["confidence"])


def _rate(
    status: AnswerStatus, reading: Reading, patches: Patches, part: Subset, settings: Mapping[str, Any]
) -> Estimate:
    """The share of all answers that have a status."""
    n = int(part.rows.sum())
    if reading.unasked:
        return Estimate(None, None, None, n, reading.unasked)
    share = reading.counts[status] / len(reading.repeats)

    def rate(weights: Array) -> Array:
        return weights @ share / weights.sum(1)

    found = estimate(rate, part.rows, part, patches.patients, settings["confidence"])
    if n and found.ci_low is not None and np.ptp(share[part.rows]) == 0:
        # The draws of a rate of 0 or 1 are all alike, which says nothing about how well it is known.
        return Estimate(found.value, None, None, n, "no interval: the same for every patch")
    return found
