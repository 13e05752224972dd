"""The feature stage of one slide: from tissue polygons to a feature store."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slidestudy.errors import Reason, SlideError
from slidestudy.features.identity import Encoder, EncoderIdentity
from slidestudy.features.store import write_features
from slidestudy.files import digest, versions
from slidestudy.geometry import TileGrid, rasterise, tile_fractions
from slidestudy.slides.reader import SlideReader
from slidestudy.slides.staging import opened
from slidestudy.tissue.polygons import read_polygons

READING = ("openslide-bin", "tifffile", "imagecodecs", "simplejpeg", "opencv-python-headless")
SOFTWARE: dict[str, tuple[str, ...]] = {"stain-texture": ("numpy", "zarr", *READING)}
SOFTWARE["timm"] = (*SOFTWARE["stain-texture"], "torch", "timm")
MASK_CELLS_PER_TILE = 16
"""Side of a tile in mask pixels when its tissue fraction is measured."""
ABSENT_TOLERANCE = 0.05
"""Overlap of absent area and tissue, as a fraction of the tile, that is passed over: masks are coarser than tiles."""


def recipe_of(identity: EncoderIdentity, tiles: dict[str, Any]) -> dict[str, Any]:
    """All that decides the features' meaning: equal recipes give comparable vectors."""
    keys = ("size", "mpp", "min_tissue")
    return {"encoder": asdict(identity), "tiles": {k: tiles[k] for k in keys}, "normaliser": "none"}


