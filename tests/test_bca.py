"""BCa intervals against scipy's, in their limits, and how often they and percentile intervals cover a known truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr

from slidestudy import statistics as s
from slidestudy.bca import bca_ends, leave_one_out


def bca(statistic, y, p, patients, replicates=2000, seed=1, confidence=0.95):
    draws = s.PatientDraws(patients, replicates, seed)
    return s.measure(statistic, y, p, patients, draws, confidence, left_out=leave_one_out(patients))[0]


@pytest.mark.parametrize(
    ("statistic", "reference"),
    [
        (s.pearson, lambda y, p: stats.pearsonr(y, p).statistic),
        (s.mean_squared_error, lambda y, p: np.mean((y - p) ** 2)),
    ],
)
def test_one_row_per_patient_gives_the_interval_of_scipy(statistic, reference):
    rng = np.random.default_rng(4)
    y = rng.exponential(size=40)
    p = y + rng.exponential(size=40)
    found = bca(statistic, y, p, np.arange(40), replicates=20000)
    options = dict(paired=True, vectorized=False, n_resamples=6000, method="BCa", rng=np.random.default_rng(0))
    expected = stats.bootstrap((y, p), reference, **options).confidence_interval
    width = expected.high - expected.low
    assert found.ci_low == pytest.approx(expected.low, abs=0.06 * width)
    assert found.ci_high == pytest.approx(expected.high, abs=0.06 * width)


def test_skewed_draws_move_the_interval_from_the_percentile_one():
    rng = np.random.default_rng(4)
    y = rng.exponential(size=40)
    p = y + rng.exponential(size=40)
    plain = s.estimate(s.mean_squared_error, y, p, np.arange(40), replicates=5000, confidence=0.95, seed=1)
    found = bca(s.mean_squared_error, y, p, np.arange(40), replicates=5000)
    width = plain.ci_high - plain.ci_low
    assert found.value == plain.value
    assert found.ci_low > plain.ci_low + 0.02 * width
    assert found.ci_high > plain.ci_high + 0.1 * width


def test_the_same_draws_give_the_same_ends_as_scipy():
    """Draws and jackknife of a mean; scipy draws its own, so that its formula is written out."""
    rng = np.random.default_rng(7)
    x = rng.exponential(size=25)
    draws = x[rng.integers(0, 25, (999, 25))].mean(1)
    left_out = np.array([np.delete(x, i).mean() for i in range(25)])
    z0 = stats.norm.ppf((draws < x.mean()).mean())
    u = left_out.mean() - left_out
    a = (u**3).sum() / (6 * (u**2).sum() ** 1.5)
    levels = [stats.norm.cdf(z0 + (z0 + z) / (1 - a * (z0 + z))) for z in stats.norm.ppf([0.05, 0.95])]
    assert bca_ends(x.mean(), draws, left_out, 0.9) == pytest.approx(tuple(np.quantile(draws, levels)))


def test_the_jackknife_leaves_out_whole_patients():
    weights = leave_one_out(["b", "a", "b"])
    assert weights.tolist() == [[1, 0, 1], [0, 1, 0]]
    rng = np.random.default_rng(0)
    y, p, patients = rng.normal(size=30), rng.normal(size=30), np.arange(30)
    single = bca(s.pearson, y, p, patients)
    copied = bca(s.pearson, np.repeat(y, 5), np.repeat(p, 5), np.repeat(patients, 5))
    assert (copied.ci_low, copied.ci_high) == pytest.approx((single.ci_low, single.ci_high))


def test_draws_that_are_all_equal_give_the_value_itself():
    """An AUROC of 1 stays 1 in every sample."""
    y, p = np.repeat([0.0, 1.0], 10), np.arange(20.0)
    found = bca(s.auroc, y, p, np.arange(20))
    assert (found.value, found.ci_low, found.ci_high, found.undefined_reason) == (1, 1, 1, "")


def test_draws_on_one_side_of_the_value_give_no_interval():
    draws, left_out = np.linspace(1, 2, 50), np.linspace(0, 1, 10)
    assert bca_ends(0.5, draws, left_out, 0.95) == "no interval: all bootstrap samples lie on one side of the value"
    assert bca_ends(1.5, draws, left_out * np.nan, 0.95) == "no interval: undefined without single patients"
    found = s.with_interval(0.5, draws, 0.95, 10, left_out)
    assert (found.value, found.ci_low, found.ci_high) == (0.5, None, None)
    assert found.undefined_reason.startswith("no interval")


def studies(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Label and prediction of 60 patients with two slides each, which share half of the prediction's noise."""
    shared, own = rng.normal(size=60).repeat(2), rng.normal(size=120)
    noise = np.sqrt(0.5) * (shared + own)
    if kind == "auroc":
        label = (np.arange(60) % 2).repeat(2).astype(float)
        return label, label + noise
    truth = np.sqrt(0.5) * (rng.normal(size=60).repeat(2) + rng.normal(size=120))
    return truth, 0.6 * truth + 0.8 * noise


@pytest.mark.parametrize(("kind", "truth"), [("pearson", 0.6), ("auroc", float(ndtr(1 / np.sqrt(2))))])
def test_intervals_of_clustered_slides_cover_the_truth_as_often_as_they_say(kind, truth):
    rng, statistic, patients = np.random.default_rng(20), getattr(s, kind), np.arange(60).repeat(2)
    left_out, hits = leave_one_out(patients), np.zeros(2)
    for study in range(300):
        y, p = studies(kind, rng)
        value, draws = s.measure(statistic, y, p, patients, s.PatientDraws(patients, 500, study), 0.95)
        corrected = s.with_interval(value.value, draws, 0.95, 120, statistic(y, p, left_out))
        hits += [e.ci_low <= truth <= e.ci_high for e in (value, corrected)]
    percentile, bca_share = hits / 300
    assert 0.90 <= percentile <= 0.98
    assert 0.90 <= bca_share <= 0.98
