"""Tensors of CLAM: read with the coordinates that belong to them, never as code, never with a guessed partner."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features.stores import DIM, SLIDE_MPP, grid, make_store

from slidestudy.errors import StudyError
from slidestudy.features.foreign_files import Statement, read_bag
from slidestudy.features.importing import import_features
from slidestudy.features.interchange import Format, Unit, export_stores
from slidestudy.features.store import read_features
from slidestudy.features.verification import verify_store

USER = Statement("toy", None, SLIDE_MPP, 256, 0.5, Unit.LEVEL0)


def clam(folder: Path, dtype: torch.dtype = torch.float32, rows: int = 12, **patching: Any) -> Path:
    """CLAM's files of slide s: a tensor of six values per tile, and its coordinates; returns the tensor's path."""
    tensor = folder / "pt_files" / "s.pt"
    coords = folder / "h5_files" / "s.h5"
    for path in (tensor, coords):
        path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(torch.arange(rows * 6, dtype=torch.float32).reshape(-1, 6).to(dtype), tensor)
    with h5py.File(coords, "w") as file:
        file["coords"] = grid()
        file["coords"].attrs.update(patching)
    return tensor


def test_a_tensor_is_read_with_the_coordinates_in_clams_sibling_folder(tmp_path: Path) -> None:
    path = import_features(clam(tmp_path), tmp_path / "out", USER, "c")
    assert verify_store(path).problems == ()
    store = read_features(path)
    np.testing.assert_array_equal(store.features, np.arange(72).reshape(12, 6))
    np.testing.assert_array_equal(store.coords, grid())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_precision_is_read(tmp_path: Path, dtype: torch.dtype) -> None:
    bag = read_bag(clam(tmp_path, dtype))
    np.testing.assert_array_equal(bag.features.astype(np.float64), np.arange(72).reshape(12, 6))


@pytest.mark.parametrize("stated", ["folder", "file"])
def test_coordinates_that_lie_elsewhere_are_stated(tmp_path: Path, stated: str) -> None:
    tensor = clam(tmp_path)
    (tmp_path / "h5_files").rename(tmp_path / "patches")
    coords = tmp_path / "patches" / ("s.h5" if stated == "file" else "")
    store = read_features(import_features(tensor, tmp_path / "out", USER, "c", coords=coords))
    np.testing.assert_array_equal(store.coords, grid())


def test_without_coordinates_there_is_no_import(tmp_path: Path) -> None:
    tensor = clam(tmp_path)
    (tmp_path / "h5_files" / "s.h5").unlink()
    with pytest.raises(StudyError, match=r"has no coordinates: .*h5_files/s.h5 does not exist"):
        import_features(tensor, tmp_path / "out", USER, "c")
    assert not (tmp_path / "out").exists()


def test_another_number_of_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"has 11 rows of features, but .*s.h5 has 12 coordinates"):
        read_bag(clam(tmp_path, rows=11))


def test_a_tensor_of_other_features_than_its_h5_file_is_refused(tmp_path: Path) -> None:
    tensor = clam(tmp_path)
    with h5py.File(tmp_path / "h5_files" / "s.h5", "r+") as file:
        file["features"] = np.arange(72, dtype=np.float32).reshape(12, 6)[::-1]
    with pytest.raises(StudyError, match="has other features than"):
        read_bag(tensor)


def test_a_half_precision_tensor_belongs_to_its_single_precision_file(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(0, 5, (12, 6)).astype(np.float32)
    tensor = clam(tmp_path)
    torch.save(torch.from_numpy(values).half(), tensor)
    with h5py.File(tmp_path / "h5_files" / "s.h5", "r+") as file:
        file["features"] = values
    np.testing.assert_array_equal(read_bag(tensor).features, values.astype(np.float16))


def test_an_h5_file_takes_no_coordinates(tmp_path: Path) -> None:
    clam(tmp_path)
    coords = tmp_path / "h5_files" / "s.h5"
    with pytest.raises(StudyError, match="has its own coordinates"):
        read_bag(coords, coords)


def test_clams_patching_gives_the_tiles_side(tmp_path: Path) -> None:
    bag = read_bag(clam(tmp_path, patch_size=256, patch_level=1, downsample=(2.0, 2.0)))
    assert (bag.tile_size_level0, bag.stated.unit, bag.stated.tile_size) == (512, Unit.LEVEL0, None)
    with pytest.raises(StudyError, match=r"its tiles are 256 px at level 0, but 256 px at 0.5 um/px"):
        import_features(clam(tmp_path, patch_size=256, downsample=(1.0, 1.0)), tmp_path / "out", USER, "c")


class Intruder:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


def test_a_tensor_file_is_never_run_as_code(tmp_path: Path) -> None:
    tensor, mark = clam(tmp_path), tmp_path / "ran"
    torch.save({"features": Intruder(mark)}, tensor)
    with pytest.raises(StudyError, match="cannot be read"):
        read_bag(tensor)
    tensor.write_bytes(pickle.dumps(Intruder(mark), protocol=2))
    with pytest.raises(StudyError, match="cannot be read"):
        read_bag(tensor)
    assert not mark.exists()
    pickle.loads(tensor.read_bytes())
    assert mark.exists(), "a file that does run where code is allowed"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"features": torch.zeros(12, 6)}, "holds a dict, not a tensor"),
        (torch.zeros(1, 12, 6), r"holds a tensor of torch.float32 and shape \(1, 12, 6\)"),
        (torch.zeros(12, 6, dtype=torch.int64), "holds a tensor of torch.int64"),
    ],
)
def test_what_is_no_tensor_of_features_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    tensor = clam(tmp_path)
    torch.save(content, tensor)
    with pytest.raises(StudyError, match=message):
        read_bag(tensor)


@settings(deadline=None, max_examples=20)
@given(keep=st.floats(0, 0.98))
def test_a_truncated_tensor_is_a_message(tmp_path_factory: pytest.TempPathFactory, keep: float) -> None:
    tensor = clam(tmp_path_factory.mktemp("cut"))
    whole = tensor.read_bytes()
    tensor.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(StudyError, match="cannot be read"):
        read_bag(tensor)


def test_an_archive_of_something_else_is_a_message(tmp_path: Path) -> None:
    tensor = clam(tmp_path)
    with zipfile.ZipFile(tensor, "w") as archive:
        archive.writestr("readme.txt", "no tensor")
    with pytest.raises(StudyError, match="cannot be read"):
        read_bag(tensor)


# The tensors of an export


def test_an_export_for_clam_has_the_tensors_that_it_trains_on_and_they_come_back(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s1.zarr", unreadable=(2, 7))
    export_stores([store], Format.CLAM, tmp_path / "clam")
    path = tmp_path / "clam" / "pt_files" / "s1.pt"
    tensor = torch.load(path, weights_only=True)
    kept = read_features(store)
    assert (tensor.dtype, tuple(tensor.shape)) == (torch.float32, (10, DIM))
    np.testing.assert_array_equal(tensor.numpy(), kept.features)
    again = read_features(import_features(path, tmp_path / "back", Statement()))
    for name in ("features", "coords", "tissue_fraction"):
        np.testing.assert_array_equal(getattr(again, name), getattr(kept, name))
    assert again.attributes["recipe"] == kept.attributes["recipe"]


def test_equal_stores_give_equal_tensors_and_other_tools_get_none(tmp_path: Path) -> None:
    store, digests = make_store(tmp_path / "s1.zarr"), set()
    for name in ("a", "b"):
        export_stores([store], Format.CLAM, tmp_path / name)
        digests.add(hashlib.sha256((tmp_path / name / "pt_files" / "s1.pt").read_bytes()).hexdigest())
    assert len(digests) == 1
    export_stores([store], Format.TRIDENT, tmp_path / "c")
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["s1.h5"]
