"""`slidestudy demo` writes the demo study; the entry point shows mistakes as messages."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slidestudy.cli import app as app_module
from slidestudy.demo import study as demo_module

Command = Callable[..., Any]


@pytest.fixture
def few_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cohorts of one patient each, since the command has no option for their sizes."""
    monkeypatch.setattr(demo_module, "COHORT_SIZES", {"north": 1, "south": 1, "west": 1})


@pytest.mark.usefixtures("few_patients")
def test_the_demo_is_generated_once_and_left_alone_then(run: Command, tmp_path: Path) -> None:
    result = run("demo", tmp_path / "demo-data", "--scale", "0.1", "--seed", "3", "--workers", "1")
    assert result.code == 0, result.err
    assert f"The demo study is in {tmp_path / 'demo-data'}" in result.out
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "demo-data").rglob("*.*")}
    assert {"slides.tsv", "patients.tsv", "truth.tsv"} <= {path.name for path in files}
    run("demo", tmp_path / "demo-data", "--scale", "0.1", "--seed", "3", "--workers", "1")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "demo-data").rglob("*.*")} == files


@pytest.mark.usefixtures("few_patients")
def test_the_next_step_names_the_ready_study_only_where_it_finds_the_slides(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ("--scale", "0.1", "--workers", "1")
    assert "Next: slidestudy check config/studies/demo/config.yaml" in run("demo", "demo-data", *arguments).out
    assert "correct its paths" in run("demo", "elsewhere", *arguments).out


def test_a_scale_out_of_range_ends_with_a_message(run: Command, tmp_path: Path) -> None:
    result = run("demo", tmp_path / "demo-data", "--scale", "9")
    assert result.code == 1
    assert "ERROR: demo study: the scale 9.0 is out of range" in result.err
    assert not (tmp_path / "demo-data").exists()


def test_an_unexpected_error_keeps_its_traceback(run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(app_module, "generate_study", fail)
    with pytest.raises(ZeroDivisionError):
        run("demo", tmp_path)


def test_the_command_works_as_a_process_of_its_own(repository: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(repository / "scripts")}
    command = [sys.executable, "-m", "slidestudy.cli.app", "check", str(tmp_path / "no.yaml")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("ERROR: ")
    assert "Traceback" not in done.stderr


def test_starting_the_command_does_not_load_torch(repository: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(repository / "scripts")}
    code = "import sys, slidestudy.cli.app; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
