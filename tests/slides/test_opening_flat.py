"""Files that OpenSlide does not know: flat and unusual TIFF, OME-TIFF and its labels."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile

from slidestudy.slides.reader import Slide
from tests.slides.builders import (
    RGB,
    all_tiles,
)

Write = Callable[..., Path]
TILE = {"tile": (128, 128), "photometric": "rgb"}


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
