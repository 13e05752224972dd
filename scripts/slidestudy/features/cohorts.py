"""The feature stores of whole cohorts as one lazy Dask array."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import dask
import dask.array
import numpy as np
import pandas as pd
import zarr
from dask.delayed import Delayed, delayed
from numpy.typing import NDArray

from slidestudy.errors import StudyError
from slidestudy.features.store import common_recipe, read_arrays, read_attributes, read_features

T = TypeVar("T")
FAN_IN = 4
"""Partial results that are merged at a time."""
REMEDY = "remove it; it will be made anew"


@dataclass(frozen=True)
class CohortFeatures:
    """The readable tiles of many slides; slides and their tiles in the order of the stores.

    Attributes:
        features: Lazy float16 (n_tiles, dim), one chunk per slide.
        coords: int32 (n_tiles, 2), level-0 x, y of the tiles' top-left corners.
        tissue_fraction: float32 (n_tiles,).
        slide: int32 (n_tiles,), row of each tile's slide in `slides`.
        slides: One row per slide with tiles: `slide_id patient_id cohort n_tiles`.
        recipe: What all the stores were made by.
        empty: Slides without a readable tile, left out.
    """

    features: dask.array.Array
    coords: NDArray[np.int32]
    tissue_fraction: NDArray[np.float32]
    slide: NDArray[np.int32]
    slides: pd.DataFrame
    recipe: str
    empty: tuple[str, ...]

    @property
    def slide_id(self) -> NDArray[np.object_]:
        """The slide of each tile, (n_tiles,)."""
        return self.slides["slide_id"].to_numpy(object)[self.slide]

    @property
    def blocks(self) -> list[Delayed]:
        """The features of each slide, in the order of `slides`, to be loaded when they are needed."""
        return list(self.features.to_delayed()[:, 0])


def open_cohort(paths: Iterable[str | os.PathLike[str]], recipe: str | None = None) -> CohortFeatures:
    """Opens the feature stores of one cohort or of several as one lazy array.

    Attributes, coordinates, tissue fractions and readability are read at once; features when they are computed
    with, a whole store at a time, since only a whole store can be held against its checksum. The memory needed
    is that of as many slides as tasks run at once.

    Args:
        paths: The stores' folders.
        recipe: The recipe that all must have; any, but the same, where None.

    Raises:
        StudyError: The stores differ in recipe, one is damaged, or there is no readable tile in any.
    """
    listed = [Path(path) for path in paths]
    found = common_recipe(listed)
    if recipe is not None and found != recipe:
        what = f"the feature stores were made by recipe {found}, not {recipe}"
        raise StudyError(what, str(listed[0]), "extract all with the same encoder and tiles")
    stores = [_opened(path, found) for path in listed]
    used = [store for store in stores if store.count]
    if not used:
        raise StudyError("no feature store has a readable tile", str(listed[0]), "see the ledger for the reasons")
    dim = used[0].features.shape[1]
    for store in used:
        if store.features.shape[1] != dim:
            what = f"is damaged: its features are {store.features.shape[1]} long, those of other slides {dim}"
            raise StudyError(what, str(store.path), REMEDY)
    slides = pd.DataFrame([{**store.identity, "n_tiles": store.count} for store in used])
    return CohortFeatures(
        features=dask.array.concatenate([store.features for store in used]),
        coords=np.concatenate([store.coords for store in used]),
        tissue_fraction=np.concatenate([store.tissue_fraction for store in used]),
        slide=np.repeat(np.arange(len(slides), dtype=np.int32), slides["n_tiles"]),
        slides=slides,
        recipe=found,
        empty=tuple(sorted(store.identity["slide_id"] for store in stores if not store.count)),
    )


@dataclass(frozen=True)
class _Store:
    """One store, opened: its readable tiles, the features still to be read."""

    path: Path
    identity: dict[str, str]
    features: dask.array.Array
    coords: NDArray[np.int32]
    tissue_fraction: NDArray[np.float32]

    @property
    def count(self) -> int:
        return len(self.coords)


def _opened(path: Path, recipe: str) -> _Store:
    """Opens a store without reading its features."""
    attributes, arrays = read_attributes(path), _small_arrays(path)
    keep = arrays["readable"]
    shape = (int(keep.sum()), _dimension(path, len(keep)))
    features = dask.array.from_delayed(delayed(_load)(path, recipe, shape), shape, np.float16)
    return _Store(path, _identity(attributes), features, arrays["coords"][keep], arrays["tissue_fraction"][keep])


def _small_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """A store's arrays but for the features, of one length."""
    try:
        arrays = read_arrays(path, ("coords", "tissue_fraction", "readable"))
    except StudyError:
        raise
    except Exception as error:
        # Each of Zarr's codecs fails in its own way on bytes that it cannot decode.
        raise StudyError(f"is damaged: it cannot be decoded ({error})", str(path), REMEDY) from None
    if len({len(array) for array in arrays.values()}) != 1:
        raise StudyError("is damaged: its arrays differ in length", str(path), REMEDY)
    return arrays


