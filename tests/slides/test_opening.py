"""How a slide is read: directly where that gives OpenSlide's pixels, else through OpenSlide, else not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile

from slidestudy.errors import Reason, SlideError
from slidestudy.slides import opening
from slidestudy.slides.reader import Slide
from slidestudy.slides.tiff_pages import ChunkTable, chunk_table
from slidestudy.slides.tiff_source import TiffSource
from tests.slides.builders import RGB, TILED, all_tiles, chunk_at, openslides_level, overwrite, set_chunk, set_tag

Write = Callable[..., Path]
TILE = {"tile": (128, 128), "photometric": "rgb"}


def refusal(path: Path) -> SlideError:
    with pytest.raises(SlideError) as caught:
        Slide(path, "s1")
    assert caught.value.what
    assert caught.value.remedy
    assert "s1" in str(caught.value)
    return caught.value


# Directly


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


# Through OpenSlide


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


# Flat files, and those that OpenSlide does not know

FLAT: dict[str, dict[str, Any]] = {
    "strips": {"tile": None, "rowsperstrip": 32},
    "one strip": {"tile": None, "rowsperstrip": 700},
    "strips-lzw": {"tile": None, "rowsperstrip": 32, "compression": "lzw", "predictor": True},
    "strips-zstd": {"tile": None, "rowsperstrip": 32, "compression": "zstd"},
    "strips-raw": {"tile": None, "rowsperstrip": 32, "compression": None},
    "strips-planes": {"tile": None, "rowsperstrip": 32, "planarconfig": "separate"},
    "strips-bigtiff": {"tile": None, "rowsperstrip": 32, "bigtiff": True},
    "strips-big-endian": {"tile": None, "rowsperstrip": 32, "byteorder": ">"},
    "tiles-big-endian": {"byteorder": ">"},
    "tiles-jpeg2000": {"compression": "jpeg2000"},
    "tiles-webp": {"compression": "webp"},
    "tiles-jpegxl": {"compression": "jpegxl"},
    "tiles-lzma": {"compression": "lzma"},
}


@pytest.mark.parametrize("name", FLAT)
def test_flat_and_unusual_tiffs_have_the_pixels_that_were_written(
    tmp_path: Path, textured: RGB, write_tiff: Write, name: str
) -> None:
    options = FLAT[name]
    image = np.ascontiguousarray(np.moveaxis(textured, 2, 0)) if "planarconfig" in options else textured
    path = write_tiff(tmp_path / "x.tif", image, **options)
    with pytest.raises(openslide.OpenSlideError), openslide.OpenSlide(path):
        pass
    with Slide(path) as slide:
        assert (slide.kind, slide.vendor, slide.size, slide.indirect) == ("chunks", "tiff", (900, 700), "")
        np.testing.assert_array_equal(slide.read(0, 0, 0, 900, 700), textured)
        assert float(slide.properties["tiff.XResolution"]) == pytest.approx(20_000)
        assert slide.properties["tiff.ResolutionUnit"] == "centimeter"


@pytest.mark.shared
def test_a_real_flat_tiff_is_read(shared: Path) -> None:
    path = shared / "slides" / "kidney-48-5.tif"
    with Slide(path) as slide:
        assert (slide.kind, slide.vendor, slide.size) == ("chunks", "tiff", (1493, 901))
        np.testing.assert_array_equal(slide.read(0, 0, 0, 1493, 901), tifffile.imread(path))


def write_ome(path: Path, image: RGB, label: RGB | None = None, **options: Any) -> Path:
    """An OME-TIFF whose smaller levels hang below the first page, and a label as a second image."""
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(image, subifds=2, photometric="rgb", **options)
        file.write(image[::2, ::2], subfiletype=1, photometric="rgb", **options)
        file.write(image[::4, ::4], subfiletype=1, photometric="rgb", **options)
        if label is not None:
            file.write(label, photometric="rgb", **options)
    return path


@pytest.mark.parametrize(
    ("options", "vendor"),
    [
        ({"tile": (128, 128), "compression": "zlib"}, "generic-tiff"),
        ({"tile": (128, 128), "compression": "jpeg2000"}, "ome-tiff"),
        ({"rowsperstrip": 64, "compression": "zlib"}, "ome-tiff"),
    ],
)
def test_the_levels_of_an_ome_tiff_are_read(
    tmp_path: Path, textured: RGB, options: dict[str, Any], vendor: str
) -> None:
    with Slide(write_ome(tmp_path / "x.ome.tif", textured, **options)) as slide:
        assert (slide.kind, slide.vendor) == ("chunks", vendor)
        assert slide.level_sizes == [(900, 700), (450, 350), (225, 175)]
        assert slide.downsamples == [1.0, 2.0, 4.0]
        for level, (width, height) in enumerate(slide.level_sizes):
            step = 2**level
            np.testing.assert_array_equal(slide.read(0, 0, level, width, height), textured[::step, ::step])


def test_levels_below_a_page_end_before_the_first_that_is_no_smaller_copy(tmp_path: Path, textured: RGB) -> None:
    path = tmp_path / "x.tif"
    options = {**TILE, "metadata": None}
    with tifffile.TiffWriter(path) as file:
        file.write(textured, subifds=3, **options)
        file.write(textured[::2, ::2], subfiletype=1, **options)
        file.write(np.zeros((300, 300, 3), np.uint8), subfiletype=1, **options)
        file.write(textured[::8, ::8], subfiletype=1, **options)
    with Slide(path) as slide:
        assert slide.level_sizes == [(900, 700), (450, 350)]


LABEL: RGB = np.full((300, 500, 3), 7, np.uint8)


def write_label_first(path: Path, image: RGB) -> Path:
    with tifffile.TiffWriter(path) as file:
        for picture in (LABEL, image):
            file.write(picture, photometric="rgb", rowsperstrip=64, metadata=None)
    return path


def write_label_as_level(path: Path, image: RGB) -> Path:
    with tifffile.TiffWriter(path) as file:
        file.write(image, metadata=None, **TILE)
        file.write(LABEL, subfiletype=1, metadata=None, **TILE)
    return path


@pytest.mark.parametrize(
    "write",
    [
        lambda path, image: write_ome(path, image, LABEL, tile=(128, 128)),
        lambda path, image: write_ome(path, image, LABEL, rowsperstrip=64),
        write_label_first,
        write_label_as_level,
    ],
    ids=["ome-tiles", "ome-strips", "flat-label-first", "label-marked-as-level"],
)
def test_no_pixel_of_a_label_is_ever_read(
    tmp_path: Path, textured: RGB, write: Callable[[Path, RGB], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "x.tif", textured)
    with tifffile.TiffFile(path) as file:
        label = [page for page in file.pages if page.shape == LABEL.shape]
        assert len(label) == 1
        places = list(zip(label[0].dataoffsets, label[0].databytecounts, strict=True))
    reads, pread = [], os.pread

    def watched(descriptor: int, length: int, offset: int) -> bytes:
        data = pread(descriptor, length, offset)
        reads.append((offset, len(data)))
        return data

    monkeypatch.setattr(os, "pread", watched)
    monkeypatch.setattr("slidestudy.slides.tiff_source.GAP_BYTES", 0)
    with Slide(path) as slide:
        assert slide.kind == "chunks"
        assert LABEL.shape[1::-1] not in slide.level_sizes
        all_tiles(slide, 128)
        for downsample in (1, 2, 5, 30):
            overview = slide.read_overview(downsample)
            assert (overview.picture != 7).any(axis=2).all()
    assert reads
    for offset, length in reads:
        for start, count in places:
            assert offset + length <= start or start + count <= offset


# Refusals

FIELD: RGB = np.full((300, 400, 3), 200, np.uint8)


@pytest.mark.parametrize("cut", [{"tile": None}, {"tile": (128, 128)}], ids=["flat", "tiled"])
@pytest.mark.parametrize(
    ("image", "options", "what"),
    [
        (FIELD[..., 0], {"photometric": "minisblack"}, "1 channel of uint8"),
        (FIELD.astype(np.uint16), {}, "3 channels of uint16"),
        (FIELD.astype(np.float32), {}, "3 channels of float32"),
        (np.stack([FIELD] * 3), {}, "3 pictures of the same size"),
        (
            np.stack([FIELD[..., 0]] * 4),
            {"photometric": "minisblack", "planarconfig": None, "metadata": {"axes": "CYX"}, "ome": True},
            "1 channel of uint8",
        ),
    ],
    ids=["grey", "16-bit", "float", "stack", "stains"],
)
def test_what_is_no_bright_field_is_refused(
    tmp_path: Path, write_tiff: Write, cut: dict[str, Any], image: Any, options: dict[str, Any], what: str
) -> None:
    error = refusal(write_tiff(tmp_path / "x.tif", image, **cut, **options))
    assert error.reason is Reason.NOT_BRIGHTFIELD
    assert what in error.what or "pictures of the same size" in error.what
    assert "convert it" in error.remedy


@pytest.mark.shared
@pytest.mark.parametrize("name", ["small_vectra.qptiff", "no_dzi.tif"])
def test_real_files_that_are_no_bright_field_are_refused(shared: Path, name: str) -> None:
    error = refusal(shared / "slides" / name)
    assert error.reason is Reason.NOT_BRIGHTFIELD
    assert "1 channel of uint8" in error.what


def test_a_directory_with_too_few_chunks_is_refused_rather_than_shown_scrambled(
    tiled: dict[str, Path], tmp_path: Path
) -> None:
    path = set_tag(Path(shutil.copy(tiled["deflate"], tmp_path / "x.tif")), "ImageWidth", 60_000)
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == (60_000, 700), "OpenSlide opens it"
    error = refusal(path)
    assert "its directory is damaged (12 chunks where 705 are needed)" in error.what
    assert "copy the file anew" in error.remedy


def test_a_directory_with_absurd_tiles_is_refused_before_openslide_takes_the_memory(
    tiled: dict[str, Path], tmp_path: Path
) -> None:
    path = set_tag(Path(shutil.copy(tiled["deflate"], tmp_path / "x.tif")), "TileLength", 2**24)
    error = refusal(path)
    assert error.what == "its directory is damaged (tiles of 256 x 16777216 px)"
    assert "copy the file anew" in error.remedy


def test_a_flat_file_of_one_large_strip_is_to_be_converted(
    tmp_path: Path, textured: RGB, write_tiff: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiff(tmp_path / "x.tif", textured, tile=None, rowsperstrip=700)
    monkeypatch.setattr("slidestudy.slides.tiff_pages.MAX_CHUNK_BYTES", 900 * 700 * 3 - 1)
    error = refusal(path)
    assert "chunks of 900 x 700 px" in error.what
    assert "convert it to a tiled" in error.remedy


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", Reason.TRUNCATED),
        (b"a text file\n" * 50, Reason.UNREADABLE),
        (b"%PDF-1.4", Reason.UNREADABLE),
        (b"II*\0", Reason.UNREADABLE),
        (bytes(64), Reason.UNREADABLE),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path: Path, content: bytes, reason: Reason) -> None:
    path = tmp_path / "slide.svs"
    path.write_bytes(content)
    assert refusal(path).reason is reason


@pytest.mark.parametrize("name", [".", "absent.svs"])
def test_a_folder_or_a_missing_file_is_unreadable(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path / name).reason is Reason.UNREADABLE


@pytest.mark.parametrize("kind", ["svs", "tiled", "flat"])
def test_a_file_cut_before_its_directories_is_truncated(
    tmp_path: Path, same_tissue: dict[float, Path], textured: RGB, write_tiff: Write, kind: str
) -> None:
    if kind == "svs":
        content, length = same_tissue[0.5].read_bytes(), 40_000
    else:
        tile = (256, 256) if kind == "tiled" else None
        content, length = write_tiff(tmp_path / "whole.tif", textured, tile=tile).read_bytes(), 100
    path = tmp_path / "cut.svs"
    path.write_bytes(content[:length])
    error = refusal(path)
    assert error.reason is Reason.TRUNCATED
    assert error.remedy == "copy the file anew from its source"


def test_a_file_cut_among_its_smallest_levels_pixels_is_truncated(tmp_path: Path, tiled: dict[str, Path]) -> None:
    path = tmp_path / "x.tif"
    offset, _ = chunk_at(tiled["deflate"], 8)
    path.write_bytes(tiled["deflate"].read_bytes()[: offset + 10])
    error = refusal(path)
    assert error.reason is Reason.TRUNCATED
    assert "4 of 12" in error.what


def test_a_refused_slide_leaves_no_file_open(tmp_path: Path, tiled: dict[str, Path], write_tiff: Write) -> None:
    grey = write_tiff(tmp_path / "grey.tif", FIELD[..., 0], photometric="minisblack")
    wide = set_tag(Path(shutil.copy(tiled["deflate"], tmp_path / "wide.tif")), "ImageWidth", 60_000)

    def open_files() -> list[str]:
        names = []
        for entry in Path("/proc/self/fd").iterdir():
            try:
                names.append(os.readlink(entry))  # noqa: PTH115
            except OSError:
                continue
        return [name for name in names if str(tmp_path) in name]

    for path in (grey, wide):
        refusal(path)
    assert open_files() == []


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
