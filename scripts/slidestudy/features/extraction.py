"""The feature stage of one slide: from tissue polygons to a feature store."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slidestudy.errors import Reason, SlideError, StudyError
from slidestudy.features.identity import Encoder, EncoderIdentity
from slidestudy.features.normalisation import Normaliser, Outcome
from slidestudy.features.reading_ahead import ReadAhead, tile_batches
from slidestudy.features.store import StoreWriter
from slidestudy.files import atomic_path, digest, remove, versions
from slidestudy.geometry import TileGrid, rasterise, tile_fractions
from slidestudy.slides.reader import SlideReader
from slidestudy.slides.staging import opened
from slidestudy.tissue.polygons import read_polygons

READING = ("openslide-bin", "tifffile", "imagecodecs", "simplejpeg", "opencv-python-headless")
SOFTWARE: dict[str, tuple[str, ...]] = {"stain-texture": ("numpy", "zarr", *READING)}
TORCH = (*SOFTWARE["stain-texture"], "torch")
SOFTWARE |= {
    "timm": (*TORCH, "timm"),
    "torchvision": (*TORCH, "torchvision"),
    "transformers": (*TORCH, "transformers"),
    "open_clip": (*TORCH, "open_clip_torch", "timm"),
}
"""What decides the features of each backend; the versions are in the store."""
MASK_CELLS_PER_TILE = 16
"""Side of a tile in mask pixels when its tissue fraction is measured."""


def recipe_of(
    identity: EncoderIdentity, tiles: dict[str, Any], normaliser: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """All that decides the features' meaning: equal recipes give comparable vectors.

    Args:
        identity: The encoder.
        tiles: The configuration's section `tiles`.
        normaliser: The stain normaliser's recipe, where one is used.
    """
    keys = ("size", "mpp", "min_tissue")
    chosen = {k: tiles[k] for k in keys}
    return {"encoder": asdict(identity), "tiles": chosen, "normaliser": dict(normaliser) if normaliser else "none"}


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


class _BatchEncoder:
    """Encodes batches; where the memory does not suffice, in ever smaller parts, from then on.

    Args:
        encoder: The encoder, which raises MemoryError where a batch is too large.
        batch_size: Tiles per batch.
    """

    def __init__(self, encoder: Encoder, batch_size: int) -> None:
        self.encoder, self.batch_size = encoder, batch_size

    def encode(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encodes a batch, (n, dim).

        Raises:
            StudyError: The memory does not suffice for a single tile.
        """
        parts: list[NDArray[np.float32]] = []
        at = 0
        while at < len(tiles):
            part = tiles[at : at + self.batch_size]
            try:
                parts.append(self.encoder.encode(part))
                at += len(part)
            except MemoryError as error:
                self._halve(len(part), error)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _halve(self, tried: int, error: MemoryError) -> None:
        if tried == 1:
            what = f"the memory does not suffice for one tile ({str(error).partition(chr(10))[0] or 'out of memory'})"
            remedy = (
                "use a device with more memory, a smaller encoder or input_size, or precision fp16 or bf16 on a GPU"
            )
            raise StudyError(what, f"encoder {self.encoder.identity.name}", remedy) from None
        self.batch_size = -(-tried // 2)
        print(f"the memory does not suffice for a batch of {tried} tiles: going on with {self.batch_size}", flush=True)


def encode_slide(
    slide: SlideReader,
    coords: NDArray[np.int32],
    fractions: NDArray[np.float32],
    grid: TileGrid,
    encoder: Encoder,
    writer: StoreWriter,
    *,
    batch_size: int,
    threads: int = 1,
    normaliser: Normaliser | None = None,
) -> None:
    """Reads, encodes and writes the tiles of a slide, the reading ahead of the encoding; prints how fast it went.

    Args:
        slide: The open slide.
        coords: Left and top edges, level-0 px, (n, 2).
        fractions: Their tissue fractions, (n,).
        grid: The slide's tile grid.
        encoder: The encoder.
        writer: Where the features go.
        batch_size: Tiles per batch.
        threads: Threads that read.
        normaliser: Stain normaliser.

    Raises:
        StudyError: The memory does not suffice for a single tile, or a feature cannot be kept.
    """
    encoding, start = _BatchEncoder(encoder, batch_size), time.perf_counter()
    batches = tile_batches(
        slide, coords, fractions, grid, batch_size=batch_size, threads=threads, normaliser=normaliser
    )
    with ReadAhead(batches) as ahead:
        for batch in ahead:
            if len(batch.rows):
                writer.put(batch.rows, encoding.encode(batch.tiles), batch.outcome)
            writer.skip(batch.unreadable)
    seconds = time.perf_counter() - start
    share = f"{ahead.waited_s / seconds:.1%} of the time waiting for pixels"
    print(f"{slide.slide_id}: {len(coords)} tiles in {seconds:.2f} s, {share}, batches of {encoding.batch_size}")


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
    normaliser: Normaliser | None = None,
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
        batch_size: Tiles per batch; halved where the memory does not suffice.
        threads: Threads that read tiles.
        reading: The configuration's section `reading`.
        normaliser: Stain normaliser of the tiles.

    Returns:
        The store's attributes.

    Raises:
        StudyError: The memory does not suffice for a single tile, or the encoder gives what float16 cannot hold.
    """
    mpp = inspection["mpp"]["value"]
    grid = TileGrid(inspection["width"], inspection["height"], mpp, tiles["size"], tiles["mpp"])
    coords, fractions = _NO_COORDS, _NO_FRACTIONS
    reason = tissue_record["reason"] if tissue_record["status"] == "excluded" else None
    if reason is None:
        coords, fractions = choose_tiles(grid, tissue, tiles["min_tissue"])
        reason = _too_few_reason(len(coords), tiles)
    with atomic_path(output) as folder:
        writer = _writer(folder, coords, fractions, encoder, entry, normaliser)
        if reason is None:
            try:
                with opened(entry["path"], entry["slide_id"], reading or {}) as slide:
                    encode_slide(
                        slide, coords, fractions, grid, encoder, writer,
                        batch_size=batch_size, threads=threads, normaliser=normaliser,
                    )  # fmt: skip
                reason = _unreadable_reason(writer.readable, tiles["max_unreadable"])
            except SlideError as error:
                # The slide could be opened when it was inspected, and now it cannot.
                reason = {"code": str(error.reason), "message": error.message}
        if reason is not None:
            remove(folder)
            writer = _writer(folder, _NO_COORDS, _NO_FRACTIONS, encoder, entry, normaliser)
        attributes = {
            **_attributes(entry, inspection, encoder, tiles, grid, normaliser),
            "status": "excluded" if reason else "admitted",
            "reason": reason,
            **_counts(writer),
        }
        writer.finish(attributes)
    return attributes


_NO_COORDS, _NO_FRACTIONS = np.zeros((0, 2), np.int32), np.zeros(0, np.float32)


def _writer(
    folder: Path,
    coords: NDArray[np.int32],
    fractions: NDArray[np.float32],
    encoder: Encoder,
    entry: dict[str, Any],
    normaliser: Normaliser | None,
) -> StoreWriter:
    return StoreWriter(folder, coords, fractions, encoder.identity.dim, entry["slide_id"], normaliser is not None)


def _attributes(
    entry: dict[str, Any],
    inspection: dict[str, Any],
    encoder: Encoder,
    tiles: dict[str, Any],
    grid: TileGrid,
    normaliser: Normaliser | None,
) -> dict[str, Any]:
    """What a store says of itself before a tile is read."""
    recipe = recipe_of(encoder.identity, tiles, normaliser.recipe if normaliser else None)
    software = SOFTWARE[encoder.identity.backend]
    return {
        **{key: entry[key] for key in ("slide_id", "patient_id", "cohort")},
        "fingerprint": inspection["fingerprint"],
        "slide_mpp": inspection["mpp"],
        "reader": inspection["reader"],
        "tile_size_px": tiles["size"],
        "tile_size_level0": grid.extent,
        "target_mpp": tiles["mpp"],
        **recipe,
        "recipe": digest(recipe),
        "software": versions(*software, *(["torchstain"] if normaliser else [])),
        **({"max_shift": normaliser.max_shift} if normaliser else {}),
    }


def _counts(writer: StoreWriter) -> dict[str, int]:
    """Tiles of each kind."""
    counts = {"n_tiles": len(writer.readable), "n_unreadable": int((~writer.readable).sum())}
    if writer.outcome is not None:
        passed = writer.readable & (writer.outcome == Outcome.PASSED_THROUGH)
        counts |= {"n_unnormalised": int(passed.sum()), "n_flagged": int((writer.outcome == Outcome.FLAGGED).sum())}
    return counts


def _too_few_reason(count: int, tiles: dict[str, Any]) -> dict[str, str] | None:
    """The reason to exclude a slide with too little tissue."""
    if count >= tiles["min_tiles"]:
        return None
    found = f"{count} tiles with more than {tiles['min_tissue']:.0%} tissue"
    return {"code": str(Reason.TOO_FEW_TILES), "message": f"{found}, {tiles['min_tiles']} are needed"}


def _unreadable_reason(readable: NDArray[np.bool_], limit: float) -> dict[str, str] | None:
    """The reason to exclude a slide of which too many tiles failed to decode."""
    share = 1 - readable.mean()
    if share <= limit:
        return None
    message = f"{(~readable).sum()} of {len(readable)} tiles cannot be decoded ({share:.0%}, at most {limit:.0%} may)"
    return {"code": str(Reason.UNREADABLE_TILES), "message": message}
