"""What goes wrong while a slide is extracted: too little memory, interruptions, values that cannot be kept."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.features.extracting import SVS, Mean, extract

from slidestudy.demo.study import generate_study
from slidestudy.errors import StudyError
from slidestudy.slides import stream


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    generate_study(folder, seed=11, scale=0.45, patients={"north": 2, "south": 1, "west": 1}, workers=1)
    return folder / "slides"


class Scarce(Mean):
    """An encoder whose device holds so many tiles."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def encode(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        if len(tiles) > self.room:
            raise MemoryError("CUDA out of memory\nand a long explanation")
        return super().encode(tiles)


@pytest.mark.parametrize(("room", "batches"), [(20, [16] * 5), (15, [8] * 10), (1, [1] * 80)])
def test_batches_are_halved_until_the_memory_suffices(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], room: int, batches: list[int]
) -> None:
    encoder = Scarce(room)
    store = extract(slides / SVS, tmp_path / "s1.zarr", encoder=encoder, batch_size=64)
    assert encoder.batches == batches
    printed = capsys.readouterr().out
    assert f"going on with {batches[0]}" in printed
    assert printed.splitlines()[-1].endswith(f"batches of {batches[0]}")
    plenty = extract(slides / SVS, tmp_path / "s2.zarr", batch_size=64)
    np.testing.assert_array_equal(store.features, plenty.features)


def test_an_odd_batch_is_cut_into_nearly_equal_parts(slides: Path, tmp_path: Path) -> None:
    encoder = Scarce(20)
    extract(slides / SVS, tmp_path / "s1.zarr", encoder=encoder, batch_size=25)
    assert encoder.batches == [13, 12] * 3 + [5]


def test_memory_for_not_even_one_tile_is_said_and_leaves_nothing(slides: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(StudyError, match="not suffice for one tile \\(CUDA out of memory\\)") as caught:
        extract(slides / SVS, tmp_path / "out" / "s1.zarr", encoder=Scarce(0))
    assert caught.value.problems[0].where == "encoder mean"
    assert "precision" in caught.value.problems[0].remedy
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["tissue.geojson"]


class Failing(Mean):
    """An encoder that is ended by an error at its third batch."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def encode(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        if len(self.batches) == 2:
            raise self.error
        return super().encode(tiles)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a bug")])
def test_an_interrupted_extraction_leaves_nothing_behind(
    slides: Path, tmp_path: Path, error: BaseException, threads: int
) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(type(error)):
        extract(slides / SVS, tmp_path / "out" / "s1.zarr", encoder=Failing(error), batch_size=8, threads=threads)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["tissue.geojson"]
    assert "reading-ahead" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("value", [np.nan, 1e5])
def test_a_feature_that_cannot_be_kept_is_an_error_not_a_lost_slide(slides: Path, tmp_path: Path, value: float) -> None:
    class Wild(Mean):
        def encode(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            return np.where(np.arange(len(tiles))[:, None] == 3, value, super().encode(tiles)).astype(np.float32)

    with pytest.raises(StudyError, match=r"s1.*not finite or too large"):
        extract(slides / SVS, tmp_path / "s1.zarr", encoder=Wild())
    assert not (tmp_path / "s1.zarr").exists()


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_of_the_reading_thread_reaches_the_caller(
    slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    def failing(*_: Any) -> Any:
        raise ZeroDivisionError("in the reader")

    monkeypatch.setattr(stream._Mosaic, "batch", failing)
    with pytest.raises(ZeroDivisionError, match="in the reader"):
        extract(slides / SVS, tmp_path / "s1.zarr", threads=threads)
    assert not (tmp_path / "s1.zarr").exists()
