"""The registry of encoders: every entry fits the schema, says what it needs, and stands in the documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from slidestudy.encoder_entries import load_registry
from slidestudy.features import stain_texture
from slidestudy.features.hub_sources import HUB_PREFIXES, hub_source
from slidestudy.settings import REGISTRY

ENTRIES = load_registry([REGISTRY])
NETWORKS = [name for name, entry in ENTRIES.items() if entry["backend"] != "stain-texture"]
PUBLISHED = [name for name in NETWORKS if ENTRIES[name].get("weights") != "none" and not name.startswith("slidestudy")]


def documented(name: str, entry: dict[str, Any]) -> str:
    """An entry's row of the table in docs/encoders.md."""
    dim = entry.get("dim", stain_texture.DIM)
    tiles = ", ".join(f"{t['size']} @ {t['mpp']:g}" for t in entry.get("tiles", [])) or "any"
    kinds = {"hub": "hub, gated" if entry.get("gated") else "hub", "none": "none"}
    weights = kinds.get(entry.get("weights", "file"), "file")
    if entry["backend"] == "stain-texture":
        weights = "none"
    elif "slidestudy" in name:
        weights = "shipped"
    linked = f"[{name}]({entry['page']})" if "page" in entry else name
    licence = entry.get("licence", "")
    return f"| {linked} | {dim} | {tiles} | {entry['backend']} | {weights} | {licence} |"


def test_default_encoder_needs_no_weights() -> None:
    assert ENTRIES["stain-texture"] == {"backend": "stain-texture"}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_says_what_it_is(name: str) -> None:
    assert {"architecture", "dim"} <= ENTRIES[name].keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_encoder_says_how_tiles_are_normalised_and_where_it_is_from(name: str) -> None:
    entry = ENTRIES[name]
    assert {"mean", "std", "page"} <= entry.keys()
    assert entry["page"].startswith("https://")
    assert all(0 < value < 1 for value in [*entry["mean"], *entry["std"]])
    assert entry.get("precision", "fp32") == "fp32"


@pytest.mark.parametrize("name", [name for name in PUBLISHED if ENTRIES[name].get("weights") == "hub"])
def test_weights_of_the_hub_have_a_repository_a_page_and_a_licence(name: str) -> None:
    entry = ENTRIES[name]
    source = hub_source(entry)
    assert source is not None
    assert entry["page"] == f"https://huggingface.co/{source.repository}"
    assert source.weights
    assert entry["licence"]
    assert re.fullmatch(r"[0-9a-f]{40}", entry.get("revision", "0" * 40))
    assert source.revision == entry.get("revision")


@pytest.mark.parametrize("name", [name for name in PUBLISHED if ENTRIES[name].get("weights") is None])
def test_an_encoder_whose_weights_are_a_file_names_none_of_the_hub(name: str) -> None:
    assert not ENTRIES[name]["architecture"].startswith(HUB_PREFIXES)
    assert "revision" not in ENTRIES[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_tiles_are_resized_to_what_the_network_reads(name: str) -> None:
    entry = ENTRIES[name]
    sizes = {tile["size"] for tile in entry.get("tiles", [])}
    # Without a size of its own a network must take tiles as they are.
    assert "input_size" in entry or entry["backend"] == "torchvision" or not sizes
    assert entry.get("input_size", 0) <= min(sizes, default=1000) or name == "conch"


def test_pooling_with_class_token_and_mean_doubles_the_length() -> None:
    assert {n for n, e in ENTRIES.items() if e.get("pooling") == "cls+mean"} == {"virchow", "virchow2", "midnight-12k"}
    assert [ENTRIES[name]["dim"] for name in ("virchow", "virchow2", "midnight-12k")] == [2560, 2560, 3072]


def test_the_documentation_shows_every_entry(repository: Path) -> None:
    text = (repository / "docs" / "encoders.md").read_text(encoding="utf-8")
    section = text.split("## The registry")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| encoder |")]
    assert rows == [documented(name, entry) for name, entry in ENTRIES.items()]
