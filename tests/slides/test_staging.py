"""Slides read from a copy on a scratch disk, which is gone afterwards."""

from __future__ import annotations

import errno
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from slidestudy.errors import Reason, SlideError, StudyError
from slidestudy.slides.reader import Slide
from slidestudy.slides.retrying import Retries
from slidestudy.slides.staging import opened, parts_of, staged
from tests.slides.builders import all_tiles

NONE = Retries(0, 0)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A scratch folder with a file of somebody else."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    (folder / "other").write_text("stays")
    return folder


@pytest.fixture
def slide_file(tmp_path: Path, tiled: dict[str, Path]) -> Path:
    (tmp_path / "store").mkdir()
    return Path(shutil.copy(tiled["jpeg-420"], tmp_path / "store" / "slide.tif"))


def left(scratch: Path) -> list[str]:
    return sorted(p.name for p in scratch.iterdir())


def test_pixels_come_from_the_copy_which_is_then_removed(slide_file: Path, scratch: Path) -> None:
    with Slide(slide_file) as slide:
        expected, _, _ = all_tiles(slide, 256)
    with staged(slide_file, str(scratch), "s1", NONE) as path:
        assert Path(path).name == "slide.tif"
        assert Path(path).is_relative_to(scratch)
        slide_file.unlink()
        with Slide(path) as slide:
            np.testing.assert_array_equal(all_tiles(slide, 256)[0], expected)
    assert left(scratch) == ["other"]


def test_the_copy_is_removed_after_an_error_too(slide_file: Path, scratch: Path) -> None:
    def job() -> None:
        with staged(slide_file, str(scratch), "s1", NONE) as path:
            assert Path(path).is_file()
            raise RuntimeError("in the job")

    with pytest.raises(RuntimeError, match="in the job"):
        job()
    assert left(scratch) == ["other"]


def test_two_jobs_of_a_slide_have_a_copy_each(slide_file: Path, scratch: Path) -> None:
    with staged(slide_file, str(scratch), "s1", NONE) as one:
        with staged(slide_file, str(scratch), "s1", NONE) as two:
            assert one != two
        assert Path(one).is_file()
        assert not Path(two).exists()


def test_without_a_scratch_folder_nothing_is_copied(slide_file: Path) -> None:
    with staged(slide_file, None, "s1", NONE) as path:
        assert path == str(slide_file)
    assert slide_file.is_file()


def test_a_scratch_folder_is_made_where_it_is_missing_and_kept(slide_file: Path, scratch: Path) -> None:
    with staged(slide_file, str(scratch / "new" / "deep"), "s1", NONE):
        pass
    assert left(scratch / "new" / "deep") == []


