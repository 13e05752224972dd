"""Heatmaps' numbers and colours: each tile at its place, halved by means, transparent where there is nothing."""

from __future__ import annotations

import json

import numpy as np
import openslide
import pandas as pd
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import shape
from tests.validation.made_predictions import MULTICLASS, SURVIVAL, ids, of_classes, of_targets, of_times, several

from slidestudy.geometry import TileGrid
from slidestudy.validation.heatmap_choice import choose_slides, slide_errors
from slidestudy.validation.heatmap_files import BINS, to_geojson, write_pyramid
from slidestudy.validation.heatmap_overlay import STRENGTH, bar_length, blend
from slidestudy.validation.heatmap_values import (
    CELL,
    Scale,
    attention_scale,
    halved,
    raster,
    relative_attention,
    score_scale,
)

SCALE = Scale("score", "score", 0.0, 1.0, "viridis")
REGRESSION = {"task": "regression", "columns": ["target"], "target_range": [0, 100], "slides": 2}


@given(st.floats(0.2, 1.0), st.integers(64, 300), st.integers(700, 1500), st.integers(500, 1200))
def test_a_tiles_centre_has_its_value_whatever_the_resolution(slide_mpp, size, width, height):
    grid = TileGrid(width, height, slide_mpp, size, 0.5)
    coords = grid.coords()
    values = np.arange(len(coords), dtype=float)
    found = raster(values, coords, grid.extent, (width, height))
    centres = ((coords + grid.extent / 2) / grid.extent * CELL).astype(int)
    np.testing.assert_array_equal(found[centres[:, 1], centres[:, 0]], values)
    # Nothing lies where no tile is, and tiles of a grid do not cover each other.
    assert np.isfinite(found).sum() == len(coords) * CELL**2


def test_overlapping_tiles_have_their_mean_where_they_overlap():
    found = raster(np.array([1.0, 3.0]), np.array([[0, 0], [40, 0]]), 80.0, (120, 80))
    np.testing.assert_array_equal(found[0], [1.0] * 4 + [2.0] * 4 + [3.0] * 4)


def test_a_halved_grid_has_the_mean_of_what_is_known():
    found = halved(np.array([[1.0, 3.0, np.nan], [np.nan, 5.0, np.nan], [7.0, 9.0, 4.0]]))
    np.testing.assert_array_equal(found, [[3.0, np.nan], [8.0, 4.0]])


def test_colours_are_transparent_only_where_there_is_no_value():
    painted = SCALE.paint(np.array([[0.0, np.nan, 1.0, 7.0]]))
    assert painted[0, :, 3].tolist() == [255, 0, 255, 255]
    assert painted[0, 1].tolist() == [0, 0, 0, 0]
    np.testing.assert_array_equal(painted[0, 2], painted[0, 3])


def test_scores_with_a_range_have_it_and_others_their_percentiles():
    scores = [np.linspace(-5, 5, 1001)]
    for settings in (REGRESSION, {"task": "classification"}, {"task": "multiclass"}):
        scale = score_scale(scores, settings)
        assert (scale.low, scale.high) == (0.0, 1.0)
    scale = score_scale(scores, {"task": "survival-cox"})
    assert (scale.low, scale.high) == pytest.approx((-4.9, 4.9))
    constant = score_scale([np.ones(3)], {"task": "survival-cox"})
    assert constant.high > constant.low


def test_uniform_attention_is_one_and_in_the_middle_of_its_colours():
    uniform = relative_attention(np.full(50, 1 / 50))
    np.testing.assert_allclose(uniform, 1.0)
    skewed = relative_attention(np.array([0.7, 0.1, 0.1, 0.1]))
    scale = attention_scale([uniform, skewed])
    assert scale.positions(np.array([1.0]))[0] == pytest.approx(0.5)
    assert scale.low * scale.high == pytest.approx(1.0)
    # Twice as much is as far from the middle as half as much.
    low, high = scale.positions(np.array([0.8, 1.25]))
    assert 0.5 - low == pytest.approx(high - 0.5)


