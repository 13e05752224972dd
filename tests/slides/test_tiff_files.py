"""Signs that a copy of a TIFF was cut short, in every byte order."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.slides.tiff_files import absurd_tiles, cut_short, missing_directory, too_short
from tests.slides.builders import RGB, chunk_at, set_tag

Write = Callable[..., Path]
Order = Literal["little", "big"]


def chain(order: Order, big: bool, offsets: list[int], entries: int = 1) -> bytes:
    """A TIFF whose header and directories point to `offsets` in turn; a directory stands where there is room."""
    first, plus, count, entry, link = (16, b"+", 8, 20, 8) if big else (8, b"*", 2, 12, 4)
    mark = b"\0" + plus if order == "big" else plus + b"\0"
    header = (b"MM" if order == "big" else b"II") + mark
    if big:
        header += (8).to_bytes(2, order) + bytes(2)
    body = bytearray(header + offsets[0].to_bytes(link, order))
    assert len(body) == first
    for here, following in zip(offsets, [*offsets[1:], 0], strict=True):
        if here >= 1000:
            continue
        end = here + count + entries * entry
        body.extend(bytes(max(0, end + link - len(body))))
        body[here : here + count] = entries.to_bytes(count, order)
        body[end : end + link] = following.to_bytes(link, order)
    return bytes(body)


KINDS = [(order, big) for order in ("little", "big") for big in (False, True)]


@pytest.mark.parametrize(("order", "big"), KINDS)
@pytest.mark.parametrize(
    ("offsets", "missing"),
    [
        ([16], None),
        ([1000], 1000),
        ([2**31], 2**31),
        ([16, 1000], 1000),
        ([16, 100, 4000], 4000),
    ],
)
def test_a_directory_beyond_the_end_is_found_in_every_byte_order(
    order: Order, big: bool, offsets: list[int], missing: int | None
) -> None:
    assert missing_directory(io.BytesIO(chain(order, big, offsets))) == missing


@pytest.mark.parametrize(("order", "big"), KINDS)
def test_directories_that_lead_back_to_the_first_have_none_missing(order: Order, big: bool) -> None:
    whole, link = chain(order, big, [16, 100]), 8 if big else 4
    loop = whole[:-link] + (16).to_bytes(link, order)
    assert missing_directory(io.BytesIO(loop)) is None


@pytest.mark.parametrize(("order", "big"), KINDS)
def test_a_directory_is_missing_until_its_last_byte(order: Order, big: bool) -> None:
    whole = chain(order, big, [16])
    assert missing_directory(io.BytesIO(whole)) is None
    for length in range(16, len(whole)):
        assert missing_directory(io.BytesIO(whole[:length])) == 16, length


heads = st.sampled_from([b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0", b"II+\0", b"", b"\x89PNG"])


@settings(deadline=None)
@given(heads, st.binary(max_size=200))
def test_no_bytes_make_the_search_for_a_directory_fail(head: bytes, rest: bytes) -> None:
    offset = missing_directory(io.BytesIO(head + rest))
    assert offset is None or offset > 0


@settings(deadline=None)
@given(heads, st.binary(max_size=200))
def test_no_bytes_make_the_search_for_a_cut_fail(
    tmp_path_factory: pytest.TempPathFactory, head: bytes, rest: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.tif"
    path.write_bytes(head + rest)
    found = cut_short(path)
    assert (found == "the file is empty") == (not head + rest)


@pytest.mark.parametrize("kind", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_a_whole_tiff_misses_no_directory(tmp_path: Path, picture: RGB, kind: str, big: bool) -> None:
    path = tmp_path / "two.tif"
    with tifffile.TiffWriter(path, byteorder=kind, bigtiff=big) as file:
        file.write(picture)
        file.write(picture[::2, ::2])
    whole = path.read_bytes()
    assert missing_directory(io.BytesIO(whole)) is None
    assert cut_short(path) == ""
    assert missing_directory(io.BytesIO(whole[: len(whole) // 2])) is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (chain("little", False, [5000]), "the file ends at byte 8, before its directory at byte 5000"),
        (chain("big", False, [5000]), "the file ends at byte 8, before its directory at byte 5000"),
        (chain("little", True, [5000]), "the file ends at byte 16, before its directory at byte 5000"),
        (chain("big", True, [5000]), "the file ends at byte 16, before its directory at byte 5000"),
        (chain("little", False, [8])[:12], "the file ends at byte 12, within its directory at byte 8"),
        (b"no tiff at all", ""),
    ],
)
def test_the_message_says_where_the_file_ends(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "slide.svs"
    path.write_bytes(content)
    assert cut_short(path) == message


def test_pixels_beyond_the_end_are_counted_where_all_directories_are_there(
    tmp_path: Path, picture: RGB, write_tiff: Write
) -> None:
    path = write_tiff(tmp_path / "x.tif", picture)
    offset, _ = chunk_at(path, 9)
    path.write_bytes(path.read_bytes()[: offset + 5])
    assert cut_short(path) == "the file is too short: 3 of 12 of its image tiles lie beyond its end"
    assert too_short(0, 12) == ""


def test_a_missing_file_was_not_cut_short(tmp_path: Path) -> None:
    assert cut_short(tmp_path / "absent.tif") == ""


def test_a_picture_of_another_format_was_not_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + np.arange(200, dtype=np.uint8).tobytes())
    assert cut_short(path) == ""


@pytest.mark.parametrize("kind", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_tiles_for_which_openslide_would_abort_are_found_on_any_page(
    tmp_path: Path, picture: RGB, kind: str, big: bool
) -> None:
    path = tmp_path / "two.tif"
    with tifffile.TiffWriter(path, byteorder=kind, bigtiff=big) as file:
        for image in (picture, picture[::2, ::2]):
            file.write(image, tile=(128, 256), photometric="rgb", metadata=None)
    assert absurd_tiles(path) == ""
    set_tag(path, "TileWidth", 4096, page=1)
    assert absurd_tiles(path) == ""
    set_tag(path, "TileWidth", 2**24, page=1)
    assert absurd_tiles(path) == "its directory is damaged (tiles of 16777216 x 128 px)"
    set_tag(path, "TileLength", 60_000)
    assert absurd_tiles(path) == "its directory is damaged (tiles of 256 x 60000 px)"


@settings(deadline=None)
@given(heads, st.binary(max_size=200))
def test_no_bytes_make_the_search_for_tiles_fail(
    tmp_path_factory: pytest.TempPathFactory, head: bytes, rest: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "tiles.tif"
    path.write_bytes(head + rest)
    assert "0 x 0" not in absurd_tiles(path)
