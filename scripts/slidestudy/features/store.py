"""The feature store of one slide: Zarr v3, one folder, a handful of files (format `slidestudy-features/1`)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from slidestudy.errors import StudyError
from slidestudy.files import atomic_path, read_json

FORMAT = "slidestudy-features/1"
CHUNK_TILES = 4096
SHARD_TILES = 4 * CHUNK_TILES
"""Tiles per file: what is held in memory while a slide is encoded, 50 MB at 1,536 values per tile."""
COMPRESSOR = ZstdCodec(level=1)
"""Of 15,000 x 1,536 float16 it leaves 92 % (normal values), 69 % (ResNet-18) or 59 % (half of them zero), and reads as
fast as no compression or LZ4. Uncompressed, a slide of 20 tiles would take the 12 MB of its padded chunk. Level 3
leaves as much and takes up to 1.5 times as long to write; Blosc's shuffled bytes leave 61 % of ResNet-18 and are
read more slowly."""
OUTCOME = "normalisation"
"""Array that only stores of normalised tiles have: what became of each (see `normalisation.Outcome`)."""


@dataclass(frozen=True)
class FeatureStore:
    """A slide's features in memory; only tiles that could be decoded.

    Attributes:
        features: float16 (n_tiles, dim).
        coords: int32 (n_tiles, 2), level-0 x, y of the tiles' top-left corners, row-major.
        tissue_fraction: float32 (n_tiles,).
        attributes: What the store says of itself.
    """

    features: NDArray[np.float16]
    coords: NDArray[np.int32]
    tissue_fraction: NDArray[np.float32]
    attributes: dict[str, Any]


class Digest(Protocol):
    """A hash under way."""

    def update(self, data: Any, /) -> None:
        """Takes bytes."""


def _declare(sha: Digest, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Begins an array in a checksum; its bytes follow."""
    sha.update(f"{name} {dtype.str} {shape}".encode())


