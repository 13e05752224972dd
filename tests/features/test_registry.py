"""The registry of encoders: every entry fits the schema of a study's encoders, and says what it needs."""

from __future__ import annotations

import jsonschema
import pytest

from slidestudy.settings import REGISTRY, load_yaml
from slidestudy.tables import load_schema

ENTRIES = load_yaml(REGISTRY)


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_entry_fits_the_schema_and_is_complete(name):
    schema = load_schema("config")
    entry = ENTRIES[name]
    encoder = {**schema["$defs"]["encoder"], "$defs": schema["$defs"]}
    jsonschema.Draft202012Validator(encoder).validate(entry)
    assert entry["backend"] in ("stain-texture", "timm")
    if entry["backend"] == "timm":
        assert {"architecture", "weights", "dim"} <= entry.keys()


def test_default_encoder_needs_no_weights():
    assert ENTRIES["stain-texture"] == {"backend": "stain-texture"}
