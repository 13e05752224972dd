"""The feature store of one slide: Zarr v3, one folder, a handful of files (format `slidestudy-features/1`)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from slidestudy.errors import StudyError
from slidestudy.files import atomic_path, read_json

FORMAT = "slidestudy-features/1"
CHUNK_TILES = 4096
MAX_FLOAT16 = float(np.finfo(np.float16).max)


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


def content_checksum(arrays: dict[str, NDArray[Any]]) -> str:
    """SHA-256 over names, shapes, types and bytes of arrays, 64 hex digits."""
    sha = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        sha.update(f"{name} {array.dtype.str} {array.shape}".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def write_arrays(path: str | os.PathLike[str], arrays: dict[str, NDArray[Any]], attributes: dict[str, Any]) -> None:
    """Writes arrays with one row per tile as a Zarr v3 group, atomically.

    Chunks hold 4,096 tiles and all chunks of an array lie in one shard, so that a slide is a few files.

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
            chunk = (CHUNK_TILES, *array.shape[1:])
            rows = -(-max(1, len(array)) // CHUNK_TILES) * CHUNK_TILES
            target = group.create_array(
                name, shape=array.shape, dtype=array.dtype, chunks=chunk, shards=(rows, *array.shape[1:])
            )
            if len(array):
                target[...] = array


def write_features(
    path: str | os.PathLike[str],
    features: NDArray[np.float32],
    coords: NDArray[np.int32],
    tissue_fraction: NDArray[np.float32],
    readable: NDArray[np.bool_],
    attributes: dict[str, Any],
) -> None:
    """Writes a slide's feature store.

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
    if not np.isfinite(features[readable]).all() or np.abs(features[readable]).max(initial=0) > MAX_FLOAT16:
        what = "the encoder gave a value that is not finite or too large for float16"
        raise StudyError(what, str(attributes.get("slide_id", path)), "check the encoder's weights and normalisation")
    arrays: dict[str, NDArray[Any]] = {
        "features": features.astype(np.float16),
        "coords": coords.astype(np.int32),
        "tissue_fraction": tissue_fraction.astype(np.float32),
        "readable": readable,
    }
    write_arrays(path, arrays, {"format": FORMAT, **attributes})


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
        raise StudyError(what, str(path), "extract the features with the model's encoder and tiles")
    remedy = "remove it; it will be made anew"
    try:
        arrays = read_arrays(path, ("features", "coords", "tissue_fraction", "readable"))
    except Exception as error:
        # Each of Zarr's codecs fails in its own way on bytes that it cannot decode.
        raise StudyError(f"is damaged: it cannot be decoded ({error})", str(path), remedy) from None
    if content_checksum(arrays) != attributes["checksum"]:
        raise StudyError("is damaged: its checksum differs", str(path), remedy)
    keep = arrays["readable"]
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
