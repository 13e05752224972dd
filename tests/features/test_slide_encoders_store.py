"""Slide features of a cohort: one row per admitted slide, checked when read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.features.stores import DIM, attributes, make_store

from slidestudy.errors import StudyError
from slidestudy.features.slide_encoders.encoding import encode_cohort
from slidestudy.features.slide_encoders.store import (
    FORMAT,
    read_slide_features,
    write_slide_features,
)
from slidestudy.features.store import read_features

SPEC = {"name": "toy.mean", "backend": "mean", "encoder": "toy", "weights": "none", "precision": "fp32"}


@pytest.fixture
def stores(tmp_path: Path) -> list[Path]:
    """Three slides, given in no order; one has an unreadable tile."""
    made = [make_store(tmp_path / f"{name}.zarr", patient_id=f"p-{name}") for name in ("s3", "s1")]
    return [*made, make_store(tmp_path / "s2.zarr", unreadable=(4,), patient_id="p-s2")]


def encoded(stores: list[Path], folder: Path, spec: dict[str, Any] = SPEC) -> Path:
    encode_cohort(spec, stores, "north", folder / "north.zarr")
    return folder / "north.zarr"


def test_a_cohort_has_one_row_per_slide_in_the_order_of_the_ids(stores, tmp_path):
    found = read_slide_features(encoded(stores, tmp_path))
    assert found.slide_ids == ["s1", "s2", "s3"]
    assert found.patient_ids == ["p-s1", "p-s2", "p-s3"]
    assert (found.cohort, found.features.dtype, found.features.shape) == ("north", np.float32, (3, DIM))
    for slide, vector in zip(found.slide_ids, found.features, strict=True):
        features = read_features(tmp_path / f"{slide}.zarr").features.astype(np.float64)
        np.testing.assert_array_equal(vector, features.mean(0).astype(np.float32))


def test_a_store_says_what_it_is_made_of(stores, tmp_path):
    said = read_slide_features(encoded(stores, tmp_path)).attributes
    assert said["format"] == FORMAT
    assert said["patch_recipe"] == attributes()["recipe"]
    assert said["slide_encoder"]["name"] == "toy.mean"
    assert said["slide_encoder"]["encoder"] == "toy"
    assert said["slide_encoder"]["dim"] == DIM
    assert {"slidestudy", "numpy", "zarr"} == set(said["software"])


def test_two_encodings_are_the_same_bytes_whatever_the_order_of_the_slides(stores, tmp_path):
    first, second = encoded(stores, tmp_path / "a"), encoded(stores[::-1], tmp_path / "b")
    names = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(second) for p in second.rglob("*") if p.is_file())
    assert all((first / n).read_bytes() == (second / n).read_bytes() for n in names)


def test_slides_that_were_excluded_are_left_out(stores, tmp_path):
    reason = {"code": "too_few_tiles", "message": "2 tiles"}
    empty = np.zeros((0, 2), np.int32)
    stores.append(make_store(tmp_path / "s0.zarr", empty, status="excluded", reason=reason))
    assert read_slide_features(encoded(stores, tmp_path)).slide_ids == ["s1", "s2", "s3"]


def test_a_cohort_without_slides_has_no_rows_and_can_be_read_with_any_recipe(tmp_path):
    found = read_slide_features(encoded([], tmp_path), recipe="whatever")
    assert (found.slide_ids, len(found.features), found.attributes["recipe"]) == ([], 0, None)


def test_stores_of_two_recipes_are_refused(stores, tmp_path):
    stores.append(make_store(tmp_path / "s9.zarr", recipe="another"))
    with pytest.raises(StudyError, match="do not share one recipe"):
        encoded(stores, tmp_path)
    assert not (tmp_path / "north.zarr").exists()


def test_another_recipe_is_refused_and_the_own_one_accepted(stores, tmp_path):
    path = encoded(stores, tmp_path)
    own = read_slide_features(path).attributes["recipe"]
    assert read_slide_features(path, own).attributes["recipe"] == own
    with pytest.raises(StudyError, match=f"made by recipe {own}, and other is needed"):
        read_slide_features(path, "other")


def test_the_recipe_follows_the_slide_encoder(stores, tmp_path):
    mean = read_slide_features(encoded(stores, tmp_path / "a"))
    both = read_slide_features(encoded(stores, tmp_path / "b", {**SPEC, "backend": "mean-std"}))
    assert mean.attributes["recipe"] != both.attributes["recipe"]
    assert both.features.shape == (3, 2 * DIM)


@pytest.mark.parametrize("key", ["slide_ids", "patient_ids"])
def test_exchanged_ids_are_found(stores, tmp_path, key):
    path = encoded(stores, tmp_path)
    document = json.loads((path / "zarr.json").read_text())
    document["attributes"][key].reverse()
    (path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(StudyError, match="its checksum differs"):
        read_slide_features(path)


def test_a_changed_byte_is_found(stores, tmp_path):
    path = encoded(stores, tmp_path)
    (shard,) = (p for p in (path / "features").rglob("*") if p.is_file() and p.name != "zarr.json")
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 0xFF
    shard.write_bytes(bytes(content))
    with pytest.raises(StudyError, match="is damaged"):
        read_slide_features(path)


def test_a_store_of_patch_features_is_not_taken_for_one_of_slides(stores):
    with pytest.raises(StudyError, match="is no store of slide features"):
        read_slide_features(stores[0])


def test_a_vector_that_is_not_finite_is_refused_with_its_slide(tmp_path):
    features = np.array([[1.0], [np.nan]], np.float32)
    with pytest.raises(StudyError, match=r"s2: the slide's vector is not finite"):
        write_slide_features(tmp_path / "x.zarr", features, ["s1", "s2"], ["p", "p"], "north", None, None)
