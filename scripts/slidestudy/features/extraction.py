"""The feature stage of one slide: from tissue polygons to a feature store."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from slidestudy.slides.reader import Slide
from slidestudy.tissue.polygons import read_polygons

SOFTWARE: dict[str, tuple[str, ...]] = {"stain-texture": ("numpy", "zarr", "openslide-bin", "opencv-python-headless")}
SOFTWARE["timm"] = (*SOFTWARE["stain-texture"], "torch", "timm")
MASK_CELLS_PER_TILE = 16
"""Side of a tile in mask pixels when its tissue fraction is measured."""


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


def _read_tiles(
    path: str, slide_id: str, coords: NDArray[np.int32], grid: TileGrid, threads: int
) -> Iterator[NDArray[np.uint8] | None]:
    """Reads tiles in order, uint8 (size, size, 3) each; None where one cannot be decoded."""
    local, opened = threading.local(), []

    def read(corner: NDArray[np.int32]) -> NDArray[np.uint8] | None:
        if not hasattr(local, "slide"):
            # A handle per thread, since one that has met an error is opened anew.
            local.slide = Slide(path, slide_id)
            opened.append(local.slide)
        try:
            return local.slide.read_square(int(corner[0]), int(corner[1]), grid.extent, grid.size)
        except SlideError:
            return None

    try:
        if threads == 1:
            yield from map(read, coords)
        else:
            with ThreadPoolExecutor(threads) as pool:
                # In windows, so that decoded tiles do not pile up ahead of the encoder.
                for start in range(0, len(coords), window := 64 * threads):
                    yield from pool.map(read, coords[start : start + window])
    finally:
        for slide in opened:
            slide.close()


def _encode(
    encoder: Encoder, tiles: Iterator[NDArray[np.uint8] | None], count: int, batch_size: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Encodes tiles in batches; rows of unreadable tiles are NaN."""
    features = np.full((count, encoder.identity.dim), np.nan, np.float32)
    readable = np.zeros(count, bool)
    batch: list[NDArray[np.uint8]] = []
    rows: list[int] = []

    def flush(rows: Sequence[int], batch: Sequence[NDArray[np.uint8]]) -> None:
        if rows:
            features[list(rows)] = encoder.encode(np.stack(batch))
            readable[list(rows)] = True

    for row, tile in enumerate(tiles):
        if tile is None:
            continue
        batch.append(tile)
        rows.append(row)
        if len(batch) == batch_size:
            flush(rows, batch)
            batch, rows = [], []
    flush(rows, batch)
    return features, readable


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

    Returns:
        The store's attributes.
    """
    mpp = inspection["mpp"]["value"]
    grid = TileGrid(inspection["width"], inspection["height"], mpp, tiles["size"], tiles["mpp"])
    recipe = recipe_of(encoder.identity, tiles)
    if tissue_record["status"] == "excluded":
        encoded = _nothing(encoder, tissue_record["reason"])
    else:
        stream = partial(_read_tiles, entry["path"], entry["slide_id"], grid=grid, threads=threads)
        encoded = _encode_slide(encoder, grid, tissue, tiles, stream, batch_size)
    attributes: dict[str, Any] = {key: entry[key] for key in ("slide_id", "patient_id", "cohort")}
    attributes |= {
        "status": "excluded" if encoded.reason else "admitted",
        "reason": encoded.reason,
        "fingerprint": inspection["fingerprint"],
        "slide_mpp": inspection["mpp"],
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


@dataclass(frozen=True)
class _Encoded:
    """The tiles of a slide, encoded; no rows where there is a reason to exclude it."""

    coords: NDArray[np.int32]
    fractions: NDArray[np.float32]
    features: NDArray[np.float32]
    readable: NDArray[np.bool_]
    reason: dict[str, str] | None = None


def _nothing(encoder: Encoder, reason: dict[str, str]) -> _Encoded:
    """No tiles, and why."""
    features = np.zeros((0, encoder.identity.dim), np.float32)
    return _Encoded(np.zeros((0, 2), np.int32), np.zeros(0, np.float32), features, np.zeros(0, bool), reason)


def _encode_slide(
    encoder: Encoder,
    grid: TileGrid,
    tissue: str | os.PathLike[str],
    tiles: dict[str, Any],
    read: Callable[[NDArray[np.int32]], Iterator[NDArray[np.uint8] | None]],
    batch_size: int,
) -> _Encoded:
    """Chooses, reads and encodes the tiles of a slide; too few, or too many that cannot be read, exclude it."""
    coords, fractions = choose_tiles(grid, tissue, tiles["min_tissue"])
    if len(coords) < tiles["min_tiles"]:
        found = f"{len(coords)} tiles with more than {tiles['min_tissue']:.0%} tissue"
        message = f"{found}, {tiles['min_tiles']} are needed"
        return _nothing(encoder, {"code": str(Reason.TOO_FEW_TILES), "message": message})
    try:
        features, readable = _encode(encoder, read(coords), len(coords), batch_size)
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
