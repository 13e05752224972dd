"""What the features of a study's cohorts look like: moments, shift, components, near-duplicates, map, robustness."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from slidestudy.errors import StudyError
from slidestudy.features.cohorts import CohortFeatures, DrawnTiles, draw_tiles, open_cohort
from slidestudy.features.components import (
    Components,
    cohort_moments,
    components_table,
    merge_moments,
    moments_table,
    principal_components,
    shift_table,
)
from slidestudy.features.maps import map_of
from slidestudy.features.near_duplicates import near_duplicates
from slidestudy.features.robustness import robustness_index
from slidestudy.features.scheduling import on
from slidestudy.files import versions

FORMAT = "slidestudy-feature-summary/1"
ALL_COHORTS = "all cohorts"
"""The subset of all tiles in the table of robustness; no cohort can have this name, as it has a space."""
LABELS = ("center", "biology")
PACKAGES = ("dask", "numpy", "pandas", "umap-learn", "numba", "matplotlib", "zarr")


@dataclass(frozen=True)
class Summary:
    """The tables of a summary.

    Attributes:
        moments: `cohort dimension mean variance n_tiles`.
        shift: Standardised differences between each two cohorts.
        components: `component explained_variance ratio`.
        duplicates: Near-duplicate tiles of different slides.
        map: `slide_id patient_id cohort center biology x y map_x map_y` of the drawn tiles.
        robustness: The robustness index of all cohorts and of each.
        record: Provenance, JSON-able.
        no_map: Why there is no map; empty where there is one.
    """

    moments: pd.DataFrame
    shift: pd.DataFrame
    components: pd.DataFrame
    duplicates: pd.DataFrame
    map: pd.DataFrame
    robustness: pd.DataFrame
    record: dict[str, Any]
    no_map: str


def summarise(
    stores: Iterable[str | os.PathLike[str]],
    slides: pd.DataFrame,
    settings: Mapping[str, Any],
    scheduler: str = "threads",
    threads: int = 1,
) -> Summary:
    """Summarises the feature stores of whole cohorts.

    Moments and components are of all tiles; near-duplicates, the map and the robustness index are of tiles
    drawn from each slide.

    Args:
        stores: The feature stores of one encoder, in any order.
        slides: `slide_id patient_id cohort center biology`, with all slides of the stores; blank biology is unknown.
        settings: `encoder neighbours components duplicate_cosine tiles_per_slide seed bootstrap confidence`.
        scheduler: `threads`, or the address of a Dask cluster's scheduler.
        threads: Threads, where threads are used.

    Raises:
        StudyError: A store is damaged or of another recipe, a slide is not in the table, or there is no cluster.
    """
    with on(scheduler, threads):
        # Sorted, since the order in which partial results are added up follows the stores' order.
        cohort = open_cohort(sorted(os.fspath(path) for path in stores))
        moments = cohort_moments(cohort)
        drawn = draw_tiles(cohort, settings["tiles_per_slide"], settings["seed"])
        duplicates = near_duplicates(drawn, settings["duplicate_cosine"])
        components = principal_components(merge_moments(list(moments.values())), settings["components"])
        tiles = _with_labels(drawn.tiles, slides)
        positions, why = map_of(components.project(drawn.features), settings["seed"])
        robustness = robustness_table(drawn, tiles, settings)
    placed = np.full((len(tiles), 2), np.nan) if positions is None else positions
    return Summary(
        moments=moments_table(moments),
        shift=shift_table(moments),
        components=components_table(components),
        duplicates=duplicates,
        map=tiles.assign(map_x=placed[:, 0], map_y=placed[:, 1]),
        robustness=robustness,
        record=_record(cohort, drawn, components, settings, why),
        no_map=why,
    )


def _with_labels(tiles: pd.DataFrame, slides: pd.DataFrame) -> pd.DataFrame:
    """Tiles with the centre and the class of their slides; blank where not known."""
    known = slides.set_index("slide_id")[list(LABELS)].fillna("").astype(str)
    missing = sorted(set(tiles["slide_id"]) - set(known.index))
    if missing:
        what = f"feature stores of slides that the study's tables do not have: {', '.join(missing[:5])}"
        raise StudyError(what, "", "remove these stores")
    labels = known.loc[tiles["slide_id"]].reset_index(drop=True)
    return pd.concat([tiles[["slide_id", "patient_id", "cohort"]], labels, tiles[["x", "y"]]], axis=1)


def robustness_table(drawn: DrawnTiles, tiles: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """The robustness index of the drawn tiles of all cohorts, and of each cohort by itself.

    Args:
        drawn: The drawn tiles.
        tiles: `patient_id cohort center biology` of each.
        settings: `neighbours bootstrap confidence seed`.

    Returns:
        `subset neighbours index ci_low ci_high same_class same_center at_random n left_out undefined_reason`.
    """
    rows = []
    for subset in [ALL_COHORTS, *sorted(set(tiles["cohort"]))]:
        chosen = np.ones(len(tiles), bool) if subset == ALL_COHORTS else (tiles["cohort"] == subset).to_numpy()
        part = tiles[chosen]
        found = robustness_index(
            drawn.features[chosen],
            part["biology"].tolist(),
            part["center"].tolist(),
            part["patient_id"].tolist(),
            k=settings["neighbours"],
            replicates=settings["bootstrap"],
            confidence=settings["confidence"],
            seed=settings["seed"],
        )
        rows.append({"subset": subset, "neighbours": settings["neighbours"], **vars(found)})
    order = ["index", "ci_low", "ci_high", "same_class", "same_center", "at_random", "n", "left_out"]
    return pd.DataFrame(rows)[["subset", "neighbours", *order, "undefined_reason"]]


def _record(
    cohort: CohortFeatures, drawn: DrawnTiles, components: Components, settings: Mapping[str, Any], why: str
) -> dict[str, Any]:
    """Where a summary comes from."""
    counts = cohort.slides.groupby("cohort")["n_tiles"].agg(["size", "sum"])
    return {
        "format": FORMAT,
        "encoder": settings["encoder"],
        "recipe": cohort.recipe,
        "settings": {key: settings[key] for key in sorted(settings)},
        "cohorts": {
            str(name): {"slides": int(s), "tiles": int(t)}
            for name, (s, t) in zip(counts.index, counts.to_numpy(), strict=True)
        },
        "slides_without_tiles": list(cohort.empty),
        "tiles_drawn": len(drawn.tiles),
        "dimensions": int(cohort.features.shape[1]),
        "components": len(components.variance),
        "no_map": why,
        "software": versions(*PACKAGES),
    }
