"""Regions of interest: what is included and left out, to the pixel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import LineString, Point, box, mapping
from shapely.geometry.base import BaseGeometry

from slidestudy.errors import StudyError
from slidestudy.tissue.roi import read_roi

SHAPE = (40, 50)
DOWNSAMPLE = 4.0


def feature(geometry: BaseGeometry, name: str | None = None) -> dict[str, Any]:
    properties = {} if name is None else {"classification": {"name": name, "color": [1, 2, 3]}}
    return {"type": "Feature", "properties": properties, "geometry": mapping(geometry)}


def written(path: Path, *features: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    return path


def mask_of(path: Path, *features: dict[str, Any], **options: Any) -> np.ndarray:
    return read_roi(written(path, *features), **options).mask(SHAPE, DOWNSAMPLE)


regions = st.builds(
    lambda x, y, w, h: box(x, y, x + w, y + h),
    st.floats(-20, 190),
    st.floats(-20, 150),
    st.floats(1, 120),
    st.floats(1, 120),
)


@settings(deadline=None)
@given(st.lists(regions, min_size=1, max_size=4), st.lists(regions, max_size=4))
def test_included_and_excluded_areas_add_up(
    tmp_path_factory: pytest.TempPathFactory, include: list[BaseGeometry], exclude: list[BaseGeometry]
) -> None:
    path = tmp_path_factory.getbasetemp() / "roi.geojson"
    ins, outs = [feature(g) for g in include], [feature(g, "Exclude") for g in exclude]
    alone = mask_of(path, *ins)
    rest = mask_of(path, *outs)
    both = mask_of(path, *ins, *outs)
    np.testing.assert_array_equal(both, alone & rest)
    left_out = mask_of(path, *(feature(g) for g in exclude)) if exclude else np.zeros(SHAPE, np.uint8)
    assert both.sum() + (alone & left_out).sum() == alone.sum()
    assert rest.sum() + left_out.sum() == alone.size


def test_without_a_region_to_include_the_whole_slide_is_analysed_but_for_what_is_left_out(tmp_path: Path) -> None:
    mask = mask_of(tmp_path / "roi.geojson", feature(box(0, 0, 40, 80), "Exclude"))
    assert mask.sum() == 40 * 50 - 10 * 20
    assert not mask[:20, :10].any()
    assert mask_of(tmp_path / "none.geojson").all()


@pytest.mark.parametrize("name", ["Exclude", "exclude: fold", "IGNORE*", "artefact", "Artifacts", "Ignore"])
def test_a_region_is_left_out_by_its_class_whatever_the_capitals(tmp_path: Path, name: str) -> None:
    assert mask_of(tmp_path / "roi.geojson", feature(box(0, 0, 40, 40), name)).sum() == 40 * 50 - 100


@pytest.mark.parametrize("name", [None, "Tumor", "Not excluded", "ROI"])
def test_a_region_of_any_other_class_is_included(tmp_path: Path, name: str | None) -> None:
    assert mask_of(tmp_path / "roi.geojson", feature(box(0, 0, 40, 40), name)).sum() == 100


def test_the_classes_that_are_left_out_can_be_chosen(tmp_path: Path) -> None:
    features = feature(box(0, 0, 40, 40), "Necrosis"), feature(box(80, 0, 120, 40), "Exclude")
    mask = mask_of(tmp_path / "roi.geojson", *features, exclude=["necro*"])
    assert mask.sum() == 100
    assert mask[:10, 20:30].all()


def test_features_without_properties_are_included(tmp_path: Path) -> None:
    geometry = mapping(box(0, 0, 40, 40))
    for bare in ({"type": "Feature", "geometry": geometry}, {"geometry": geometry, "properties": None}):
        assert mask_of(tmp_path / "roi.geojson", bare).sum() == 100


def test_points_and_lines_beside_regions_are_passed_over(tmp_path: Path) -> None:
    features = feature(box(0, 0, 40, 40)), feature(Point(100, 100)), feature(LineString([(0, 0), (90, 90)]))
    assert mask_of(tmp_path / "roi.geojson", *features).sum() == 100


def test_points_and_lines_alone_are_an_error_and_not_the_whole_slide(tmp_path: Path) -> None:
    path = written(tmp_path / "roi.geojson", feature(Point(5, 5)), feature(box(0, 0, 9, 9), "Exclude"))
    with pytest.raises(StudyError, match="no area") as caught:
        read_roi(path)
    assert caught.value.problems[0].where == str(path)


def test_a_file_that_is_no_geojson_is_named(tmp_path: Path) -> None:
    path = tmp_path / "roi.geojson"
    path.write_text("x,y\n1,2\n", encoding="utf-8")
    with pytest.raises(StudyError, match="not a GeoJSON") as caught:
        read_roi(path)
    assert caught.value.problems[0].where == str(path)
