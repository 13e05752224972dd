"""A training process that is killed goes on where it was, to the same bytes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from slidestudy.models.resuming import forget, load_state, resume_folder, save_state

TRAIN = """
import sys, time
from pathlib import Path
import torch
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/scripts"]
from slidestudy.models.checkpoint import save_fold
from slidestudy.models.resuming import forget
from slidestudy.models.training import train_members
from tests.models.builders import RECIPE, TASKS, planted_part
fold, slow = Path(sys.argv[2]), sys.argv[3] == "slow"
training = {**RECIPE, "epochs": 8, "tile_dropout": 0.2, "tiles_per_epoch": 20, "ema": 0.5, "seeds": 2, "patience": 8}
settings = {"name": "m", "aggregator": "ectil", "seed": 3, "training": training}
parts = {"train": planted_part(24, 1), "validation": planted_part(12, 2)}
if slow:
    # So that the test has the time to kill it.
    from slidestudy.models import training as module
    original = module.save_state
    module.save_state = lambda *arguments: (original(*arguments), time.sleep(0.1))
save_fold(fold, train_members(parts, TASKS["regression"], settings, 0, fold), {"recipe": "r1"})
forget(fold)
"""


def begin(repository: Path, fold: Path, speed: str) -> subprocess.Popen[str]:
    call = [sys.executable, "-c", TRAIN, str(repository), str(fold), speed]
    return subprocess.Popen(call, stdout=subprocess.PIPE, text=True)


def read(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_killed_process_resumes_and_ends_with_the_same_bytes(tmp_path, repository, monkeypatch):
    """Killed in the training of the second of two seeds; the first one's is not repeated."""
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    process = begin(repository, killed, "slow")
    assert process.stdout is not None
    lines = [next(process.stdout) for _ in range(11)]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert "epoch 3/8" in lines[-1]
    assert not killed.exists()
    assert {p.name for p in resume_folder(killed).iterdir()} >= {"seed-0.pt", "seed-1.pt"}
    process = begin(repository, killed, "fast")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "goes on after epoch 8" in output
    assert re.search("goes on after epoch [34]", output)
    assert "epoch 1/8" not in output
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["-c", str(repository), str(straight), "fast"])
    exec(TRAIN, {})
    assert read(straight) == read(killed)
    assert {p.name for p in tmp_path.iterdir()} == {"straight", "killed"}


def test_a_state_comes_back_only_to_the_training_that_left_it(tmp_path):
    path = tmp_path / "x" / "seed-0.pt"
    save_state(path, {"rows": [[1.0, 2.0]], "best": {"w": torch.ones(2)}}, "mark")
    found = load_state(path, "mark")
    assert found is not None
    assert found["rows"] == [[1.0, 2.0]]
    assert torch.equal(found["best"]["w"], torch.ones(2))
    assert load_state(path, "another") is None
    assert load_state(tmp_path / "none.pt", "mark") is None
    assert [p.name for p in path.parent.iterdir()] == ["seed-0.pt"]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_a_damaged_state_is_as_none(tmp_path, content):
    path = tmp_path / "seed-0.pt"
    save_state(path, {"w": torch.ones(1000)}, "mark")
    path.write_bytes(path.read_bytes()[:500] if content is None else content)
    assert load_state(path, "mark") is None


def test_the_state_lies_beside_the_output_and_is_forgotten(tmp_path):
    folder = resume_folder(tmp_path / "fold-2")
    assert folder == tmp_path / ".fold-2.training"
    save_state(folder / "seed-0.pt", {}, "mark")
    forget(tmp_path / "fold-2")
    forget(tmp_path / "fold-2")
    assert list(tmp_path.iterdir()) == []
