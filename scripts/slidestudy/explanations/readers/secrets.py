"""The key of an endpoint: read from the environment, and kept out of everything that is written."""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass, field
from urllib.parse import quote

from slidestudy.errors import StudyError

__all__ = ["Key", "read_key"]

SHORTEST = 8
"""Characters below which a key is taken for a placeholder: to strike it out would spoil ordinary words."""
STRUCK = "[key]"

_BEARER = re.compile(r"(?i)\b(bearer|api-key|x-api-key)(\W{1,4})[^\s'\",;}\]]+")


@dataclass(frozen=True)
class Key:
    """A key, which no text shows.

    Attributes:
        value: The key; `none` for an endpoint that asks for none.
    """

    value: str = field(repr=False)

    def redact(self, text: str) -> str:
        """A text in which the key, as it is or encoded, and any bearer's token are struck out."""
        if len(self.value) >= SHORTEST:
            forms = {self.value, quote(self.value, safe=""), base64.b64encode(self.value.encode()).decode()}
            for form in sorted(forms, key=len, reverse=True):
                text = text.replace(form, STRUCK)
        return _BEARER.sub(rf"\1\2{STRUCK}", text)

    def strike(self, text: str) -> str:
        """A model's text without the key, should the endpoint have put it there; the rest stays as it is."""
        return text.replace(self.value, STRUCK) if len(self.value) >= SHORTEST else text


def read_key(variable: str | None) -> Key:
    """Reads a key from an environment variable.

    Args:
        variable: Its name; None for an endpoint that asks for no key.

    Raises:
        StudyError: The variable is not set, or holds what cannot be sent; its value is not shown.
    """
    if variable is None:
        return Key("none")
    value = os.environ.get(variable, "").strip()
    if not value:
        what = f"the environment variable {variable} is not set"
        remedy = "export the key, or set api_key_env: null for an endpoint that needs none"
        raise StudyError(what, "explanations.reader.api_key_env", remedy)
    if not re.fullmatch(r"[!-~]+", value):
        what = f"the environment variable {variable} holds blanks or characters that no key has"
        raise StudyError(what, "explanations.reader.api_key_env", "export the key alone")
    return Key(value)
