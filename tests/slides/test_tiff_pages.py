"""The chunks of TIFF pages: decoded as they were written, and refused where they are damaged or no bright field."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.errors import Reason
from slidestudy.slides.tiff_pages import ChunkTable, NotReadableError, chunk_table, open_tiff
from tests.slides.builders import RGB, chunk_at, set_chunk, set_tag

Write = Callable[..., Path]


def table_of(path: Path, page: int = 0) -> ChunkTable:
    with open_tiff(path) as tiff:
        return chunk_table(list(tiff.pages)[page])


def stored(path: Path, table: ChunkTable, index: int, plane: int = 0) -> bytes:
    offset, count = int(table.offsets[plane, index]), int(table.counts[plane, index])
    return path.read_bytes()[offset : offset + count]


def whole(path: Path) -> RGB:
    """A page put together from its chunks, one plane after the other."""
    table = table_of(path)
    columns = -(-table.width // table.chunk_width)
    planes, chunks = table.offsets.shape
    out = np.zeros((table.height, table.width, 3), np.uint8)
    for index in range(chunks):
        y, x = index // columns * table.chunk_height, index % columns * table.chunk_width
        decoded = [table.decode(stored(path, table, index, p), p * chunks + index, 1) for p in range(planes)]
        pixels = np.concatenate(decoded, axis=2)[: table.height - y, : table.width - x]
        out[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    return out


LOSSLESS: dict[str, dict[str, Any]] = {
    f"{kind}-{name}": {**cut, **options}
    for kind, cut in {
        "tiles": {"tile": (256, 256)},
        "strips": {"tile": None, "rowsperstrip": 64},
        "one-strip": {"tile": None, "rowsperstrip": 700},
    }.items()
    for name, options in {
        "raw": {"compression": None},
        "lzw": {"compression": "lzw"},
        "deflate-predictor": {"compression": "zlib", "predictor": True},
        "zstd": {"compression": "zstd"},
        "jpeg2000": {"compression": "jpeg2000"},
        "planes": {"compression": "zlib", "planarconfig": "separate"},
        "big-endian": {"compression": "zlib", "byteorder": ">"},
        "bigtiff": {"compression": "zlib", "bigtiff": True},
    }.items()
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_chunks_hold_the_pixels_that_were_written(
    tmp_path: Path, textured: RGB, write_tiff: Write, kind: str
) -> None:
    options = LOSSLESS[kind]
    image = np.ascontiguousarray(np.moveaxis(textured, 2, 0)) if "planarconfig" in options else textured
    np.testing.assert_array_equal(whole(write_tiff(tmp_path / "x.tif", image, **options)), textured)


@pytest.mark.parametrize("cut", [{"tile": (256, 256)}, {"tile": None, "rowsperstrip": 64}])
@pytest.mark.parametrize("options", [{}, {"subsampling": (2, 2)}, {"planarconfig": "separate"}])
def test_jpeg_chunks_are_near_the_pixels_that_were_written(
    tmp_path: Path, picture: RGB, write_tiff: Write, cut: dict[str, Any], options: dict[str, Any]
) -> None:
    image = np.ascontiguousarray(np.moveaxis(picture, 2, 0)) if "planarconfig" in options else picture
    found = whole(write_tiff(tmp_path / "x.tif", image, compression="jpeg", **cut, **options))
    assert np.abs(found.astype(int) - picture).mean() < 2


@pytest.mark.parametrize("cut", [{"tile": (256, 256)}, {"tile": None, "rowsperstrip": 64}])
@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2), (4, 1)])
def test_jpeg_at_an_eighth_is_the_mean_of_blocks(
    tmp_path: Path, picture: RGB, write_tiff: Write, cut: dict[str, Any], subsampling: tuple[int, int]
) -> None:
    image = picture[:, :896]
    path = write_tiff(tmp_path / "x.tif", image, compression="jpeg", subsampling=subsampling, **cut)
    table = table_of(path)
    assert table.reduces
    last = table.offsets.shape[1] - 1
    for index in (0, last):
        full, reduced = (table.decode(stored(path, table, index), index, reduction) for reduction in (1, 8))
        rows, columns = full.shape[0] // 8, full.shape[1] // 8
        assert reduced.shape == (-(-full.shape[0] // 8), -(-full.shape[1] // 8), 3)
        mean = full[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8, 3).mean((1, 3))
        # A last strip may end within a block.
        assert np.abs(reduced[:rows, :columns] - mean).mean() < 0.7


def test_chunks_that_do_not_divide_by_the_largest_block_are_not_reduced(
    tmp_path: Path, picture: RGB, write_tiff: Write
) -> None:
    strips = write_tiff(tmp_path / "x.tif", picture, compression="jpeg", tile=None, rowsperstrip=24)
    assert not table_of(strips).reduces
    assert not table_of(write_tiff(tmp_path / "y.tif", picture, compression="zlib")).reduces


def test_tiles_that_hold_only_what_lies_inside_the_page_are_read(
    tmp_path: Path, picture: RGB, write_tiff: Write
) -> None:
    small = simplejpeg.encode_jpeg(np.ascontiguousarray(picture[:100, :80]), 90, "RGB", "444")
    path = tmp_path / "x.tif"
    options: dict[str, Any] = {"shape": (100, 80, 3), "dtype": np.uint8, "tile": (128, 128), "compression": "jpeg"}
    tifffile.imwrite(path, iter([small]), photometric="ycbcr", subsampling=(1, 1), metadata=None, **options)
    expected = simplejpeg.decode_jpeg(small, "RGB")
    np.testing.assert_array_equal(whole(path), expected)
    table = table_of(path)
    assert table.decode(stored(path, table, 0), 0, 8).shape == (13, 10, 3)


# Damage

DAMAGED = ["jpeg", "jpeg2000", "zlib", "zstd", "lzw", "packbits", None]


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("compression", DAMAGED)
def test_a_chunk_that_ends_too_early_is_never_decoded(
    tmp_path: Path, textured: RGB, write_tiff: Write, compression: str | None, planes: bool
) -> None:
    image = np.ascontiguousarray(np.moveaxis(textured, 2, 0)) if planes else textured
    cut = {"planarconfig": "separate"} if planes else {}
    path = write_tiff(tmp_path / "x.tif", image, compression=compression, **cut)
    table = table_of(path)
    data = stored(path, table, 5)
    assert table.decode(data, 5, 1).shape[:2] == (256, 256)
    for part in (0.02, 0.3, 0.7, 0.98):
        with pytest.raises(Exception, match=r".*"):
            table.decode(data[: int(len(data) * part)], 5, 1)


@pytest.mark.parametrize("reduction", [1, 8])
@pytest.mark.parametrize("tail", [b"\0", b"\xff\xd9"])
def test_a_jpeg_without_its_second_half_is_not_filled_with_grey(
    tmp_path: Path, textured: RGB, write_tiff: Write, reduction: int, tail: bytes
) -> None:
    path = write_tiff(tmp_path / "x.tif", textured, compression="jpeg")
    table = table_of(path)
    data = stored(path, table, 5)
    half = data[: len(data) // 2]
    spoilt = half + tail * ((len(data) - len(half)) // len(tail))
    lenient = simplejpeg.decode_jpeg(spoilt, "RGB", strict=False)
    assert lenient.shape == (256, 256, 3), "a plain decoder makes pixels of it"
    with pytest.raises(ValueError, match="JPEG"):
        table.decode(spoilt, 5, reduction)


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "zlib", "zstd"])
def test_zeros_in_place_of_the_second_half_are_found(
    tmp_path: Path, textured: RGB, write_tiff: Write, compression: str
) -> None:
    path = write_tiff(tmp_path / "x.tif", textured, compression=compression)
    table = table_of(path)
    data = stored(path, table, 5)
    half = len(data) // 2
    with pytest.raises(Exception, match=r".*"):
        table.decode(data[:half] + bytes(len(data) - half), 5, 1)


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000"])
def test_a_chunk_of_another_size_is_refused_before_memory_is_taken(
    tmp_path: Path, textured: RGB, write_tiff: Write, compression: str
) -> None:
    path = write_tiff(tmp_path / "x.tif", textured, compression=compression)
    table = table_of(path)
    data = bytearray(stored(path, table, 0))
    if compression == "jpeg":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">2H", 60_000, 60_000)
    else:
        at = data.index(b"\xff\x4f\xff\x51") + 8
        data[at : at + 8] = struct.pack(">2I", 1_000_000, 1_000_000)
    with pytest.raises(ValueError, match=r"needed|buffer"):
        table.decode(bytes(data), 0, 1)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8", b"\xff\x4f\xff\x51", b"\x78\x9c"]), st.data())
def test_no_bytes_make_a_decoder_give_a_wrong_shape(
    tiled: dict[str, Path], rest: bytes, head: bytes, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(["jpeg-420", "deflate", "lzw", "packbits", "zstd", "jpeg-shared-tables-rgb"]))
    table = table_of(tiled[name])
    try:
        found = table.decode(head + rest, 0, 1)
    except Exception:
        return
    assert found.shape == (table.chunk_height, table.chunk_width, 3)


# Refusals


def refusal(path: Path) -> NotReadableError:
    with pytest.raises(NotReadableError) as caught:
        table_of(path)
    return caught.value


FIELD: npt.NDArray[np.uint8] = np.zeros((300, 400, 3), np.uint8)


@pytest.mark.parametrize(
    ("image", "options", "what"),
    [
        (FIELD[..., 0], {"photometric": "minisblack"}, "1 channel of uint8"),
        (FIELD.astype(np.uint16), {}, "3 channels of uint16"),
        (FIELD.astype(np.float32), {}, "3 channels of float32"),
        (FIELD[..., :2], {"photometric": "minisblack", "planarconfig": "contig"}, "2 channels of uint8"),
    ],
)
def test_pixels_that_are_not_8_bit_rgb_are_no_bright_field(
    tmp_path: Path, write_tiff: Write, image: Any, options: dict[str, Any], what: str
) -> None:
    error = refusal(write_tiff(tmp_path / "x.tif", image, **options))
    assert error.reason is Reason.NOT_BRIGHTFIELD
    assert what in str(error)


def test_transparency_is_left_to_others_and_no_sign_of_fluorescence(tmp_path: Path, write_tiff: Write) -> None:
    error = refusal(write_tiff(tmp_path / "x.tif", np.dstack([FIELD, FIELD[..., 0]]), extrasamples=["unassalpha"]))
    assert error.reason is Reason.UNREADABLE
    assert "4 channels" in str(error)


def test_fewer_chunks_than_pixels_is_damage(tmp_path: Path, picture: RGB, write_tiff: Write) -> None:
    error = refusal(set_tag(write_tiff(tmp_path / "x.tif", picture), "ImageWidth", 9000))
    assert error.damaged
    assert str(error) == "its directory is damaged (12 chunks where 108 are needed)"


def test_a_directory_that_claims_huge_chunks_is_refused(tmp_path: Path, picture: RGB, write_tiff: Write) -> None:
    error = refusal(set_tag(write_tiff(tmp_path / "x.tif", picture), "TileLength", 2**24))
    assert "chunks of 256 x 16777216 px" in str(error)


def test_old_style_jpeg_is_refused(tmp_path: Path, picture: RGB, write_tiff: Write) -> None:
    error = refusal(set_tag(write_tiff(tmp_path / "x.tif", picture, compression="jpeg"), "Compression", 6))
    assert "OJPEG" in str(error)


def test_a_directory_of_nonsense_is_damage_whatever_tifffile_makes_of_it(
    tmp_path: Path, picture: RGB, write_tiff: Write
) -> None:
    path = write_tiff(tmp_path / "x.tif", picture)
    whole_file, refusals = path.read_bytes(), []
    for at in range(8, 200):
        path.write_bytes(whole_file[:at] + b"\xff\xff\xff\xff" + whole_file[at + 4 :])
        try:
            table_of(path)
        except NotReadableError as error:
            refusals.append(str(error))
    assert len(refusals) > 50
    assert all(refusals)


@pytest.mark.parametrize("content", [b"", b"II*\0", b"no tiff", bytes(100)])
def test_what_is_no_tiff_is_not_readable(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes(content)
    with pytest.raises(NotReadableError):
        table_of(path)


def test_a_missing_file_is_an_error_of_the_file_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_tiff(tmp_path / "absent.tif")


def test_offsets_and_lengths_are_those_of_the_directory(tmp_path: Path, picture: RGB, write_tiff: Write) -> None:
    path = set_chunk(write_tiff(tmp_path / "x.tif", picture), 3, offset=1234, count=0)
    table = table_of(path)
    assert (table.offsets.shape, table.counts.shape) == ((1, 12), (1, 12))
    assert (table.offsets[0, 3], table.counts[0, 3]) == (1234, 0)
    assert (table.offsets[0, 4], table.counts[0, 4]) == chunk_at(path, 4)
