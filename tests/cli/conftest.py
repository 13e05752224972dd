"""A small generated study, made once, and how a command is run as a user runs it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from slidestudy.cli.app import main
from slidestudy.demo.study import generate_study


@dataclass(frozen=True)
class Run:
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Run]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `slidestudy` with arguments, in this process, through its entry point."""

    def command(*arguments: str | Path) -> Run:
        monkeypatch.setattr(sys, "argv", ["slidestudy", *map(str, arguments)])
        code: Any = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        text = capsys.readouterr()
        return Run(int(code or 0), text.out, text.err)

    return command


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated slides: 7 of six patients of north, 2 of south, 3 of west of which the last is truncated."""
    folder = tmp_path_factory.mktemp("generated")
    generate_study(folder, seed=7, scale=0.2, patients={"north": 6, "south": 2, "west": 2})
    return folder


@pytest.fixture
def config(generated: Path) -> dict[str, Any]:
    """The configuration of a study on the generated slides; to be changed and written by a test."""
    return {
        "study": "generated",
        "results": "results",
        "slides": str(generated / "slides.tsv"),
        "patients": str(generated / "patients.tsv"),
        "cohorts": {"north": {"role": "development"}, "south": {"role": "external"}, "west": {"role": "external"}},
        "tiles": {"size": 128, "mpp": 0.5},
        "encoders": {"stain-texture": {}},
        "models": {
            "mucin": {
                "task": "classification",
                "aggregator": "gated-abmil",
                "encoder": "stain-texture",
                "target": "mucinous",
                "folds": 3,
            }
        },
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Writes a configuration."""

    def write_config(config: dict[str, Any]) -> Path:
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return path

    return write_config
