"""The heatmaps of a model on chosen slides of a cohort, as pictures, polygons and pyramids."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slidestudy.errors import SlideError
from slidestudy.features.store import read_attributes
from slidestudy.files import write_json
from slidestudy.labels import class_name, is_survival
from slidestudy.models.tile_scores import read_tile_scores
from slidestudy.slides.reader import RGB
from slidestudy.slides.staging import opened
from slidestudy.statistics import Array
from slidestudy.tables import write_table
from slidestudy.validation.heatmap_choice import choose_slides
from slidestudy.validation.heatmap_files import step_of, to_geojson, write_pyramid
from slidestudy.validation.heatmap_overlay import SIDE, blend, draw_overlay
from slidestudy.validation.heatmap_values import (
    Scale,
    attention_scale,
    raster,
    relative_attention,
    score_scale,
)

COLUMNS = [
    "slide_id", "patient_id", "why", "prediction", "label", "prediction_sd", "error", "tiles", "score_low",
    "score_high", "attention_low", "attention_high", "undefined_reason",
]  # fmt: skip
"""Columns of heatmaps.tsv: `score_low` to `attention_high` are the ends of the colours."""
NO_ATTENTION = "no attention: the model has none"


@dataclass(frozen=True)
class TileMap:
    """A slide with its tiles.

    Attributes:
        row: What is known of the slide: its row of predictions with `why` and `error`.
        entry: Its row of the study, with `path`.
        inspection: Its inspection record, with `mpp width height`.
        coords: Corners of the tiles, level-0 px (n_tiles, 2).
        extent: Their side, level-0 px.
        values: `score`, and `attention` in multiples of uniform attention (n_tiles,).
    """

    row: Mapping[str, Any]
    entry: Mapping[str, Any]
    inspection: Mapping[str, Any]
    coords: NDArray[np.integer]
    extent: float
    values: dict[str, Array]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height at level 0, px."""
        return int(self.inspection["width"]), int(self.inspection["height"])


def draw_heatmaps(
    folder: str | os.PathLike[str],
    predictions: pd.DataFrame,
    tiles: str | os.PathLike[str],
    entries: Mapping[str, Mapping[str, Any]],
    inspections: Mapping[str, Mapping[str, Any]],
    stores: Mapping[str, str | os.PathLike[str]],
    settings: Mapping[str, Any],
    reading: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Draws the heatmaps of a cohort.

    Args:
        folder: Where `<slide>.{score,attention}.{png,tif}`, `<slide>.geojson` and `heatmaps.tsv` go; it is there.
        predictions: The model's predictions of the cohort.
        tiles: The folder of the slides' tile scores.
        entries: Slide -> its row of the study; only slides with a file are chosen from.
        inspections: Slide -> its inspection record.
        stores: Slide -> its feature store, which knows the tiles' size.
        settings: `task columns target_range slides`.
        reading: The configuration's section `reading`.

    Returns:
        What heatmaps.tsv holds, columns COLUMNS. A slide that cannot be opened has no pictures, and the reason.
    """
    chosen = choose_slides(predictions[predictions["slide_id"].isin(list(entries))], settings)
    maps = []
    for row in chosen.to_dict("records"):
        slide = row["slide_id"]
        arrays, _ = read_tile_scores(Path(tiles) / f"{slide}.zarr")
        extent = float(read_attributes(stores[slide])["tile_size_level0"])
        values = {"score": arrays["score"].astype(float), "attention": relative_attention(arrays["attention"])}
        maps.append(TileMap(row, entries[slide], inspections[slide], arrays["coords"], extent, values))
    scales = {"score": score_scale([found.values["score"] for found in maps], settings)}
    if attention := attention_scale([found.values["attention"] for found in maps]):
        scales["attention"] = attention
    rows = [_draw(Path(folder), found, scales, settings, reading or {}) for found in maps]
    table = pd.DataFrame(rows, columns=COLUMNS)
    write_table(Path(folder) / "heatmaps.tsv", table)
    return table


def _draw(
    folder: Path, found: TileMap, scales: Mapping[str, Scale], settings: Mapping[str, Any], reading: Mapping[str, Any]
) -> dict[str, Any]:
    """All files of one slide, and its row of the table."""
    slide, mpp = str(found.row["slide_id"]), found.inspection["mpp"]
    said = _said(found.row, settings)
    grids = {name: raster(found.values[name], found.coords, found.extent, found.size) for name in scales}
    grids = {name: grid for name, grid in grids.items() if np.isfinite(grid).any()}
    steps = step_of(found.extent, float(mpp["x"])), step_of(found.extent, float(mpp["y"]))
    write_json(folder / f"{slide}.geojson", to_geojson(found.coords, found.extent, found.values, scales["score"]))
    for name, grid in grids.items():
        write_pyramid(folder / f"{slide}.{name}.tif", grid, scales[name], steps)
    problems = [] if "attention" in grids else [NO_ATTENTION]
    downsample = max(1.0, max(found.size) / SIDE)
    try:
        overview = _overview(found, downsample, reading)
    except SlideError as error:
        print(f"{slide}: no picture: {error}")
        problems.append(f"no picture: {error.message}")
    else:
        words = [f"{slide} (patient {found.row['patient_id']}): {found.row['why']}", _title(said)]
        for name, grid in grids.items():
            picture = blend(overview, grid, scales[name], found.extent, downsample)
            draw_overlay(folder / f"{slide}.{name}.png", picture, scales[name], float(mpp["value"]) * downsample, words)
    ends = {f"{name}_{end}": getattr(scales[name], end) for name in grids for end in ("low", "high")}
    kept = {key: found.row.get(key) for key in ("slide_id", "patient_id", "why", "prediction_sd", "error")}
    return {**kept, **said, **ends, "tiles": len(found.coords), "undefined_reason": "; ".join(problems)}


def _overview(found: TileMap, downsample: float, reading: Mapping[str, Any]) -> RGB:
    """The slide at a low resolution.

    Raises:
        SlideError: It cannot be opened.
    """
    with opened(found.entry["path"], str(found.row["slide_id"]), reading) as slide:
        return slide.read_overview(downsample).picture


def _said(row: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
    """The prediction and the label in words; blank where there is none."""

    def text(value: Any) -> str:
        if value is None or (isinstance(value, float) and np.isnan(value)):
            return ""
        return f"{value:.3g}" if isinstance(value, float) else str(class_name(value))

    if settings["task"] == "multi-regression":
        names = list(settings["columns"])[:1]
        several = " and others" if len(settings["columns"]) > 1 else ""
        return {
            key: f"{names[0]} {text(row.get(prefix + names[0]))}{several}"
            for key, prefix in (("prediction", "prediction."), ("label", ""))
        }
    if is_survival(settings["task"]):
        time, event = row.get("time"), row.get("event")
        status = "" if text(event) == "" else " (event)" if event else " (censored)"
        return {"prediction": text(row.get("prediction")), "label": text(time) + status}
    return {"prediction": text(row.get("prediction")), "label": text(row.get("target"))}


def _title(said: Mapping[str, str]) -> str:
    """The second line above a picture."""
    return f"prediction {said['prediction'] or 'none'}, label {said['label'] or 'none'}"
