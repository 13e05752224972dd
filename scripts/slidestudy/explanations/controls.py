"""Controls: texts that an explanation is compared with, made from the explanation itself.

The inverted control says the opposite of every claim. If it predicts the model as well as the explanation
does, the explanation's directions carry no information.
"""

from __future__ import annotations

from slidestudy.explanations.grammar import Role, opposite_of, read_sentences

__all__ = ["invert_text"]


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
