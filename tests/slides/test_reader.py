"""Reading slides: the pixels are OpenSlide's, at the true resolution, and a damaged place costs that place only."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import openslide
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from slidestudy.errors import Reason, SlideError
from slidestudy.slides.reader import Slide, missing_directory, resize

RGB = npt.NDArray[np.uint8]
Write = Callable[..., Path]
Order = Literal["little", "big"]


@pytest.fixture(scope="module")
def svs(same_tissue: dict[float, Path]) -> Iterator[Slide]:
    with Slide(same_tissue[0.5], "s1") as slide:
        yield slide


@pytest.fixture(scope="module")
def plain(same_tissue: dict[float, Path]) -> RGB:
    """Level 0 of the same slide, read by OpenSlide at once."""
    with openslide.OpenSlide(same_tissue[0.5]) as slide:
        return np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))


# Tiles


@settings(deadline=None)
@given(st.integers(0, 1024 - 300), st.integers(0, 768 - 300), st.integers(1, 300))
def test_a_tile_at_the_slides_own_resolution_has_openslides_pixels(
    svs: Slide, plain: RGB, x: int, y: int, side: int
) -> None:
    np.testing.assert_array_equal(svs.read_square(x, y, side, side), plain[y : y + side, x : x + side])


def grey(image: RGB) -> npt.NDArray[np.float32]:
    return cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1.5)


def likeness(first: RGB, second: RGB) -> float:
    return float(np.corrcoef(grey(first).ravel(), grey(second).ravel())[0, 1])


def test_a_tile_shows_the_same_tissue_whatever_the_slides_resolution(same_tissue: dict[float, Path]) -> None:
    size, mpp, at_um = 128, 1.0, (160, 120)
    tiles = {}
    for slide_mpp, path in same_tissue.items():
        with Slide(path) as slide:
            x, y = (round(place / slide_mpp) for place in at_um)
            tiles[slide_mpp] = slide.read_square(x, y, size * mpp / slide_mpp, size)
            wrong = slide.read_square(x, y, size * mpp / 0.5, size)
        assert tiles[slide_mpp].shape == (size, size, 3)
    assert likeness(tiles[0.5], tiles[0.4]) > 0.97
    assert likeness(tiles[0.5], wrong) < 0.8, "the other scanner's pixels taken for the first's show something else"


def test_a_tile_of_a_coarser_resolution_is_the_area_mean_of_its_pixels(
    tmp_path: Path, picture: RGB, write_tiff: Write
) -> None:
    with Slide(write_tiff(tmp_path / "flat.tif", picture)) as slide:
        tile = slide.read_square(40, 60, 512, 128)
    mean = picture[60:572, 40:552].reshape(128, 4, 128, 4, 3).mean((1, 3))
    assert np.abs(tile - mean).max() <= 1


@pytest.mark.parametrize("size", [64, 200])
def test_a_tile_has_the_size_asked_for_when_enlarged_too(svs: Slide, size: int) -> None:
    assert svs.read_square(10, 10, 100, size).shape == (size, size, 3)


def test_what_lies_outside_the_scan_is_white(svs: Slide) -> None:
    region = svs.read(-50, -50, 0, 100, 100)
    assert (region[:50] == 255).all()
    assert (region[:, :50] == 255).all()
    assert (region[50:, 50:] < 255).any()


def test_pixels_are_laid_onto_white_by_their_transparency(svs: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    rgba = np.array([[[0, 0, 0, 255], [0, 0, 0, 0], [100, 200, 0, 51], [255, 0, 10, 128]]], np.uint8)
    monkeypatch.setattr(openslide.OpenSlide, "read_region", lambda *_: Image.fromarray(rgba))
    read = svs.read(0, 0, 0, 4, 1)
    np.testing.assert_array_equal(read, [[[0, 0, 0], [255, 255, 255], [224, 244, 204], [255, 127, 132]]])


# Damage


def test_after_a_damaged_tile_the_slide_is_read_on_elsewhere(
    tmp_path: Path, picture: RGB, write_tiff: Write, spoil_tile: Callable[[Path, int], Path]
) -> None:
    path = write_tiff(tmp_path / "slide.tif", picture, compression="jpeg")
    with Slide(path) as slide:
        whole = slide.read(0, 0, 0, 256, 256)
        last = slide.read(768, 512, 0, 132, 188)
    # The grid is 4 x 3 tiles: number 5 is the second of the second row.
    with Slide(spoil_tile(path, 5), "s1") as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 0, 256, 256), whole)
        for _ in range(2):
            with pytest.raises(SlideError, match=r"s1.*256, 256") as caught:
                slide.read(256, 256, 0, 256, 256)
            assert caught.value.reason is Reason.TRUNCATED
            np.testing.assert_array_equal(slide.read(0, 0, 0, 256, 256), whole)
            np.testing.assert_array_equal(slide.read(768, 512, 0, 132, 188), last)


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


@pytest.mark.parametrize("kind", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_a_whole_tiff_misses_no_directory(tmp_path: Path, picture: RGB, kind: str, big: bool) -> None:
    path = tmp_path / "two.tif"
    with tifffile.TiffWriter(path, byteorder=kind, bigtiff=big) as file:
        file.write(picture)
        file.write(picture[::2, ::2])
    whole = path.read_bytes()
    assert missing_directory(io.BytesIO(whole)) is None
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
    ],
)
def test_a_file_that_ends_too_early_is_truncated(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "slide.svs"
    path.write_bytes(content)
    with pytest.raises(SlideError, match="s1") as caught:
        Slide(path, "s1")
    assert (caught.value.reason, caught.value.what) == (Reason.TRUNCATED, message)
    assert caught.value.remedy == "copy the file anew from its source"


def test_a_copy_that_ends_among_its_levels_is_truncated(same_tissue: dict[float, Path], tmp_path: Path) -> None:
    path = tmp_path / "cut.svs"
    path.write_bytes(same_tissue[0.5].read_bytes()[:40_000])
    with pytest.raises(SlideError, match="ends at byte 40000, before its directory") as caught:
        Slide(path)
    assert caught.value.reason is Reason.TRUNCATED


@pytest.mark.parametrize("content", [b"not a slide", chain("little", False, [16]), b"II*\0", bytes(64)])
def test_a_file_of_another_format_is_unreadable(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "slide.svs"
    path.write_bytes(content)
    with pytest.raises(SlideError) as caught:
        Slide(path)
    assert caught.value.reason is Reason.UNREADABLE
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", [".", "absent.svs"])
def test_a_folder_or_a_missing_file_is_unreadable(tmp_path: Path, name: str) -> None:
    with pytest.raises(SlideError) as caught:
        Slide(tmp_path / name)
    assert caught.value.reason is Reason.UNREADABLE


# Levels and overviews


@settings(deadline=None)
@given(st.floats(1, 100))
def test_no_level_coarser_than_asked_for_is_read(svs: Slide, downsample: float) -> None:
    level = svs.level_for(downsample)
    assert svs.downsamples[level] <= downsample * 1.001
    assert all(d > downsample * 1.001 for d in svs.downsamples[level + 1 :]), "a smaller level would do"


def test_an_enlargement_reads_level_0(svs: Slide) -> None:
    assert svs.level_for(0.3) == 0


@pytest.mark.parametrize("downsample", [1.0, 1.7, 2.0, 3.3, 7.0, 16.03])
def test_an_overview_is_the_area_mean_of_level_0(
    tmp_path: Path, picture: RGB, write_tiff: Write, downsample: float
) -> None:
    height, width = picture.shape[:2]
    with Slide(write_tiff(tmp_path / "flat.tif", picture)) as slide:
        overview = slide.read_overview(downsample)
    shape = int(np.ceil(height / downsample)), int(np.ceil(width / downsample))
    assert overview.shape == (*shape, 3)
    # Every picture element is the mean of the level-0 pixels it covers, whatever their number.
    inside = int(height / downsample), int(width / downsample)
    map_x, map_y = np.meshgrid(*((np.arange(n) + 0.5) * downsample - 0.5 for n in (inside[1], inside[0])))
    blurred = cv2.blur(picture.astype(np.float32), (max(1, round(downsample)),) * 2)
    expected = cv2.remap(blurred, map_x.astype(np.float32), map_y.astype(np.float32), cv2.INTER_LINEAR)
    difference = np.abs(overview[: inside[0], : inside[1]] - expected)
    assert difference[1:-1, 1:-1].mean() < 1.5


@pytest.mark.parametrize("downsample", [3.0, 8.0, 20.0])
def test_an_overview_of_a_pyramid_agrees_with_level_0(svs: Slide, plain: RGB, downsample: float) -> None:
    overview = svs.read_overview(downsample)
    rows, columns = (round(side * downsample) for side in overview.shape[:2])
    # The last row and column may reach beyond the slide, where it is white.
    padded = np.pad(plain, ((0, rows - len(plain)), (0, columns - plain.shape[1]), (0, 0)), constant_values=255)
    area = cv2.resize(padded, overview.shape[1::-1], interpolation=cv2.INTER_AREA)
    difference = overview.astype(float) - area
    assert np.abs(difference).mean() < 4
    assert abs(difference.mean()) < 0.5


def test_a_wide_slide_is_read_in_bands_without_a_seam(tmp_path: Path, write_tiff: Write) -> None:
    column = np.linspace(0, 255, 1000)[:, None, None]
    image = np.broadcast_to(column, (1000, 20_000, 3)).astype(np.uint8)
    pixels = []

    class Counted(Slide):
        def read(self, x: int, y: int, level: int, width: int, height: int) -> RGB:
            pixels.append(width * height)
            return super().read(x, y, level, width, height)

    with Counted(write_tiff(tmp_path / "wide.tif", image, tile=(1008, 2048))) as slide:
        overview = slide.read_overview(2.0)
    assert len(pixels) == 2
    assert max(pixels) <= 16_000_000
    assert overview.shape == (500, 10_000, 3)
    steps = np.diff(overview[:, 5000, 0].astype(int))
    assert set(steps) <= {0, 1}


def test_resizing_to_the_same_size_changes_nothing(picture: RGB) -> None:
    assert resize(picture, 900, 700) is picture


# What the file says


def test_the_slide_tells_its_size_vendor_and_levels(svs: Slide) -> None:
    assert svs.size == (1024, 768)
    assert svs.vendor == "aperio"
    assert svs.level_sizes == [(1024, 768), (256, 192), (64, 48)]
    assert svs.downsamples == [1.0, 4.0, 16.0]
    assert svs.icc_profile is None


def test_the_icc_profile_is_handed_over(tmp_path: Path, picture: RGB, write_tiff: Write) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with Slide(write_tiff(tmp_path / "slide.tif", picture, iccprofile=profile)) as slide:
        assert slide.icc_profile == profile
