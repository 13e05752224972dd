"""Whether feature stores are what they say they are: every check of a store, and all its problems at once."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slidestudy.errors import StudyError
from slidestudy.features.identity import EncoderIdentity
from slidestudy.features.normalisation import Outcome
from slidestudy.features.store import FORMAT, OUTCOME, content_checksum, read_arrays
from slidestudy.files import digest, read_json

ARRAYS: dict[str, tuple[str, int]] = {
    "features": ("float16", 2),
    "coords": ("int32", 2),
    "tissue_fraction": ("float32", 1),
    "readable": ("bool", 1),
}
"""Type and number of dimensions of each array of a store."""
OPTIONAL_ARRAYS: dict[str, tuple[str, int]] = {OUTCOME: ("uint8", 1)}
"""Those of arrays that only some stores have."""
RECIPE_PARTS = ("encoder", "tiles", "normaliser")
REQUIRED = ("slide_id", "cohort", "checksum", "recipe", *RECIPE_PARTS, "n_tiles", "n_unreadable")


@dataclass(frozen=True)
class Verdict:
    """What was found in one store.

    Attributes:
        path: The store's folder.
        problems: What is wrong, one sentence each; empty where nothing is.
        attributes: What the store says of itself; empty where that cannot be read.
        n_tiles: Its rows; 0 where they cannot be read.
    """

    path: Path
    problems: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    n_tiles: int = 0


def find_stores(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The stores that paths name: a `*.zarr` folder itself, or all feature stores below another folder.

    Below a folder, a store that says that it holds something else, e.g. tile scores, is passed over; one that
    cannot say what it holds is kept, since it may be a damaged feature store.

    Args:
        paths: Folders.

    Returns:
        Stores, sorted, each once.

    Raises:
        StudyError: A path does not exist, or holds no store; all such paths together.
    """
    found: set[Path] = set()
    problems = []
    for path in map(Path, paths):
        if not path.is_dir():
            problems.extend(StudyError("there is no such folder", str(path), "name a store or its folder").problems)
            continue
        stores = {path} if path.suffix == ".zarr" else set(_stores_below(path))
        if not stores:
            remedy = "name a *.zarr folder, or one that holds some"
            problems.extend(StudyError("holds no feature store", str(path), remedy).problems)
        found |= stores
    if problems:
        raise StudyError.of(problems)
    return sorted(found)


def _stores_below(folder: Path) -> Iterator[Path]:
    """Feature stores below a folder; hidden ones are half-written."""
    for path in folder.rglob("*.zarr"):
        if path.is_dir() and not path.name.startswith("."):
            attributes = _attributes(path)
            if attributes is None or attributes.get("format", FORMAT) == FORMAT:
                yield path