def test_no_attention_at_all_is_the_lowest_colour_and_no_hole(tmp_path):
    values = relative_attention(np.array([0.0, 0.0, 0.5, 0.5]))
    scale = attention_scale([values])
    assert scale.high <= 100
    assert scale.paint(values)[:, 3].tolist() == [255] * 4
    write_pyramid(tmp_path / "a.tif", np.tile(values, (300, 100)), scale, (16.0, 16.0))
    with openslide.OpenSlide(tmp_path / "a.tif") as slide:
        assert np.asarray(slide.read_region((0, 0), 1, slide.level_dimensions[1]))[..., 3].min() == 255


def test_a_model_without_attention_has_no_scale_of_it():
    assert attention_scale([relative_attention(np.full(5, np.nan))]) is None
    assert attention_scale([]) is None


def made_grid(columns: int, rows: int, scale: Scale = SCALE) -> np.ndarray:
    rng = np.random.default_rng(0)
    coords = TileGrid(columns * 320, rows * 320, 0.4, 256, 0.5).coords()
    keep = rng.uniform(size=len(coords)) < 0.7
    return raster(rng.uniform(0, 1, keep.sum()), coords[keep], 320.0, (columns * 320 + 100, rows * 320))


def test_a_pyramid_is_opened_by_openslide_with_its_resolution_and_its_colours(tmp_path):
    values = made_grid(90, 50)
    write_pyramid(tmp_path / "a.tif", values, SCALE, (16.0, 16.5))
    with openslide.OpenSlide(tmp_path / "a.tif") as slide:
        assert slide.dimensions == values.shape[::-1]
        assert float(slide.properties[openslide.PROPERTY_NAME_MPP_X]) == pytest.approx(16.0, rel=1e-5)
        assert float(slide.properties[openslide.PROPERTY_NAME_MPP_Y]) == pytest.approx(16.5, rel=1e-5)
        assert slide.level_count == 3
        np.testing.assert_allclose(slide.level_downsamples, [1, 2, 4], rtol=0.02)
        read = np.asarray(slide.read_region((0, 0), 0, slide.dimensions))
        np.testing.assert_array_equal(read, SCALE.paint(values))
        coarse = np.asarray(slide.read_region((0, 0), 1, slide.level_dimensions[1]))
        np.testing.assert_array_equal(coarse, SCALE.paint(halved(values)))


def test_a_pyramid_is_tiled_deflated_and_its_levels_are_said_to_be_reduced(tmp_path):
    write_pyramid(tmp_path / "a.tif", made_grid(90, 50), SCALE, (16.0, 16.0))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert [(p.is_tiled, p.tilewidth, p.compression.name) for p in file.pages] == [(True, 256, "ADOBE_DEFLATE")] * 3
        assert [bool(p.is_reduced) for p in file.pages] == [False, True, True]
        assert [p.shape[2] for p in file.pages] == [4] * 3


def test_a_pyramid_is_the_same_bytes_each_time(tmp_path):
    for name in ("a", "b"):
        write_pyramid(tmp_path / f"{name}.tif", made_grid(50, 40), SCALE, (16.0, 16.0))
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_polygons_are_the_tiles_with_their_measurements():
    coords = TileGrid(3000, 2000, 0.2498, 512, 0.5).coords()
    extent = 512 * 0.5 / 0.2498
    values = {"score": np.array([0.0, 1.0]), "attention": np.array([1.25, np.nan])}
    found = json.loads(json.dumps(to_geojson(coords, extent, values, SCALE), allow_nan=False))
    shapes = [shape(feature["geometry"]) for feature in found["features"]]
    assert all(each.is_valid and each.geom_type == "Polygon" for each in shapes)
    assert sum(each.area for each in shapes) == pytest.approx(len(coords) * extent**2, rel=1e-5)
    assert [each.bounds[:2] for each in shapes] == [tuple(corner) for corner in coords]
    first, second = (feature["properties"] for feature in found["features"])
    assert first["objectType"] == "detection"
    assert first["measurements"] == {"score": 0.0, "attention": 1.25}
    assert second["measurements"] == {"score": 1.0}
    assert [first["classification"]["name"], second["classification"]["name"]] == ["score 0 to 0.2", "score 0.8 to 1"]
    assert len(first["classification"]["color"]) == 3


