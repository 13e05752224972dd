"""Pooling over cohorts: against statsmodels and by hand, its invariants, and which cohorts take part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects
from tests.validation.made_predictions import (
    MULTICLASS,
    SURVIVAL,
    ids,
    of_classes,
    of_targets,
    of_times,
    settings,
    several,
)

from slidestudy.statistics import Estimate
from slidestudy.validation.cohort_levels import cohort_levels
from slidestudy.validation.measuring import Measured
from slidestudy.validation.pooling import (
    FISHER_Z,
    LOGIT,
    POOLED_COLUMNS,
    on_scale,
    pool,
    pool_cohorts,
    pooled_rows,
    samples_on_scale,
)
from slidestudy.validation.study import validate

EFFECTS, ERRORS = np.array([0.2, 0.9, 0.5, 0.7]), np.array([0.1, 0.15, 0.2, 0.12])
REGRESSION = settings("regression", cutoffs=[30], bootstrap=300)
ROLES = {"north": "development", "south": "external", "east": "external", "west": "external"}


def cohort(seed: int, n: int = 60, noise: float = 20, per_patient: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 80, n)
    return ids(n, per_patient).assign(target=truth, prediction=truth + rng.normal(0, noise, n))


COHORTS = {name: cohort(seed, noise=15 + 8 * seed) for seed, name in enumerate(ROLES)}


def pooled(cohorts: dict[str, pd.DataFrame] = COHORTS, options: dict[str, Any] = REGRESSION) -> pd.DataFrame:
    return pool_cohorts(cohort_levels(cohorts, ROLES, options), options)


def measured(replicates: Any, value: float) -> Measured:
    return Measured("auroc", Estimate(value, 0.1, 0.9, 50), 40, replicates=np.asarray(replicates, float))


def test_both_effects_are_those_of_statsmodels():
    found, expected = pool(EFFECTS, ERRORS), combine_effects(EFFECTS, ERRORS**2, method_re="dl")
    assert found.fixed == pytest.approx((expected.mean_effect_fe, expected.sd_eff_w_fe))
    assert found.random == pytest.approx((expected.mean_effect_re, expected.sd_eff_w_re))
    assert (found.q, found.i2, found.tau2) == pytest.approx((expected.q, expected.i2, expected.tau2))
    assert found.p == pytest.approx(expected.test_homogeneity().pvalue)
    np.testing.assert_allclose(found.weights, [expected.weights_rel_fe, expected.weights_rel_re])


def test_two_effects_by_hand():
    # Weights 100 and 25: mean 0.6 x 0.8 + ...; Q = 125 x 0.8 x 0.2 x 0.5^2 = 5; C = 125 - 10625 / 125 = 40.
    found = pool(np.array([0.5, 1.0]), np.array([0.1, 0.2]))
    assert found.fixed == pytest.approx((0.6, 125**-0.5))
    assert (found.q, found.tau2, found.i2) == pytest.approx((5, 4 / 40, 0.8))
    weights = np.array([1 / 0.11, 1 / 0.14])
    assert found.random == pytest.approx((weights @ [0.5, 1.0] / weights.sum(), weights.sum() ** -0.5))


@pytest.mark.parametrize("effects", [[0.4, 0.4, 0.4], [0.40, 0.41, 0.42]])
def test_effects_that_differ_no_more_than_by_chance_have_the_fixed_effect_as_random_one(effects):
    found = pool(np.array(effects), np.array([0.1, 0.2, 0.3]))
    assert (found.i2, found.tau2) == (0, 0)
    assert found.random == pytest.approx(found.fixed)


def test_the_order_of_cohorts_does_not_matter_and_more_scatter_widens_the_random_effect():
    first, turned = pool(EFFECTS, ERRORS), pool(EFFECTS[::-1], ERRORS[::-1])
    assert (first.random, first.q) == (pytest.approx(turned.random), pytest.approx(turned.q))
    wider = pool(EFFECTS * 2, ERRORS)
    assert wider.random[1] > first.random[1] > first.fixed[1] == wider.fixed[1]


def test_standard_errors_are_the_scatter_of_the_samples_on_the_scale():
    samples = np.random.default_rng(0).uniform(0.6, 0.9, 500)
    effect, error = on_scale(measured(samples, 0.75), LOGIT)
    assert (effect, error) == pytest.approx((np.log(3), np.std(np.log(samples / (1 - samples)), ddof=1)))
    effect, error = on_scale(measured(samples, 0.75), FISHER_Z)
    assert (effect, error) == pytest.approx((np.arctanh(0.75), np.std(np.arctanh(samples), ddof=1)))


def test_samples_at_the_end_of_a_metric_are_put_beside_their_neighbour():
    _, error = on_scale(measured([0.8, 0.9, 0.7, 1.0, np.nan], 0.9), LOGIT)
    moved = np.array([0.8, 0.9, 0.7, 0.95])
    assert error == pytest.approx(np.std(np.log(moved / (1 - moved)), ddof=1))


@pytest.mark.parametrize(
    ("samples", "value", "reason"),
    [
        ([0.9, 0.95, 0.8], 1.0, "exactly 0 or 1"),
        ([1.0, 1.0, 1.0, 0.9], 0.99, "exactly 0 or 1"),
        ([0.8, 0.8], 0.8, "all bootstrap samples are the same"),
    ],
)
def test_a_cohort_without_a_standard_error_is_left_out_with_the_reason(samples, value, reason):
    assert reason in on_scale(measured(samples, value), LOGIT)
    rng = np.random.default_rng(1)
    others = {name: measured(rng.uniform(0.6, 0.8, 50), 0.7) for name in ("b", "c")}
    rows = pooled_rows({"a": measured(samples, value), **others}, LOGIT, 0.95)
    assert reason in rows[0]["undefined_reason"]
    assert "weight_fixed" not in rows[0]
    assert (rows[-1]["n_cohorts"], rows[-1]["n"], rows[-1]["n_patients"]) == (2, 100, 80)
    alone = pooled_rows({"a": measured(samples, value), "b": others["b"]}, LOGIT, 0.95)
    assert {row["undefined_reason"] for row in alone[2:]} == {"fewer than two external cohorts can be pooled"}
    assert all("value" not in row for row in alone[2:])


def test_intervals_and_the_prediction_interval_are_made_on_the_scale():
    rng = np.random.default_rng(2)
    found = {
        n: measured(np.clip(rng.normal(v, 0.05, 400), 0.01, 0.99), v)
        for n, v in zip("abc", (0.6, 0.75, 0.9), strict=True)
    }
    fixed, random = pooled_rows(found, LOGIT, 0.9)[-2:]
    places = np.array([on_scale(one, LOGIT) for one in found.values()])
    expected = pool(*places.T)
    back = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    reach = stats.norm.ppf(0.95) * expected.fixed[1]
    assert (fixed["ci_low"], fixed["ci_high"]) == pytest.approx(
        (back(expected.fixed[0] - reach), back(expected.fixed[0] + reach))
    )
    reach = stats.t.ppf(0.95, 1) * np.hypot(expected.random[1], expected.tau2**0.5)
    assert random["predicted_low"] == pytest.approx(back(expected.random[0] - reach))
    assert random["predicted_low"] < random["ci_low"] < random["value"] < random["ci_high"] < random["predicted_high"]


def test_two_cohorts_have_no_prediction_interval():
    rng = np.random.default_rng(2)
    found = {name: measured(rng.uniform(0.6, 0.8, 50), 0.7) for name in ("a", "b")}
    row = pooled_rows(found, LOGIT, 0.95)[-1]
    assert row["undefined_reason"] == "no prediction interval: fewer than three cohorts"
    assert "predicted_low" not in row


def test_only_external_cohorts_are_pooled_at_both_levels_and_their_rows_are_the_metrics():
    found = pooled()
    metrics, _ = validate(COHORTS, ROLES, REGRESSION, None)
    cohorts = found[found["effect"] == "cohort"]
    assert set(cohorts["cohort"]) == {"south", "east", "west"}
    asked = {("pearson", None), ("spearman", None), ("ccc", None), ("auroc", 30)}
    for level in ("slide", "patient"):
        rows = cohorts[cohorts["level"] == level]
        assert {(m, None if pd.isna(t) else t) for m, t in zip(rows["metric"], rows["threshold"], strict=True)} == asked
        keys = ["cohort", "level", "metric"]
        kept = metrics[(metrics["target"] == "") & metrics["metric"].isin(rows["metric"])]
        both = rows.merge(kept, on=keys, suffixes=("", "_there"))
        assert len(both) == len(rows)
        for column in ("value", "ci_low", "ci_high", "n", "n_patients"):
            assert list(both[column]) == list(both[f"{column}_there"])


def test_weights_of_the_cohorts_sum_to_one_and_the_pooled_value_lies_among_them():
    for _, rows in pooled().groupby(["level", "metric"]):
        cohorts, effects = rows[rows["effect"] == "cohort"], rows[rows["effect"] != "cohort"]
        assert cohorts[["weight_fixed", "weight_random"]].sum().tolist() == pytest.approx([1, 1])
        for value in effects["value"]:
            assert cohorts["value"].min() < value < cohorts["value"].max()


def test_the_fisher_z_error_of_a_correlation_is_near_its_formula():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 300))
    tables = {
        name: ids(300).assign(target=x[k], prediction=x[k] + rng.normal(size=300)) for k, name in enumerate(ROLES)
    }
    rows = pooled(tables, settings("regression", bootstrap=1000)).query("metric == 'pearson' and effect == 'cohort'")
    assert rows["se"].to_numpy() == pytest.approx(297**-0.5, rel=0.15)


@pytest.mark.parametrize("roles", [{"a": "development", "b": "external"}, {"a": "development", "b": "development"}])
def test_with_one_external_cohort_or_none_there_is_nothing_but_the_header(roles):
    found = pool_cohorts(cohort_levels({"a": cohort(1), "b": cohort(2)}, roles, REGRESSION), REGRESSION)
    assert (list(found.columns), len(found)) == (POOLED_COLUMNS, 0)


@pytest.mark.parametrize(
    ("options", "make", "expected"),
    [
        ({**SURVIVAL, "cutoffs": [12]}, of_times, {("c_index", None), ("auroc", 12)}),
        (MULTICLASS, of_classes, {("auroc_macro", None)}),
        (several(["A", "B"], cutoffs=[0.5]), lambda n, k: of_targets(n, ["A", "B"], k), {("pearson_mean", None)}),
    ],
)
def test_each_task_pools_its_headline_metric(options, make, expected):
    found = pooled({name: make(50, seed) for seed, name in enumerate(ROLES)}, options)
    shown = {(m, None if pd.isna(t) else t) for m, t in zip(found["metric"], found["threshold"], strict=True)}
    assert shown == expected
    effects = found[found["effect"] == "random"]
    assert effects["value"].astype(float).between(-1, 1).all()
    assert (effects["n_cohorts"] == 3).all()


def test_a_cohort_without_labels_is_named_but_not_pooled():
    found = pooled({**COHORTS, "west": COHORTS["west"].assign(target=np.nan)}).query("metric == 'pearson'")
    row = found.query("cohort == 'west' and level == 'slide'").iloc[0]
    assert (row["undefined_reason"], pd.isna(row["weight_fixed"])) == ("no rows", True)
    assert set(found.query("effect == 'fixed'")["n_cohorts"]) == {2}


def test_a_sample_that_is_one_but_for_rounding_is_at_the_end_of_the_scale():
    samples = np.array([0.5, 0.6, 0.7, 0.8, np.nextafter(1, 0), 1.0, np.nan])
    found = Measured("pearson", Estimate(0.7, 0.5, 0.9, 20), 20, replicates=samples)
    effect, placed = samples_on_scale(found, FISHER_Z)
    assert effect == pytest.approx(np.arctanh(0.7))
    assert placed[:6] == pytest.approx(np.arctanh([0.5, 0.6, 0.7, 0.8, 0.9, 0.9]))
    assert np.isnan(placed[6])
