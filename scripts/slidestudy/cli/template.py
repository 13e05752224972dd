"""Turning the study template `config/config.yaml` into the configuration of a new study."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from slidestudy.settings import REGISTRY

TEMPLATE = REGISTRY.parent / "config.yaml"
INTRODUCTION = """\
# Written by `slidestudy init`. Units and meanings of all keys: config/README.md.
# Paths to input files are relative to this file, `results` to the folder in which snakemake runs.
"""
FOR_LATER = ("features", "slide_encoders", "comparisons", "models", "explanations")
"""Sections that need labels, or an encoder that is a comment at first."""
LATER = "# Take the '# ' at the beginning of its lines away to use this section.\n"


def split_blocks(text: str) -> list[tuple[str, str, str]]:
    """Splits a configuration's text at its top-level keys.

    Returns:
        For each block its key, the comment and blank lines above it, and its own lines. The last block has no key and
        holds what follows the last key.
    """
    blocks: list[tuple[str, str, str]] = []
    key, above, body, pending = "", "", "", ""
    for line in text.splitlines(keepends=True):
        match = re.match(r"(\w+):", line)
        if match:
            if key:
                blocks.append((key, above, body))
            key, above, body, pending = match[1], pending, line, ""
        elif not line.startswith(" "):
            pending += line
        else:
            body, pending = body + pending + line, ""
    return [*blocks, (key, above, body), ("", pending, "")]


def _comment_out(text: str, indent: str = "") -> str:
    """Makes comments of lines, so that taking `# ` away after the indent gives them back."""
    return "".join(f"{indent}# {line.removeprefix(indent)}" for line in text.splitlines(keepends=True))


def _cohorts(names: Sequence[str]) -> str:
    """The section `cohorts`: the first develops, the others validate."""
    lines = ["cohorts:"]
    for i, name in enumerate(names):
        role = "external" if i else "development"
        lines += [f"  {json.dumps(name, ensure_ascii=False)}:", f"    role: {role}", '    description: ""']
    return "\n".join(lines) + "\n"


def _encoders(body: str) -> str:
    """The section `encoders` with its first entry in use and the others as comments."""
    lines = body.splitlines(keepends=True)
    entries = [i for i, line in enumerate(lines) if re.match(r"  \w", line)]
    second = entries[1]
    while lines[second - 1].startswith("  #"):
        second -= 1
    return "".join(lines[:second]) + _comment_out("".join(lines[second:]), "  ")


def fill_template(name: str, cohorts: Sequence[str], output: Path) -> str:
    """Writes the configuration of a new study, with what needs labels as comments until there are some.

    Args:
        name: The study's name.
        cohorts: Names of its cohorts.
        output: The folder in which the configuration will stand.

    Returns:
        The text of the configuration.
    """
    parts = []
    texts = Path(os.path.relpath(TEMPLATE.parent, output.resolve())).as_posix()
    for key, above, body in split_blocks(TEMPLATE.read_text(encoding="utf-8")):
        if key == "study":
            above = f"{INTRODUCTION}\n{above.split(chr(10) * 2, 1)[1]}"
            body = f"study: {json.dumps(name, ensure_ascii=False)}\n"
        elif key == "results":
            body = f"results: {json.dumps(f'results/{name}', ensure_ascii=False)}\n"
        elif key == "cohorts":
            body = _cohorts(cohorts)
        elif key == "encoders":
            body = _encoders(body)
        elif key in FOR_LATER:
            body = re.sub(r": (explanations|prompts)/", rf": {texts}/\1/", body)
            above, body = above + LATER, _comment_out(body)
        parts.append(above + body)
    return "".join(parts)
