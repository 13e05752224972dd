"""Measures the shift of every external cohort from the development cohorts, for one encoder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
from dask.delayed import delayed
from numpy.typing import NDArray

from slidestudy.errors import StudyError
from slidestudy.features.cohorts import CohortFeatures, draw_rows, open_cohort
from slidestudy.features.components import cohort_moments, merge_moments
from slidestudy.features.scheduling import on
from slidestudy.features.shift.acquisition import STAIN, acquisition_rows, slide_facts
from slidestudy.features.shift.gaussians import Basis, Tiles, basis_of, frechet, join, sums_of
from slidestudy.features.shift.neighbours import nearest_distances
from slidestudy.features.shift.sides import COLUMNS, Array, Counted, Expected, Sides, weighted_quantile, weighted_share
from slidestudy.features.store import read_attributes

Record = Mapping[str, Any]
SLIDES = [
    "cohort", "role", "slide_id", "patient_id", "n_tiles", "distance", "percentile", "out_of_distribution", "vendor",
    "scanner", "objective", "mpp", *STAIN,
]  # fmt: skip
NO_SLIDE = "no slide of the cohort has features"
ALONE = "the development slides are of one patient"


@dataclass(frozen=True)
class Shift:
    """The shift of a study's external cohorts, for one encoder.

    Attributes:
        measures: One row for each external cohort and measure, columns `sides.COLUMNS`.
        slides: Every slide, columns SLIDES.
        limit: The distance beyond which a slide is out of distribution; NaN where there is none.
    """

    measures: pd.DataFrame
    slides: pd.DataFrame
    limit: float


@dataclass(frozen=True)
class _Read:
    """What is kept of the features: sums of each slide's tiles, and the distance of each slide."""

    tiles: Tiles
    distance: Array
    basis: Basis


def measure_shift(
    stores: Iterable[str | os.PathLike[str]],
    inspections: Iterable[Record],
    tissues: Iterable[Record],
    settings: Mapping[str, Any],
    scheduler: str = "threads",
    threads: int = 1,
) -> Shift:
    """Measures how far each external cohort lies from the development cohorts, which count as one.

    Features are read twice, a slide at a time: for moments of each cohort, and for sums and distances in the
    components that come of them. Only slides that were not excluded count.

    Args:
        stores: The feature stores of the development and external cohorts, in any order.
        inspections: Their inspection records.
        tissues: Records of the tissue stage, of the slides that have one.
        settings: `encoder roles tiles_per_slide percentile bootstrap confidence seed`; roles is a list of cohort and
            role, in the order of the table.
        scheduler: `threads`, or the address of a Dask cluster's scheduler.
        threads: Threads, where threads are used.

    Raises:
        StudyError: A store is damaged or of another recipe, no development slide has features, or there is no cluster.
    """
    roles = {str(cohort): str(role) for cohort, role in settings["roles"]}
    attributes = {Path(path): read_attributes(path) for path in sorted(os.fspath(path) for path in stores)}
    used = [path for path, found in attributes.items() if found["status"] == "admitted"]
    if not any(roles[attributes[path]["cohort"]] == "development" for path in used):
        raise StudyError("no development slide has features", settings["encoder"], "see the ledger for the reasons")
    resolutions = {(a["cohort"], a["slide_id"]): (a.get("slide_mpp") or {}).get("value") for a in attributes.values()}
    records = [{(r["cohort"], r["slide_id"]): r for r in found} for found in (inspections, tissues)]
    with on(scheduler, threads):
        cohort = open_cohort(used)
        read = _read(cohort, roles, settings)
        slides = slide_facts(cohort.slides, records[0], records[1], resolutions)
        slides = slides.assign(role=slides["cohort"].map(roles), distance=read.distance)
        measures = _measures(slides, read, roles, settings)
    own = (slides["role"] == "development").to_numpy()
    limit = _limit(read.distance[own], settings["percentile"])
    return Shift(measures, _slide_table(slides, own, limit, list(roles)), limit)


def _measures(slides: pd.DataFrame, read: _Read, roles: Mapping[str, str], settings: Mapping[str, Any]) -> pd.DataFrame:
    """All measures of every external cohort, columns `sides.COLUMNS`."""
    own = (slides["role"] == "development").to_numpy()
    rows = []
    for name in (name for name, role in roles.items() if role == "external"):
        chosen = (slides["cohort"] == name).to_numpy()
        sides = Sides.of(slides[own], slides[chosen], settings)
        measured = [*_feature_rows(sides, read, own, chosen, settings), *acquisition_rows(sides)]
        rows += [{"encoder": settings["encoder"], "cohort": name, **row} for row in measured]
    return pd.DataFrame(rows, columns=COLUMNS)


def _read(cohort: CohortFeatures, roles: Mapping[str, str], settings: Mapping[str, Any]) -> _Read:
    """Reads the features: first for the components, then for the sums and distances in them."""
    moments = cohort_moments(cohort)
    development = merge_moments([found for name, found in moments.items() if roles[name] == "development"])
    basis = basis_of(development, [found for name, found in moments.items() if roles[name] == "external"])
    held = delayed(basis)
    tasks = [
        delayed(_of_slide)(block, held, draw_rows(slide, settings["tiles_per_slide"], settings["seed"]))
        for slide, block in zip(cohort.slides.to_dict("records"), cohort.blocks, strict=True)
    ]
    found = dask.compute(*tasks)
    distance = _slide_distances([drawn for _, drawn in found], cohort.slides, roles)
    return _Read(join([sums for sums, _ in found]), distance, basis)


