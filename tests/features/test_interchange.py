"""Interchange: a store's H5 file has the layout that the tool documents, and all that slidestudy knows."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from tests.features.stores import DIM, SLIDE_MPP, attributes, grid, make_store

from slidestudy.errors import StudyError
from slidestudy.features.interchange import Format, export_stores, read_provenance
from slidestudy.features.store import read_features, write_features


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path / "s1.zarr", unreadable=(2, 7))


def exported(store: Path, tool: Format) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any], dict[str, Any]]:
    """Datasets, attributes of the file, attributes of `coords` of a store's export."""
    (path,), empty = export_stores([store], tool, store.parent / "out")
    assert not empty
    with h5py.File(path) as file:
        coords = dict(file["coords"].attrs) if "coords" in file else {}
        return {name: file[name][...] for name in file}, dict(file.attrs), coords


# Layouts


def test_trident_has_level_0_coordinates_with_the_patching_parameters(store: Path) -> None:
    arrays, _, stated = exported(store, Format.TRIDENT)
    kept = read_features(store)
    np.testing.assert_array_equal(arrays["features"], kept.features.astype(np.float32))
    np.testing.assert_array_equal(arrays["coords"], kept.coords)
    assert arrays["coords"].dtype == np.int64
    assert stated == {
        "patch_size": 256,
        "patch_size_level0": 512,
        "level0_magnification": 40,
        "target_magnification": 20,
        "overlap": 0,
        "name": "s1",
        "savetodir": str(store.parent / "out"),
    }


def test_a_tile_that_is_no_whole_number_of_level_0_pixels_is_rounded_for_trident_only(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s1.zarr", tile_size_level0=511.7)
    _, file, stated = exported(store, Format.TRIDENT)
    assert (stated["patch_size_level0"], file["slidestudy_tile_size_level0"]) == (512, 511.7)


def test_clam_has_float32_features_and_level_0_coordinates(store: Path) -> None:
    arrays, _, _ = exported(store, Format.CLAM)
    assert (arrays["features"].dtype, arrays["features"].shape) == (np.float32, (10, DIM))
    np.testing.assert_array_equal(arrays["coords"], read_features(store).coords)


def test_stamp_has_micrometres_and_says_so(store: Path) -> None:
    arrays, file, _ = exported(store, Format.STAMP)
    kept = read_features(store)
    np.testing.assert_array_equal(arrays["feats"], kept.features)
    np.testing.assert_allclose(arrays["coords"], kept.coords * SLIDE_MPP)
    assert "features" not in arrays
    stated = {name: value for name, value in file.items() if not name.startswith("slidestudy_")}
    assert stated == {
        "stamp_version": "2.1.0",
        "extractor": "toy",
        "unit": "um",
        "tile_size_um": 128.0,
        "tile_size_px": 256,
        "feat_type": "tile",
    }


def test_ectil_has_regions_in_pixels_of_the_tiles(store: Path) -> None:
    arrays, file, _ = exported(store, Format.ECTIL)
    kept = read_features(store)
    np.testing.assert_allclose(arrays["coordinates"], kept.coords / 2)
    np.testing.assert_array_equal(arrays["regions"][:, :2], arrays["coordinates"])
    np.testing.assert_array_equal(arrays["regions"][:, 2:], np.tile([256, 256, 0.5], (10, 1)))
    assert file["slide_id"] == "s1"


# What all have in common


@pytest.mark.parametrize("tool", Format)
def test_all_that_the_store_says_goes_along(store: Path, tool: Format) -> None:
    arrays, _, _ = exported(store, tool)
    kept = read_features(store)
    np.testing.assert_array_equal(arrays["slidestudy_tissue_fraction"], kept.tissue_fraction)
    with h5py.File(store.parent / "out" / "s1.h5") as file:
        assert read_provenance(file) == {k: v for k, v in kept.attributes.items() if v is not None}


@pytest.mark.parametrize("tool", Format)
def test_equal_stores_give_equal_bytes(store: Path, tool: Format) -> None:
    digests = set()
    for _ in range(2):
        (path,), _ = export_stores([store], tool, store.parent / "out")
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_a_slide_without_tiles_gets_no_file_and_is_named(store: Path) -> None:
    empty = make_store(store.parent / "s2.zarr", grid()[:0], status="excluded")
    written, without = export_stores([store, empty], Format.STAMP, store.parent / "out")
    assert ([p.name for p in written], without) == (["s1.h5"], ["s2"])
    assert [p.name for p in (store.parent / "out").iterdir()] == ["s1.h5"]


def test_slides_of_one_name_are_refused_before_anything_is_written(store: Path) -> None:
    other = make_store(store.parent / "south" / "s1.zarr")
    with pytest.raises(StudyError, match="stores of slides of one name, s1"):
        export_stores([store, other], Format.CLAM, store.parent / "out")
    assert not (store.parent / "out").exists()


def test_a_damaged_store_is_refused_and_leaves_no_file(store: Path) -> None:
    next(p for p in (store / "coords").rglob("*") if p.is_file() and p.name != "zarr.json").unlink()
    with pytest.raises(StudyError, match="is damaged"):
        export_stores([store], Format.STAMP, store.parent / "out")
    assert not (store.parent / "out").exists()


def test_a_store_that_lacks_what_the_layouts_need_is_refused(store: Path) -> None:
    bag = read_features(store)
    stated = {k: v for k, v in attributes().items() if k != "target_mpp"}
    ones = np.ones(len(bag.coords), bool)
    write_features(store, bag.features.astype(np.float32), bag.coords, bag.tissue_fraction, ones, stated)
    with pytest.raises(StudyError, match="does not say its target_mpp"):
        export_stores([store], Format.TRIDENT, store.parent / "out")
