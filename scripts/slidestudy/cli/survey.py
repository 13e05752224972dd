"""What a study will meet when it runs: slides that fail, labels that are left, tiles, disk and time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from slidestudy.errors import Problem, Reason, StudyError
from slidestudy.features.encoders import build_encoder
from slidestudy.geometry import TileGrid
from slidestudy.label_checks import check_labels
from slidestudy.labels import is_labelled, target_text
from slidestudy.settings import Config
from slidestudy.slides.inspection import inspect_slide
from slidestudy.slides.reader import Slide
from slidestudy.study import STUDIED, Study
from slidestudy.tissue.polygons import read_polygons

TIMED_TILES = 8
"""Tiles on which an encoder is timed."""
GEOJSON = (".geojson", ".json")
POSITIVE = {"classification": "target", "survival-cox": "event", "survival-discrete": "event"}
"""Task -> the label column that is 1 or 0."""
BYTES_PER_VALUE = 2
"""Features are stored as float16."""

Entry = dict[str, Any]
Record = dict[str, Any]
OnSlide = Callable[[], None]


@dataclass(frozen=True)
class EncoderCost:
    """What an encoder costs.

    Attributes:
        dim: Length of a feature vector.
        seconds: Reading and encoding one tile on one core of this machine, or with its GPU.
    """

    dim: int
    seconds: float


def _inspect(entry: Entry, config: Config) -> Record:
    """Inspects a slide in a worker process."""
    return inspect_slide(entry, config["inspection"], config["reading"])


def inspect_slides(entries: Iterable[Entry], config: Config, workers: int, on_slide: OnSlide) -> list[Record]:
    """Inspects slides in parallel; one that brings down its process is excluded as unreadable.

    Args:
        entries: Rows of the slide table.
        config: The study's configuration, of which `inspection` and `reading` are used.
        workers: Processes.
        on_slide: Called after each slide.

    Returns:
        The inspection records, in the order of the entries.
    """
    todo = list(entries)
    records: dict[int, Record] = {}
    with ProcessPoolExecutor(workers) as pool:
        futures: dict[Future[Record], int] = {}
        # A slide may bring the pool down while the others are still being handed in.
        with suppress(BrokenProcessPool):
            for i, entry in enumerate(todo):
                futures[pool.submit(_inspect, entry, config)] = i
        for future in as_completed(futures):
            try:
                records[futures[future]] = future.result()
            except BrokenProcessPool:
                continue
            on_slide()
    for i, entry in enumerate(todo):
        if i not in records:
            # A crash takes the whole pool with it, so that each slide left gets a process of its own.
            records[i] = _inspect_alone(entry, config)
            on_slide()
    return [records[i] for i in range(len(todo))]


def _inspect_alone(entry: Entry, config: Config) -> Record:
    """Inspects a slide that may crash its process."""
    with ProcessPoolExecutor(1) as pool:
        try:
            return pool.submit(_inspect, entry, config).result()
        except BrokenProcessPool:
            reason = {"code": str(Reason.UNREADABLE), "message": "the file crashes OpenSlide"}
            keys = {key: entry[key] for key in ("slide_id", "patient_id", "cohort", "path")}
            return {**keys, "status": "excluded", "reason": reason, "warnings": []}


def drawn_problems(study: Study) -> list[Problem]:
    """Regions of interest and masks in GeoJSON that cannot be read, by the line of the slide table."""
    problems = []
    for row, slide in enumerate(study.slides[["roi", "mask"]].itertuples(index=False)):
        for column in ("roi", "mask"):
            path = getattr(slide, column)
            if not isinstance(path, str) or (column == "mask" and Path(path).suffix.lower() not in GEOJSON):
                continue
            try:
                read_polygons(path)
            except StudyError as error:
                where = f"{study.config['slides']}, line {row + 2}, column {column}"
                problems += [Problem(f"{where}: {p.where}", p.what, p.remedy) for p in error.problems]
    return problems


def count_labels(study: Study, admitted: pd.DataFrame) -> pd.DataFrame:
    """Labels that are left: `model target cohort role slides patients positive`, one row per model and cohort.

    `positive` are slides of class 1, or of patients who had the event.

    Args:
        study: The study.
        admitted: The slides that can be used, `slide_id ...`.
    """
    rows = []
    for name, model in study.config["models"].items():
        labels = study.labels(name)
        known = is_labelled(labels, model["task"], model["columns"])
        labels = labels[labels["slide_id"].isin(admitted["slide_id"]) & known]
        for cohort, options in study.config["cohorts"].items():
            if options["role"] not in STUDIED:
                continue
            part = labels[labels["cohort"] == cohort]
            binary = POSITIVE.get(model["task"])
            positive = int(part[binary].sum()) if binary else None
            counts = (len(part), part["patient_id"].nunique(), positive)
            rows.append((name, target_text(model), cohort, options["role"], *counts))
    return pd.DataFrame(rows, columns=["model", "target", "cohort", "role", "slides", "patients", "positive"])


def problems_after_losses(study: Study, admitted: pd.DataFrame) -> list[Problem]:
    """Why the study cannot run with the slides that are left, though its tables are in order."""
    if admitted.empty:
        return [Problem(str(study.config["slides"]), "no slide can be used", "see the reasons listed above")]
    problems = []
    for name, model in study.config["models"].items():
        if "published" in model or "predictions" in model:
            continue
        labels = study.labels(name)
        left = labels[labels["slide_id"].isin(admitted["slide_id"])]
        for problem in check_labels(left, study.cohorts("development"), model, f"{study.source}, key models.{name}"):
            what = f"with the slides that can be used, {problem.what}"
            problems.append(Problem(problem.where, what, f"mend the slides above, or {problem.remedy}"))
    return problems


def _grid(record: Record, tiles: Config) -> TileGrid:
    return TileGrid(record["width"], record["height"], record["mpp"]["value"], tiles["size"], tiles["mpp"])


def count_tiles(records: Iterable[Record], tiles: Config) -> int:
    """Tiles of all slides together, before masks: an upper bound. Slides without a file are passed over."""
    return sum(int(np.prod(_grid(record, tiles).shape)) for record in records if record["width"] is not None)


def disk_bytes(tiles: int, dim: int) -> int:
    """Size of the features of a number of tiles, uncompressed."""
    return tiles * dim * BYTES_PER_VALUE


def time_encoder(spec: Config, config: Config, record: Record) -> EncoderCost:
    """Builds an encoder and times it on a few tiles in the middle of a slide.

    Args:
        spec: The encoder's entry, with its `name`.
        config: The study's configuration, of which `tiles`, `seed` and `weights_dir` are used.
        record: Inspection record of an admitted slide.

    Raises:
        StudyError: The encoder cannot be built; with the remedy.
    """
    tiles = config["tiles"]
    encoder = build_encoder(spec, tiles["size"], tiles["mpp"], config["seed"], weights_dir=config["weights_dir"])
    grid = _grid(record, tiles)
    coords = grid.coords()
    if not len(coords):
        coords = np.zeros((1, 2), np.int32)
    first = max(0, len(coords) // 2 - TIMED_TILES // 2)
    chosen = coords[first : first + TIMED_TILES]
    encoder.encode(np.zeros((1, tiles["size"], tiles["size"], 3), np.uint8))
    with Slide(record["path"], record["slide_id"]) as slide:
        start = time.perf_counter()
        batch = [slide.read_square(int(x), int(y), grid.extent, grid.size) for x, y in chosen]
        encoder.encode(np.stack(batch))
        seconds = (time.perf_counter() - start) / len(batch)
    return EncoderCost(encoder.identity.dim, seconds)
