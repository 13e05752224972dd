"""Probes: they find a planted signal, and only the validation part chooses their parameter."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from slidestudy.models.probes import NEIGHBOURS, PENALTIES, PROBES, Probe, fit_probe

Array = npt.NDArray[np.float64]
Part = tuple[Array, Array]
KINDS = pytest.mark.parametrize("kind", PROBES)
TASKS = pytest.mark.parametrize("task", ["regression", "classification"])
RANGES = {"regression": (0.0, 100.0), "classification": (0.0, 1.0)}


def part(count: int, task: str, seed: int, noise: float = 0.3, dim: int = 6) -> Part:
    """Vectors of which two dimensions follow the target."""
    rng = np.random.default_rng(seed)
    hidden = rng.uniform(-1, 1, count)
    vectors = rng.normal(size=(count, dim))
    vectors[:, :2] = hidden[:, None] + noise * rng.normal(size=(count, 2))
    return vectors, 50 + 50 * hidden if task == "regression" else (hidden > 0).astype(float)


def fitted(kind: str, task: str, train: Part, validation: Part) -> Probe:
    return fit_probe(kind, train, validation, task=task, target_range=RANGES[task])


@KINDS
@TASKS
def test_a_planted_signal_is_found_in_slides_that_were_not_seen(kind, task):
    probe = fitted(kind, task, part(80, task, 0), part(30, task, 1))
    vectors, target = part(60, task, 2)
    assert np.corrcoef(probe.predict(vectors), target)[0, 1] > 0.7
    assert probe.chosen in (PENALTIES if kind == "linear" else NEIGHBOURS)


@KINDS
@TASKS
def test_the_validation_error_is_that_of_the_probe(kind, task):
    validation = part(30, task, 1)
    probe = fitted(kind, task, part(50, task, 0), validation)
    assert probe.validation_error == pytest.approx(np.mean((probe.predict(validation[0]) - validation[1]) ** 2))


@KINDS
@TASKS
def test_predictions_stay_within_the_range_of_the_target(kind, task):
    probe = fitted(kind, task, part(50, task, 0), part(30, task, 1))
    low, high = RANGES[task]
    predicted = probe.predict(1000 * part(40, task, 3)[0])
    assert low <= predicted.min() <= predicted.max() <= high


@KINDS
@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.01, 100), min_size=6, max_size=6), st.lists(st.floats(-100, 100), min_size=6, max_size=6))
def test_units_of_the_features_do_not_matter(kind, scales, shifts):
    train, validation, vectors = part(40, "regression", 0), part(20, "regression", 1), part(9, "regression", 2)[0]

    def other(x: Array) -> Array:
        return x * np.array(scales) + np.array(shifts)

    first = fitted(kind, "regression", train, validation)
    second = fitted(kind, "regression", (other(train[0]), train[1]), (other(validation[0]), validation[1]))
    assert first.chosen == second.chosen
    np.testing.assert_allclose(first.predict(vectors), second.predict(other(vectors)), rtol=1e-4, atol=1e-4)


def test_the_linear_probe_is_ridge_regression_with_the_best_penalty_on_standardised_features():
    train, validation, vectors = part(40, "regression", 0), part(20, "regression", 1), part(9, "regression", 2)[0]
    scaler = StandardScaler().fit(train[0])
    errors = {}
    for penalty in PENALTIES:
        model = Ridge(alpha=penalty).fit(scaler.transform(train[0]), train[1])
        errors[penalty] = np.mean((model.predict(scaler.transform(validation[0])).clip(0, 100) - validation[1]) ** 2)
    best = min(errors, key=lambda penalty: errors[penalty])
    probe = fitted("linear", "regression", train, validation)
    assert probe.chosen == best
    model = Ridge(alpha=best).fit(scaler.transform(train[0]), train[1])
    np.testing.assert_allclose(probe.predict(vectors), model.predict(scaler.transform(vectors)).clip(0, 100))


def test_noise_without_a_signal_gets_the_strongest_penalty_of_equal_ones():
    train, validation = part(40, "regression", 0), part(20, "regression", 1)
    constant = (np.zeros_like(train[0]), train[1]), (np.zeros_like(validation[0]), validation[1])
    assert fitted("linear", "regression", *constant).chosen == max(PENALTIES)


def test_neighbours_are_the_nearest_by_angle_and_their_targets_are_averaged():
    # Two directions after standardisation: along and against (1, 1).
    train = np.array([[1.0, 1], [2, 2], [-1, -1], [-2, -2]]), np.array([10.0, 20, 70, 80])
    validation = np.array([[3.0, 3]]), np.array([15.0])
    probe = fitted("neighbours", "regression", train, validation)
    assert probe.chosen == 2
    np.testing.assert_allclose(probe.predict(np.array([[5.0, 5], [-5, -5]])), [15, 75])


def test_no_more_neighbours_are_asked_for_than_there_are():
    probe = fitted("neighbours", "regression", part(4, "regression", 0), part(10, "regression", 1))
    assert probe.chosen is not None
    assert probe.chosen <= 4


@KINDS
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_a_training_part_of_one_class_gives_its_constant_and_says_so(kind, label):
    vectors = part(20, "classification", 0)[0]
    probe = fitted(kind, "classification", (vectors, np.full(20, label)), part(10, "classification", 1))
    assert (probe.chosen, probe.note) == (None, "one class in the training part")
    np.testing.assert_array_equal(probe.predict(vectors), label)


@KINDS
def test_another_validation_part_can_choose_otherwise(kind):
    train = part(60, "regression", 0, noise=1.0, dim=40)
    chosen = {fitted(kind, "regression", train, part(10, "regression", seed, 1.0, 40)).chosen for seed in range(1, 12)}
    assert len(chosen) > 1
