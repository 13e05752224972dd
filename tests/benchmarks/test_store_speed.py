"""Reading a feature store, checked, against numpy's own file of the same arrays (unchecked)."""

from __future__ import annotations

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
