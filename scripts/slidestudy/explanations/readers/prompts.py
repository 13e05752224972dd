"""Prompts: Jinja2 files that the user edits, checked before anything is sent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from slidestudy.errors import Problem, StudyError
from slidestudy.reader_kinds import ANSWERING

__all__ = ["PROMPTS", "Prompt", "check_prompts", "read_prompts"]


@dataclass(frozen=True)
class Use:
    """What a prompt may hold: the fields that it must have, and those that it may have."""

    needed: tuple[str, ...]
    allowed: tuple[str, ...]


PROMPTS = {
    "describe_prompt": Use((), ("images",)),
    "answer_prompt": Use(("description", "explanation"), ("structured",)),
    "image_only_prompt": Use((), ("images", "structured")),
}
"""The settings that name prompts. `images`: names of the images shown; `structured`: whether JSON is asked for."""

# The texts go to a model as they are, not into a web page.
_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True
)


@dataclass(frozen=True)
class Prompt:
    """A prompt, ready to be filled.

    Attributes:
        path: Its file.
        digest: SHA-256 of the file's text, first 16 hex digits.
        template: The template.
        fields: Names of the fields that it may have.
    """

    path: Path
    digest: str
    template: Template
    fields: tuple[str, ...]

    def fill(self, **values: Any) -> str:
        """The text with its fields filled in; braces inside the values stay as they are.

        Raises:
            StudyError: The template cannot be filled.
        """
        try:
            return self.template.render({name: values[name] for name in self.fields if name in values}).strip()
        except TemplateError as error:
            remedy = "correct the Jinja2 template"
            raise StudyError(f"the prompt cannot be filled: {error}", str(self.path), remedy) from None


def read_prompts(paths: dict[str, Path]) -> dict[str, Prompt]:
    """Reads and checks prompts.

    Args:
        paths: Setting, a key of `PROMPTS`, -> file.

    Raises:
        StudyError: With every prompt that is missing, empty, no template, lacks a field, or names an unknown one.
    """
    prompts, problems = {}, []
    for setting, path in paths.items():
        try:
            prompts[setting] = _read(path, PROMPTS[setting])
        except StudyError as error:
            problems += error.problems
    if problems:
        raise StudyError.of(problems)
    return prompts


def check_prompts(reader: Mapping[str, Any]) -> None:
    """Checks the prompts of a reader before anything runs.

    Args:
        reader: The section `explanations.reader`, complete, its paths absolute.

    Raises:
        StudyError: As `read_prompts`; never of a reader that is not asked in words.
    """
    used = [setting for setting in PROMPTS if setting in ANSWERING[reader["kind"]]]
    read_prompts({setting: Path(reader[setting]) for setting in used})


def _read(path: Path, use: Use) -> Prompt:
    where = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"the prompt cannot be read: {error}", where, "name an existing text file") from None
    if not text.strip():
        raise StudyError("the prompt is empty", where, "write what the model is to be asked")
    try:
        found = meta.find_undeclared_variables(_ENVIRONMENT.parse(text))
        template = _ENVIRONMENT.from_string(text)
    except TemplateError as error:
        raise StudyError(f"the prompt is no Jinja2 template: {error}", where, "correct it") from None
    fields = (*use.needed, *use.allowed)
    problems = _field_problems(found, use.needed, fields, where)
    if problems:
        raise StudyError.of(problems)
    return Prompt(path, hashlib.sha256(text.encode()).hexdigest()[:16], template, fields)


def _field_problems(found: set[str], needed: Sequence[str], fields: Sequence[str], where: str) -> list[Problem]:
    missing = [name for name in needed if name not in found]
    unknown = sorted(found - set(fields))
    problems = []
    if missing:
        named = " and ".join(f"{{{{ {name} }}}}" for name in missing)
        problems.append(Problem(where, f"the prompt lacks {named}", "put it where the text is to stand"))
    if unknown:
        remedy = f"known fields: {', '.join(fields)}"
        problems.append(Problem(where, f"the prompt names the unknown field {', '.join(unknown)}", remedy))
    return problems