def test_environment_variables_are_replaced(slide_file: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH_OF_JOB", str(scratch))
    with staged(slide_file, "$SCRATCH_OF_JOB/${SCRATCH_OF_JOB}", "s1", NONE) as path:
        assert Path(path).is_relative_to(scratch)


def test_an_unset_environment_variable_is_a_mistake_of_the_configuration(
    slide_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SCRATCH_OF_JOB", raising=False)
    with (
        pytest.raises(StudyError, match="not set") as caught,
        staged(slide_file, "$SCRATCH_OF_JOB/x", "s1", NONE),
    ):
        pass
    assert not isinstance(caught.value, SlideError)
    assert "$SCRATCH_OF_JOB/x" in str(caught.value)


def test_a_folder_that_cannot_be_written_is_a_mistake_of_the_configuration(slide_file: Path, scratch: Path) -> None:
    with pytest.raises(StudyError, match="cannot be used") as caught, staged(slide_file, f"{scratch}/other", "", NONE):
        pass
    assert not isinstance(caught.value, SlideError)
    assert "name a folder that can be written" in str(caught.value)


def test_a_slide_that_cannot_be_copied_costs_the_slide(scratch: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(SlideError, match="cannot be copied") as caught,
        staged(tmp_path / "no.svs", str(scratch), "s1", NONE),
    ):
        pass
    assert caught.value.reason is Reason.UNREADABLE
    assert left(scratch) == ["other"]


def test_a_full_disk_costs_the_slide_after_all_attempts(
    slide_file: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"part")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(SlideError, match="No space left"), staged(slide_file, str(scratch), "s1", Retries(2, 1.0)):
        pass
    assert waits == [1.0, 2.0]
    assert left(scratch) == ["other"]


def test_a_copy_that_fails_once_is_made_again(slide_file: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy, fails = shutil.copyfile, iter([True])

    def flaky(source: Path, target: Path) -> Path:
        if next(fails, False):
            target.write_bytes(b"part")
            raise OSError(errno.EIO, "Input/output error")
        return copy(source, target)

    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(shutil, "copyfile", flaky)
    with staged(slide_file, str(scratch), "s1", Retries(1, 0)) as path:
        assert Path(path).read_bytes() == slide_file.read_bytes()


# What belongs to a slide


def files(folder: Path, **contents: bytes) -> None:
    for name, content in contents.items():
        (folder / name.replace("__", ".")).write_bytes(content)


def names(parts: list[Path]) -> list[str]:
    return [p.name for p in parts]


def dicom(series: bytes, explicit: bytes = b"UI") -> bytes:
    """A preamble and the element that holds the series' number."""
    padded = series + b"\0" * (len(series) % 2)
    return bytes(128) + b"DICM" + b"\x20\x00\x0e\x00" + explicit + len(padded).to_bytes(2, "little") + padded + b"more"


def test_the_folder_beside_an_mrxs_file_is_copied_with_it(tmp_path: Path, scratch: Path) -> None:
    files(tmp_path, **{"a__mrxs": b"head", "b__mrxs": b"other"})
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "deep" / "Data0001.dat").write_bytes(b"pixels")
    with staged(tmp_path / "a.mrxs", str(scratch), "s1", NONE) as path:
        home = Path(path).parent
        assert (home / "a" / "deep" / "Data0001.dat").read_bytes() == b"pixels"
        assert left(home) == ["a", "a.mrxs"]
    assert names(parts_of(tmp_path / "b.mrxs")) == ["b.mrxs"]


def test_the_files_of_one_dicom_series_are_copied_together(tmp_path: Path, scratch: Path) -> None:
    files(tmp_path, a__dcm=dicom(b"1.2.3"), b__dcm=dicom(b"1.2.3"), c__dcm=dicom(b"1.2.34"), d__txt=b"1.2.3")
    with staged(tmp_path / "b.dcm", str(scratch), "s1", NONE) as path:
        assert left(Path(path).parent) == ["a.dcm", "b.dcm"]
        assert Path(path).name == "b.dcm"


def test_a_dicom_file_without_a_series_is_copied_alone(tmp_path: Path) -> None:
    files(tmp_path, a__dcm=b"no number", b__dcm=b"nor here")
    assert names(parts_of(tmp_path / "a.dcm")) == ["a.dcm"]


def test_the_files_that_a_vms_file_names_are_copied_with_it(tmp_path: Path) -> None:
    listed = b"[Virtual Microscope Specimen]\nImageFile=x.jpg\nImageFile(0,1)=x(0,1).jpg\nOptimisationFile=x.opt\n"
    files(tmp_path, a__vms=listed, x__jpg=b"1", x__opt=b"2", z__jpg=b"3")
    (tmp_path / "x(0,1).jpg").write_bytes(b"4")
    assert sorted(names(parts_of(tmp_path / "a.vms"))) == ["a.vms", "x(0,1).jpg", "x.jpg", "x.opt"]


def test_other_formats_are_one_file(slide_file: Path) -> None:
    (slide_file.parent / "beside.tif").touch()
    assert parts_of(slide_file) == [slide_file]


@pytest.mark.shared
def test_a_real_dicom_slide_is_read_from_its_copy(shared: Path, scratch: Path) -> None:
    path = shared / "slides" / "camelyon_overview_jpeg.dcm"
    assert parts_of(path) == [path], "its neighbours are other slides"
    with Slide(path) as slide:
        expected = slide.read(0, 0, 0, 500, 400)
    with opened(path, "s1", {"staging": str(scratch)}) as slide:
        assert Path(slide.path).is_relative_to(scratch)
        np.testing.assert_array_equal(slide.read(0, 0, 0, 500, 400), expected)
    assert left(scratch) == ["other"]


# As the configuration says


def test_a_slide_is_opened_as_the_configuration_says(
    slide_file: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Retries] = []
    opening = Slide.__init__

    def watched(self: Slide, path: str, slide_id: str = "", retries: Retries | None = None) -> None:
        made.append(retries or Retries())
        opening(self, path, slide_id, retries)

    monkeypatch.setattr(Slide, "__init__", watched)
    reading = {"retries": 7, "retry_wait_s": 0.125, "staging": str(scratch)}
    with opened(slide_file, "s1", reading) as slide:
        assert slide.slide_id == "s1"
        assert Path(slide.path).is_relative_to(scratch)
    assert left(scratch) == ["other"]
    with opened(slide_file, "s1", {}) as slide:
        assert slide.path == str(slide_file)
    assert made == [Retries(7, 0.125), Retries(3, 0.5)]


def test_a_damaged_slide_leaves_nothing_on_the_scratch_disk(tmp_path: Path, scratch: Path) -> None:
    files(tmp_path, bad__svs=b"no slide")
    with pytest.raises(SlideError), opened(tmp_path / "bad.svs", "s1", {"staging": str(scratch)}):
        pass
    assert left(scratch) == ["other"]
