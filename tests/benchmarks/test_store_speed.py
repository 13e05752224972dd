"""Writing and reading a feature store, checked, against plain files of the same arrays (unchecked)."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from slidestudy.features.store import read_features, write_features
from tests.benchmarks.timing import seconds

pytestmark = pytest.mark.bench
TILES, DIM = 8000, 1024


def test_store_against_npz(tmp_path, table):
    """A slide of 8,000 tiles; our reader also verifies the SHA-256 of all arrays, numpy's the CRC of each."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(TILES, DIM)).astype(np.float32)
    coords = np.stack([np.arange(TILES), np.arange(TILES)], 1).astype(np.int32)
    fraction, readable = np.ones(TILES, np.float32), np.ones(TILES, bool)
    npz, zarr = tmp_path / "slide.npz", tmp_path / "slide.zarr"

    def write_ours():
        write_features(zarr, features, coords, fraction, readable, {"recipe": "r", "slide_id": "s"})

    def write_npz(save=np.savez):
        save(npz, features=features.astype(np.float16), coords=coords, tissue_fraction=fraction, readable=readable)

    table.add(f"writing a store {TILES} x {DIM}", seconds(write_ours, 2), seconds(write_npz, 2), "np.savez")
    found: dict[str, np.ndarray] = {}

    def read_ours():
        found["ours"] = read_features(zarr, "r").features

    def read_npz():
        with np.load(npz) as arrays:
            found["npz"] = {name: arrays[name] for name in arrays}["features"]

    ours = seconds(read_ours)
    table.add(f"reading a store {TILES} x {DIM}", ours, seconds(read_npz), "np.load of .npz")
    assert np.array_equal(found["ours"], found["npz"])
    write_npz(np.savez_compressed)
    table.add(f"reading a store {TILES} x {DIM}", ours, seconds(read_npz), "np.load of compressed .npz")
    files = [p for p in zarr.rglob("*") if p.is_file()]
    assert len(files) <= 10


@pytest.mark.parametrize("layout", ["chunk (1, D), as CLAM's and TRIDENT's older files", "contiguous"])
def test_store_against_h5(tmp_path, table, layout):
    """A slide of 15,000 tiles x 1,536 float16, written and read whole; only ours compresses and verifies."""
    rng = np.random.default_rng(0)
    count, dim = 15_000, 1536
    features = rng.normal(size=(count, dim)).astype(np.float16)
    coords = np.stack([np.arange(count), np.arange(count)], 1).astype(np.int32)
    fraction, readable = np.ones(count, np.float32), np.ones(count, bool)
    h5, zarr = tmp_path / "slide.h5", tmp_path / "slide.zarr"
    chunked = layout.startswith("chunk")
    found: dict[str, np.ndarray] = {}

    def write_ours():
        write_features(zarr, features, coords, fraction, readable, {"recipe": "r", "slide_id": "s"})

    def write_h5():
        with h5py.File(h5, "w") as file:
            file.create_dataset("features", data=features, chunks=(1, dim) if chunked else None)
            file.create_dataset("coords", data=coords, chunks=(1, 2) if chunked else None)

    def read_ours():
        found["ours"] = read_features(zarr, "r").features

    def read_h5():
        with h5py.File(h5, "r") as file:
            found["h5"] = file["features"][...]
            file["coords"][...]

    what = f"a store {count} x {dim} float16"
    writing = seconds(write_ours, 2), seconds(write_h5, 2)
    reading = seconds(read_ours), seconds(read_h5)
    table.add(f"writing {what}", *writing, f"H5, {layout}")
    table.add(f"reading {what}", *reading, f"H5, {layout}")
    table.add(f"writing and reading {what}", writing[0] + reading[0], writing[1] + reading[1], f"H5, {layout}")
    assert np.array_equal(found["ours"], found["h5"])
    size = sum(p.stat().st_size for p in zarr.rglob("*") if p.is_file())
    print(f"bytes on disk, ours / H5 ({layout}): {size / h5.stat().st_size:.2f}")
