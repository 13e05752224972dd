"""How often 95 % intervals hold a truth that is known: simulated studies of patients with two slides each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import ndtr

from slidestudy import agreement_statistics, statistics
from slidestudy.bca import leave_one_out
from slidestudy.delong import delong
from slidestudy.statistics import Array, PatientDraws, Statistic
from slidestudy.survival_statistics import harrells_c

STUDIES, SAMPLES, PATIENTS = 1000, 1000, 150
Pair = tuple[Array, Array]


def noise(rng: np.random.Generator) -> Array:
    """Standard normal noise of slides, half of whose variance is the patient's."""
    return np.sqrt(0.5) * (rng.normal(size=PATIENTS).repeat(2) + rng.normal(size=2 * PATIENTS))


def numbers(rng: np.random.Generator) -> Pair:
    """Labels, and predictions that correlate with them by 0.6 and have the same variance."""
    label = noise(rng)
    return label, 0.6 * label + 0.8 * noise(rng)


def classes(rng: np.random.Generator) -> Pair:
    """Classes of patients, and scores whose means differ by one SD."""
    label = (np.arange(PATIENTS) % 2).repeat(2).astype(float)
    return label, label + noise(rng)


def decisions(rng: np.random.Generator) -> Pair:
    """Classes, and which scores lie above the middle."""
    label, score = classes(rng)
    return label, (score > 0.5).astype(float)


def times(rng: np.random.Generator) -> Pair:
    """Times to an event that every patient has, and the logarithm of the hazard; one slide of each."""
    risk = rng.normal(size=PATIENTS)
    return rng.exponential(size=PATIENTS) / np.exp(risk), risk


def concordance_of_hazards() -> float:
    """How often the higher of two hazards, which are log-normal, brings the event first."""
    difference = np.linspace(-12, 12, 100_001)
    density = np.exp(-(difference**2) / 4) / np.sqrt(4 * np.pi)
    return float(np.trapezoid(density / (1 + np.exp(-np.abs(difference))), difference))


CASES: dict[str, tuple[Statistic, Callable[[np.random.Generator], Pair], float]] = {
    "pearson": (statistics.pearson, numbers, 0.6),
    "ccc": (agreement_statistics.concordance, numbers, 0.6),
    # The difference of label and prediction is normal with variance 0.4^2 + 0.8^2.
    "mae": (statistics.mean_absolute_error, numbers, float(np.sqrt(0.8 * 2 / np.pi))),
    "auroc": (statistics.auroc, classes, float(ndtr(1 / np.sqrt(2)))),
    "balanced_accuracy": (statistics.balanced_accuracy, decisions, float(ndtr(0.5))),
    "c_index": (harrells_c(np.ones(PATIENTS)), times, concordance_of_hazards()),
}


def shares(name: str) -> tuple[float, float]:
    """How often the percentile and the BCa interval of a statistic held the truth."""
    statistic, simulate, truth = CASES[name]
    rng, hits = np.random.default_rng(20), np.zeros(2)
    for study in range(STUDIES):
        label, score = simulate(rng)
        patients = np.arange(PATIENTS).repeat(len(label) // PATIENTS)
        draws = PatientDraws(patients, SAMPLES, study)
        found = [
            statistics.measure(statistic, label, score, patients, draws, 0.95, None, left_out)[0]
            for left_out in (None, leave_one_out(patients))
        ]
        hits += [e.ci_low <= truth <= e.ci_high for e in found]
    return tuple(hits / STUDIES)


@pytest.mark.parametrize("name", CASES)
def test_bootstrap_intervals_hold_the_truth_as_often_as_they_say(name):
    percentile, corrected = shares(name)
    assert 0.93 <= percentile <= 0.97
    assert 0.93 <= corrected <= 0.97


def test_delongs_interval_holds_the_truth_as_often_as_it_says():
    rng, truth, hits = np.random.default_rng(21), CASES["auroc"][2], 0
    for _ in range(STUDIES):
        label, score = classes(rng)
        found = delong(label, score, np.arange(PATIENTS).repeat(2), 0.95)
        hits += found.ci_low <= truth <= found.ci_high
    assert 0.93 <= hits / STUDIES <= 0.97
