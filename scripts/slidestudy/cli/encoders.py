"""`slidestudy encoders`: which encoders there are, which can be used here, and the download of their weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from slidestudy.cli.output import print_table
from slidestudy.encoder_entries import load_registry
from slidestudy.errors import Problem, StudyError
from slidestudy.features import stain_texture
from slidestudy.features.availability import WITHOUT_NETWORK, describe_usability
from slidestudy.features.hub import fetch
from slidestudy.features.hub_sources import hub_source
from slidestudy.settings import REGISTRY
from slidestudy.tables import did_you_mean


def _registry(more: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """The entries of slidestudy's own registry and of further files."""
    return load_registry([REGISTRY, *more])


def list_encoders(registries: Sequence[Path], weights_dir: Path | None, console: Console) -> None:
    """Prints all encoders and whether each can be used here; asks no network.

    Args:
        registries: Further registry files.
        weights_dir: Folder of downloaded weights.
        console: Where to print.

    Raises:
        StudyError: A registry cannot be read or has mistakes.
    """
    rows, usable = [], 0
    for name, entry in _registry(registries).items():
        here = describe_usability(name, entry, str(weights_dir) if weights_dir else None)
        usable += here.usable
        dim = stain_texture.DIM if entry["backend"] == "stain-texture" else entry.get("dim", "")
        tiles = ", ".join(f"{t['size']} @ {t['mpp']:g}" for t in entry.get("tiles", [])) or "any"
        mark = "yes" if here.usable else "no"
        rows.append((name, dim, tiles, entry.get("licence", ""), entry["backend"], mark, here.words))
    columns = ["encoder", "dim", "tiles, px @ um/px", "licence", "backend", "usable", "here"]
    print_table(console, f"Encoders: {usable} of {len(rows)} can be used here", columns, rows)


def fetch_encoders(names: Sequence[str], registries: Sequence[Path], weights_dir: Path, console: Console) -> None:
    """Downloads the weights of encoders into a folder, for machines without internet.

    Args:
        names: The encoders.
        registries: Further registry files.
        weights_dir: Where their folders go.
        console: Where to print.

    Raises:
        StudyError: An encoder is unknown, has no weights on the hub, or they cannot be had; the others are downloaded.
    """
    registry, problems = _registry(registries), list[Problem]()
    for name in names:
        try:
            _fetch_one(name, registry, weights_dir, console)
        except StudyError as error:
            problems += error.problems
    if problems:
        raise StudyError.of(problems)


def _fetch_one(name: str, registry: dict[str, dict[str, Any]], weights_dir: Path, console: Console) -> None:
    """Downloads the weights of one encoder."""
    where = f"encoder {name}"
    if name not in registry:
        raise StudyError("no registry has this encoder", where, did_you_mean(name, sorted(registry)))
    entry = registry[name]
    if entry["backend"] in WITHOUT_NETWORK or entry.get("weights") != "hub":
        here = describe_usability(name, entry)
        raise StudyError(f"has no weights on the hub ({here.words})", where, "leave it out")
    source = hub_source(entry)
    if source is None:
        what = f"its weights come from {entry['backend']} itself, not from the hub"
        raise StudyError(what, where, "use it once on a machine with internet and copy torch's cache")
    folder, manifest, downloaded = fetch(name, entry, source, weights_dir)
    done = "downloaded to" if downloaded else "already complete in"
    console.print(f"{name}: {source.repository}@{manifest.commit} {done} {folder}.", soft_wrap=True)
