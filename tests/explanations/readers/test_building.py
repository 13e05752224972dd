"""Settings choose the reader, and wrong ones are told in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.explanations.readers.vlm_readers import KEY, KEY_NAME, PATHS

from slidestudy.errors import StudyError
from slidestudy.explanations.ledger import Job
from slidestudy.explanations.readers.building import build_reader
from slidestudy.reader_kinds import ANSWERING, REACHING

OPENAI = {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:1/v1", "api_key_env": KEY_NAME, **PATHS}


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setenv(KEY_NAME, KEY)
    return Job(tmp_path, "til", "rule")


def test_each_kind_is_made_from_its_settings(job: Job, tmp_path: Path) -> None:
    (tmp_path / "small-vlm").mkdir()
    made = [
        build_reader({"kind": "morphometry"}),
        build_reader(OPENAI, job),
        build_reader({"kind": "transformers", "weights": str(tmp_path / "small-vlm"), **PATHS}, job),
        build_reader({"kind": "clip", "architecture": "ViT-B-32", "weights": "none"}),
    ]
    assert [(reader.name, reader.is_vlm, reader.needs_images) for reader in made] == [
        ("morphometry", False, False),
        ("openai:m", True, False),
        ("transformers:small-vlm", True, False),
        ("clip:ViT-B-32", False, True),
    ]
    assert not list(tmp_path.glob("openai*"))


def test_every_key_that_a_study_gives_is_taken(job: Job, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        **OPENAI, "temperature": 0.5, "seed": None, "max_tokens": 10, "timeout": 3, "retries": 1, "concurrency": 2,
        "requests_per_minute": 60, "max_calls": 5, "max_cost": 1.5, "price_per_million_input": 1,
        "price_per_million_output": 2, "images": ["rgb"], "structured": "schema",
    }  # fmt: skip
    assert set(settings) == {"kind", *ANSWERING["openai"], *REACHING["openai"]}
    build_reader(settings, job)
    local = {"kind": "transformers", "weights": str(tmp_path), "device": "cpu", "dtype": "auto", "images": ["rgb"]}
    local |= {"temperature": 0, "seed": 1, "max_tokens": 5, **PATHS}
    assert set(local) == {"kind", *ANSWERING["transformers"]}
    build_reader(local, job)
    clip = {"kind": "clip", "architecture": "ViT-B-32", "weights": "none", "device": "cpu", "seed": 1}
    assert set(clip) == {"kind", *ANSWERING["clip"]}
    build_reader(clip)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "unknown kind"),
        ({"kind": "vlm"}, "use one of morphometry, clip, openai, transformers"),
        ({"kind": "morphometry", "model": "m"}, "model"),
        ({"kind": "openai", "model": "m"}, "describe_prompt, answer_prompt, image_only_prompt"),
        ({**OPENAI, "base_url": ""}, "lacks base_url"),
        ({**OPENAI, "colour": 1}, "colour"),
        ({**OPENAI, "max_cost": 3}, "no prices"),
        ({"kind": "clip", "weights": "hub"}, "lacks architecture"),
        ({"kind": "transformers", "weights": "/no/such/folder", **PATHS}, "does not exist"),
    ],
)
def test_wrong_settings_are_user_errors(job: Job, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        build_reader(settings, job)
