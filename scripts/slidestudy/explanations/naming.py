"""Names of what is answered and scored: the texts, the controls made of them, and texts without one statement.

`<text>`, `<text>.inverted`, `<text>.shuffled`, `<text>.without-<k>` (k counts from 1, `higher` first), and the controls
of no text: `control.empty`, `control.irrelevant` and `control.image-only`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slidestudy.errors import Problem, StudyError
from slidestudy.explanations.documents import Explanation, read_explanation

INVERTED, SHUFFLED, WITHOUT = ".inverted", ".shuffled", ".without-"
EMPTY, IRRELEVANT, IMAGE_ONLY = "control.empty", "control.irrelevant", "control.image-only"
IMPORTED = "imported."
"""How names of answers begin that came with a set of patches."""
COMMON_CONTROLS = (EMPTY, IRRELEVANT, IMAGE_ONLY)
"""Controls that no text is behind."""
OF_A_TEXT = ("inverted", "shuffled")
"""Kinds of control that are made of each text."""
LOOKING = ("openai", "transformers")
"""Kinds of reader that look at an image and can answer without an explanation."""
NOT_LOOKING = "the reader is no vision-language model"
"""Why `control.image-only` has no score."""


def kind_of(name: str) -> str:
    """`text`, `without` (a statement left out), `imported` (answers of another tool), or which control something is."""
    if name in COMMON_CONTROLS:
        return name.removeprefix("control.")
    if name.startswith(IMPORTED):
        return "imported"
    if name.endswith(INVERTED):
        return "inverted"
    if name.endswith(SHUFFLED):
        return "shuffled"
    return "without" if WITHOUT in name else "text"


def text_of(name: str) -> str:
    """The text that something is made of; blank for a control of no text and imported answers."""
    if name in COMMON_CONTROLS or name.startswith(IMPORTED):
        return ""
    return name.split(".", 1)[0]


def statement_of(name: str) -> int:
    """Which statement, from 1, `<text>.without-<k>` leaves out."""
    return int(name.rsplit(WITHOUT, 1)[1])


def read_texts(explanations: Mapping[str, Any]) -> dict[str, Explanation]:
    """Reads all written explanations of a configuration.

    Args:
        explanations: The section `explanations`, its paths absolute.

    Raises:
        StudyError: With every problem of every file, and of models for which nothing is written.
    """
    found: dict[str, Explanation] = {}
    problems: list[Problem] = []
    for name, path in explanations["texts"].items():
        try:
            found[name] = read_explanation(path, name)
        except StudyError as error:
            problems += error.problems
    if not problems:
        for model in explanations["models"]:
            if not texts_for(found, model):
                what = f"every text is written for another model than '{model}'"
                remedy = f"add `model: {model}` to a text's front matter, or leave `model` out of it"
                problems.append(Problem("explanations.texts", what, remedy))
    if problems:
        raise StudyError.of(problems)
    return found


def texts_for(texts: Mapping[str, Explanation], model: str) -> list[str]:
    """The texts that speak of a model: those that name it, and those that name none."""
    return [name for name, text in texts.items() if text.model in ("", model)]


def explanation_names(explanations: Mapping[str, Any], texts: Mapping[str, Explanation], model: str) -> list[str]:
    """All that is scored of a model: its texts, their controls, the common controls, texts without one statement.

    Args:
        explanations: The section `explanations` of the configuration.
        texts: The written explanations.
        model: The model.
    """
    own, controls = texts_for(texts, model), explanations["controls"]
    names = list(own)
    names += [f"{name}.{kind}" for kind in OF_A_TEXT if kind in controls for name in own]
    names += [name for name in COMMON_CONTROLS if kind_of(name) in controls]
    if explanations["statements"]:
        names += [f"{name}{WITHOUT}{k}" for name in own for k in range(1, 1 + len(texts[name].statements))]
    return names


def asked_names(explanations: Mapping[str, Any], names: list[str]) -> list[str]:
    """Those of some names that a reader is asked about.

    Shuffled answers are made of those to the text, and a reader that does not look cannot answer from an image alone.
    """
    looking = explanations["reader"]["kind"] in LOOKING
    return [name for name in names if kind_of(name) != "shuffled" and (looking or name != IMAGE_ONLY)]
