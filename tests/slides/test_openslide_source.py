"""Formats that are read through OpenSlide, in blocks: its pixels, a handle per thread, and small losses."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from slidestudy.errors import Reason, SlideError
from slidestudy.slides import openslide_source
from slidestudy.slides.levels import Flaw, Level
from slidestudy.slides.openslide_source import OpenSlideSource, UnknownFormatError, same_shape
from slidestudy.slides.plan import Windows
from slidestudy.slides.reader import Slide
from slidestudy.slides.retrying import Retries
from slidestudy.slides.stream import stream
from tests.slides.builders import RGB, all_tiles, collect, grid, openslides_level

DICOM = ["camelyon_overview_jpeg.dcm", "camelyon_overview_jpeg2000.dcm"]
RETRIES = Retries(0, 0)
Spoil = Callable[[Path, int], Path]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small that the test slides have several."""
    monkeypatch.setattr(openslide_source, "BLOCK", 512)


@pytest.fixture
def source(tiled: dict[str, Path], small_blocks: None) -> Iterator[OpenSlideSource]:
    made = OpenSlideSource(tiled["jpeg-420"], "s1", RETRIES)
    yield made
    made.close()


def tiles_of(source: OpenSlideSource, side: int, threads: int) -> tuple[RGB, np.ndarray, np.ndarray]:
    level = source.levels[0]
    corners = grid((level.width, level.height), side)
    asked = Windows(0, corners.astype(np.int64), side, side)
    return collect(stream(source, asked, (side, side), threads), len(corners))


# Pixels


@pytest.mark.shared
@pytest.mark.parametrize("name", DICOM)
def test_a_dicom_slide_has_openslides_pixels(shared: Path, name: str) -> None:
    path = shared / "slides" / name
    plain = openslides_level(path)
    height, width = plain.shape[:2]
    padded = np.full((height + 200, width + 200, 3), 255, np.uint8)
    padded[:height, :width] = plain
    with Slide(path) as slide:
        assert (slide.kind, slide.indirect) == ("openslide", "format dicom")
        corners = grid(slide.size, 200)
        tiles, readable, _ = all_tiles(slide, 200, 2)
        assert readable.all()
        for (x, y), tile in zip(corners.tolist(), tiles, strict=True):
            np.testing.assert_array_equal(tile, padded[y : y + 200, x : x + 200])


