"""Readers, patches and explanations for the tests of readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from slidestudy.explanations.documents import Explanation
from slidestudy.explanations.ledger import Job
from slidestudy.explanations.protocol import Patch, Question
from slidestudy.explanations.readers.building import build_reader
from slidestudy.explanations.readers.vision_language import VlmReader

PROMPTS = Path(__file__).resolve().parents[3] / "config" / "prompts"
KEY_NAME, KEY = "SLIDESTUDY_TEST_KEY", "sk-a-secret-that-nobody-may-see"
PATHS = {f"{name}_prompt": str(PROMPTS / f"{name}.j2") for name in ("describe", "answer", "image_only")}


def patch(number: int = 0, **images: Any) -> Patch:
    """A patch of noise, another one for each number."""
    rgb = np.random.default_rng(number).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    return Patch(f"s1/{number}-0-0.5", rgb, 0.5, **images)


def said(
    body: str = "", higher: tuple[str, ...] = (), lower: tuple[str, ...] = (), name: str = "a-text"
) -> Explanation:
    """An explanation."""
    return Explanation(name, name, "", "", higher, lower, body)


LYMPHOCYTES = said("Lymphocytes raise the score.")


def questions(count: int, repeats: int = 1) -> list[Question]:
    """Questions about described patches."""
    return [Question(f"p{i}", f"description {i}", None, repeat) for repeat in range(repeats) for i in range(count)]


def openai_reader(url: str, ledger: Path, job: tuple[str, str, str] = ("til", "rule", "a-text"), **changes: Any):
    """A reader that asks an endpoint, without retries and in plain text unless told otherwise."""
    settings = {
        "kind": "openai",
        "model": "test-model",
        "base_url": url,
        "api_key_env": KEY_NAME,
        "retries": 0,
        "timeout": 10.0,
        "structured": "text",
        **PATHS,
    }
    reader = build_reader(settings | changes, Job(ledger, *job))
    assert isinstance(reader, VlmReader)
    return reader
