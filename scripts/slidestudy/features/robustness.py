"""The robustness index: whether neighbours in feature space share the biology or the centre."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slidestudy.statistics import MIN_PATIENTS, cluster_weights, with_interval

Array = NDArray[np.float64]

BLOCK_VALUES = 2**24
"""Similarities that are held at once."""
TIE = 1e-6
"""Cosine similarities closer than this are equal: float32 products of equal vectors differ by less."""


@dataclass(frozen=True)
class Robustness:
    """A robustness index with its bootstrap interval.

    Attributes:
        index: Neighbours that share the class over neighbours that share the centre, or None where undefined.
        ci_low: Lower end of the percentile interval, or None.
        ci_high: Upper end, or None.
        same_class: Neighbours that share the class, summed over the vectors.
        same_center: Neighbours that share the centre, summed over the vectors.
        n: Vectors used.
        undefined_reason: Why the index, or its interval, is missing; empty otherwise.
        at_random: The index that neighbours drawn at random would give, or None. It is 1 only where classes
            and centres are as many and as frequent; an index is to be read beside it.
        left_out: Vectors left out, as their class or centre is missing.
    """

    index: float | None
    ci_low: float | None
    ci_high: float | None
    same_class: float
    same_center: float
    n: int
    undefined_reason: str = ""
    at_random: float | None = None
    left_out: int = 0


def robustness_index(
    vectors: NDArray[Any],
    classes: Sequence[Any],
    centers: Sequence[Any],
    groups: Sequence[Any],
    *,
    k: int,
    replicates: int,
    confidence: float,
    seed: int,
) -> Robustness:
    """The robustness index of feature vectors, with a patient-clustered bootstrap interval.

    Among the k nearest neighbours of each vector, the number that share its biological class divided by the
    number that share its centre, both summed over all vectors; above 1, biology dominates (De Jong, Marcus and
    Teuwen 2025, arXiv:2501.18055). A neighbour that shares both counts on both sides. PathoROB (Kömen et al.
    2025, arXiv:2507.17845) later redefined the index as a fraction of the neighbours that share one of the two
    only: its values lie between 0 and 1 and are not those of this function.

    As in PathoROB, nearness is that of the vectors at unit length (cosine similarity), and tiles of the same
    slide are no neighbours. Our choice goes one step further: nor are those of other slides of the patient,
    which share the class and the centre for no reason but the patient. Vectors of other patients that are
    equally near as the k-th share the remaining places, so that the order of the vectors does not matter.

    The bootstrap draws whole patients with replacement and adds up their vectors' counts; the neighbours stay
    those found among all vectors, since copies of a drawn patient would be neighbours of themselves.

    Args:
        vectors: Feature vectors, (n, dim), finite.
        classes: Biological class of each, (n,); None, NaN or blank where it is not known.
        centers: Centre of each, (n,); None, NaN or blank where it is not known.
        groups: Patient of each, (n,).
        k: Nearest neighbours, at least 1.
        replicates: Bootstrap samples.
        confidence: Coverage of the interval, e.g. 0.95.
        seed: Seed of the bootstrap.

    Returns:
        The index; undefined with the reason rather than 0, infinite or NaN.

    Raises:
        ValueError: The lengths differ, a value is not finite, or k is below 1.
    """
    vectors = np.asarray(vectors, np.float32)
    if vectors.ndim != 2 or not len(vectors) == len(classes) == len(centers) == len(groups):
        raise ValueError(f"vectors {vectors.shape} and {len(classes)}, {len(centers)}, {len(groups)} labels")
    if k < 1 or not np.isfinite(vectors).all():
        raise ValueError(f"k is {k}" if k < 1 else "the vectors are not all finite")
    class_codes, center_codes = _codes(classes), _codes(centers)
    known = (class_codes >= 0) & (center_codes >= 0)
    class_codes, center_codes = class_codes[known], center_codes[known]
    patients = np.unique(np.asarray(groups, dtype=str)[known], return_inverse=True)[1]
    n, left_out = int(known.sum()), int((~known).sum())
    reason = _why_undefined(class_codes, center_codes, patients, k)
    if reason:
        return Robustness(None, None, None, 0.0, 0.0, n, reason, None, left_out)
    counts, expected = _count_neighbours(unit_vectors(vectors[known]), class_codes, center_codes, patients, k)
    same_class, same_center = (float(total) for total in counts.sum(0))
    by_random = expected.sum(0)
    at_random = float(by_random[0] / by_random[1]) if by_random[1] > 0 else None
    if same_center == 0:
        why = "no neighbour shares the centre"
        return Robustness(None, None, None, same_class, same_center, n, why, at_random, left_out)
    low, high, why = _interval(counts, patients, replicates, confidence, seed)
    return Robustness(same_class / same_center, low, high, same_class, same_center, n, why, at_random, left_out)


def _codes(labels: Sequence[Any]) -> NDArray[np.int64]:
    """Labels as numbers from 0; -1 where missing or blank."""
    series = pd.Series(list(labels), dtype=object)
    blank = series.isna() | (series.astype(str).str.strip() == "")
    codes, _ = pd.factorize(series.astype(str).str.strip())
    return np.where(blank, -1, codes)


def unit_vectors(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors (n, dim) at unit length, single precision; a zero vector stays zero, as it has no direction."""
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)


