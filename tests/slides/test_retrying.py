"""Reads that fail now and then are tried again; those that cannot succeed are not."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import openslide
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from slidestudy.errors import Reason, SlideError
from slidestudy.slides.reader import Slide
from slidestudy.slides.retrying import Retries, failed_reading
from tests.slides.builders import RGB, all_tiles

Write = Callable[..., Path]
BUSY = OSError(errno.EIO, "Input/output error")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, in seconds."""
    made: list[float] = []
    monkeypatch.setattr(time, "sleep", made.append)
    return made


def failing(times: int, error: Exception = BUSY) -> Callable[[], str]:
    """Work that fails some times and then succeeds."""
    left = iter(range(times))

    def work() -> str:
        if next(left, None) is not None:
            raise error
        return "done"

    return work


@pytest.mark.parametrize("fails", [0, 1, 2, 3])
def test_work_is_done_again_after_doubled_waits(waits: list[float], fails: int) -> None:
    assert Retries(3, 0.5).call(failing(fails)) == "done"
    assert waits == [0.5, 1.0, 2.0][:fails]


def test_after_the_last_attempt_the_error_is_raised(waits: list[float]) -> None:
    with pytest.raises(OSError, match="Input/output"):
        Retries(3, 0.5).call(failing(4))
    assert waits == [0.5, 1.0, 2.0]


def test_without_retries_there_is_one_attempt(waits: list[float]) -> None:
    with pytest.raises(OSError, match="Input/output"):
        Retries(0, 0.5).call(failing(1))
    assert waits == []


@pytest.mark.parametrize("kind", [FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError])
def test_what_cannot_succeed_is_not_tried_again(waits: list[float], kind: type[OSError]) -> None:
    with pytest.raises(kind):
        Retries(3, 0.5).call(failing(1, kind(1, "no")))
    assert waits == []


def test_other_errors_pass_at_once(waits: list[float]) -> None:
    with pytest.raises(ValueError, match="wrong"):
        Retries(3, 0.5).call(failing(1, ValueError("wrong")))
    assert waits == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BUSY, True),
        (FileNotFoundError(errno.ENOENT, "no"), True),
        (OSError("image file is truncated"), False),
        (OSError(errno.EINVAL, "negative seek"), False),
        (ValueError("x"), False),
    ],
)
def test_errors_of_the_file_system_are_told_from_those_of_damaged_files(error: Exception, expected: bool) -> None:
    assert failed_reading(error) is expected


@given(
    st.binary(max_size=100),
    st.integers(0, 120),
    st.integers(0, 120),
    st.lists(st.integers(1, 7) | st.none(), max_size=30),
)
def test_short_reads_are_completed_and_failed_ones_repeated(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, offset: int, length: int, parts: list[int | None]
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(content)
    plan: Iterator[int | None] = iter(parts)
    pread = os.pread

    def flaky(descriptor: int, length: int, offset: int) -> bytes:
        part = next(plan, length)
        if part is None:
            raise BUSY
        return pread(descriptor, min(part, length), offset)

    descriptor = os.open(path, os.O_RDONLY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pread", flaky)
        patch.setattr(time, "sleep", lambda _: None)
        assert Retries(30, 0).read_at(descriptor, offset, length) == content[offset : offset + length]
    os.close(descriptor)


# Through a slide


@pytest.fixture
def slide_file(tmp_path: Path, textured: RGB, write_tiff: Write) -> Path:
    return write_tiff(tmp_path / "slide.tif", textured, compression="jpeg")


def test_a_slide_on_a_failing_disk_is_read_in_the_end(
    slide_file: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Slide(slide_file) as slide:
        expected, _, _ = all_tiles(slide, 256)
        pread, calls = os.pread, iter(range(1, 10**6))

        def every_third_works(descriptor: int, length: int, offset: int) -> bytes:
            if next(calls) % 3:
                raise BUSY
            return pread(descriptor, length, offset)

        monkeypatch.setattr(os, "pread", every_third_works)
        tiles, readable, _ = all_tiles(slide, 256)
    assert readable.all()
    assert waits
    np.testing.assert_array_equal(tiles, expected)


def test_chunks_that_cannot_be_read_in_the_end_are_unreadable(
    slide_file: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Slide(slide_file, "s1", Retries(2, 0.25)) as slide:
        monkeypatch.setattr(os, "pread", lambda *_: failing(1)())
        tiles, readable, _ = all_tiles(slide, 256)
        assert not readable.any()
        assert not tiles.any()
        assert waits == [0.25, 0.5] * (len(waits) // 2)
        assert waits
        with pytest.raises(SlideError, match="cannot be decoded"):
            slide.read_square(0, 0, 256, 256)
        monkeypatch.undo()
        assert all_tiles(slide, 256)[1].all(), "the slide can be read once the disk is back"


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_slide_that_cannot_be_opened_at_first_is_opened_again(
    slide_file: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    work, opened = failing(times), os.open

    def flaky(*args: object, **kwargs: object) -> int:
        work()
        return opened(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", flaky)
    with Slide(slide_file, "s1", Retries(3, 0.5)) as slide:
        assert slide.kind == "chunks"
    assert waits == [0.5, 1.0, 2.0][:times]


@pytest.mark.parametrize("content", ["slide", "flat", "png"])
@pytest.mark.parametrize("recovers", [True, False])
def test_every_way_of_opening_is_tried_again(
    tmp_path: Path,
    textured: RGB,
    write_tiff: Write,
    waits: list[float],
    monkeypatch: pytest.MonkeyPatch,
    content: str,
    recovers: bool,
) -> None:
    path = tmp_path / f"x.{'png' if content == 'png' else 'tif'}"
    if content == "png":
        Image.fromarray(textured).save(path)
    else:
        write_tiff(path, textured, **({} if content == "slide" else {"tile": None}))
    fails, io_open = iter(range(3 if recovers else 10**6)), Path.open

    def flaky(self: Path, *args: object, **kwargs: object) -> object:
        if self == path and next(fails, None) is not None:
            raise BUSY
        return io_open(self, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", flaky)
    if recovers:
        Slide(path, "s1", Retries(3, 0.5)).close()
    else:
        with pytest.raises(SlideError, match="Input/output error") as caught:
            Slide(path, "s1", Retries(3, 0.5))
        assert caught.value.reason is Reason.UNREADABLE
    assert waits == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file"), PermissionError(13, "Permission denied")])
def test_a_missing_or_forbidden_file_is_a_slide_error_at_once(
    slide_file: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def refuse(self: Path, *args: object, **kwargs: object) -> object:
        raise error

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SlideError, match=str(error.strerror)) as caught:
        Slide(slide_file, "s1", Retries(3, 0.5))
    assert caught.value.reason is Reason.UNREADABLE
    assert waits == []


def test_openslide_is_not_asked_again_for_a_format_that_it_does_not_know(
    tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, asked = tmp_path / "x.svs", []

    def refuse(name: str) -> None:
        asked.append(name)
        raise openslide.OpenSlideUnsupportedFormatError("no")

    path.write_bytes(b"nothing that is known")
    monkeypatch.setattr(openslide, "OpenSlide", refuse)
    with pytest.raises(SlideError):
        Slide(path)
    assert (len(asked), waits) == (1, [])
