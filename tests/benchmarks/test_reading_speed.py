"""Reading a whole slide: against the loop that most pipelines have, and against nothing but the decoding."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openslide
import pytest
import simplejpeg
import tifffile
from numpy.typing import NDArray
from PIL import Image

from slidestudy.slides.reader import Slide
from tests.benchmarks.large_slide import CHUNK, write_large_slide
from tests.benchmarks.timing import Table, seconds

pytestmark = pytest.mark.bench
SIDE, TILE = 20_480, 512
THREADS = len(os.sched_getaffinity(0))
SAMPLE = 8
"""The slow reference reads every so many-th tile."""
MAX_MEGABYTES = 400


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide of 20,480 x 20,480 px."""
    return write_large_slide(tmp_path_factory.mktemp("large") / "slide.tif", SIDE, SIDE)


def grid(extent: int, width: int = SIDE, height: int = SIDE) -> NDArray[np.int32]:
    y, x = np.mgrid[0 : height - extent + 1 : extent, 0 : width - extent + 1 : extent]
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int32)


def in_threads(work: Callable[[Sequence[int]], None], count: int, threads: int) -> None:
    """Does work on equal shares of positions, each thread with its own handle."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, [range(i, count, threads) for i in range(threads)]))


def read_ours(path: Path, coords: NDArray[np.int32], extent: int, threads: int) -> None:
    with Slide(path) as slide:
        assert slide.kind == "chunks", slide.indirect
        count = sum(len(batch.rows) for batch in slide.tiles(coords, extent, TILE, threads))
    assert count == len(coords)


def read_openslide(path: Path, coords: NDArray[np.int32], extent: int, threads: int) -> NDArray[np.uint8]:
    """A loop over patches, as most pipelines have it."""
    tiles = np.empty((len(coords), TILE, TILE, 3), np.uint8)

    def share(rows: Sequence[int]) -> None:
        with openslide.OpenSlide(path) as handle:
            for row in rows:
                region = handle.read_region(tuple(coords[row].tolist()), 0, (extent, extent)).convert("RGB")
                if extent != TILE:
                    region = region.resize((TILE, TILE), Image.Resampling.BOX)
                tiles[row] = np.asarray(region)

    in_threads(share, len(coords), threads)
    return tiles


def decode_only(path: Path, threads: int) -> Callable[[], None]:
    """The decoding of level 0 from memory, its results thrown away: no reader of pixels can be faster."""
    with tifffile.TiffFile(path) as file, path.open("rb") as stream:
        page = file.pages[0]
        assert page.jpegtables is None
        chunks = []
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            stream.seek(offset)
            chunks.append(stream.read(count))

    def share(rows: Sequence[int]) -> None:
        for row in rows:
            simplejpeg.decode_jpeg(chunks[row], "RGB")

    return lambda: in_threads(share, len(chunks), threads)


def test_a_whole_slide_against_a_loop_of_openslide_and_bare_decoding(slide: Path, table: Table) -> None:
    coords = grid(TILE)
    sample = coords[SAMPLE // 2 :: SAMPLE]
    found: dict[str, NDArray[np.uint8]] = {}

    def loop() -> None:
        found["openslide"] = read_openslide(slide, sample, TILE, THREADS)

    ours = seconds(lambda: read_ours(slide, coords, TILE, THREADS))
    reference = seconds(loop, 1) * len(coords) / len(sample)
    bare = seconds(decode_only(slide, THREADS))
    alone = ours if THREADS == 1 else seconds(lambda: read_ours(slide, coords, TILE, 1))
    with Slide(slide) as opened:
        for batch in opened.tiles(sample, TILE, TILE, THREADS):
            assert batch.readable.all()
            assert np.array_equal(batch.tiles, found["openslide"][batch.rows])
    what = f"{len(coords)} tiles of {TILE} px, {SIDE} x {SIDE} px, {THREADS} thread{'s' if THREADS > 1 else ''}"
    scaled = f"read_region per tile, same threads ({len(sample)} tiles, time x {SAMPLE})"
    table.add(what, ours, reference, f"OpenSlide {scaled}")
    table.add(what, ours, bare, f"simplejpeg, decoding alone, {CHUNK}-px chunks, same threads")
    table.add(what, ours, alone, "ours, 1 thread")


def test_a_coarser_resolution_against_a_loop_of_openslide(slide: Path, table: Table) -> None:
    coords = grid(2 * TILE)
    sample = coords[SAMPLE // 2 :: SAMPLE]
    ours = seconds(lambda: read_ours(slide, coords, 2 * TILE, THREADS))
    reference = seconds(lambda: read_openslide(slide, sample, 2 * TILE, THREADS), 1) * len(coords) / len(sample)
    what = f"{len(coords)} tiles of {TILE} px at twice the mpp, {THREADS} thread{'s' if THREADS > 1 else ''}"
    scaled = f"read_region + BOX resize, same threads ({len(sample)} tiles, time x {SAMPLE})"
    table.add(what, ours, reference, f"OpenSlide {scaled}")


STREAM = """
import sys
from slidestudy.slides.reader import Slide
from tests.benchmarks.test_reading_speed import grid, TILE
from tests.slides.builders import peak_megabytes
with Slide(sys.argv[1]) as slide:
    coords = grid(TILE, *slide.size)
    rows = sum(len(batch.rows) for batch in slide.tiles(coords, TILE, TILE, int(sys.argv[2])))
print(rows, peak_megabytes())
"""


def test_memory_does_not_grow_with_the_slide(slide: Path, tmp_path: Path, repository: Path) -> None:
    tall = write_large_slide(tmp_path / "tall.tif", SIDE, 2 * SIDE)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repository), str(repository / "scripts")])}
    for path, height in ((slide, SIDE), (tall, 2 * SIDE)):
        command = [sys.executable, "-c", STREAM, str(path), str(THREADS)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        rows, megabytes = done.stdout.split()
        assert int(rows) == (SIDE // TILE) * (height // TILE)
        print(f"memory while a slide of {SIDE} x {height} px is read, {THREADS} threads: {float(megabytes):.0f} MB")
        assert float(megabytes) < MAX_MEGABYTES
