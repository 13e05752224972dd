"""Scoring explanations: does the answer given from a text alone tell where the model's output lies?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slidestudy import statistics
from slidestudy.errors import StudyError
from slidestudy.explanations.answering import Answers
from slidestudy.explanations.answers import Answer, AnswerStatus
from slidestudy.statistics import Statistic

SCORES = [
    "explanation", "kind", "subset", "metric", "value", "ci_low", "ci_high", "n", "n_patients", "n_answered",
    "n_abstained", "n_unparsed", "n_failed", "undefined_reason", "reader", "is_vlm", "sample_digest",
]  # fmt: skip
PAIRS = ["explanation_a", "explanation_b", "subset", "difference", "ci_low", "ci_high", "n", "undefined_reason"]
ABSTAINED = 1.5
"""Ordinal of an abstention: half way between high and low, so that it says nothing either way."""


@dataclass(frozen=True)
class Subset:
    """Patches on which explanations are scored together.

    Attributes:
        name: X (all), X1 or X3 (farther from the threshold).
        rows: Which patches belong to it, bool (n,).
    """

    name: str
    rows: NDArray[np.bool_]


def kind_of(explanation: str) -> str:
    """`text`, or which automatic control an explanation is."""
    if explanation == "control.irrelevant":
        return "irrelevant"
    return "inverted" if explanation.endswith(".inverted") else "text"


def subsets(sample: pd.DataFrame, threshold: float, spread: float, x1: float, x3: float) -> list[Subset]:
    """X, X1 and X3 of X2X (arXiv 2508.09205), distances in SD of the development tiles' logits."""
    distance = np.abs(sample["logit"].to_numpy() - threshold) / spread
    return [Subset("X", np.ones(len(sample), bool)), Subset("X1", distance > x1), Subset("X3", distance > x3)]


def _ordinals(answers: Sequence[Answer]) -> NDArray[np.float64]:
    """VERY LOW 0 to VERY HIGH 3; an abstention lies between; NaN where there is no answer to use."""
    values = []
    for answer in answers:
        if answer.status is AnswerStatus.ABSTAINED:
            values.append(ABSTAINED)
        else:
            values.append(float(answer.conclusion.ordinal) if answer.conclusion is not None else np.nan)
    return np.array(values, float)