def test_every_score_has_one_of_the_classes():
    scores = np.r_[-1, np.linspace(0, 1, 51), 9]
    found = to_geojson(np.zeros((len(scores), 2), int), 5.0, {"score": scores}, SCALE)
    assert len({feature["properties"]["classification"]["name"] for feature in found["features"]}) == BINS


def test_the_heatmap_lies_on_the_overview_where_its_tile_is():
    picture = np.full((100, 160, 3), 200, np.uint8)
    coords = np.array([[320, 0], [0, 320]])
    values = raster(np.array([0.0, 1.0]), coords, 320.0, (1600, 1000))
    found = blend(picture, values, SCALE, 320.0, 10.0)
    tiles = np.zeros((100, 160), bool)
    tiles[0:32, 32:64] = tiles[32:64, 0:32] = True
    assert ((found != 200).any(-1) == tiles).all()
    low = SCALE.paint(np.array([0.0]))[0, :3]
    np.testing.assert_array_equal(found[10, 40], np.round(200 * (1 - STRENGTH) + STRENGTH * low).astype(int))


@pytest.mark.parametrize(("width", "length"), [(1400, 200), (5000, 1000), (25000, 5000), (240, 20)])
def test_a_scale_bar_is_a_round_number_and_at_most_a_fifth_of_the_width(width, length):
    assert bar_length(width) == length


def table_of(predictions: list[float], targets: list[float | None], sds: list[float | None]) -> pd.DataFrame:
    return ids(len(predictions)).assign(prediction=predictions, target=targets, prediction_sd=sds)


def test_the_best_the_worst_and_the_most_uncertain_are_chosen_and_reasons_joined():
    table = table_of([10, 20, 30, 40, 50], [10, 25, None, 70, 51], [1, 2, 9, 8, None])
    found = choose_slides(table.sample(frac=1, random_state=1), {**REGRESSION, "slides": 1})
    assert found[["slide_id", "why"]].to_numpy().tolist() == [
        ["s000", "best 1"],
        ["s002", "most uncertain 1"],
        ["s003", "worst 1"],
    ]
    found = choose_slides(table, REGRESSION)
    assert dict(zip(found["slide_id"], found["why"], strict=True)) == {
        "s000": "best 1",
        "s001": "worst 2",
        "s002": "most uncertain 1",
        "s003": "worst 1; most uncertain 2",
        "s004": "best 2",
    }
    np.testing.assert_allclose(found["error"], [0, 5, np.nan, 30, 1])


def test_none_and_all_slides_can_be_asked_for():
    table = table_of([10, 20], [None, 25], [None, None])
    assert choose_slides(table, {**REGRESSION, "slides": 0}).empty
    assert choose_slides(table, {**REGRESSION, "slides": "all"})["why"].tolist() == ["all slides"] * 2
    assert choose_slides(table[:0], REGRESSION).empty


def test_of_a_class_the_error_is_the_loss_of_its_probability():
    table = table_of([0.9, 0.9, 0.0, 0.5], [1, 0, 1, None], [0.1] * 4)
    found = slide_errors(table, {"task": "classification", "columns": ["target"]})
    np.testing.assert_allclose(found, [-np.log(0.9), -np.log(0.1), -np.log(1e-7), np.nan])
    table = of_classes(20)
    table.loc[0, "target"] = None
    found = slide_errors(table, MULTICLASS)
    assert np.isnan(found[0])
    for place in range(1, 20):
        assert found[place] == pytest.approx(-np.log(table.loc[place, f"probability.{table.loc[place, 'target']}"]))


def test_of_several_targets_the_error_is_in_standard_deviations():
    table = of_targets(30, ["A", "B"])
    scaled = [np.abs(table[f"prediction.{n}"] - table[n]) / table[n].std() for n in ("A", "B")]
    np.testing.assert_allclose(slide_errors(table, several(["A", "B"])), (scaled[0] + scaled[1]) / 2)


def test_of_survival_the_highest_and_lowest_risks_are_chosen():
    table = of_times(30).assign(prediction=np.arange(30.0), prediction_sd=np.nan)
    found = choose_slides(table, {**SURVIVAL, "slides": 1})
    assert dict(zip(found["slide_id"], found["why"], strict=True)) == {
        "s000": "lowest risk 1",
        "s029": "highest risk 1",
    }
    assert found["error"].isna().all()
