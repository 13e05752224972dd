"""Prompts are templates, checked before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.explanations.readers.vlm_readers import PROMPTS

from slidestudy.errors import StudyError
from slidestudy.explanations.readers.prompts import check_prompts, read_prompts


def prompt(folder: Path, text: str | bytes, setting: str = "answer_prompt"):
    path = folder / "prompt.j2"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_prompts({setting: path})[setting]


def test_fields_are_filled_and_braces_inside_them_stay(tmp_path: Path) -> None:
    made = prompt(tmp_path, "{{ description }}|{{ explanation }}{% if structured %}|json{% endif %}\n")
    fields = {"description": "{{ explanation }} <b>", "explanation": "{% raw %}"}
    assert made.fill(**fields, structured=True) == "{{ explanation }} <b>|{% raw %}|json"
    assert made.fill(**fields, structured=False) == "{{ explanation }} <b>|{% raw %}"


def test_the_digest_is_that_of_the_text(tmp_path: Path) -> None:
    first = prompt(tmp_path, "{{ description }} {{ explanation }}")
    assert prompt(tmp_path, "{{ description }} {{ explanation }}").digest == first.digest
    assert prompt(tmp_path, "{{ description }}, {{ explanation }}").digest != first.digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n ", "is empty"),
        (b"\xff\xfe", "cannot be read"),
        ("Only {{ description }}.", r"lacks {{ explanation }}"),
        ("{{ description }} {{ explanation }} {{ colour }}", "unknown field colour"),
        ("{{ description }} {{ explanation }} {% if %}", "no Jinja2 template"),
        ("{{ description }} {{ explanation }} {{ ", "no Jinja2 template"),
    ],
)
def test_a_prompt_that_cannot_be_used_is_a_user_error(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(StudyError, match=message) as caught:
        prompt(tmp_path, text)
    assert "prompt.j2" in caught.value.problems[0].where


def test_a_prompt_that_fails_when_it_is_filled_is_a_user_error(tmp_path: Path) -> None:
    made = prompt(tmp_path, "{{ description }} {{ explanation }} {{ description.colour }}")
    with pytest.raises(StudyError, match="cannot be filled"):
        made.fill(description="d", explanation="e")


def test_all_prompts_are_checked_at_once(tmp_path: Path) -> None:
    paths = {"describe_prompt": tmp_path / "a.j2", "answer_prompt": tmp_path / "b.j2"}
    with pytest.raises(StudyError) as caught:
        read_prompts(paths)
    assert [problem.where for problem in caught.value.problems] == [str(path) for path in paths.values()]


def test_our_own_prompts_ask_for_all_five_conclusions_in_either_form() -> None:
    for setting, name in (("answer_prompt", "answer"), ("image_only_prompt", "image_only")):
        made = read_prompts({setting: PROMPTS / f"{name}.j2"})[setting]
        for structured in (True, False):
            text = made.fill(description="d", explanation="e", images=("rgb",), structured=structured)
            words = " ".join(text.split())
            for conclusion in ("VERY HIGH", "HIGH NEAR BOUNDARY", "LOW NEAR BOUNDARY", "VERY LOW", "ABSTAIN"):
                assert (f'"{conclusion}"' if structured else f"CONCLUSION={conclusion}") in words
            assert "{%" not in text


@pytest.mark.parametrize("kind", ["openai", "transformers"])
def test_the_prompts_of_a_reader_are_checked_together_before_it_is_made(tmp_path: Path, kind: str) -> None:
    prompts = {key: str(PROMPTS / f"{key.removesuffix('_prompt')}.j2") for key in ("describe_prompt", "answer_prompt")}
    reader = {"kind": kind, **prompts, "image_only_prompt": str(PROMPTS / "image_only.j2")}
    check_prompts(reader)
    for key in prompts:
        (tmp_path / key).write_text("{{ nonsense }}")
        reader[key] = str(tmp_path / key)
    with pytest.raises(StudyError) as caught:
        check_prompts(reader)
    assert {problem.where for problem in caught.value.problems} == {str(tmp_path / key) for key in prompts}


@pytest.mark.parametrize("kind", ["morphometry", "clip"])
def test_a_reader_that_is_not_asked_in_words_needs_no_prompts(kind: str) -> None:
    check_prompts({"kind": kind, "describe_prompt": "/nowhere"})
