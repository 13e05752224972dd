"""An endpoint that stands in for a vision-language model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.explanations.readers.vlm_readers import KEY, KEY_NAME
from tests.loopback import Endpoint, serve

from slidestudy.explanations.readers import pacing


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv(KEY_NAME, KEY)
    # Waits of the tests' own length.
    monkeypatch.setattr(pacing, "FIRST_WAIT", 0.02)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with serve() as state:
        yield state