def reference_auroc(
    truth: NDArray[np.float64], prediction: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """X2X's own orientation: the reader's class as truth, the model's logit as score (see `auroc_reference`)."""
    return statistics.auroc(prediction, truth, weights)


def _status_counts(answers: Sequence[Answer], part: Subset) -> dict[str, int]:
    """How many answers of a subset have each status, `n_answered` and so on."""
    inside = [answer.status for answer, chosen in zip(answers, part.rows, strict=True) if chosen]
    return {f"n_{status.value}": inside.count(status) for status in AnswerStatus}


def score_explanation(
    name: str,
    answers: Sequence[Answer],
    sample: pd.DataFrame,
    parts: Sequence[Subset],
    threshold: float,
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """The rows of `scores.tsv` of one explanation.

    `auroc` has the model's label as truth and the ordinal answer as score, abstentions half way;
    `auroc_reference` follows X2X: the answered class as truth, the model's logit as score, abstentions dropped.

    Args:
        name: The explanation.
        answers: One per patch, in the sample's order.
        sample: The frozen sample.
        parts: Subsets.
        threshold: The logit that divides high from low.
        settings: `bootstrap confidence seed`.
        provenance: `reader is_vlm sample_digest`.
    """
    ordinals = _ordinals(answers)
    answered = np.array([a.conclusion is not None for a in answers])
    high = np.array([a.conclusion is not None and a.conclusion.high for a in answers], float)
    logits = sample["logit"].to_numpy()
    label = (logits > threshold).astype(float)
    bootstrap = {"replicates": settings["bootstrap"], "confidence": settings["confidence"], "seed": settings["seed"]}
    rows = []
    for part in parts:
        counts = _status_counts(answers, part)
        for metric, statistic, truth, values, usable in (
            ("auroc", statistics.auroc, label, ordinals, np.isfinite(ordinals)),
            ("auroc_reference", reference_auroc, logits, high, answered),
        ):
            keep = part.rows & usable
            patients = sample["patient_id"].to_numpy()[keep]
            found = statistics.estimate(statistic, truth[keep], values[keep], patients, **bootstrap)
            reason = found.undefined_reason
            if metric == "auroc_reference" and found.value is None and found.n:
                reason = "all answers of one class"
            rows.append({
                "explanation": name, "kind": kind_of(name), "subset": part.name, "metric": metric, "value": found.value,
                "ci_low": found.ci_low, "ci_high": found.ci_high, "n": found.n, "n_patients": len(np.unique(patients)),
                **counts, "undefined_reason": reason, **provenance,
            })  # fmt: skip
    return rows


def compare_explanations(
    answers: Mapping[str, Sequence[Answer]],
    sample: pd.DataFrame,
    parts: Sequence[Subset],
    threshold: float,
    settings: Mapping[str, Any],
) -> pd.DataFrame:
    """Paired differences of AUROC between explanations on the patches that both could use.

    Both are scored on the same bootstrap draws of patients, so that the difference's interval is paired.

    Returns:
        The columns of PAIRS.
    """
    label = (sample["logit"].to_numpy() > threshold).astype(float)
    names = list(answers)
    ordinals = {name: _ordinals(answers[name]) for name in names}
    rows = []
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            for part in parts:
                keep = part.rows & np.isfinite(ordinals[first]) & np.isfinite(ordinals[second])
                stacked = (label[keep], ordinals[first][keep], ordinals[second][keep])
                rows.append(
                    {
                        "explanation_a": first,
                        "explanation_b": second,
                        "subset": part.name,
                        **_difference(*stacked, sample["patient_id"].to_numpy()[keep], settings),
                    }
                )
    return pd.DataFrame(rows, columns=PAIRS)


def _difference(
    label: NDArray[np.float64],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    patients: NDArray[Any],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """The difference of two AUROCs with its paired interval."""

    def paired(auroc: Statistic, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return auroc(label, first, weights) - auroc(label, second, weights)

    value = float(paired(statistics.auroc, np.ones((1, len(label))))[0]) if len(label) else np.nan
    if not np.isfinite(value):
        return {
            "difference": None,
            "ci_low": None,
            "ci_high": None,
            "n": len(label),
            "undefined_reason": "one class only" if len(label) else "no rows",
        }
    if len(np.unique(patients)) < statistics.MIN_PATIENTS:
        found = statistics.Estimate(value, None, None, len(label), "no interval: too few patients")
    else:
        draws = paired(statistics.auroc, statistics.cluster_weights(patients, settings["bootstrap"], settings["seed"]))
        found = statistics.with_interval(value, draws, settings["confidence"], len(label))
    return {
        "difference": found.value,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "n": found.n,
        "undefined_reason": found.undefined_reason,
    }


def score_all(
    answers: Mapping[str, Answers], sample: pd.DataFrame, card: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores every explanation and compares each pair.

    Args:
        answers: Explanation -> its answers.
        sample: The frozen sample.
        card: Its `threshold spread digest`.
        settings: `bootstrap confidence seed x1 x3`.

    Returns:
        The columns of SCORES and of PAIRS.

    Raises:
        StudyError: Answers that do not belong to the sample.
    """
    parts = subsets(sample, card["threshold"], card["spread"], settings["x1"], settings["x3"])
    rows: list[dict[str, Any]] = []
    for name, given in answers.items():
        if [a.patch_id for a in given.answers] != list(sample["patch_id"]):
            raise StudyError("the answers belong to another sample", f"explanation {name}", "remove the answers folder")
        provenance = {"reader": given.reader, "is_vlm": given.is_vlm, "sample_digest": card["digest"]}
        rows += score_explanation(name, given.answers, sample, parts, card["threshold"], settings, provenance)
    listed = {name: given.answers for name, given in answers.items()}
    pairs = compare_explanations(listed, sample, parts, card["threshold"], settings)
    return pd.DataFrame(rows, columns=SCORES), pairs
