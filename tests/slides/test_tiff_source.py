"""TIFFs read chunk by chunk: flaws are told apart, and neighbouring chunks are read at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.slides import tiff_source
from slidestudy.slides.levels import Chunk, Flaw
from slidestudy.slides.retrying import Retries
from slidestudy.slides.tiff_pages import chunk_table, open_tiff
from slidestudy.slides.tiff_source import TiffSource
from tests.slides.builders import RGB, chunk_at, set_chunk

Write = Callable[..., Path]


def source_of(path: Path, pages: int = 1) -> TiffSource:
    with open_tiff(path) as tiff:
        tables = [chunk_table(tiff.pages[i]) for i in range(pages)]
    downsamples = [tables[0].width / t.width for t in tables]
    return TiffSource(path, "tiff", tables, downsamples, {}, None, Retries(0, 0))


def flaws(path: Path) -> list[Flaw]:
    source = source_of(path)
    chunks = list(source.chunks(0, range(source.levels[0].columns * source.levels[0].rows)))
    source.close()
    return [Flaw(int(chunk.flaws)) for chunk in chunks]


def pieces(image: RGB, index: int, side: int = 256) -> RGB:
    row, column = divmod(index, -(-image.shape[1] // side))
    return image[row * side : row * side + side, column * side : column * side + side]


def check(chunk: Chunk, image: RGB, index: int) -> None:
    assert chunk.pixels is not None
    expected = pieces(image, index)
    np.testing.assert_array_equal(chunk.pixels[: expected.shape[0], : expected.shape[1]], expected)


@settings(deadline=None)
@given(
    indices=st.lists(st.integers(0, 11), max_size=20), gap=st.sampled_from([0, 100, 10**9]), run=st.integers(1, 10**6)
)
def test_chunks_come_in_the_order_asked_for_however_the_reads_are_joined(
    tiled: dict[str, Path], textured: RGB, indices: list[int], gap: int, run: int
) -> None:
    for name in ("deflate", "planes"):
        source = source_of(tiled[name])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tiff_source, "GAP_BYTES", gap)
            patch.setattr(tiff_source, "RUN_BYTES", run)
            chunks = list(source.chunks(0, indices))
        source.close()
        assert len(chunks) == len(indices)
        for index, chunk in zip(indices, chunks, strict=True):
            check(chunk, textured, index)


def test_neighbouring_chunks_are_read_at_once(tiled: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    source, reads, pread = source_of(tiled["jpeg-420"]), [], os.pread

    def counted(descriptor: int, length: int, offset: int) -> bytes:
        reads.append(length)
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", counted)
    assert len(list(source.chunks(0, range(12)))) == 12
    assert len(reads) == 1
    reads.clear()
    list(source.chunks(0, [0, 11]))
    assert sum(reads) <= os.path.getsize(tiled["jpeg-420"])  # noqa: PTH202
    source.close()


def test_a_chunk_that_was_left_out_is_absent(tmp_path: Path, picture: RGB, write_tiff: Write) -> None:
    path = set_chunk(write_tiff(tmp_path / "x.tif", picture), 4, offset=0, count=0)
    assert flaws(path) == [Flaw.ABSENT if i == 4 else Flaw.NONE for i in range(12)]


def test_a_chunk_beyond_the_end_is_unreadable_and_counted(tmp_path: Path, picture: RGB, write_tiff: Write) -> None:
    path = write_tiff(tmp_path / "x.tif", picture)
    assert source_of(path).beyond_end() == (0, 12)
    set_chunk(path, 4, offset=path.stat().st_size + 100)
    offset, _ = chunk_at(path, 6)
    set_chunk(path, 6, offset=offset, count=path.stat().st_size - offset + 1)
    set_chunk(path, 7, offset=0, count=0)
    assert flaws(path) == [
        {4: Flaw.UNREADABLE, 6: Flaw.UNREADABLE, 7: Flaw.ABSENT}.get(i, Flaw.NONE) for i in range(12)
    ]
    assert source_of(path).beyond_end() == (2, 12)


def test_a_file_cut_in_its_last_chunk_loses_that_chunk(tmp_path: Path, picture: RGB, write_tiff: Write) -> None:
    path = write_tiff(tmp_path / "x.tif", picture, compression=None)
    path.write_bytes(path.read_bytes()[:-1])
    assert flaws(path) == [*[Flaw.NONE] * 11, Flaw.UNREADABLE]


def test_a_chunk_of_an_absurd_length_is_not_read(
    tmp_path: Path, picture: RGB, write_tiff: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiff(tmp_path / "x.tif", picture)
    with path.open("ab") as stream:
        stream.truncate(10_000_000)
    set_chunk(path, 2, count=5_000_000)
    lengths, pread = [], os.pread

    def counted(descriptor: int, length: int, offset: int) -> bytes:
        lengths.append(length)
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", counted)
    assert flaws(path) == [Flaw.UNREADABLE if i == 2 else Flaw.NONE for i in range(12)]
    assert max(lengths) < 2_000_000


@pytest.mark.parametrize("name", ["deflate", "jpeg-420", "planes", "planes-jpeg", "zstd"])
@pytest.mark.parametrize("part", [0.0, 0.5])
def test_damage_costs_the_chunk_that_has_it(
    tmp_path: Path, tiled: dict[str, Path], textured: RGB, name: str, part: float
) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes(tiled[name].read_bytes())
    whole = list(source_of(path).chunks(0, range(12)))
    offset, count = chunk_at(path, 5)
    start = int(count * part)
    content = path.read_bytes()
    path.write_bytes(content[: offset + start] + bytes(count - start) + content[offset + count :])
    for index, (before, after) in enumerate(zip(whole, source_of(path).chunks(0, range(12)), strict=True)):
        if index == 5:
            assert after == Chunk(None, Flaw.UNREADABLE)
        else:
            assert after.flaws is Flaw.NONE
            np.testing.assert_array_equal(after.pixels, before.pixels)


def test_reduced_levels_follow_the_files_own(tmp_path: Path, picture: RGB, write_tiff: Write) -> None:
    source = source_of(write_tiff(tmp_path / "x.tif", picture, compression="jpeg"))
    (level,) = source.reduced
    assert source.reductions == {0: 1}
    assert (level.width, level.height, level.downsample) == (113, 88, 8.0)
    assert (level.chunk_width, level.chunk_height) == (32, 32)
    full, reduced = (next(iter(source.chunks(number, [5]))) for number in (0, 1))
    assert full.pixels is not None
    assert reduced.pixels is not None
    assert np.abs(full.pixels.reshape(32, 8, 32, 8, 3).mean((1, 3)) - reduced.pixels).mean() < 1
    assert list(source_of(write_tiff(tmp_path / "y.tif", picture)).reduced) == []


def test_closing_closes_the_file_once(tiled: dict[str, Path]) -> None:
    source = source_of(tiled["deflate"])
    descriptor = source._file
    os.fstat(descriptor)
    source.close()
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(descriptor)
    source.close()