def choose_tiles(
    grid: TileGrid, tissue: str | os.PathLike[str], min_tissue: float
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The grid's tiles that hold more than a fraction of tissue.

    Args:
        grid: The slide's tile grid.
        tissue: GeoJSON of the tissue stage.
        min_tissue: Fraction that a tile must exceed.

    Returns:
        Coordinates (n, 2) in level-0 px, row-major, and tissue fractions (n,).
    """
    coords = grid.coords()
    downsample = grid.extent / MASK_CELLS_PER_TILE
    shape = (int(np.ceil(grid.height / downsample)), int(np.ceil(grid.width / downsample)))
    mask = rasterise(read_polygons(tissue, "Tissue"), shape, downsample)
    fractions = tile_fractions(mask, coords, grid.extent, downsample)
    keep = fractions > min_tissue
    return coords[keep], fractions[keep]


@dataclass(frozen=True)
class _Encoded:
    """The tiles of a slide, encoded; no rows where there is a reason to exclude it."""

    coords: NDArray[np.int32]
    fractions: NDArray[np.float32]
    features: NDArray[np.float32]
    readable: NDArray[np.bool_]
    reason: dict[str, str] | None = None


class _Encoding:
    """Collects tiles into batches of one size and encodes them."""

    def __init__(self, encoder: Encoder, count: int, batch_size: int) -> None:
        self.encoder, self.batch_size = encoder, batch_size
        self.features = np.full((count, encoder.identity.dim), np.nan, np.float32)
        self.readable = np.zeros(count, bool)
        self._rows: list[int] = []
        self._tiles: list[NDArray[np.uint8]] = []

    def add(self, row: int, tile: NDArray[np.uint8]) -> None:
        """Takes a tile; encodes when a batch is full."""
        self._rows.append(row)
        self._tiles.append(tile)
        if len(self._rows) == self.batch_size:
            self.flush()

    def flush(self) -> None:
        """Encodes what is left."""
        if self._rows:
            self.features[self._rows] = self.encoder.encode(np.stack(self._tiles))
            self.readable[self._rows] = True
            self._rows, self._tiles = [], []


def encode_tiles(
    encoder: Encoder,
    slide: SlideReader,
    coords: NDArray[np.int32],
    fractions: NDArray[np.float32],
    grid: TileGrid,
    *,
    batch_size: int,
    threads: int,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Reads and encodes the tiles of a slide.

    A tile whose area left out by the scanner is so large that some of its tissue must lie there counts as
    unreadable: what would be encoded is white.

    Args:
        encoder: The encoder.
        slide: The open slide.
        coords: Left and top edges, level-0 px, (n, 2).
        fractions: Their tissue fractions, (n,).
        grid: The slide's tile grid.
        batch_size: Tiles per batch.
        threads: Threads that read.

    Returns:
        Features (n, dim), NaN where not readable; and readable (n,).
    """
    encoding = _Encoding(encoder, len(coords), batch_size)
    for batch in slide.tiles(coords, grid.extent, grid.size, threads):
        without_tissue = batch.absent + fractions[batch.rows] > 1 + ABSENT_TOLERANCE
        for i in np.flatnonzero(batch.readable & ~without_tissue).tolist():
            encoding.add(int(batch.rows[i]), batch.tiles[i])
    encoding.flush()
    return encoding.features, encoding.readable


def extract_features(
    entry: dict[str, Any],
    inspection: dict[str, Any],
    tissue_record: dict[str, Any],
    tissue: str | os.PathLike[str],
    encoder: Encoder,
    tiles: dict[str, Any],
    output: str | os.PathLike[str],
    *,
    batch_size: int = 64,
    threads: int = 1,
    reading: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes a slide's feature store; a slide that cannot be used gets an empty one that says why.

    Args:
        entry: The slide's row, with `path`.
        inspection: Its inspection record.
        tissue_record: Its record of the tissue stage.
        tissue: Its tissue GeoJSON.
        encoder: The encoder.
        tiles: The configuration's section `tiles`.
        output: The store's folder.
        batch_size: Tiles per batch.
        threads: Threads that read tiles.
        reading: The configuration's section `reading`.

    Returns:
        The store's attributes.
    """
    mpp = inspection["mpp"]["value"]
    grid = TileGrid(inspection["width"], inspection["height"], mpp, tiles["size"], tiles["mpp"])
    recipe = recipe_of(encoder.identity, tiles)
    if tissue_record["status"] == "excluded":
        encoded = _nothing(encoder, tissue_record["reason"])
    else:
        slide = partial(opened, entry["path"], entry["slide_id"], reading or {})
        encoded = _encode_slide(encoder, grid, tissue, tiles, slide, batch_size=batch_size, threads=threads)
    attributes: dict[str, Any] = {key: entry[key] for key in ("slide_id", "patient_id", "cohort")}
    attributes |= {
        "status": "excluded" if encoded.reason else "admitted",
        "reason": encoded.reason,
        "fingerprint": inspection["fingerprint"],
        "slide_mpp": inspection["mpp"],
        "reader": inspection["reader"],
        "tile_size_px": tiles["size"],
        "tile_size_level0": grid.extent,
        "target_mpp": tiles["mpp"],
        **recipe,
        "recipe": digest(recipe),
        "software": versions(*SOFTWARE[encoder.identity.backend]),
        "n_tiles": len(encoded.coords),
        "n_unreadable": int((~encoded.readable).sum()),
    }
    write_features(output, encoded.features, encoded.coords, encoded.fractions, encoded.readable, attributes)
    return attributes


def _nothing(encoder: Encoder, reason: dict[str, str]) -> _Encoded:
    """No tiles, and why."""
    features = np.zeros((0, encoder.identity.dim), np.float32)
    return _Encoded(np.zeros((0, 2), np.int32), np.zeros(0, np.float32), features, np.zeros(0, bool), reason)


def _encode_slide(
    encoder: Encoder,
    grid: TileGrid,
    tissue: str | os.PathLike[str],
    tiles: dict[str, Any],
    open_slide: Callable[[], AbstractContextManager[SlideReader]],
    *,
    batch_size: int,
    threads: int,
) -> _Encoded:
    """Chooses, reads and encodes the tiles of a slide; too few, or too many that cannot be read, exclude it."""
    coords, fractions = choose_tiles(grid, tissue, tiles["min_tissue"])
    if len(coords) < tiles["min_tiles"]:
        found = f"{len(coords)} tiles with more than {tiles['min_tissue']:.0%} tissue"
        message = f"{found}, {tiles['min_tiles']} are needed"
        return _nothing(encoder, {"code": str(Reason.TOO_FEW_TILES), "message": message})
    try:
        with open_slide() as slide:
            features, readable = encode_tiles(
                encoder, slide, coords, fractions, grid, batch_size=batch_size, threads=threads
            )
    except SlideError as error:
        # The slide could be opened when it was inspected, and now it cannot.
        return _nothing(encoder, {"code": str(error.reason), "message": error.message})
    reason = _unreadable_reason(readable, tiles["max_unreadable"])
    return _nothing(encoder, reason) if reason else _Encoded(coords, fractions, features, readable)


def _unreadable_reason(readable: NDArray[np.bool_], limit: float) -> dict[str, str] | None:
    """The reason to exclude a slide of which too many tiles failed to decode."""
    share = 1 - readable.mean()
    if share <= limit:
        return None
    message = f"{(~readable).sum()} of {len(readable)} tiles cannot be decoded ({share:.0%}, at most {limit:.0%} may)"
    return {"code": str(Reason.UNREADABLE_TILES), "message": message}