def _of_slide(
    features: NDArray[np.float16], basis: Basis, rows: NDArray[np.int64]
) -> tuple[Tiles, NDArray[np.float32]]:
    """The sums of a slide's tiles, and the coordinates of those drawn."""
    return sums_of(features, basis), basis.project(features[rows]).astype(np.float32)


def _slide_distances(drawn: list[NDArray[np.float32]], slides: pd.DataFrame, roles: Mapping[str, str]) -> Array:
    """Each slide's mean distance of its drawn tiles to the nearest development tiles of other patients, (slides,)."""
    counts = [len(tiles) for tiles in drawn]
    patient = np.repeat(pd.factorize(slides["patient_id"], sort=True)[0].astype(np.int64), counts)
    own = np.repeat((slides["cohort"].map(roles) == "development").to_numpy(), counts)
    tiles = np.concatenate(drawn)
    nearest = nearest_distances(tiles, patient, tiles[own], patient[own])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    means = np.add.reduceat(nearest, starts) / counts
    return np.where(np.isfinite(means), means, np.nan)


def _limit(distances: Array, percentile: float) -> float:
    """The percentile of the development slides' distances; NaN where one patient is all there is."""
    return float(np.quantile(distances, percentile / 100)) if np.isfinite(distances).all() else float("nan")


def _feature_rows(
    sides: Sides, read: _Read, own: NDArray[np.bool_], chosen: NDArray[np.bool_], settings: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Fréchet distance, distance to the nearest neighbours, and the share of slides out of distribution."""
    side = Counted(sides, np.ones(own.sum(), bool), np.ones(chosen.sum(), bool))
    names = ("frechet", "nearest_neighbour", "ood_share")
    if not chosen.any():
        yield from (side.undefined(name, NO_SLIDE) for name in names)
        return
    yield _frechet_row(side, read, own, chosen)
    near, far = read.distance[own], read.distance[chosen]
    if not np.isfinite(near).all():
        yield from (side.undefined(name, ALONE) for name in names[1:])
        return
    share = settings["percentile"] / 100
    yield side.row(
        names[1],
        lambda weights, others: _mean(far, others) / _mean(near, weights),
        Expected(1.0),
        "the development tiles are all the same",
        detail=f"at most {settings['tiles_per_slide']} tiles of a slide",
    )
    yield side.row(
        names[2],
        lambda weights, others: weighted_share(far > weighted_quantile(near, weights, share)[:, None], others),
        Expected(1 - share),
        "",
        detail=f"beyond percentile {settings['percentile']:g} of the development slides",
        is_share=True,
    )


def _frechet_row(side: Counted, read: _Read, own: NDArray[np.bool_], chosen: NDArray[np.bool_]) -> dict[str, Any]:
    """The Fréchet distance, in units of the variance of the development tiles."""
    development, external = read.tiles[own], read.tiles[chosen]
    unit = float(np.trace(development.gaussians(np.ones((1, len(development.n))))[1][0]))
    larger, smaller = side.splits()
    return side.row(
        "frechet",
        lambda weights, others: _in_units(development, weights, external, others, unit),
        side.expected(_in_units(development, larger, development, smaller, unit)),
        "the development tiles are all the same",
        detail=(
            f"{len(read.basis.axes)} components with {read.basis.share:.1%} of the variance; "
            f"{int(external.n.sum())} tiles beside {int(development.n.sum())}"
        ),
        is_distance=True,
    )


def _in_units(own: Tiles, weights: Array, other: Tiles, others: Array, unit: float) -> Array:
    """Squared Fréchet distances over a unit; NaN where it is 0."""
    return frechet(own, weights, other, others, unit) if unit > 0 else np.full(len(weights), np.nan)


def _mean(values: Array, weights: Array) -> Array:
    """Means (b,) of values (n,), NaN where they are 0 or nothing was drawn."""
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = weights @ values / weights.sum(1)
    return np.where(mean > 0, mean, np.nan)


def _slide_table(slides: pd.DataFrame, own: NDArray[np.bool_], limit: float, order: list[str]) -> pd.DataFrame:
    """Every slide with its distance, and where that lies among those of the development slides."""
    near = np.sort(slides["distance"].to_numpy(float)[own])
    far = slides["distance"].to_numpy(float)
    known = np.isfinite(far) & np.isfinite(limit)
    # Interpolated like the limit, so that a slide is beyond both or neither.
    percentile = np.interp(far, near, np.linspace(0, 100, len(near)))
    table = slides.assign(
        percentile=np.where(known, percentile, np.nan),
        out_of_distribution=np.where(known, np.where(far > limit, "yes", "no"), ""),
    )
    place = {name: number for number, name in enumerate(order)}
    table = table.assign(place=table["cohort"].map(place)).sort_values(["place", "slide_id"], kind="stable")
    return table[SLIDES].reset_index(drop=True)
