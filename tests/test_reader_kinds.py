"""Which keys of the configuration each kind of reader reads, and the files behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slidestudy.reader_kinds import (
    ANSWERING,
    PROMPTS,
    REACHING,
    answering_settings,
    reaching_settings,
    reader_problems,
    weights_path,
)
from slidestudy.settings import fill_defaults
from slidestudy.tables import load_schema

SCHEMA = load_schema("config")
READER = SCHEMA["$defs"]["explanations"]["properties"]["reader"]


def complete(**given: Any) -> dict[str, Any]:
    """A reader's section with the schema's defaults."""
    return fill_defaults(given, READER, SCHEMA)


def test_every_key_of_the_schema_belongs_to_some_kind_and_no_other_does() -> None:
    kinds = READER["properties"]["kind"]["enum"]
    assert set(ANSWERING) == set(kinds)
    named = {key for keys in (*ANSWERING.values(), *REACHING.values()) for key in keys}
    assert named == set(READER["properties"]) - {"kind"}
    for kind in kinds:
        assert not set(ANSWERING[kind]) & set(REACHING.get(kind, ()))


@pytest.mark.parametrize("kind", list(ANSWERING))
def test_a_kind_gets_its_own_keys_only_and_the_studys_seed(kind: str) -> None:
    everything = complete(kind=kind, model="m", base_url="u", api_key_env=None, weights="w", architecture="a")
    everything |= dict.fromkeys(PROMPTS, "p.j2")
    found = answering_settings(everything, 7)
    assert set(found) == {"kind", *ANSWERING[kind]}
    assert found.get("seed", 7) == 7
    assert set(reaching_settings(everything)) == set(REACHING.get(kind, ()))
    assert answering_settings({**everything, "seed": None}, 7).get("seed") is None


def test_weights_are_a_path_or_a_name(tmp_path: Path) -> None:
    (tmp_path / "own" / "model").mkdir(parents=True)

    def path(kind: str, weights: str | None) -> str | None:
        return weights_path(complete(kind=kind, **({"weights": weights} if weights else {})), tmp_path)

    assert path("transformers", "own/model") == str(tmp_path / "own" / "model")
    assert path("transformers", "owner/model") is None
    assert path("transformers", "./none") == str(tmp_path / "none")
    assert path("clip", "w.safetensors") == str(tmp_path / "w.safetensors")
    assert [path("clip", name) for name in ("hub", "none", None)] == [None] * 3
    assert path("morphometry", "w") is None


def test_what_a_kind_does_not_read_need_not_exist(tmp_path: Path) -> None:
    missing = {key: str(tmp_path / f"{key}.j2") for key in PROMPTS} | {"weights": str(tmp_path / "w"), "max_cost": 1.0}

    def wrong(kind: str) -> list[str]:
        problems = reader_problems(complete(kind=kind, **missing), "c.yaml")
        assert all(problem.where.startswith("c.yaml, key explanations.reader.") for problem in problems)
        assert all(problem.remedy for problem in problems)
        return [problem.where.rsplit(".", 1)[1] for problem in problems]

    assert wrong("morphometry") == []
    assert wrong("openai") == [*PROMPTS, "max_cost"]
    assert wrong("transformers") == [*PROMPTS, "weights"]
    assert wrong("clip") == ["weights"]
