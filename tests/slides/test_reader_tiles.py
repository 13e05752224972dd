"""Many tiles of a slide: those of single reads, each chunk decoded once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.slides import plan as planning
from slidestudy.slides import reader
from slidestudy.slides.reader import Slide
from tests.slides.builders import (
    Watched,
    collect,
    grid,
)

Write = Callable[..., Path]
PLACES = st.lists(st.tuples(st.integers(-300, 1300), st.integers(-300, 1000)), max_size=40)


@settings(deadline=None, max_examples=40)
@given(
    coords=PLACES,
    extent=st.sampled_from([32.0, 100.0, 128.0, 230.4, 512.0, 1000.0]),
    size=st.sampled_from([16, 64, 100]),
    threads=st.integers(1, 4),
)
def test_tiles_are_those_of_single_reads_each_once_and_in_any_order(
    svs: Slide, coords: list[tuple[int, int]], extent: float, size: int, threads: int
) -> None:
    places = np.array(coords, np.int32).reshape(-1, 2)
    tiles, readable, _ = collect(svs.tiles(places, extent, size, threads), len(places))
    assert readable.all()
    for (x, y), tile in zip(coords, tiles, strict=True):
        np.testing.assert_array_equal(tile, svs.read_square(x, y, extent, size))


@settings(deadline=None, max_examples=20)
@given(coords=PLACES, row=st.integers(1, 10**6), unit=st.integers(1, 10**6), threads=st.integers(1, 4))
def test_strips_and_threads_change_no_tile(
    svs: Slide, coords: list[tuple[int, int]], row: int, unit: int, threads: int
) -> None:
    places = np.array(coords, np.int32).reshape(-1, 2)
    whole = collect(svs.tiles(places, 200, 100), len(places))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "ROW_BYTES", row)
        patch.setattr(planning, "UNIT_BYTES", unit)
        parts = collect(svs.tiles(places, 200, 100, threads), len(places))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("threads", [1, 3])
def test_each_chunk_of_a_slide_is_decoded_once(
    tiled: dict[str, Path], monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    with Slide(tiled["jpeg-420"]) as slide:
        watched = Watched(slide, monkeypatch)
        coords = grid(slide.size, 100)
        monkeypatch.setattr(planning, "UNIT_BYTES", 100_000)
        collect(slide.tiles(coords, 150, 75, threads), len(coords))
    assert sorted(watched.decoded) == [(0, i) for i in range(12)]


def test_a_region_that_is_read_again_is_not_decoded_again(
    tiled: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Slide(tiled["jpeg-420"]) as slide:
        watched = Watched(slide, monkeypatch)
        for x in (0, 50, 300, 0):
            slide.read(x, 0, 0, 100, 100)
        assert watched.decoded == [(0, 0), (0, 1)]


def test_few_decoded_chunks_are_kept_for_single_reads(tiled: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with Slide(tiled["jpeg-420"]) as slide:
        monkeypatch.setattr(reader, "KEPT_BYTES", 3 * 256 * 256 * 3)
        for x, y in grid(slide.size, 256).tolist():
            slide.read(x, y, 0, 10, 10)
            assert len(slide._kept) <= 3