def _why_undefined(classes: NDArray[np.int64], centers: NDArray[np.int64], patients: NDArray[np.intp], k: int) -> str:
    """The reason why the index has no meaning; empty where it has one."""
    if len(classes) == 0:
        return "no vector has a class and a centre"
    if len(np.unique(classes)) < 2:
        return "one class only"
    if len(np.unique(centers)) < 2:
        return "one centre only"
    available = int(len(patients) - np.bincount(patients).max())
    return f"{available} vectors of other patients, {k} neighbours are needed" if available < k else ""


def _count_neighbours(
    unit: NDArray[np.float32],
    classes: NDArray[np.int64],
    centers: NDArray[np.int64],
    patients: NDArray[np.intp],
    k: int,
) -> tuple[Array, Array]:
    """Of each vector's k neighbours those that share class and centre, (n, 2); and as many drawn at random."""
    n = len(unit)
    counts, expected = np.zeros((n, 2)), np.zeros((n, 2))
    rows = max(1, BLOCK_VALUES // n)
    for start in range(0, n, rows):
        part = slice(start, min(start + rows, n))
        allowed = patients[part, None] != patients[None]
        similarity = np.where(allowed, unit[part] @ unit.T, np.float32(-np.inf))
        last = np.partition(similarity, n - k, axis=1)[:, n - k, None]
        nearer = similarity > last + TIE
        tied = allowed & ~nearer & (similarity >= last - TIE)
        share = (k - nearer.sum(1)) / tied.sum(1)
        for column, labels in enumerate((classes, centers)):
            same = labels[part, None] == labels[None]
            counts[part, column] = (nearer & same).sum(1) + share * (tied & same).sum(1)
            expected[part, column] = k * (allowed & same).sum(1) / allowed.sum(1)
    return counts, expected


def _interval(
    counts: Array, patients: NDArray[np.intp], replicates: int, confidence: float, seed: int
) -> tuple[float | None, float | None, str]:
    """The percentile interval over patients drawn with replacement, or why there is none."""
    number = int(patients.max()) + 1
    if number < MIN_PATIENTS:
        return None, None, f"no interval: {number} patients"
    per_patient = np.stack([np.bincount(patients, counts[:, column], number) for column in range(2)], axis=1)
    sums = cluster_weights(np.arange(number), replicates, seed) @ per_patient
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = np.where(sums[:, 1] > 0, sums[:, 0] / sums[:, 1], np.nan)
    estimate = with_interval(0.0, draws, confidence, len(counts))
    return estimate.ci_low, estimate.ci_high, estimate.undefined_reason
