"""The heatmaps of a cohort, on made-up slides and a real one: all files of the chosen slides, and what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pandas as pd
import pytest
import tifffile
from PIL import Image

from slidestudy.features.store import FORMAT
from slidestudy.files import read_json, write_json
from slidestudy.geometry import TileGrid
from slidestudy.models.tile_scores import write_tile_scores
from slidestudy.slides.reader import Slide
from slidestudy.tables import load_table
from slidestudy.validation.heatmap_overlay import EDGE, STRENGTH, TOP
from slidestudy.validation.heatmap_values import Scale
from slidestudy.validation.heatmaps import COLUMNS, draw_heatmaps

SETTINGS = {"task": "regression", "columns": ["target"], "target_range": [0, 100], "slides": 1}
SCALE = Scale("score", "", 0.0, 1.0, "viridis")


class Cohort:
    """What the workflow hands in, of slides of one size."""

    def __init__(self, folder: Path, files: dict[str, Path], size: tuple[int, int], mpp: float) -> None:
        self.folder = folder
        self.grid = TileGrid(*size, mpp, 128, 0.5)
        self.coords = self.grid.coords()[::2]
        self.entries = {name: {"slide_id": name, "path": str(path)} for name, path in files.items()}
        found = {"mpp": {"value": mpp, "x": mpp, "y": mpp}, "width": size[0], "height": size[1]}
        self.inspections = dict.fromkeys(files, found)
        self.stores, self.scores = {}, {}
        for place, name in enumerate(files):
            self.stores[name] = folder / "features" / f"{name}.zarr"
            attributes = {"format": FORMAT, "tile_size_level0": self.grid.extent}
            write_json(self.stores[name] / "zarr.json", {"attributes": attributes})
            self._write_tiles(name, np.random.default_rng(place))
        rows = [[name, f"p{i}", 10.0 * i, 10.0 * i * i, 0.1 * i] for i, name in enumerate(files)]
        columns = ["slide_id", "patient_id", "prediction", "target", "prediction_sd"]
        self.predictions = pd.DataFrame(rows, columns=columns)

    def _write_tiles(self, name: str, rng: np.random.Generator) -> None:
        n = len(self.coords)
        self.scores[name] = rng.uniform(0, 1, n).astype(np.float32)
        attention = rng.dirichlet(np.ones(n)).astype(np.float32)
        arrays: dict[str, Any] = {"coords": self.coords, "score": self.scores[name], "attention": attention}
        arrays |= dict.fromkeys(("tissue_fraction", "logit", "attention_logit"), np.zeros(n, np.float32))
        write_tile_scores(self.folder / "tiles" / f"{name}.zarr", arrays, {"slide_id": name})

    def draw(self, name: str = "out", **settings: Any) -> tuple[Path, pd.DataFrame]:
        out = self.folder / name
        out.mkdir()
        inputs = (self.entries, self.inspections, self.stores)
        return out, draw_heatmaps(out, self.predictions, self.folder / "tiles", *inputs, {**SETTINGS, **settings})


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    rng = np.random.default_rng(0)
    names = ("a.1", "b", "c")
    for name in names:
        picture = rng.integers(150, 250, (30, 44, 3), np.uint8).repeat(32, 0).repeat(32, 1)
        tifffile.imwrite(
            tmp_path / f"{name}.tif",
            picture,
            tile=(256, 256),
            compression="adobe_deflate",
            photometric="rgb",
            resolution=(1e4 / 0.4, 1e4 / 0.4),
            resolutionunit="CENTIMETER",
        )
    return Cohort(tmp_path, {name: tmp_path / f"{name}.tif" for name in names}, (44 * 32, 30 * 32), 0.4)


KINDS = ("score.png", "attention.png", "score.tif", "attention.tif", "geojson")


def test_each_chosen_slide_has_all_files_and_a_row(cohort: Cohort) -> None:
    out, table = cohort.draw()
    # Errors are 0, 0 and 20; the third is also the most uncertain.
    assert table["slide_id"].tolist() == ["a.1", "c"]
    assert table["why"].tolist() == ["best 1", "worst 1; most uncertain 1"]
    expected = {f"{slide}.{kind}" for slide in ("a.1", "c") for kind in KINDS}
    assert {path.name for path in out.iterdir()} == {*expected, "heatmaps.tsv"}
    written = load_table(out / "heatmaps.tsv")
    assert list(written.columns) == COLUMNS
    assert written["label"].tolist() == [0, 40]
    assert written["tiles"].tolist() == [len(cohort.coords)] * 2
    assert (written["score_low"] == 0).all()
    assert (written["attention_low"] * written["attention_high"]).to_numpy() == pytest.approx(1)
    assert (written["undefined_reason"] == "").all()


def test_the_same_cohort_gives_the_same_bytes(cohort: Cohort) -> None:
    first, _ = cohort.draw("first")
    second, _ = cohort.draw("second")
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


def test_the_pyramid_shows_each_tiles_score_at_its_place_on_the_slide(cohort: Cohort) -> None:
    out, _ = cohort.draw()
    with openslide.OpenSlide(out / "c.score.tif") as slide:
        mpp = float(slide.properties[openslide.PROPERTY_NAME_MPP_X])
        picture = np.asarray(slide.read_region((0, 0), 0, slide.dimensions))
    um = (cohort.coords + cohort.grid.extent / 2) * 0.4
    x, y = (um / mpp).astype(int).T
    np.testing.assert_array_equal(picture[y, x], SCALE.paint(cohort.scores["c"].astype(float)))
    assert mpp == pytest.approx(cohort.grid.extent * 0.4 / 8, rel=1e-5)


def test_the_picture_shows_each_tiles_score_on_its_tissue(cohort: Cohort) -> None:
    out, _ = cohort.draw()
    with Image.open(out / "c.score.png") as file:
        picture = np.asarray(file.convert("RGB"))[EDGE + TOP :, EDGE:].astype(float)
    factor = 2000 / (44 * 32)
    with Slide(cohort.entries["c"]["path"]) as slide:
        tissue = slide.read_overview(1.0).picture.astype(float)
    inner = [i for i, (x, y) in enumerate(cohort.coords) if y + cohort.grid.extent < 700]
    assert len(inner) > 10
    for place in inner:
        x, y = (cohort.coords[place] + cohort.grid.extent * 0.47).astype(int)
        own = SCALE.paint(cohort.scores["c"][place : place + 1].astype(float))[0, :3]
        shown = picture[round(y * factor), round(x * factor)]
        expected = tissue[y - 2 : y + 3, x - 2 : x + 3].mean((0, 1)) * (1 - STRENGTH) + STRENGTH * own
        # Neighbouring blocks of tissue are 32 px wide: near their edges the resampled picture lies between them.
        assert np.abs(shown - expected).max() < 0.45 * 60, place


def test_a_slide_that_cannot_be_opened_costs_its_pictures_only(cohort: Cohort) -> None:
    Path(cohort.entries["c"]["path"]).write_bytes(b"no slide")
    out, table = cohort.draw()
    assert not list(out.glob("c.*.png"))
    assert {path.name for path in out.glob("c.*")} == {"c.score.tif", "c.attention.tif", "c.geojson"}
    assert len(list(out.glob("a.1.*"))) == len(KINDS)
    assert table.set_index("slide_id").loc["c", "undefined_reason"].startswith("no picture: ")


def test_a_model_without_attention_has_its_scores_only(cohort: Cohort) -> None:
    for name in cohort.entries:
        path = cohort.folder / "tiles" / f"{name}.zarr"
        n = len(cohort.coords)
        arrays = {"coords": cohort.coords, "score": cohort.scores[name], "attention": np.full(n, np.nan, np.float32)}
        arrays |= dict.fromkeys(("tissue_fraction", "logit", "attention_logit"), np.zeros(n, np.float32))
        write_tile_scores(path, arrays, {"slide_id": name})
    out, table = cohort.draw()
    assert not list(out.glob("*attention*"))
    assert set(table["undefined_reason"]) == {"no attention: the model has none"}
    measured = read_json(out / "c.geojson")["features"][0]["properties"]["measurements"]
    assert list(measured) == ["score"]


def test_only_slides_with_a_file_are_chosen_from(cohort: Cohort) -> None:
    del cohort.entries["c"]
    _, table = cohort.draw(slides="all")
    assert table["slide_id"].tolist() == ["a.1", "b"]


def test_a_cohort_of_which_nothing_was_predicted_has_an_empty_table(cohort: Cohort) -> None:
    cohort.predictions = cohort.predictions[:0]
    out, table = cohort.draw()
    assert table.empty
    assert [path.name for path in out.iterdir()] == ["heatmaps.tsv"]


@pytest.mark.shared
def test_a_heatmap_lies_on_a_real_slide(shared: Path, tmp_path: Path) -> None:
    path = shared / "slides" / "cmu-1-small-region.svs"
    with Slide(path) as slide:
        size, mpp = slide.size, float(slide.properties["openslide.mpp-x"])
    cohort = Cohort(tmp_path, {"cmu": path}, size, mpp)
    out, table = cohort.draw()
    assert table["undefined_reason"].tolist() == [""]
    with openslide.OpenSlide(path) as slide, openslide.OpenSlide(out / "cmu.score.tif") as heatmap:
        for side, name in ((0, openslide.PROPERTY_NAME_MPP_X), (1, openslide.PROPERTY_NAME_MPP_Y)):
            covered = heatmap.dimensions[side] * float(heatmap.properties[name])
            real = slide.dimensions[side] * float(slide.properties[name])
            # The heatmap ends with a whole pixel of its own, an eighth of a tile.
            assert real <= covered < real + 128 * 0.5 / 8
    with Image.open(out / "cmu.score.png") as picture:
        assert max(picture.size) >= 2000