def _dimension(path: Path, n_tiles: int) -> int:
    """Length of a store's feature vectors, from the array's metadata alone."""
    try:
        shape = zarr.open_array(path / "features", mode="r").shape
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise StudyError(f"is damaged ({error})", str(path), REMEDY) from None
    if len(shape) != 2 or shape[0] != n_tiles:
        raise StudyError(f"is damaged: it has {n_tiles} tiles and features {shape}", str(path), REMEDY)
    return int(shape[1])


def _load(path: Path, recipe: str, shape: tuple[int, int]) -> NDArray[np.float16]:
    """The features of a store's readable tiles, checked."""
    features = read_features(path, recipe).features
    if features.shape != shape:
        raise StudyError(f"is damaged: its features are {features.shape}, not {shape}", str(path), REMEDY)
    return features


def merge_all(parts: list[Delayed], merge: Callable[[list[T]], T]) -> Delayed:
    """Merges partial results in a tree, so that few are held at once; the tree depends on their number only."""
    while len(parts) > 1:
        parts = [delayed(merge)(parts[i : i + FAN_IN]) for i in range(0, len(parts), FAN_IN)]
    return parts[0]


@dataclass(frozen=True)
class DrawnTiles:
    """Tiles drawn from the slides of cohorts, in memory; sorted by cohort, slide and position.

    Attributes:
        features: float32 (n, dim).
        tiles: `slide_id patient_id cohort x y` of each, (n,); x, y in level-0 px.
    """

    features: NDArray[np.float32]
    tiles: pd.DataFrame


def draw_tiles(cohort: CohortFeatures, tiles_per_slide: int, seed: int) -> DrawnTiles:
    """Draws tiles of every slide without replacement; all tiles of a slide that has no more.

    A slide's draw depends on the seed and its id alone, so that it stays the same when slides come and go.

    Args:
        cohort: The open stores.
        tiles_per_slide: Most tiles of a slide.
        seed: Seed of the draw.
    """
    starts = np.concatenate([[0], np.cumsum(cohort.slides["n_tiles"])])
    tasks, frames = [], []
    for number, (slide, block) in enumerate(zip(cohort.slides.to_dict("records"), cohort.blocks, strict=True)):
        rows = draw_rows(slide, tiles_per_slide, seed)
        at = cohort.coords[starts[number] + rows]
        frames.append(pd.DataFrame({**_identity(slide), "x": at[:, 0], "y": at[:, 1]}))
        tasks.append(delayed(_take)(block, rows))
    features = np.concatenate(dask.compute(*tasks))
    tiles = pd.concat(frames, ignore_index=True)
    order = tiles.sort_values(["cohort", "slide_id", "y", "x"], kind="stable").index.to_numpy()
    return DrawnTiles(features[order], tiles.loc[order].reset_index(drop=True))


def _identity(slide: Mapping[Any, Any]) -> dict[str, str]:
    """A slide's ids, from what names them among other things."""
    return {key: str(slide[key]) for key in ("slide_id", "patient_id", "cohort")}


def draw_rows(slide: Mapping[Any, Any], tiles_per_slide: int, seed: int) -> NDArray[np.int64]:
    """The rows drawn of a slide, ascending; they depend on the seed and its cohort and id alone.

    Args:
        slide: `cohort slide_id n_tiles`.
        tiles_per_slide: Most tiles.
        seed: Seed of the draw.
    """
    name = hashlib.sha256(f"{slide['cohort']}/{slide['slide_id']}".encode()).digest()
    rng = np.random.default_rng([seed, int.from_bytes(name[:8], "big")])
    count = min(tiles_per_slide, slide["n_tiles"])
    return np.sort(rng.choice(slide["n_tiles"], count, replace=False))


def _take(features: NDArray[np.float16], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Some rows, in single precision."""
    return features[rows].astype(np.float32)
