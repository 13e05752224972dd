"""The tiles that an encoder is trained on: drawn from each slide, held in memory."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slidestudy.errors import SlideError, StudyError
from slidestudy.features.extraction import choose_tiles
from slidestudy.features.reading_ahead import ABSENT_TOLERANCE
from slidestudy.geometry import TileGrid
from slidestudy.slides.staging import opened

ROWS = ("tiles", "slides", "patients", "targets", "classes")
"""Fields of a TileSet that have one value per tile."""


@dataclass(frozen=True)
class SlideFiles:
    """What the earlier stages say of a slide.

    Attributes:
        entry: Its row, with `slide_id patient_id cohort path`.
        inspection: Its inspection record.
        tissue_record: Its record of the tissue stage.
        tissue: Its tissue GeoJSON.
    """

    entry: Mapping[str, Any]
    inspection: Mapping[str, Any]
    tissue_record: Mapping[str, Any]
    tissue: str | os.PathLike[str]


@dataclass
class TileSet:
    """Tiles with what is known of their slides, row by row.

    Attributes:
        tiles: uint8 (n, size, size, 3).
        slides: Slide ids (n,).
        patients: Patient ids (n,).
        targets: What fine-tuning learns, float64 (n,); NaN where the slide has no label.
        classes: What the nearest-neighbour check predicts, text (n,); blank where the slide has none.
        cohorts: Cohort -> slides that gave tiles.
        left_out: Slide id -> why it gave none.
    """

    tiles: NDArray[np.uint8]
    slides: NDArray[np.str_]
    patients: NDArray[np.str_]
    targets: NDArray[np.float64]
    classes: NDArray[np.str_]
    cohorts: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tiles)

    def rows(self, chosen: NDArray[Any]) -> TileSet:
        """Some of the rows, by index or by mask."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in ROWS})


def draw_tiles(
    slide: SlideFiles,
    tiles: Mapping[str, Any],
    count: int,
    seed: int,
    *,
    threads: int = 1,
    reading: Mapping[str, Any] | None = None,
) -> NDArray[np.uint8]:
    """Draws tiles of one slide's grid without replacement, the same ones whatever other slides there are.

    Args:
        slide: The slide's files.
        tiles: The configuration's section `tiles`.
        count: Most tiles that are drawn.
        seed: The study's seed; the slide's id is mixed in.
        threads: Threads that read.
        reading: The configuration's section `reading`.

    Returns:
        uint8 (n, size, size, 3) in the grid's order; tiles that cannot be decoded are left out.

    Raises:
        SlideError: The slide cannot be opened.
    """
    mpp = slide.inspection["mpp"]["value"]
    grid = TileGrid(slide.inspection["width"], slide.inspection["height"], mpp, tiles["size"], tiles["mpp"])
    coords, fractions = choose_tiles(grid, slide.tissue, tiles["min_tissue"])
    slide_id = str(slide.entry["slide_id"])
    rng = np.random.default_rng([seed, zlib.crc32(slide_id.encode())])
    chosen = np.sort(rng.permutation(len(coords))[:count])
    drawn = np.zeros((len(chosen), grid.size, grid.size, 3), np.uint8)
    usable = np.zeros(len(chosen), bool)
    if len(chosen):
        with opened(slide.entry["path"], slide_id, reading or {}) as source:
            for batch in source.tiles(coords[chosen], grid.extent, grid.size, threads):
                drawn[batch.rows] = batch.tiles
                # As in extraction: where the scanner left out some of the tissue, the tile would show white.
                without_tissue = batch.absent + fractions[chosen][batch.rows] > 1 + ABSENT_TOLERANCE
                usable[batch.rows] = batch.readable & ~without_tissue
    return drawn[usable]


def collect_tiles(
    slides: Sequence[SlideFiles],
    table: pd.DataFrame,
    tiles: Mapping[str, Any],
    count: int,
    seed: int,
    *,
    threads: int = 1,
    reading: Mapping[str, Any] | None = None,
) -> TileSet:
    """Draws tiles of every slide; a slide that cannot be used is left out with its reason.

    Args:
        slides: The slides' files.
        table: `slide_id patient_id cohort target check`, one row per slide.
        tiles: The configuration's section `tiles`.
        count: Most tiles of a slide.
        seed: The study's seed.
        threads: Threads that read.
        reading: The configuration's section `reading`.

    Raises:
        StudyError: No slide gave a tile.
    """
    labels = table.set_index("slide_id")
    parts: list[TileSet] = []
    cohorts: dict[str, int] = {}
    left_out: dict[str, str] = {}
    for slide in sorted(slides, key=lambda s: (str(s.entry["cohort"]), str(s.entry["slide_id"]))):
        slide_id, cohort = str(slide.entry["slide_id"]), str(slide.entry["cohort"])
        if slide.tissue_record["status"] == "excluded":
            left_out[slide_id] = str(slide.tissue_record["reason"]["message"])
            continue
        try:
            drawn = draw_tiles(slide, tiles, count, seed, threads=threads, reading=reading)
        except SlideError as error:
            left_out[slide_id] = error.message
            continue
        if len(drawn) < tiles["min_tiles"]:
            left_out[slide_id] = f"{len(drawn)} tiles of tissue, {tiles['min_tiles']} are needed"
            continue
        cohorts[cohort] = cohorts.get(cohort, 0) + 1
        parts.append(_labelled(drawn, slide, labels.loc[slide_id]))
    if not parts:
        remedy = "see slides/ledger.tsv for why, and give other cohorts in pretraining.cohorts"
        raise StudyError(f"none of the {len(slides)} slides gave tiles to train an encoder on", "", remedy)
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ROWS}
    return TileSet(**joined, cohorts=cohorts, left_out=left_out)


def _labelled(drawn: NDArray[np.uint8], slide: SlideFiles, label: pd.Series) -> TileSet:
    """The tiles of one slide; each takes the labels of its slide."""
    count, target, check = len(drawn), label.get("target"), label.get("check")
    return TileSet(
        drawn,
        np.repeat(str(slide.entry["slide_id"]), count),
        np.repeat(str(slide.entry["patient_id"]), count),
        np.repeat(np.nan if target is None or pd.isna(target) else float(target), count),
        np.repeat("" if check is None or pd.isna(check) else str(check), count),
    )
