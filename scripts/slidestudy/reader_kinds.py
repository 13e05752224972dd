"""The kinds of readers of explanations, and which keys of the configuration each of them reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slidestudy.errors import Problem

PROMPTS = ("describe_prompt", "answer_prompt", "image_only_prompt")
"""Keys that name prompt files."""
SAMPLING = ("temperature", "seed", "max_tokens")
ANSWERING: dict[str, tuple[str, ...]] = {
    "morphometry": (),
    "openai": ("model", "structured", "images", *SAMPLING, *PROMPTS),
    "transformers": ("weights", "device", "dtype", "images", *SAMPLING, *PROMPTS),
    "clip": ("architecture", "weights", "device", "seed"),
}
"""Kind -> keys that its answers depend on."""
REACHING: dict[str, tuple[str, ...]] = {
    "openai": (
        "base_url", "api_key_env", "timeout", "retries", "concurrency", "requests_per_minute", "max_calls", "max_cost",
        "price_per_million_input", "price_per_million_output",
    ),
}  # fmt: skip
"""Kind -> keys that say how it is reached; another server or cap changes no answer, and asks nothing anew."""
NO_FILES = ("hub", "none")
"""Weights of `clip` that are no file."""


def answering_settings(reader: dict[str, Any], seed: int) -> dict[str, Any]:
    """What a reader's answers depend on, the study's seed where it has none of its own."""
    kind = reader["kind"]
    found = {key: reader[key] for key in ANSWERING[kind] if key in reader}
    return {"kind": kind, **({"seed": seed} if "seed" in ANSWERING[kind] else {}), **found}


def reaching_settings(reader: dict[str, Any]) -> dict[str, Any]:
    """How a reader is reached."""
    return {key: reader[key] for key in REACHING.get(reader["kind"], ()) if key in reader}


def weights_path(reader: dict[str, Any], base: Path) -> str | None:
    """The file or folder that a reader's weights are, relative to a folder; None where they are of the hub or none."""
    weights = reader.get("weights")
    if weights is None or weights in NO_FILES or reader["kind"] not in ("clip", "transformers"):
        return None
    path = base / Path(weights).expanduser()
    # owner/name is a repository of the hub, unless there is such a folder or the path could be nothing else.
    named = reader["kind"] == "transformers" and not weights.startswith((".", "/", "~"))
    return None if named and not path.is_dir() else str(path)


def reader_problems(reader: dict[str, Any], source: str) -> list[Problem]:
    """Files that a reader needs and that do not exist, and a cost that is capped but has no prices.

    Args:
        reader: The section `explanations.reader`, complete, its paths absolute.
        source: The configuration file.
    """
    where, kind = f"{source}, key explanations.reader", reader["kind"]
    used = [key for key in PROMPTS if key in ANSWERING[kind] and key in reader]
    files = {key: reader[key] for key in used if not Path(reader[key]).is_file()}
    weights = weights_path(reader, Path("/"))
    if weights is not None and not Path(weights).exists():
        files["weights"] = weights
    problems = [Problem(f"{where}.{key}", f"{path} does not exist", "correct the path") for key, path in files.items()]
    prices = reader["price_per_million_input"] + reader["price_per_million_output"]
    if kind == "openai" and reader["max_cost"] is not None and not prices:
        remedy = "give price_per_million_input and price_per_million_output, or set max_calls instead"
        problems.append(Problem(f"{where}.max_cost", "the cost is capped, but no prices are given", remedy))
    return problems