def _bytes(array: NDArray[Any]) -> memoryview:
    """An array's bytes in C order, without a copy where they lie so."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def content_checksum(arrays: dict[str, NDArray[Any]]) -> str:
    """SHA-256 over names, shapes, types and bytes of arrays, 64 hex digits."""
    sha = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        _declare(sha, name, array.dtype, array.shape)
        sha.update(_bytes(array))
    return sha.hexdigest()


def _create(group: zarr.Group, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> zarr.Array[Any]:
    """Makes an array with one row per tile, in chunks of CHUNK_TILES and at most SHARD_TILES in a file."""
    rows = min(SHARD_TILES, -(-max(1, shape[0]) // CHUNK_TILES) * CHUNK_TILES)
    chunk, shard = (CHUNK_TILES, *shape[1:]), (rows, *shape[1:])
    return group.create_array(name, shape=shape, dtype=dtype, chunks=chunk, shards=shard, compressors=COMPRESSOR)


def _create_filled(group: zarr.Group, name: str, array: NDArray[Any]) -> None:
    target = _create(group, name, array.shape, array.dtype)
    if len(array):
        target[...] = array


def write_arrays(path: str | os.PathLike[str], arrays: dict[str, NDArray[Any]], attributes: dict[str, Any]) -> None:
    """Writes arrays with one row per tile as a Zarr v3 group, atomically.

    Chunks hold 4,096 tiles and files 16,384, so that a slide is a few files.

    Args:
        path: The final folder.
        arrays: Arrays (n_tiles, ...).
        attributes: Attributes of the group; a `checksum` of the arrays is added.
    """
    with atomic_path(path) as partial:
        group = zarr.create_group(
            partial, zarr_format=3, attributes={**attributes, "checksum": content_checksum(arrays)}
        )
        for name, array in arrays.items():
            _create_filled(group, name, array)


class StoreWriter:
    """Writes a slide's feature store while its tiles are encoded, one shard of features in memory.

    Rows may come in any order. A shard is written, and its memory given back, as soon as it and all before it have
    all their rows: memory is bounded if rows come roughly shard by shard.

    Args:
        path: The folder, which must not exist; to be published by the caller (see `files.atomic_path`).
        coords: (n_tiles, 2), level-0 px.
        tissue_fraction: (n_tiles,).
        dim: Length of a feature vector.
        where: The slide, for messages.
        normalised: Whether the store says what became of each tile's colours.
    """

    def __init__(
        self,
        path: Path,
        coords: NDArray[np.int32],
        tissue_fraction: NDArray[np.float32],
        dim: int,
        where: str,
        normalised: bool = False,
    ) -> None:
        count = len(coords)
        self.readable = np.zeros(count, bool)
        self.outcome = np.zeros(count, np.uint8) if normalised else None
        self._where = where
        self._coords, self._fraction = coords.astype(np.int32), tissue_fraction.astype(np.float32)
        self._group = zarr.create_group(path, zarr_format=3)
        self._target = _create(self._group, "features", (count, dim), np.dtype(np.float16))
        self._open: dict[int, NDArray[np.float16]] = {}
        self._missing = np.bincount(np.arange(count) // SHARD_TILES)
        self._next = 0
        self._sha = hashlib.sha256()
        # Arrays are hashed in the order of their names, so these come before the features.
        _declare(self._sha, "coords", self._coords.dtype, self._coords.shape)
        self._sha.update(_bytes(self._coords))
        _declare(self._sha, "features", self._target.dtype, self._target.shape)

    def put(
        self, rows: NDArray[np.intp], features: NDArray[np.floating], outcome: NDArray[np.uint8] | None = None
    ) -> None:
        """Takes the features of some tiles.

        Args:
            rows: Their rows, each of which comes once, (n,).
            features: (n, dim).
            outcome: What became of their colours, (n,); needed if the store says that.

        Raises:
            StudyError: A feature that float16 cannot hold.
        """
        with np.errstate(over="ignore"):
            halves = features.astype(np.float16, copy=False)
        if not np.isfinite(halves).all():
            what = "the encoder gave a value that is not finite or too large for float16"
            raise StudyError(what, self._where, "check the encoder's weights and normalisation")
        self.readable[rows] = True
        if self.outcome is not None and outcome is not None:
            self.outcome[rows] = outcome
        self._fill(rows, halves)

    def skip(self, rows: NDArray[np.intp]) -> None:
        """Takes note of tiles that cannot be read.

        Args:
            rows: Their rows, each of which comes once, (n,).
        """
        self._fill(rows, np.full((len(rows), self._target.shape[1]), np.nan, np.float16))

    def _fill(self, rows: NDArray[np.intp], features: NDArray[np.float16]) -> None:
        shards = rows // SHARD_TILES
        numbers = np.unique(shards).tolist()
        for shard in numbers:
            chosen = shards == shard if len(numbers) > 1 else slice(None)
            if shard not in self._open:
                length = min(SHARD_TILES, len(self.readable) - shard * SHARD_TILES)
                self._open[shard] = np.empty((length, self._target.shape[1]), np.float16)
            self._open[shard][rows[chosen] - shard * SHARD_TILES] = features[chosen]
            self._missing[shard] -= len(rows[chosen])
            self._write_complete()

    def _write_complete(self) -> None:
        """Writes the shards that follow the last one written, as far as they have all their rows."""
        while self._next < len(self._missing) and self._missing[self._next] == 0:
            block = self._open.pop(self._next)
            start = self._next * SHARD_TILES
            self._target[start : start + len(block)] = block
            self._sha.update(_bytes(block))
            self._next += 1

    def finish(self, attributes: dict[str, Any]) -> None:
        """Writes the other arrays and the attributes.

        Args:
            attributes: What the store must say of itself; format and checksum are added.

        Raises:
            ValueError: Some rows have neither been put nor skipped.
        """
        if self._next < len(self._missing):
            raise ValueError(f"{self._missing.sum()} rows are missing")
        rest: dict[str, NDArray[Any]] = {"readable": self.readable, "tissue_fraction": self._fraction}
        if self.outcome is not None:
            rest = {OUTCOME: self.outcome, **rest}
        for name, array in rest.items():
            _declare(self._sha, name, array.dtype, array.shape)
            self._sha.update(_bytes(array))
        for name, array in {"coords": self._coords, **rest}.items():
            _create_filled(self._group, name, array)
        self._group.update_attributes({"format": FORMAT, **attributes, "checksum": self._sha.hexdigest()})


def write_features(
    path: str | os.PathLike[str],
    features: NDArray[np.float32],
    coords: NDArray[np.int32],
    tissue_fraction: NDArray[np.float32],
    readable: NDArray[np.bool_],
    attributes: dict[str, Any],
) -> None:
    """Writes a slide's feature store of arrays in memory, atomically.

    Args:
        path: The final folder, `<slide>.zarr`.
        features: (n_tiles, dim); NaN rows where not readable.
        coords: (n_tiles, 2), level-0 px.
        tissue_fraction: (n_tiles,).
        readable: (n_tiles,).
        attributes: What the store must say of itself.

    Raises:
        StudyError: A readable tile has a feature that float16 cannot hold.
    """
    where = str(attributes.get("slide_id", path))
    with atomic_path(path) as partial:
        writer = StoreWriter(partial, coords, tissue_fraction, features.shape[1], where)
        for start in range(0, len(features), CHUNK_TILES):
            good, part = readable[start : start + CHUNK_TILES], features[start : start + CHUNK_TILES]
            writer.put(start + np.flatnonzero(good), part if good.all() else part[good])
            writer.skip(start + np.flatnonzero(~good))
        writer.finish(attributes)


def read_arrays(path: str | os.PathLike[str], names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Reads arrays of a group by name; by name, since the workflow engine keeps a file of its own among them.

    Raises:
        StudyError: An array is missing or cannot be decoded.
    """
    try:
        return {name: np.asarray(zarr.open_array(Path(path) / name, mode="r")[...]) for name in names}
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise StudyError(f"is damaged ({error})", str(path), "remove it; it will be made anew") from None


