"""Damaged slides: each is refused with a reason or read with its unreadable tiles flagged, and none stops the study.

Every batch runs in a process of its own, so that a library that crashes or hangs fails the test with a message.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.slides.builders import RGB

TRIALS = 100
STUCK_S = 300
MAX_MEGABYTES = 600
KINDS = ["cut", "overwritten"]


def try_damaged(slide: Path, folder: Path, kind: str, side: int, repository: Path) -> dict[str, int]:
    """Reads damaged copies of a slide in another process.

    Returns:
        How often what was found.
    """
    arguments = [str(slide), str(folder / f"damaged{slide.suffix}"), kind, str(TRIALS), str(side)]
    command = [sys.executable, "-m", "tests.slides.damage_trials", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repository), str(repository / "scripts")])}
    with (folder / "out").open("w+") as out, (folder / "err").open("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, env=environment, cwd=repository)
        try:
            code = process.wait(STUCK_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = None
    lines, errors = (folder / "out").read_text().splitlines(), (folder / "err").read_text()
    last = lines[-1] if lines else "nothing"
    assert code is not None, f"it hangs at {last}"
    assert code >= 0, f"{signal.Signals(-code).name} at {last}\n{errors}"
    assert code == 0, f"failed at {last}\n{errors}"
    assert errors == "", "libraries print to the log"
    result: dict[str, Any] = json.loads(last)
    assert result["wrong"] == []
    assert result["megabytes"] < MAX_MEGABYTES
    found: dict[str, int] = result["found"]
    assert sum(n for what, n in found.items() if what == "opened" or what.startswith("refused")) == TRIALS
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_jpeg_pyramid_stops_nothing(
    same_tissue: dict[float, Path], tmp_path: Path, repository: Path, kind: str
) -> None:
    found = try_damaged(same_tissue[0.5], tmp_path, kind, 128, repository)
    # The last directory is at the end of the file, without which it is not opened.
    assert found.get("opened", 0) == 0 if kind == "cut" else found["opened, some tiles unreadable"] > 10
    assert found["refused as truncated"] > 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [{"tile": (256, 256)}, {"tile": None, "rowsperstrip": 32}], ids=["tiles", "strips"])
def test_a_damaged_lossless_tiff_stops_nothing(
    textured: RGB, write_tiff: Callable[..., Path], tmp_path: Path, repository: Path, kind: str, cut: dict[str, Any]
) -> None:
    found = try_damaged(write_tiff(tmp_path / "slide.tif", textured, **cut), tmp_path, kind, 128, repository)
    if kind == "cut":
        assert found["refused as truncated"] == TRIALS
    else:
        assert found["opened, some tiles unreadable"] > 10


@pytest.mark.shared
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_real_slide_stops_nothing(shared: Path, tmp_path: Path, repository: Path, kind: str) -> None:
    found = try_damaged(shared / "slides" / "cmu-1-small-region.svs", tmp_path, kind, 240, repository)
    assert found["refused as truncated"] == TRIALS if kind == "cut" else found["opened, some tiles unreadable"] > 10
