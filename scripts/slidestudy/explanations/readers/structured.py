"""Answers as JSON: the schema that an endpoint is given, and reading what comes back."""

from __future__ import annotations

import json
import re
from typing import Any

from slidestudy.explanations.answers import ABSTAIN, Answer, AnswerStatus, Conclusion

__all__ = ["RESPONSE_FORMAT", "answer_from_json"]

RESPONSE_FORMAT: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "prediction_of_the_score",
        "strict": True,
        # No bounds of numbers: several servers refuse a schema that has them.
        "schema": {
            "type": "object",
            "additionalProperties": False,
            "required": ["reasoning", "conclusion", "probability_high"],
            "properties": {
                # First, since a model writes in this order: it reasons before it concludes.
                "reasoning": {"type": "string"},
                "conclusion": {"type": "string", "enum": [*[c.value for c in Conclusion], ABSTAIN]},
                "probability_high": {"type": ["number", "null"]},
            },
        },
    },
}
"""The `response_format` of an answer."""

_FENCED = re.compile(r"^```(?:json)?\s*(?P<body>.*?)\s*```$", re.DOTALL)
_NOT_A_WORD = re.compile(r"[^A-Z]+")


def answer_from_json(patch_id: str, text: str) -> Answer:
    """Reads an answer that was asked for as JSON; anything else than one of the five conclusions is unparsed.

    A probability that is no number from 0 to 1 counts as none.
    """
    try:
        fenced = _FENCED.match(text.strip())
        reply = json.loads(fenced["body"] if fenced else text)
        said = _NOT_A_WORD.sub(" ", str(reply["conclusion"]).upper()).strip()
    except (ValueError, KeyError, TypeError, RecursionError):
        return Answer(patch_id, AnswerStatus.UNPARSED, None, text)
    if said == ABSTAIN:
        return Answer(patch_id, AnswerStatus.ABSTAINED, None, text)
    if said not in {conclusion.value for conclusion in Conclusion}:
        return Answer(patch_id, AnswerStatus.UNPARSED, None, text)
    probability = _probability(reply.get("probability_high"))
    return Answer(patch_id, AnswerStatus.ANSWERED, Conclusion(said), text, probability=probability)


def _probability(value: Any) -> float | None:
    """A number from 0 to 1, or none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)
