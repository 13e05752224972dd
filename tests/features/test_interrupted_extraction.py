"""Extraction that is killed, and extraction of several slides into one folder at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY
from tests.features.simulated_slides import write_simulated_slide

from slidestudy.features.store import read_features
from slidestudy.features.verification import find_stores, verify_stores

SLIDES = 3
JOB = """
import sys, time
from pathlib import Path
from tests.features.simulated_slides import Mean, extract, normaliser

class Waiting(Mean):
    batches = 0
    def encode(self, tiles):
        self.batches += 1
        if self.batches == 3 and go_on is not None:
            (output.parent / f"{output.stem}.begun").touch()
            while not go_on.exists():
                time.sleep(0.01)
        return super().encode(tiles)

slide, output = Path(sys.argv[1]), Path(sys.argv[2])
go_on = Path(sys.argv[3]) if len(sys.argv) > 3 else None
extract(slide, output, normaliser(), Waiting(), batch_size=4, threads=2)
"""
"""Extracts a slide; with a third argument it waits before the third batch until that file is there."""


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_simulated_slide(tmp_path_factory.mktemp("slide") / "slide.tif")


def start(slide: Path, output: Path, *arguments: Path) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "scripts")])
    command = [sys.executable, "-c", JOB, str(slide), str(output), *map(str, arguments)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True)


def wait_for(path: Path, job: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert job.poll() is None, "the job has ended"
        assert time.monotonic() < until
        time.sleep(0.01)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_killed_job_leaves_no_store_and_the_next_one_makes_it_whole(slide: Path, tmp_path: Path) -> None:
    undisturbed = tmp_path / "undisturbed" / "s1.zarr"
    undisturbed.parent.mkdir()
    job = start(slide, undisturbed)
    assert job.wait(60) == 0
    folder = tmp_path / "killed"
    folder.mkdir()
    job = start(slide, folder / "s1.zarr", tmp_path / "never")
    wait_for(folder / "s1.begun", job)
    job.send_signal(signal.SIGKILL)
    assert job.wait(60) == -signal.SIGKILL
    left = [p.name for p in folder.iterdir() if p.suffix == ".zarr"]
    assert len(left) == 1
    assert left[0].startswith("."), "it was killed in the middle"
    assert not (folder / "s1.zarr").exists()
    job = start(slide, folder / "s1.zarr")
    assert job.wait(60) == 0
    assert contents(folder / "s1.zarr") == contents(undisturbed)
    assert [p.name for p in folder.iterdir() if p.suffix == ".zarr"] == ["s1.zarr"], "what was left is gone"


def test_jobs_side_by_side_fill_one_folder(slide: Path, tmp_path: Path) -> None:
    folder, go_on = tmp_path / "features" / "mean" / "north", tmp_path / "go-on"
    jobs = [start(slide, folder / f"s{i}.zarr", go_on) for i in range(SLIDES)]
    for i, job in enumerate(jobs):
        wait_for(folder / f"s{i}.begun", job)
    assert list(folder.glob("s*.zarr")) == []
    go_on.touch()
    assert [job.wait(60) for job in jobs] == [0] * SLIDES
    stores = find_stores([folder])
    assert [store.name for store in stores] == [f"s{i}.zarr" for i in range(SLIDES)]
    assert [verdict.problems for verdict in verify_stores(stores)] == [()] * SLIDES
    bags = [read_features(store) for store in stores]
    assert {bag.features.tobytes() for bag in bags} == {bags[0].features.tobytes()}
    assert [bag.attributes["slide_id"] for bag in bags] == [f"s{i}" for i in range(SLIDES)]
