"""Files that are not read at all, each with its reason, and none left open."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest

from slidestudy.errors import Reason
from tests.slides.builders import (
    RGB,
    chunk_at,
    refusal,
    set_tag,
)

Write = Callable[..., Path]


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