@settings(deadline=None, max_examples=12)
@given(
    st.integers(-100, 1200), st.integers(-100, 750), st.integers(1, 300), st.integers(1, 300), st.sampled_from(DICOM)
)
@pytest.mark.shared
def test_any_window_of_a_dicom_slide_has_openslides_pixels(
    shared: Path, x: int, y: int, width: int, height: int, name: str
) -> None:
    path = shared / "slides" / name
    with openslide.OpenSlide(path) as reference, Slide(path) as slide:
        rgba = np.asarray(reference.read_region((x, y), 0, (width, height)))
        expected = np.where(rgba[..., 3:] == 0, np.uint8(255), rgba[..., :3])
        np.testing.assert_array_equal(slide.read(x, y, 0, width, height), expected)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_blocks_put_together_are_the_level(
    source: OpenSlideSource, tiled: dict[str, Path], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = openslides_level(tiled["jpeg-420"])
    padded = np.full((800, 1000, 3), 255, np.uint8)
    padded[:700, :900] = plain
    tiles, readable, absent = tiles_of(source, 100, threads)
    assert readable.all()
    assert not absent.any(), "the slide is 9 x 7 whole tiles"
    for (x, y), tile in zip(grid((900, 700), 100).tolist(), tiles, strict=True):
        np.testing.assert_array_equal(tile, padded[y : y + 100, x : x + 100])


def test_a_lower_level_is_read_at_its_own_pixels(same_tissue: dict[float, Path]) -> None:
    made = OpenSlideSource(same_tissue[0.5], "s1", RETRIES)
    (chunk,) = made.chunks(1, [0])
    made.close()
    assert chunk.pixels is not None
    np.testing.assert_array_equal(chunk.pixels, openslides_level(same_tissue[0.5], 1))


def test_what_the_scanner_left_out_is_absent(source: OpenSlideSource, monkeypatch: pytest.MonkeyPatch) -> None:
    rgba = np.zeros((512, 512, 4), np.uint8)
    rgba[:, 100:, 3] = 255
    monkeypatch.setattr(openslide.OpenSlide, "read_region", lambda *_: Image.fromarray(rgba))
    (chunk,) = source.chunks(0, [0])
    assert chunk.pixels is not None
    assert (chunk.pixels[:, :100] == 255).all()
    assert not chunk.pixels[:, 100:].any()
    np.testing.assert_array_equal(np.asarray(chunk.flaws) == Flaw.ABSENT, rgba[..., 3] == 0)


# Damage


@pytest.mark.parametrize("name", ["jpeg-420", "deflate"])
def test_only_the_pieces_that_fail_are_lost(
    tmp_path: Path, tiled: dict[str, Path], spoil_tile: Spoil, name: str, small_blocks: None
) -> None:
    plain = openslides_level(tiled[name])
    path = spoil_tile(Path(shutil.copy(tiled[name], tmp_path / "x.tif")), 5)
    source = OpenSlideSource(path, "s1", RETRIES)
    try:
        chunks = list(source.chunks(0, range(4)))
        assert [chunk.flaws for chunk in chunks[1:]] == [Flaw.NONE] * 3
        # Tile 5 is the second of the second row: the lower right quarter of the first block.
        spoilt = np.zeros((512, 512), bool)
        spoilt[256:, 256:] = True
        np.testing.assert_array_equal(np.asarray(chunks[0].flaws) == Flaw.UNREADABLE, spoilt)
        assert chunks[0].pixels is not None
        np.testing.assert_array_equal(chunks[0].pixels[~spoilt], plain[:512, :512][~spoilt])
        tiles, readable, _ = tiles_of(source, 128, 2)
        for (x, y), tile, good in zip(grid((900, 700), 128).tolist(), tiles, readable, strict=True):
            assert good == (not (256 <= x < 512 and 256 <= y < 512))
            if good and x + 128 <= 900 and y + 128 <= 700:
                np.testing.assert_array_equal(tile, plain[y : y + 128, x : x + 128])
    finally:
        source.close()


# Handles


class Watched:
    """Counts the handles that are open, and says which thread used which."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, together: int = 1) -> None:
        self.open: set[int] = set()
        self.opened = 0
        self.used: list[tuple[int, int]] = []
        barrier = threading.Barrier(together, timeout=60)
        start, close, read = openslide.OpenSlide.__init__, openslide.OpenSlide.close, openslide.OpenSlide.read_region
        met = threading.local()

        def watched_start(handle: openslide.OpenSlide, path: str) -> None:
            start(handle, path)
            self.open.add(id(handle))
            self.opened += 1

        def watched_close(handle: openslide.OpenSlide) -> None:
            self.open.discard(id(handle))
            close(handle)

        def watched_read(handle: openslide.OpenSlide, *args: object) -> Image.Image:
            self.used.append((threading.get_ident(), id(handle)))
            if together > 1 and not hasattr(met, "once"):
                met.once = True
                barrier.wait()
            return read(handle, *args)

        monkeypatch.setattr(openslide.OpenSlide, "__init__", watched_start)
        monkeypatch.setattr(openslide.OpenSlide, "close", watched_close)
        monkeypatch.setattr(openslide.OpenSlide, "read_region", watched_read)


def test_threads_that_read_at_once_have_a_handle_each(
    tiled: dict[str, Path], small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch, together=3)
    source = OpenSlideSource(tiled["jpeg-420"], "s1", RETRIES)
    threads = [threading.Thread(target=lambda: list(source.chunks(0, range(4)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    first = {}
    for thread_id, handle in watched.used:
        first.setdefault(thread_id, handle)
    assert len(set(first.values())) == len(first) == 3
    source.close()
    assert not watched.open


def test_handles_are_used_again_and_closed_in_the_end(
    tiled: dict[str, Path], small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)
    source = OpenSlideSource(tiled["jpeg-420"], "s1", RETRIES)
    for _ in range(5):
        tiles_of(source, 100, 2)
    assert watched.opened <= 2, "each reading opens the file anew"
    source.close()
    assert not watched.open
    source.close()


def test_a_handle_that_failed_is_closed_and_the_slide_read_on(
    tiled: dict[str, Path], tmp_path: Path, spoil_tile: Spoil, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)
    path = spoil_tile(Path(shutil.copy(tiled["jpeg-420"], tmp_path / "x.tif")), 0)
    source = OpenSlideSource(path, "s1", RETRIES)
    for _ in range(3):
        _, readable, _ = tiles_of(source, 256, 2)
        assert readable.tolist() == [False] + [True] * 11
    assert len(watched.open) <= 2
    source.close()
    assert not watched.open


def test_a_file_that_vanishes_costs_its_pieces_not_the_job(
    tiled: dict[str, Path], tmp_path: Path, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copy(tiled["jpeg-420"], tmp_path / "x.tif"))
    source = OpenSlideSource(path, "s1", RETRIES)
    path.unlink()

    def fail(*_: object) -> None:
        raise openslide.OpenSlideError("gone")

    monkeypatch.setattr(openslide.OpenSlide, "read_region", fail)
    (chunk,) = source.chunks(0, [0])
    assert (np.asarray(chunk.flaws) == Flaw.UNREADABLE).all()
    source.close()


# Opening


def test_a_plain_tiffs_label_is_no_level_although_it_is_marked_as_a_smaller_copy(tmp_path: Path, textured: RGB) -> None:
    path, options = tmp_path / "x.tif", {"tile": (128, 128), "photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path) as file:
        file.write(textured, **options)
        file.write(np.full((300, 600, 3), 7, np.uint8), subfiletype=1, **options)
        file.write(textured[::2, ::2], subfiletype=1, **options)
    with openslide.OpenSlide(path) as slide:
        assert slide.level_count == 3, "OpenSlide takes it for a level"
    source = OpenSlideSource(path, "s1", RETRIES)
    assert [(level.width, level.height) for level in source.levels] == [(900, 700), (450, 350)]
    (chunk,) = source.chunks(1, [0])
    np.testing.assert_array_equal(chunk.pixels, textured[::2, ::2])
    source.close()


@settings(deadline=None)
@given(st.integers(100, 200_000), st.integers(100, 200_000), st.floats(1, 64))
def test_smaller_copies_have_the_same_shape_however_their_sides_were_rounded(
    width: int, height: int, downsample: float
) -> None:
    full = Level(width, height, 1.0, 256, 256)
    for rounded in (np.floor, np.ceil, np.round):
        sides = [max(1, int(rounded(side / downsample))) for side in (width, height)]
        # A side of a few pixels says nothing of the shape.
        if min(sides) >= 30:
            assert same_shape(full, Level(*sides, downsample, 256, 256))


@pytest.mark.parametrize("size", [(500, 300), (900, 700), (64, 48), (700, 900)])
def test_a_picture_of_another_shape_is_no_smaller_copy(size: tuple[int, int]) -> None:
    assert not same_shape(Level(40_000, 20_000, 1.0, 256, 256), Level(*size, 50.0, 256, 256))


def test_properties_whose_names_are_no_text_are_left_out(same_tissue: dict[float, Path], tmp_path: Path) -> None:
    content = same_tissue[0.5].read_bytes()
    assert content.count(b"ScanScope ID = DEMOA") == 1
    name = b"\xf4\xae\x9dnScope ID"
    path = tmp_path / "x.svs"
    path.write_bytes(content.replace(b"ScanScope ID", name))
    source = OpenSlideSource(path, "s1", RETRIES)
    source.close()
    assert source.properties["aperio.MPP"] == "0.5000"
    assert "DEMOA" not in source.properties.values()


def test_a_profile_that_is_none_costs_nothing(tmp_path: Path, textured: RGB, write_tiff: Callable[..., Path]) -> None:
    path = write_tiff(tmp_path / "x.tif", textured, iccprofile=b"no profile at all" * 20)
    source = OpenSlideSource(path, "s1", RETRIES)
    source.close()
    assert source.icc_profile is None
    assert source.levels[0].width == 900


def test_an_unknown_format_is_told_from_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "x.svs"
    path.write_bytes(b"no slide at all")
    with pytest.raises(UnknownFormatError, match="does not know"):
        OpenSlideSource(path, "s1", RETRIES)


@pytest.mark.shared
def test_a_broken_mirax_file_is_unreadable(shared: Path) -> None:
    with pytest.raises(SlideError, match="cannot be opened") as caught:
        OpenSlideSource(shared / "slides" / "truncated_mrxs" / "Mirax2-Fluorescence-1.mrxs", "s1", RETRIES)
    assert caught.value.reason is Reason.UNREADABLE
