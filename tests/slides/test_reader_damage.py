"""Damaged and left-out chunks: a damaged place costs that place only."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.errors import Reason, SlideError
from slidestudy.slides.reader import Slide
from tests.slides.builders import (
    RGB,
    all_tiles,
    collect,
    crop,
    exact_area,
    grid,
    openslides_level,
    set_chunk,
    spoil,
)

Write = Callable[..., Path]
PLACES = st.lists(st.tuples(st.integers(-300, 1300), st.integers(-300, 1000)), max_size=40)


@pytest.mark.parametrize("part", [0.0, 0.5])
@pytest.mark.parametrize("name", ["jpeg-444", "jpeg-420", "jpeg-rgb", "deflate", "zstd", "planes", "planes-jpeg"])
@pytest.mark.parametrize("threads", [1, 2])
def test_exactly_the_tiles_that_touch_a_damaged_chunk_are_flagged(
    tmp_path: Path, opened: dict[str, tuple[Slide, RGB]], name: str, part: float, threads: int
) -> None:
    sound, _ = opened[name]
    coords = grid(sound.size, 96)
    expected, _, white = collect(sound.tiles(coords, 96, 96), len(coords))
    with Slide(spoil(Path(sound.path), tmp_path / "x.tif", 5, part)) as slide:
        assert slide.kind == "chunks"
        tiles, readable, absent = collect(slide.tiles(coords, 96, 96, threads), len(coords))
    # The grid is 4 x 3 chunks of 256 px: number 5 is the second of the second row.
    touching = np.array([x < 512 and x + 96 > 256 and y < 512 and y + 96 > 256 for x, y in coords.tolist()])
    np.testing.assert_array_equal(readable, ~touching)
    np.testing.assert_array_equal(tiles[readable], expected[readable])
    assert not tiles[~readable].any(), "no white tile is made of a damaged one"
    np.testing.assert_array_equal(absent[readable], white[readable])


@pytest.mark.shared
@pytest.mark.parametrize(("name", "side"), [("tcga-cr-7395-01a-01-ts1.svs", 256), ("cmu-1-small-region.svs", 240)])
def test_a_damaged_chunk_of_a_real_slide_is_flagged(shared: Path, tmp_path: Path, name: str, side: int) -> None:
    path = shared / "slides" / name
    with tifffile.TiffFile(path) as file:
        columns = -(-file.pages[0].imagewidth // side)
    index = 2 * columns + 3
    coords = np.array([(3 * side + dx, 2 * side + dy) for dx in (-40, -30, 10) for dy in (-40, -30, 10)], np.int32)
    with Slide(path) as sound, Slide(spoil(path, tmp_path / "x.svs", index, 0.6)) as slide:
        assert slide.kind == "chunks"
        expected, _, _ = collect(sound.tiles(coords, 40, 40), len(coords))
        tiles, readable, _ = collect(slide.tiles(coords, 40, 40, 2), len(coords))
    touching = [x + 40 > 3 * side and y + 40 > 2 * side for x, y in coords.tolist()]
    np.testing.assert_array_equal(readable, ~np.array(touching))
    np.testing.assert_array_equal(tiles[readable], expected[readable])


def test_after_a_damaged_chunk_the_slide_is_read_on_elsewhere(tmp_path: Path, tiled: dict[str, Path]) -> None:
    with Slide(tiled["jpeg-420"]) as slide:
        whole = slide.read(0, 0, 0, 256, 256)
        last = slide.read(768, 512, 0, 132, 188)
    with Slide(spoil(tiled["jpeg-420"], tmp_path / "x.tif", 5, 0.3), "s1") as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 0, 256, 256), whole)
        for read in (lambda: slide.read(256, 256, 0, 9, 9), lambda: slide.read_square(250, 256, 50, 50)):
            with pytest.raises(SlideError, match=r"s1.*256") as caught:
                read()
            assert caught.value.reason is Reason.TRUNCATED
            np.testing.assert_array_equal(slide.read(0, 0, 0, 256, 256), whole)
            np.testing.assert_array_equal(slide.read(768, 512, 0, 132, 188), last)


@settings(deadline=None, max_examples=40)
@given(PLACES, st.integers(10, 300), st.integers(1, 3))
def test_what_the_scanner_left_out_is_white_and_its_fraction_exact(
    tiled: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, coords: list[tuple[int, int]], side: int, by: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "absent.tif"
    if not path.exists():
        shutil.copy(tiled["deflate"], path)
        for index in (0, 6):
            set_chunk(path, index, offset=0, count=0)
    shown, gone = openslides_level(tiled["deflate"]), np.zeros((700, 900, 3), np.uint8)
    for x, y in ((0, 0), (512, 256)):
        shown[y : y + 256, x : x + 256], gone[y : y + 256, x : x + 256] = 255, 255
    places = np.array(coords, np.int32).reshape(-1, 2)
    with Slide(path) as slide:
        tiles, readable, absent = collect(slide.tiles(places, side * by, side, 2), len(places))
    assert readable.all()
    for (x, y), tile, fraction in zip(coords, tiles, absent, strict=True):
        # What lies outside the slide counts as left out, too.
        window = crop(gone, x, y, side * by, side * by)
        assert fraction == pytest.approx((window == 255).mean(), abs=1e-6)
        np.testing.assert_array_equal(tile, exact_area(shown, x, y, side * by, side))


@pytest.mark.parametrize("vendor", ["generic-tiff", "aperio"])
def test_left_out_chunks_look_as_openslide_shows_them(
    tmp_path: Path, textured: RGB, write_tiff: Write, vendor: str
) -> None:
    description = (
        "Aperio Image Library v12\r\n900x700 [0,0 900x700] (256x256)|MPP = 0.5" if vendor == "aperio" else None
    )
    path = write_tiff(tmp_path / "x.tif", textured, compression="jpeg", description=description)
    set_chunk(path, 6, count=0)
    with Slide(path) as slide:
        assert (slide.kind, slide.vendor) == ("chunks", vendor)
        region = slide.read(0, 0, 0, 900, 700)
    np.testing.assert_array_equal(region, openslides_level(path))
    assert (region[256:512, 512:768] == 255).all()


def test_chunks_beyond_the_end_are_unreadable_and_counted(tmp_path: Path, tiled: dict[str, Path]) -> None:
    path = Path(shutil.copy(tiled["jpeg-420"], tmp_path / "x.tif"))
    with tifffile.TiffWriter(path, append=True) as file:
        file.write(
            np.full((175, 225, 3), 99, np.uint8), tile=(256, 256), subfiletype=1, photometric="rgb", metadata=None
        )
    set_chunk(path, 5, offset=path.stat().st_size)
    with Slide(path) as slide:
        assert (slide.kind, slide.level_sizes) == ("chunks", [(900, 700), (225, 175)])
        assert slide.beyond_end() == (1, 13)
        _, readable, _ = all_tiles(slide, 256)
    assert readable.tolist() == [i != 5 for i in range(12)]