def read_attributes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a store's attributes without opening its arrays.

    Raises:
        StudyError: It is no feature store.
    """
    try:
        attributes = read_json(Path(path) / "zarr.json")["attributes"]
    except (OSError, ValueError, LookupError, TypeError):
        attributes = None
    if not isinstance(attributes, dict) or attributes.get("format") != FORMAT:
        raise StudyError(f"is no feature store of format {FORMAT}", str(path), "remove it; it will be made anew")
    return attributes


def read_features(path: str | os.PathLike[str], recipe: str | None = None) -> FeatureStore:
    """Reads a slide's feature store, checked.

    Args:
        path: The folder.
        recipe: The recipe that the features must have; any where None.

    Raises:
        StudyError: It is no feature store, it is damaged, or it was made by another recipe.
    """
    attributes = read_attributes(path)
    if recipe is not None and attributes["recipe"] != recipe:
        what = f"was made by recipe {attributes['recipe']}, the model needs {recipe}"
        remedy = "extract the features with the model's encoder and tiles, or remove the model, to be made anew"
        raise StudyError(what, str(path), remedy)
    remedy = "remove it; it will be made anew"
    optional = [OUTCOME] if (Path(path) / OUTCOME).is_dir() else []
    try:
        arrays = read_arrays(path, ("features", "coords", "tissue_fraction", "readable", *optional))
    except Exception as error:
        # Each of Zarr's codecs fails in its own way on bytes that it cannot decode.
        raise StudyError(f"is damaged: it cannot be decoded ({error})", str(path), remedy) from None
    if content_checksum(arrays) != attributes["checksum"]:
        raise StudyError("is damaged: its checksum differs", str(path), remedy)
    keep = slice(None) if arrays["readable"].all() else arrays["readable"]
    return FeatureStore(arrays["features"][keep], arrays["coords"][keep], arrays["tissue_fraction"][keep], attributes)


def common_recipe(paths: Iterable[str | os.PathLike[str]]) -> str:
    """The one recipe of several stores.

    Raises:
        StudyError: They differ, or there is none.
    """
    recipes: dict[str, str] = {}
    for path in paths:
        recipes.setdefault(read_attributes(path)["recipe"], os.fspath(path))
    if len(recipes) != 1:
        listed = "; ".join(f"{path} has {recipe}" for recipe, path in sorted(recipes.items())) or "no store"
        raise StudyError(
            f"the feature stores do not share one recipe: {listed}", "", "extract all with the same encoder and tiles"
        )
    return next(iter(recipes))
