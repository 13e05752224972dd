"""How a slide is read: directly where that gives OpenSlide's pixels, else through OpenSlide."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile

from slidestudy.slides import opening
from slidestudy.slides.reader import Slide
from slidestudy.slides.tiff_pages import ChunkTable, chunk_table
from slidestudy.slides.tiff_source import TiffSource
from tests.slides.builders import (
    RGB,
    TILED,
    all_tiles,
    chunk_at,
    openslides_level,
    overwrite,
    set_chunk,
)

Write = Callable[..., Path]
TILE = {"tile": (128, 128), "photometric": "rgb"}


@pytest.mark.parametrize("name", [*TILED, "jpeg-shared-tables-ycbcr", "jpeg-shared-tables-rgb"])
def test_tiled_files_are_read_directly(tiled: dict[str, Path], name: str) -> None:
    with Slide(tiled[name]) as slide:
        assert (slide.kind, slide.vendor, slide.indirect) == ("chunks", "generic-tiff", "")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "vendor"),
    [
        ("cmu-1-small-region.svs", "aperio"),
        ("tcga-cr-7395-01a-01-ts1.svs", "aperio"),
        ("her2st_C2.tif", "generic-tiff"),
        ("her2st_C3.tif", "generic-tiff"),
        ("valid_tiff.tif", "generic-tiff"),
    ],
)
def test_real_slides_are_read_directly(shared: Path, name: str, vendor: str) -> None:
    with Slide(shared / "slides" / name) as slide:
        assert (slide.kind, slide.vendor, slide.indirect) == ("chunks", vendor, "")


def test_no_handle_of_openslide_stays_open_where_it_is_not_needed(
    tiled: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, close = [], openslide.OpenSlide.close
    monkeypatch.setattr(openslide.OpenSlide, "close", lambda self: (closed.append(self), close(self))[1])
    with Slide(tiled["deflate"]):
        assert len(closed) == 1


def other_pixels(table: ChunkTable) -> ChunkTable:
    """A decoder that is off by one."""
    return replace(table, decode=lambda *args: table.decode(*args) ^ np.uint8(1))


def no_pixels(table: ChunkTable) -> ChunkTable:
    """A decoder that does not know the format."""

    def decode(data: bytes, index: int, reduction: int) -> RGB:
        raise ValueError("unknown marker")

    return replace(table, decode=decode)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (other_pixels, "the chunks of level 0 differ from OpenSlide's pixels"),
        (no_pixels, "its chunks can be decoded by OpenSlide only"),
    ],
)
def test_chunks_that_would_differ_from_openslide_are_left_to_it(
    tiled: dict[str, Path], monkeypatch: pytest.MonkeyPatch, change: Callable[[ChunkTable], ChunkTable], why: str
) -> None:
    monkeypatch.setattr(opening, "chunk_table", lambda page: change(chunk_table(page)))
    plain = openslides_level(tiled["jpeg-420"])
    with Slide(tiled["jpeg-420"]) as slide:
        assert (slide.kind, slide.indirect) == ("openslide", why)
        np.testing.assert_array_equal(slide.read(0, 0, 0, 900, 700), plain)
        tiles, _, _ = all_tiles(slide, 256, 2)
    np.testing.assert_array_equal(tiles[5], plain[256:512, 256:512])


@pytest.mark.parametrize("level", [0, 1, 2])
def test_every_level_is_compared(same_tissue: dict[float, Path], monkeypatch: pytest.MonkeyPatch, level: int) -> None:
    width = [1024, 256, 64][level]

    def table(page: Any) -> ChunkTable:
        made = chunk_table(page)
        return other_pixels(made) if made.width == width else made

    monkeypatch.setattr(opening, "chunk_table", table)
    with Slide(same_tissue[0.5]) as slide:
        assert slide.indirect == f"the chunks of level {level} differ from OpenSlide's pixels"


def test_a_level_of_an_uneven_downsample_is_compared_where_openslide_does_not_interpolate(
    tmp_path: Path, textured: RGB, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(textured, **TILE)
        file.write(textured[:345, :443], subfiletype=1, **TILE)
    with Slide(path) as slide:
        assert slide.indirect == ""
        assert slide.downsamples[1] != round(slide.downsamples[1])

    def table(page: Any) -> ChunkTable:
        made = chunk_table(page)
        return other_pixels(made) if made.width == 443 else made

    monkeypatch.setattr(opening, "chunk_table", table)
    with Slide(path) as slide:
        assert slide.indirect == "the chunks of level 1 differ from OpenSlide's pixels"


def test_damaged_chunks_do_not_make_the_others_be_read_in_another_way(tiled: dict[str, Path], tmp_path: Path) -> None:
    path = Path(shutil.copy(tiled["jpeg-420"], tmp_path / "x.tif"))
    with tifffile.TiffFile(path) as file:
        largest = np.argsort(file.pages[0].databytecounts)[::-1].tolist()
    for index in largest[:3]:
        offset, count = chunk_at(path, index)
        overwrite(path, offset + count // 2, bytes(count - count // 2))
    with Slide(path) as slide:
        assert (slide.kind, slide.indirect) == ("chunks", "")


@pytest.mark.shared
def test_formats_that_are_not_plain_tiff_are_read_through_openslide(shared: Path) -> None:
    with Slide(shared / "slides" / "camelyon_overview_jpeg.dcm") as slide:
        assert (slide.kind, slide.vendor, slide.indirect) == ("openslide", "dicom", "format dicom")


def test_pixels_with_transparency_are_read_through_openslide(tmp_path: Path, textured: RGB, write_tiff: Write) -> None:
    rgba = np.dstack([textured, np.full(textured.shape[:2], 255, np.uint8)])
    with Slide(write_tiff(tmp_path / "x.tif", rgba, extrasamples=["unassalpha"])) as slide:
        assert slide.kind == "openslide"
        assert "4 channels of uint8" in slide.indirect
        np.testing.assert_array_equal(slide.read(0, 0, 0, 900, 700), textured)


def test_an_aperio_pyramid_with_chunks_left_out_is_read_through_openslide(
    same_tissue: dict[float, Path], tmp_path: Path
) -> None:
    path = set_chunk(Path(shutil.copy(same_tissue[0.5], tmp_path / "x.svs")), 1, count=0)
    plain = [openslides_level(path, level) for level in range(3)]
    assert (plain[1][:64, 64:128] == 255).all(), "OpenSlide leaves the place out at smaller levels too"
    with Slide(path) as slide:
        assert (slide.kind, slide.indirect) == ("openslide", "chunks are left out")
        for level, (width, height) in enumerate(slide.level_sizes):
            np.testing.assert_array_equal(slide.read(0, 0, level, width, height), plain[level])


def test_directories_that_tifffile_does_not_understand_are_left_to_openslide(
    tiled: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TypeError("odd")

    monkeypatch.setattr(tifffile, "TiffFile", fail)
    with Slide(tiled["jpeg-420"]) as slide:
        assert (slide.kind, slide.indirect) == ("openslide", "not a readable TIFF (odd)")


def test_a_slide_found_to_differ_leaves_no_file_open(tiled: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    sources: list[TiffSource] = []
    made = TiffSource.__init__

    def kept(self: TiffSource, *args: Any) -> None:
        made(self, *args)
        sources.append(self)

    monkeypatch.setattr(TiffSource, "__init__", kept)
    monkeypatch.setattr(opening, "chunk_table", lambda page: other_pixels(chunk_table(page)))
    Slide(tiled["deflate"]).close()
    assert [source._file for source in sources] == [-1]
