"""Controls: what an explanation is compared with, made from the explanation itself.

The inverted control says the opposite of every claim. If it predicts the model as well as the explanation
does, the explanation's directions carry no information. The empty control says nothing, and the image-only control
shows a vision-language model the patch without any explanation. A text without one of its statements tells what that
statement was worth.
"""

from __future__ import annotations

import os
from dataclasses import replace

from slidestudy.errors import StudyError
from slidestudy.explanations.documents import Explanation, read_explanation
from slidestudy.explanations.grammar import Role, opposite_of, read_sentences
from slidestudy.explanations.naming import EMPTY, IMAGE_ONLY, kind_of, statement_of, text_of

__all__ = ["invert_explanation", "invert_text", "read_variant", "without_statement"]


def read_variant(name: str, path: str | os.PathLike[str] | None) -> Explanation:
    """What is answered from under a name: a text as written, or a control made of it.

    Args:
        name: A name of `naming`; `.shuffled` is no text and not asked.
        path: The file behind it; None for controls that have none.

    Raises:
        StudyError: The file is no explanation.
    """
    if name in (EMPTY, IMAGE_ONLY):
        return Explanation(name, name, "", "", (), (), "")
    if path is None:
        raise ValueError(f"{name} needs the file of its text")
    explanation = read_explanation(path, text_of(name) or name)
    kind = kind_of(name)
    if kind == "inverted":
        return invert_explanation(explanation)
    if kind == "without":
        if statement_of(name) > len(explanation.statements):
            raise StudyError(f"has no statement {statement_of(name)}", str(path), "run the workflow again")
        return without_statement(explanation, statement_of(name))
    return explanation


def invert_explanation(explanation: Explanation) -> Explanation:
    """What raises the score lowers it and the reverse, in the statements and in the body; named `<text>.inverted`."""
    higher, lower = (
        tuple(invert_text(statement) for statement in said) for said in (explanation.lower, explanation.higher)
    )
    body = invert_text(explanation.body)
    return replace(explanation, name=f"{explanation.name}.inverted", higher=higher, lower=lower, body=body)


def without_statement(explanation: Explanation, k: int) -> Explanation:
    """An explanation without its k-th statement (from 1, `higher` first); named `<text>.without-<k>`."""
    count = len(explanation.higher)
    higher = tuple(s for i, s in enumerate(explanation.higher, 1) if i != k)
    lower = tuple(s for i, s in enumerate(explanation.lower, count + 1) if i != k)
    return replace(explanation, name=f"{explanation.name}.without-{k}", higher=higher, lower=lower)


def invert_text(text: str) -> str:
    """Swap every word of direction that speaks of the score, and nothing else.

    ``raise`` becomes ``lower``, ``falls`` ``rises``, ``a high score`` ``a low score``; inflection and case
    are kept. Quantities stay (``few lymphocytes lower the score`` becomes ``few lymphocytes raise the
    score``), so each claim that `claims.parse_claims` reads is turned round once. Headings are inverted too,
    HTML comments are not.

    Args:
        text: an explanation, free text or markdown.

    Returns:
        The text with directions swapped. Inverting twice gives the claims of the original; the words too,
        except that a synonym without an opposite of its own (``boost``) comes back as a plain one
        (``increase``).
    """
    swaps: dict[int, tuple[int, str]] = {}
    for sentence in read_sentences(text, headings=True):
        for clause in sentence.clauses:
            for index, token in enumerate(clause.tokens):
                if token.role is Role.DIRECTION:
                    swaps[token.start] = (token.end, opposite_of(clause.tokens, index))
    pieces = []
    position = 0
    for start, (end, opposite) in sorted(swaps.items()):
        pieces += [text[position:start], _with_case(opposite, text[start:end])]
        position = end
    return "".join([*pieces, text[position:]])


def _with_case(word: str, model: str) -> str:
    if model.isupper() and len(model) > 1:
        return word.upper()
    return word.capitalize() if model[:1].isupper() else word
