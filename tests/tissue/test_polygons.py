"""Masks as polygons: nothing is lost on the way to GeoJSON and back."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn
from shapely.geometry import Point, Polygon, box

from slidestudy.errors import StudyError
from slidestudy.geometry import rasterise
from slidestudy.tissue.polygons import Region, outline, read_polygons, regions_of, to_geojson

Mask = npt.NDArray[np.uint8]

masks = stn.arrays(np.uint8, st.tuples(st.integers(1, 16), st.integers(1, 16)), elements=st.integers(0, 1))
downsamples = st.sampled_from([1.0, 2.0, 3.7, 16.03, 64.0])


# Outlines


@settings(deadline=None)
@given(masks, downsamples)
def test_an_outline_drawn_again_is_the_mask(mask: Mask, downsample: float) -> None:
    polygons = outline(mask, downsample)
    assert all(p.is_valid for p in polygons)
    np.testing.assert_array_equal(rasterise(polygons, mask.shape, downsample), mask)


@settings(deadline=None)
@given(masks, downsamples)
def test_every_pixel_centre_lies_inside_exactly_where_the_mask_is_set(mask: Mask, downsample: float) -> None:
    polygons = outline(mask, downsample)
    for row, column in np.ndindex(*mask.shape):
        centre = Point((column + 0.5) * downsample, (row + 0.5) * downsample)
        assert sum(p.contains(centre) for p in polygons) == mask[row, column]


@settings(deadline=None)
@given(masks, downsamples, st.floats(0.1, 1))
def test_areas_are_those_of_the_masks_pixels(mask: Mask, downsample: float, mpp: float) -> None:
    area = sum(r.area_mm2 for r in regions_of(mask, "Tissue", downsample, mpp))
    assert area == pytest.approx(mask.sum() * (downsample * mpp) ** 2 / 1e6)


def test_the_area_of_a_block_is_its_sides_product() -> None:
    mask = np.zeros((30, 40), np.uint8)
    mask[5:15, 10:35] = 1
    (region,) = regions_of(mask, "Tissue", downsample=16, slide_mpp=0.5)
    assert region.area_mm2 == pytest.approx(0.08 * 0.2)
    np.testing.assert_allclose(region.polygon.bounds, (160, 80, 560, 240), atol=16 / 4)


def test_holes_survive_and_are_taken_from_the_area() -> None:
    mask = np.ones((20, 20), np.uint8)
    mask[4:8, 4:8] = 0
    mask[12:13, 12:13] = 0
    (region,) = regions_of(mask, "Tissue", 10.0, 1.0)
    assert len(region.polygon.interiors) == 2
    assert region.area_mm2 == pytest.approx((400 - 17) * 1e-4)


def test_a_piece_within_a_hole_is_a_region_of_its_own() -> None:
    mask = np.ones((20, 20), np.uint8)
    mask[4:16, 4:16] = 0
    mask[8:12, 8:12] = 1
    regions = regions_of(mask, "Tissue", 10.0, 1.0)
    assert [round(r.area_mm2 * 1e4) for r in regions] == [400 - 144, 16]


def test_an_empty_mask_has_no_outline() -> None:
    assert outline(np.zeros((5, 5), np.uint8), 4.0) == []


def test_sections_are_numbered_in_reading_order() -> None:
    mask = np.zeros((60, 60), np.uint8)
    corners = [(40, 5), (5, 30), (5, 2), (20, 45)]
    for row, column in corners:
        mask[row : row + 8, column : column + 8] = 1
    regions = regions_of(mask, "Tissue", 4.0, 1.0, section_gap_mm=0.02)
    assert [r.section for r in regions] == [1, 2, 3, 4]
    found = [(round(r.polygon.bounds[1] / 4), round(r.polygon.bounds[0] / 4)) for r in regions]
    assert found == [(5, 2), (5, 30), (20, 45), (40, 5)]


def test_pieces_within_the_gap_are_one_section_and_keep_their_own_areas() -> None:
    """Gaps of 20, 30 and 40 px of 5 um: 0.1, 0.15 and 0.2 mm; outlines run a quarter pixel inside the mask."""
    mask = np.zeros((10, 120), np.uint8)
    for left in (0, 25, 60, 105):
        mask[:, left : left + 5] = 1
    for gap, sections in ((0.09, [1, 2, 3, 4]), (0.11, [1, 1, 2, 3]), (0.16, [1, 1, 1, 2]), (0.21, [1, 1, 1, 1])):
        regions = regions_of(mask, "Tissue", 10.0, 0.5, section_gap_mm=gap)
        assert [r.section for r in regions] == sections
        assert [r.area_mm2 for r in regions] == [pytest.approx(50 * 25e-6)] * 4


def test_features_of_a_section_bear_its_name_and_their_own_area() -> None:
    mask = np.zeros((10, 60), np.uint8)
    mask[:, :5] = mask[:, 10:20] = mask[:, 50:] = 1
    features = to_geojson(regions_of(mask, "Tissue", 10.0, 0.5, section_gap_mm=0.05))["features"]
    properties = [f["properties"] for f in features]
    assert [p["name"] for p in properties] == ["Tissue 1", "Tissue 1", "Tissue 2"]
    assert [p["section"] for p in properties] == [1, 1, 2]
    assert [p["area_mm2"] for p in properties] == [0.00125, 0.0025, 0.0025]


def test_pen_is_not_numbered() -> None:
    mask = np.eye(12, dtype=np.uint8).repeat(3, 0)
    assert {r.section for r in regions_of(mask, "Pen", 4.0, 1.0)} == {0}


# GeoJSON


def geojson(mask: Mask, kind: str = "Tissue", downsample: float = 16.0) -> dict[str, Any]:
    return to_geojson(regions_of(mask, kind, downsample, 0.5))


def written(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@settings(deadline=None)
@given(mask=masks, downsample=downsamples)
def test_geojson_reads_back_as_the_same_mask(
    tmp_path_factory: pytest.TempPathFactory, mask: Mask, downsample: float
) -> None:
    path = tmp_path_factory.getbasetemp() / "mask.geojson"
    written(path, geojson(mask, downsample=downsample))
    np.testing.assert_array_equal(rasterise(read_polygons(path, "Tissue"), mask.shape, downsample), mask)


def test_a_feature_has_the_fields_that_qupath_reads() -> None:
    content = json.loads(json.dumps(geojson(np.ones((10, 10), np.uint8)), allow_nan=False))
    assert content["type"] == "FeatureCollection"
    (feature,) = content["features"]
    assert feature["type"] == "Feature"
    assert feature["geometry"]["type"] == "Polygon"
    first, last = feature["geometry"]["coordinates"][0][0], feature["geometry"]["coordinates"][0][-1]
    assert first == last, "rings are closed"
    properties = feature["properties"]
    assert properties["objectType"] == "annotation"
    assert properties["name"] == "Tissue 1"
    assert properties["classification"]["name"] == "Tissue"
    assert len(properties["classification"]["color"]) == 3
    assert properties["area_mm2"] == pytest.approx(100 * (16 * 0.5) ** 2 / 1e6)


def test_tissue_and_pen_are_told_apart_by_classification(tmp_path: Path) -> None:
    tissue, pen = np.zeros((2, 10, 10), np.uint8)
    tissue[:4], pen[6:] = 1, 1
    regions = regions_of(tissue, "Tissue", 1.0, 1.0) + regions_of(pen, "Pen", 1.0, 1.0)
    path = written(tmp_path / "both.geojson", to_geojson(regions))
    for kind, mask in (("Tissue", tissue), ("Pen", pen), (None, tissue | pen)):
        np.testing.assert_array_equal(rasterise(read_polygons(path, kind), mask.shape, 1.0), mask)
    assert read_polygons(path, "Stroma") == []


def test_no_region_makes_an_empty_collection(tmp_path: Path) -> None:
    assert to_geojson([]) == {"type": "FeatureCollection", "features": []}
    assert read_polygons(written(tmp_path / "none.geojson", to_geojson([]))) == []


def feature(geometry: object, **more: object) -> dict[str, object]:
    return {"type": "Feature", "geometry": geometry, "properties": {}, **more}


SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]]}
BOW_TIE = {"type": "Polygon", "coordinates": [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]}


def test_a_bare_list_of_features_is_read_too(tmp_path: Path) -> None:
    (polygon,) = read_polygons(written(tmp_path / "list.geojson", [feature(SQUARE)]))
    assert polygon.equals(box(0, 0, 10, 10))


def test_multipolygons_keep_all_their_parts(tmp_path: Path) -> None:
    parts = [SQUARE["coordinates"], [[[20, 0], [30, 0], [30, 10], [20, 0]]]]
    content = {"type": "FeatureCollection", "features": [feature({"type": "MultiPolygon", "coordinates": parts})]}
    (geometry,) = read_polygons(written(tmp_path / "multi.geojson", content))
    assert geometry.area == pytest.approx(150)


def test_a_polygon_that_crosses_itself_is_mended(tmp_path: Path) -> None:
    (geometry,) = read_polygons(written(tmp_path / "bow.geojson", [feature(BOW_TIE)]))
    assert geometry.is_valid
    assert geometry.area > 0


BAD = [
    "",
    "{",
    "null",
    "3",
    "[1]",
    "[{}]",
    "{}",
    '{"features": 3}',
    '{"features": [{"geometry": null}]}',
    '{"features": [{"geometry": {"type": "Foo", "coordinates": []}}]}',
    '{"features": [{"geometry": {"type": "Polygon"}}]}',
    '{"features": [{"geometry": {"type": "Polygon", "coordinates": "abc"}}]}',
    '{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}}]}',
    '{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[NaN, 0], [1, 1], [2, 0], [0, 0]]]}}]}',
    '{"features": [{"geometry": {"type": "LineString", "coordinates": [[1, 2]]}}]}',
    '{"features": [{"geometry": {"type": "MultiPolygon", "coordinates": [1]}}]}',
    "[" * 100_000,
]


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_a_file_that_is_no_geojson_is_named_with_a_remedy(tmp_path: Path, text: str) -> None:
    path = tmp_path / "roi.geojson"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(StudyError, match="not a GeoJSON") as caught:
        read_polygons(path)
    (problem,) = caught.value.problems
    assert problem.where == str(path)
    assert "QuPath" in problem.remedy


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "roi.geojson"
    path.write_bytes(b"\xff\xfe{\0}\0")
    with pytest.raises(StudyError, match="not a GeoJSON"):
        read_polygons(path)


@pytest.mark.parametrize("name", ["absent.geojson", "."])
def test_a_missing_file_or_a_folder_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(StudyError, match="cannot be read") as caught:
        read_polygons(tmp_path / name)
    assert caught.value.problems[0].where == str(tmp_path / name)


numbers = st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=3)
nested = st.recursive(numbers, lambda inner: st.lists(inner, max_size=4), max_leaves=12)
kinds = st.sampled_from(["Polygon", "MultiPolygon", "Point", "LineString", "GeometryCollection", "", None, 3])
geometries = st.fixed_dictionaries({}, optional={"type": kinds, "coordinates": nested, "geometries": nested})


@settings(deadline=None)
@given(
    st.lists(st.fixed_dictionaries({}, optional={"geometry": geometries, "properties": nested}) | nested, max_size=3)
)
def test_whatever_stands_in_the_file_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, features: list[object]
) -> None:
    path = written(tmp_path_factory.getbasetemp() / "any.geojson", {"type": "FeatureCollection", "features": features})
    with warnings.catch_warnings():
        # Shapely warns of coordinates that are no numbers before it refuses them.
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            read = read_polygons(path)
        except StudyError:
            return
    assert len(read) == len(features)
    assert all(g.is_valid for g in read)


def test_coordinates_keep_a_tenth_of_a_pixel() -> None:
    polygon = Polygon([(0.123456, 0), (10.96, 0), (10.96, 10), (0.123456, 0)])
    content = to_geojson([Region("Tissue", 1, polygon, 1.0)])
    assert content["features"][0]["geometry"]["coordinates"][0][:2] == [[0.1, 0.0], [11.0, 0.0]]