def _attributes(path: Path) -> dict[str, Any] | None:
    """A store's attributes whatever its format; none where they cannot be read."""
    try:
        attributes = read_json(path / "zarr.json")["attributes"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return attributes if isinstance(attributes, dict) else None


def verify_store(path: str | os.PathLike[str]) -> Verdict:
    """Checks one store by itself.

    Args:
        path: The store's folder.

    Returns:
        All that is wrong with it.
    """
    store = Path(path)
    attributes = _attributes(store)
    if attributes is None:
        return Verdict(store, ("its attributes cannot be read (zarr.json)",))
    if attributes.get("format") != FORMAT:
        return Verdict(store, (f"its format is {attributes.get('format')!r}, not {FORMAT!r}",))
    problems = [f"attribute {name} is missing" for name in REQUIRED if name not in attributes]
    problems += _recipe_problems(attributes)
    arrays, unread = _read(store)
    problems += unread
    if not unread:
        if content_checksum(arrays) != attributes.get("checksum"):
            problems.append("its checksum differs: the arrays have changed since they were written")
        shapes = _shape_problems(arrays)
        problems += shapes
        if not shapes:
            problems += _row_problems(arrays) + _count_problems(arrays, attributes)
            problems += _outcome_problems(arrays, attributes)
    return Verdict(store, tuple(problems), attributes, len(arrays["coords"]) if "coords" in arrays else 0)


def verify_stores(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Verdict]:
    """Checks stores one by one, then that those of one encoder's folder share a recipe.

    The folder of an encoder is the one above the cohort's, or the store's own where that is not named as its cohort.

    Args:
        paths: The stores.

    Yields:
        A verdict for each store, in the order given.
    """
    verdicts = [verify_store(path) for path in paths]
    recipes: dict[Path, Counter[str]] = defaultdict(Counter)
    for verdict in verdicts:
        if "recipe" in verdict.attributes:
            recipes[_encoder_folder(verdict)][str(verdict.attributes["recipe"])] += 1
    for verdict in verdicts:
        counts = recipes.get(_encoder_folder(verdict), Counter())
        usual, count = counts.most_common(1)[0] if counts else ("", 0)
        if "recipe" in verdict.attributes and str(verdict.attributes["recipe"]) != usual:
            what = f"its recipe is {verdict.attributes['recipe']}, but {count} of {counts.total()} stores in"
            problem = f"{what} {_encoder_folder(verdict)} have {usual}"
            yield replace(verdict, problems=(*verdict.problems, problem))
        else:
            yield verdict


def _encoder_folder(verdict: Verdict) -> Path:
    """The folder whose stores must share a recipe."""
    parent = verdict.path.absolute().parent
    return parent.parent if parent.name == verdict.attributes.get("cohort") else parent


def _recipe_problems(attributes: dict[str, Any]) -> list[str]:
    """Where the recipe, or an attribute that repeats a part of it, does not agree with what it is made of."""
    if any(name not in attributes for name in RECIPE_PARTS):
        return []
    problems = []
    encoder, tiles = attributes["encoder"], attributes["tiles"]
    if not isinstance(encoder, dict) or not isinstance(tiles, dict):
        return ["attributes encoder and tiles must be mappings"]
    missing = [f.name for f in fields(EncoderIdentity) if f.name not in encoder]
    if missing:
        problems.append(f"the encoder's identity lacks {', '.join(missing)}")
    expected = digest({name: attributes[name] for name in RECIPE_PARTS})
    if "recipe" in attributes and attributes["recipe"] != expected:
        problems.append(f"its recipe is {attributes['recipe']}, but its encoder, tiles and normaliser give {expected}")
    for name, key in (("tile_size_px", "size"), ("target_mpp", "mpp")):
        if name in attributes and attributes[name] != tiles.get(key):
            problems.append(f"{name} is {attributes[name]}, but its tiles have {key} {tiles.get(key)}")
    return problems


def _read(store: Path) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The arrays that can be read, and why the others cannot."""
    arrays: dict[str, NDArray[Any]] = {}
    problems = []
    for name in (*ARRAYS, *OPTIONAL_ARRAYS):
        if not (store / name / "zarr.json").is_file():
            if name in ARRAYS or (store / name).is_dir():
                problems.append(f"array {name} is missing")
            continue
        try:
            arrays |= read_arrays(store, [name])
        except Exception as error:
            # Each of Zarr's codecs fails in its own way on bytes that it cannot decode.
            cause = error.__cause__ or error
            problems.append(f"array {name} cannot be decoded ({str(cause).splitlines()[0] if str(cause) else cause!r})")
    return arrays, problems


def _shape_problems(arrays: dict[str, NDArray[Any]]) -> list[str]:
    """Arrays of the wrong type or shape."""
    problems = []
    for name, (dtype, ndim) in (ARRAYS | OPTIONAL_ARRAYS).items():
        if name not in arrays:
            continue
        array = arrays[name]
        if array.dtype != np.dtype(dtype):
            problems.append(f"array {name} is {array.dtype}, not {dtype}")
        if array.ndim != ndim or (name == "coords" and array.shape[-1] != 2):
            wanted = {"features": "(n_tiles, dim)", "coords": "(n_tiles, 2)"}.get(name, "(n_tiles,)")
            problems.append(f"array {name} has shape {array.shape}, not {wanted}")
    rows = {name: array.shape[0] if array.ndim else 0 for name, array in arrays.items()}
    if len(set(rows.values())) > 1:
        problems.append("the arrays differ in length: " + ", ".join(f"{name} {n}" for name, n in rows.items()))
    return problems


def _row_problems(arrays: dict[str, NDArray[Any]]) -> list[str]:
    """Values that are no numbers, coordinates given twice, rows out of order."""
    problems = []
    finite = np.isfinite(arrays["features"]).all(axis=1)
    bad = int((arrays["readable"] & ~finite).sum())
    if bad:
        problems.append(f"{bad} readable tile{'s have' if bad > 1 else ' has'} features that are NaN or infinite")
    keys = row_keys(arrays["coords"])
    repeated = len(keys) - len(np.unique(keys))
    if repeated:
        problems.append(f"{repeated} coordinate{'s are' if repeated > 1 else ' is'} there twice")
    backward = np.flatnonzero(np.diff(keys) < 0)
    if len(backward):
        row = int(backward[0]) + 1
        problems.append(f"its tiles are not in row-major order: row {row} belongs before row {row - 1}")
    return problems


def row_keys(coords: NDArray[np.int32]) -> NDArray[np.int64]:
    """Numbers that sort as the tiles do in row-major order.

    Args:
        coords: Level-0 x, y, (n, 2).

    Returns:
        int64 (n,); equal where coordinates are.
    """
    # The smallest x is moved to 0, so that the sum cannot leave int64.
    return (coords[:, 1].astype(np.int64) << 32) + (coords[:, 0].astype(np.int64) + 2**31)


def _count_problems(arrays: dict[str, NDArray[Any]], attributes: dict[str, Any]) -> list[str]:
    """Counts in the attributes that are not the arrays'."""
    found = {"n_tiles": len(arrays["coords"]), "n_unreadable": int((~arrays["readable"]).sum())}
    problems = [
        f"{name} is {attributes[name]}, but the arrays have {count}"
        for name, count in found.items()
        if name in attributes and attributes[name] != count
    ]
    encoder = attributes.get("encoder")
    dim = arrays["features"].shape[1]
    if isinstance(encoder, dict) and "dim" in encoder and encoder["dim"] != dim:
        problems.append(f"its features have {dim} values, but its encoder gives {encoder['dim']}")
    return problems


def _outcome_problems(arrays: dict[str, NDArray[Any]], attributes: dict[str, Any]) -> list[str]:
    """What the store says of its tiles' colours that does not hold."""
    names = ("n_unnormalised", "n_flagged")
    outcome = arrays.get(OUTCOME)
    if outcome is None:
        stated = [name for name in names if name in attributes]
        return [f"it has {' and '.join(stated)}, but no array {OUTCOME}"] if stated else []
    readable = arrays["readable"]
    problems = [f"attribute {name} is missing, though there is an array {OUTCOME}" for name in names
                if name not in attributes]  # fmt: skip
    if attributes.get("normaliser") == "none":
        problems.append(f"there is an array {OUTCOME}, though its normaliser is none")
    unknown = int((outcome > max(Outcome)).sum())
    if unknown:
        problems.append(f"array {OUTCOME} has {unknown} value{'s' if unknown > 1 else ''} above {int(max(Outcome))}")
    if outcome[~readable].any():
        problems.append(f"array {OUTCOME} says that tiles were normalised that cannot be read")
    counts = {
        "n_unnormalised": int((readable & (outcome == Outcome.PASSED_THROUGH)).sum()),
        "n_flagged": int((outcome == Outcome.FLAGGED).sum()),
    }
    return problems + [
        f"{name} is {attributes[name]}, but the arrays have {count}"
        for name, count in counts.items()
        if name in attributes and attributes[name] != count
    ]
