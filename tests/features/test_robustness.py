"""The robustness index on data whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.features import robustness
from slidestudy.features.robustness import robustness_index

BOOTSTRAP: dict[str, Any] = {"replicates": 200, "confidence": 0.95, "seed": 1}


def directions(*degrees: float) -> np.ndarray:
    """Unit vectors in the plane."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def clouds(rng: np.random.Generator, labels: list[int], spread: float = 0.05) -> np.ndarray:
    """One vector per label, close to that label's own axis."""
    return np.eye(8)[labels] + rng.normal(0, spread, (len(labels), 8))


def crossed(n: int = 60) -> tuple[list[int], list[int], list[str]]:
    """Two classes in each of two centres, each vector of its own patient."""
    return [i % 2 for i in range(n)], [(i // 2) % 2 for i in range(n)], [f"p{i}" for i in range(n)]


def test_a_small_example_counted_by_hand() -> None:
    # Nearest two of each: a: b, c; b: a, c; c: b, d (30 each, a 50 away); d: c, b.
    vectors = directions(0, 20, 50, 80)
    classes, centers, patients = ["x", "x", "x", "y"], ["1", "2", "2", "2"], ["a", "b", "c", "d"]
    result = robustness_index(vectors, classes, centers, patients, k=2, **BOOTSTRAP)
    # Same class: a 2, b 2, c 1, d 0; same centre: a 0, b 1, c 2, d 2.
    assert (result.same_class, result.same_center) == (5, 5)
    assert result.index == 1
    assert result.n == 4
    # At random two of three: same class 2/3 x (2 + 2 + 2 + 0), same centre 2/3 x (0 + 2 + 2 + 2).
    assert result.at_random == pytest.approx(1)


def test_biology_alone_gives_an_index_above_one_with_its_interval() -> None:
    classes, centers, patients = crossed()
    vectors = clouds(np.random.default_rng(0), classes)
    result = robustness_index(vectors, classes, centers, patients, k=5, **BOOTSTRAP)
    assert result.same_class == 5 * 60
    assert result.index is not None
    assert result.index > 1.5
    assert result.ci_low is not None
    assert result.ci_high is not None
    assert 1 < result.ci_low <= result.index <= result.ci_high


def test_the_centre_alone_gives_an_index_below_one() -> None:
    classes, centers, patients = crossed()
    vectors = clouds(np.random.default_rng(0), centers)
    result = robustness_index(vectors, classes, centers, patients, k=5, **BOOTSTRAP)
    assert result.same_center == 5 * 60
    assert result.index is not None
    assert result.index < 0.7


def test_swapping_class_and_centre_inverts_the_index() -> None:
    classes, centers, patients = crossed()
    vectors = clouds(np.random.default_rng(3), classes, spread=0.5)
    one = robustness_index(vectors, classes, centers, patients, k=7, **BOOTSTRAP)
    other = robustness_index(vectors, centers, classes, patients, k=7, **BOOTSTRAP)
    assert one.index is not None
    assert other.index == pytest.approx(1 / one.index)


def test_other_vectors_of_the_patient_are_no_neighbours() -> None:
    # Each patient's own two vectors coincide; the nearest of another patient has the other centre.
    vectors = directions(0, 0, 10, 10, 90, 90, 100, 100)
    classes = ["x"] * 4 + ["y"] * 4
    centers = ["1", "1", "2", "2"] * 2
    patients = ["a", "a", "b", "b", "c", "c", "d", "d"]
    result = robustness_index(vectors, classes, centers, patients, k=2, **BOOTSTRAP)
    assert (result.same_class, result.same_center) == (16, 0)
    assert result.index is None
    assert result.undefined_reason == "no neighbour shares the centre"


def test_vectors_equally_near_share_the_places() -> None:
    # The first vector's one place is shared by two at the same angle, of which one shares its class.
    vectors = directions(0, 30, 30, 180)
    result = robustness_index(vectors, list("xxyy"), list("1211"), list("abcd"), k=1, **BOOTSTRAP)
    # Same class: 1/2, 0, 0, 1/2; same centre: 1/2, 0, 0, 1/2 (the last is as near to both).
    assert (result.same_class, result.same_center) == (1, 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.permutations(range(24)))
def test_the_order_and_the_length_of_vectors_do_not_matter(seed: int, order: list[int]) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(24, 4))
    vectors[3], vectors[7] = vectors[5], 2 * vectors[5]
    classes, centers = rng.integers(0, 3, 24), rng.integers(0, 2, 24)
    patients = rng.integers(0, 9, 24)
    one = robustness_index(vectors, classes, centers, patients, k=3, **BOOTSTRAP)
    scaled = vectors[order] * rng.uniform(0.5, 2, (24, 1))
    other = robustness_index(scaled, classes[order], centers[order], patients[order], k=3, **BOOTSTRAP)
    assert other.undefined_reason == one.undefined_reason
    for name in ("index", "ci_low", "ci_high", "same_class", "same_center", "at_random"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-9), name


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    classes, centers, patients = crossed(50)
    vectors = clouds(np.random.default_rng(2), classes, spread=0.6)
    whole = robustness_index(vectors, classes, centers, patients, k=4, **BOOTSTRAP)
    monkeypatch.setattr(robustness, "BLOCK_VALUES", 7 * 50)
    assert robustness_index(vectors, classes, centers, patients, k=4, **BOOTSTRAP) == whole


def test_vectors_without_class_or_centre_are_left_out_and_counted() -> None:
    classes, centers, patients = crossed(40)
    vectors = clouds(np.random.default_rng(2), classes, spread=0.6)
    alone = robustness_index(vectors, classes, centers, patients, k=4, **BOOTSTRAP)
    more = np.concatenate([vectors, vectors[:4]])
    labels: list[Any] = [*classes, None, float("nan"), " ", "0"]
    places: list[Any] = [*centers, "1", "1", "1", None]
    patients = [*patients, "q", "q", "q", "q"]
    result = robustness_index(more, labels, places, patients, k=4, **BOOTSTRAP)
    assert result == replace(alone, left_out=4)


@pytest.mark.parametrize(
    ("classes", "centers", "patients", "k", "reason"),
    [
        ("xxxx", "1212", "abcd", 1, "one class only"),
        ("xyxy", "1111", "abcd", 1, "one centre only"),
        (["", None, "", " "], "1212", "abcd", 1, "no vector has a class and a centre"),
        ("xyxy", "1212", "aaad", 2, "1 vectors of other patients, 2 neighbours are needed"),
    ],
)
def test_what_has_no_meaning_is_undefined_with_the_reason(
    classes: Any, centers: Any, patients: str, k: int, reason: str
) -> None:
    result = robustness_index(directions(0, 20, 50, 80), list(classes), list(centers), list(patients), k=k, **BOOTSTRAP)
    assert result.index is None
    assert result.undefined_reason == reason


def test_two_patients_give_an_index_without_an_interval() -> None:
    result = robustness_index(directions(0, 20, 50, 80), list("xxyy"), list("1212"), list("aabb"), k=2, **BOOTSTRAP)
    assert result.index is not None
    assert (result.ci_low, result.undefined_reason) == (None, "no interval: 2 patients")


def test_wrong_input_is_refused() -> None:
    good = directions(0, 20)
    with pytest.raises(ValueError, match="labels"):
        robustness_index(good, ["x"], ["1", "2"], ["a", "b"], k=1, **BOOTSTRAP)
    with pytest.raises(ValueError, match="finite"):
        robustness_index(good * np.nan, ["x", "y"], ["1", "2"], ["a", "b"], k=1, **BOOTSTRAP)
    with pytest.raises(ValueError, match="k is 0"):
        robustness_index(good, ["x", "y"], ["1", "2"], ["a", "b"], k=0, **BOOTSTRAP)
