"""Extraction from slide to store: how long the network waits for pixels; against a loop of OpenSlide + DataLoader."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import torch
from numpy.typing import NDArray
from shapely.geometry import box, mapping
from torch.utils.data import DataLoader, Dataset

from slidestudy.features.encoders import build_encoder
from slidestudy.features.extraction import extract_features
from slidestudy.features.identity import Encoder, EncoderIdentity
from slidestudy.features.normalisation import build_normaliser
from slidestudy.features.store import read_features
from tests.benchmarks.large_slide import write_large_slide
from tests.benchmarks.timing import Table, seconds

pytestmark = pytest.mark.bench
SIDE, TILE, MPP, BATCH = 4096, 224, 0.5, 32
FEW = 8 * TILE
"""Side of the area that is encoded by real networks, px: 64 tiles."""
THREADS = len(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_large_slide(tmp_path_factory.mktemp("large") / "slide.tif", SIDE, SIDE)


class BlockMeans:
    """No network to speak of: the mean colours of blocks of a tile, so that the reading alone is measured."""

    identity = EncoderIdentity("means", "stain-texture", "means/1", 48, "none", "0" * 16, "fp32", {})

    def encode(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = torch.from_numpy(tiles).permute(0, 3, 1, 2).float()
        return torch.nn.functional.adaptive_avg_pool2d(pixels, 4).flatten(1).numpy()


def network(name: str, threads: int) -> Encoder:
    if name == "means":
        torch.set_num_threads(threads)
        return BlockMeans()
    spec: dict[str, Any] = {"name": name, "backend": "timm", "architecture": name, "weights": "none"}
    return build_encoder({**spec, "precision": "fp32"}, TILE, MPP, seed=0, threads=threads)


def extract(slide: Path, output: Path, encoder: Encoder, side: int, threads: int, normaliser: str = "none") -> None:
    """Extraction as the workflow does it, of a square of the slide."""
    tissue = output.with_suffix(".geojson")
    feature = {"type": "Feature", "properties": {"classification": {"name": "Tissue"}}}
    feature["geometry"] = mapping(box(0, 0, side, side))
    tissue.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    entry = {"slide_id": "s", "patient_id": "p", "cohort": "c", "path": str(slide)}
    inspection = {"width": SIDE, "height": SIDE, "mpp": {"value": MPP}, "reader": "chunks", "fingerprint": "f"}
    tiles = {"size": TILE, "mpp": MPP, "min_tissue": 0.5, "min_tiles": 1, "max_unreadable": 0.0}
    record = {"status": "admitted", "reason": None}
    used = build_normaliser({"method": normaliser, "template": "generated-he", "max_shift": 40})
    extract_features(
        entry, inspection, record, tissue, encoder, tiles, output,
        batch_size=BATCH, threads=threads, normaliser=used,
    )  # fmt: skip


class Patches(Dataset[NDArray[np.uint8]]):
    """The tiles of a slide as pipelines commonly read them: a handle in each worker, one region at a time."""

    def __init__(self, path: Path, coords: NDArray[np.int32]) -> None:
        self.path, self.coords = path, coords
        self.handle: openslide.OpenSlide | None = None

    def __len__(self) -> int:
        return len(self.coords)

    def __getitem__(self, i: int) -> NDArray[np.uint8]:
        if self.handle is None:
            self.handle = openslide.OpenSlide(self.path)
        corner = int(self.coords[i, 0]), int(self.coords[i, 1])
        return np.asarray(self.handle.read_region(corner, 0, (TILE, TILE)).convert("RGB"))


def plain_loop(path: Path, coords: NDArray[np.int32], encoder: Encoder, workers: int) -> NDArray[np.float32]:
    loader = DataLoader(Patches(path, coords), batch_size=BATCH, num_workers=workers)
    return np.concatenate([encoder.encode(batch.numpy()) for batch in loader])


def share_waiting(printed: str) -> float:
    """The share of time in the line that extraction prints."""
    found = re.findall(r"([\d.]+)% of the time waiting", printed)
    return float(found[-1])


@pytest.mark.parametrize(("threads", "normaliser"), [(1, "none"), (1, "macenko"), (THREADS, "none")])
def test_how_long_a_resnet50_waits_for_pixels(
    slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], threads: int, normaliser: str
) -> None:
    """Untrained, on the CPU, including the start, when nothing has been read yet."""
    encoder = network("resnet50", threads)
    capsys.readouterr()
    extract(slide, tmp_path / "s.zarr", encoder, FEW, threads, normaliser)
    share = share_waiting(capsys.readouterr().out)
    with capsys.disabled():
        what = f"{(FEW // TILE) ** 2} tiles, {threads} thread{'s' if threads > 1 else ''}, normaliser {normaliser}"
        print(f"\nresnet50 waits for pixels {share:.1f}% of the time ({what})")


@pytest.mark.parametrize(("name", "side"), [("resnet18", 12 * TILE), ("means", SIDE)])
def test_slide_to_store_against_openslide_and_a_dataloader(
    slide: Path, tmp_path: Path, table: Table, name: str, side: int
) -> None:
    encoder = network(name, THREADS)
    extract(slide, tmp_path / "s.zarr", encoder, side, THREADS)
    store = read_features(tmp_path / "s.zarr")
    found: dict[str, NDArray[np.float32]] = {}

    def loop() -> None:
        found["loop"] = plain_loop(slide, store.coords, encoder, THREADS)

    times = seconds(lambda: extract(slide, tmp_path / "s.zarr", encoder, side, THREADS), 2), seconds(loop, 2)
    features = store.features.astype(np.float32)
    scale = np.abs(features).max()
    np.testing.assert_allclose(features / scale, found["loop"] / scale, atol=1e-3)
    rates = [len(features) / time for time in times]
    what = f"{len(features)} tiles of {TILE} px to a store, {name}, {THREADS} cores ({rates[0]:.0f} patches/s)"
    table.add(what, *times, f"OpenSlide + DataLoader, {THREADS} workers, nothing stored ({rates[1]:.0f} patches/s)")
