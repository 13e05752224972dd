"""Extraction's reading of tiles, against the loop that most pipelines have."""

from __future__ import annotations

import cv2
import numpy as np
import openslide
import pytest
from PIL import Image

from slidestudy.demo.scanner import SCANNER_A, SCANNER_B, write_slide
from slidestudy.features.extraction import _read_tiles
from slidestudy.geometry import TileGrid
from tests.benchmarks.timing import seconds

pytestmark = pytest.mark.bench
SIDE, SIZE, MPP = 5120, 256, 0.5


@pytest.fixture(scope="module", params=[SCANNER_A, SCANNER_B], ids=["same-mpp", "finer-mpp"])
def slide(request, tmp_path_factory):
    """A generated slide with texture, as JPEG sees tissue, and its grid of tiles."""
    rng = np.random.default_rng(0)
    coarse = cv2.resize(rng.integers(60, 240, (160, 160, 3)).astype(np.uint8), (SIDE, SIDE))
    image = cv2.add(coarse, rng.integers(0, 16, (SIDE, SIDE, 3)).astype(np.uint8))
    path = tmp_path_factory.mktemp("slide") / f"slide{request.param.format.value}"
    write_slide(path, image, request.param)
    return str(path), TileGrid(SIDE, SIDE, request.param.mpp, SIZE, MPP), request.param.mpp


@pytest.mark.parametrize("threads", [1, 2])
def test_tiles_against_an_openslide_loop(slide, threads, table):
    path, grid, mpp = slide
    coords = grid.coords()
    found: dict[str, np.ndarray] = {}

    def ours():
        found["ours"] = np.stack(list(_read_tiles(path, "slide", coords, grid, threads)))

    def loop():
        tiles = []
        with openslide.OpenSlide(path) as handle:
            level = handle.get_best_level_for_downsample(grid.extent / SIZE)
            side = round(grid.extent / handle.level_downsamples[level])
            for x, y in coords.tolist():
                region = handle.read_region((x, y), level, (side, side)).convert("RGB")
                tiles.append(np.asarray(region.resize((SIZE, SIZE), Image.Resampling.BILINEAR)))
        found["loop"] = np.stack(tiles)

    times = seconds(ours, repeats=2), seconds(loop, repeats=2)
    assert found["ours"].shape == found["loop"].shape == (len(coords), SIZE, SIZE, 3)
    if mpp == MPP:
        # Without resizing both must give the file's own pixels.
        assert np.array_equal(found["ours"], found["loop"])
    what = f"reading {len(coords)} tiles at {mpp} um/px as {MPP}, {threads} thread{'s' if threads > 1 else ''}"
    table.add(what, *times, "OpenSlide read_region + PIL resize, 1 thread")
