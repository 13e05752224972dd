"""Tiles drawn from slides: which, how many, with what labels, and what becomes of slides that give none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from shapely.geometry import box, mapping
from shapely.geometry.base import BaseGeometry

from slidestudy.demo.study import generate_study
from slidestudy.errors import StudyError
from slidestudy.features.pretraining.sampling import SlideFiles, collect_tiles, draw_tiles
from slidestudy.geometry import TileGrid
from slidestudy.slides.inspection import inspect_slide
from slidestudy.slides.reader import Slide

TILES = {"size": 64, "mpp": 1.0, "min_tissue": 0.1, "min_tiles": 4, "max_unreadable": 0.05}
LOOK = {"regions": 1, "mpp_tolerance": 0.05, "max_unreadable": 0.05}


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SlideFiles]:
    """Two generated slides that are tissue throughout."""
    folder = tmp_path_factory.mktemp("demo")
    generate_study(folder, seed=11, scale=0.45, patients={"north": 2, "south": 1, "west": 1}, workers=1)
    return {name: files(folder, folder / "slides" / "north" / name) for name in ("N02-2.svs", "N02-1.tif")}


def files(folder: Path, path: Path, geometry: BaseGeometry | None = None, **record: Any) -> SlideFiles:
    entry = {"slide_id": path.stem, "patient_id": "N02", "cohort": "north", "path": str(path), "mpp": None, "roi": None}
    inspection = inspect_slide(entry, LOOK)
    outline = mapping(geometry or box(0, 0, inspection["width"], inspection["height"]))
    feature = {"type": "Feature", "properties": {"classification": {"name": "Tissue"}}, "geometry": outline}
    tissue = folder / f"{path.stem}.geojson"
    tissue.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return SlideFiles(entry, inspection, {"status": "admitted", "reason": None, **record}, tissue)


def table(*rows: tuple[str, Any, Any]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["slide_id", "target", "check"])


LABELS = table(("N02-1", 20.0, "low"), ("N02-2", None, None))


def test_drawn_tiles_are_tiles_of_the_grid_and_none_is_drawn_twice(slides: dict[str, SlideFiles]) -> None:
    source = slides["N02-2.svs"]
    grid = TileGrid(source.inspection["width"], source.inspection["height"], 0.5, 64, 1.0)
    with Slide(source.entry["path"], "s") as slide:
        every = {
            batch.tiles[i].tobytes()
            for batch in slide.tiles(grid.coords(), grid.extent, 64, 1)
            for i in range(len(batch.rows))
        }
    drawn = draw_tiles(source, TILES, 12, 1)
    assert drawn.shape == (12, 64, 64, 3)
    assert len({tile.tobytes() for tile in drawn} & every) == 12


def test_a_slide_with_fewer_tiles_gives_all_of_them(slides: dict[str, SlideFiles]) -> None:
    source = slides["N02-2.svs"]
    rows, columns = TileGrid(source.inspection["width"], source.inspection["height"], 0.5, 64, 1.0).shape
    assert len(draw_tiles(source, TILES, 10_000, 1)) == rows * columns


def test_the_seed_and_the_slide_alone_decide_the_draw(slides: dict[str, SlideFiles]) -> None:
    both = list(slides.values())
    alone = collect_tiles(both[:1], LABELS, TILES, 6, 3)
    together = collect_tiles(both[::-1], LABELS, TILES, 6, 3, threads=2)
    name = str(both[0].entry["slide_id"])
    assert np.array_equal(together.tiles[together.slides == name], alone.tiles)
    assert not np.array_equal(collect_tiles(both[:1], LABELS, TILES, 6, 4).tiles, alone.tiles)


def test_tiles_take_the_labels_of_their_slide(slides: dict[str, SlideFiles]) -> None:
    tiles = collect_tiles(list(slides.values()), LABELS, TILES, 5, 1)
    assert list(tiles.slides) == ["N02-1"] * 5 + ["N02-2"] * 5
    assert list(tiles.targets[:5]) == [20.0] * 5
    assert np.isnan(tiles.targets[5:]).all()
    assert list(tiles.classes) == ["low"] * 5 + [""] * 5
    assert set(tiles.patients) == {"N02"}
    assert tiles.cohorts == {"north": 2}


def test_slides_that_cannot_be_used_are_left_out_with_the_reason(slides: dict[str, SlideFiles], tmp_path: Path) -> None:
    good, other = slides.values()
    masked = replace(good, tissue_record={"status": "excluded", "reason": {"code": "no_tissue", "message": "bare"}})
    gone = replace(good, entry={**good.entry, "path": str(tmp_path / "gone.svs")})
    small = files(tmp_path, Path(good.entry["path"]), box(0, 0, 120, 120))
    for bad, reason in ((masked, "bare"), (gone, ""), (small, "1 tiles of tissue, 4 are needed")):
        tiles = collect_tiles([bad, other], LABELS, TILES, 5, 1)
        assert set(tiles.slides) == {str(other.entry["slide_id"])}
        assert reason in tiles.left_out[str(good.entry["slide_id"])]
        with pytest.raises(StudyError, match="none of the 1 slides gave tiles"):
            collect_tiles([bad], LABELS, TILES, 5, 1)
