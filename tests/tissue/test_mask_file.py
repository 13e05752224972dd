"""Masks that the user gives: polygons and pictures land on the same pixels; what cannot be a mask is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn
from shapely.geometry import box, mapping

from slidestudy.errors import StudyError
from slidestudy.tissue.mask_file import read_mask
from slidestudy.tissue.polygons import regions_of, to_geojson

SIZE = (1600, 1200)
SHAPE = (75, 100)
DOWNSAMPLE = 16.0

Mask = npt.NDArray[np.uint8]


def truth() -> Mask:
    mask = np.zeros(SHAPE, np.uint8)
    mask[10:50, 20:70] = 1
    mask[20:30, 30:40] = 0
    return mask


def read(path: Path, size: tuple[int, int] = SIZE) -> Mask:
    return read_mask(str(path), size, SHAPE, DOWNSAMPLE)


def picture(path: Path, mask: npt.NDArray[Any], scale: int = 1) -> Path:
    big = np.kron(mask, np.ones((scale, scale), mask.dtype))
    path.write_bytes(cv2.imencode(path.suffix, big)[1].tobytes())
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".PNG"])
@pytest.mark.parametrize("value", [1, 255])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_a_picture_of_any_resolution_gives_the_mask(tmp_path: Path, suffix: str, value: int, scale: int) -> None:
    path = picture(tmp_path / f"mask{suffix}", truth() * np.uint8(value), scale)
    np.testing.assert_array_equal(read(path), truth())


def test_a_jpegs_blurred_values_are_parted_at_half(tmp_path: Path) -> None:
    path = picture(tmp_path / "mask.jpg", truth() * np.uint8(255), 4)
    np.testing.assert_array_equal(read(path), truth())


def test_16_bit_labels_and_colours_are_tissue_wherever_they_are_not_black(tmp_path: Path) -> None:
    labels = truth().astype(np.uint16) * 400
    np.testing.assert_array_equal(read(picture(tmp_path / "labels.png", labels)), truth())
    colours = np.zeros((*SHAPE, 3), np.uint8)
    colours[..., 2] = truth() * 90
    path = tmp_path / "colours.png"
    path.write_bytes(cv2.imencode(".png", colours)[1].tobytes())
    np.testing.assert_array_equal(read(path), truth())


def test_transparent_pixels_are_no_tissue(tmp_path: Path) -> None:
    colours = np.full((*SHAPE, 4), 200, np.uint8)
    colours[..., 3] = truth() * 255
    path = tmp_path / "layer.png"
    path.write_bytes(cv2.imencode(".png", colours)[1].tobytes())
    np.testing.assert_array_equal(read(path), truth())


@settings(deadline=None, max_examples=30)
@given(stn.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 1)))
def test_a_pixel_of_the_overview_is_what_the_mask_is_at_its_centre(
    tmp_path_factory: pytest.TempPathFactory, mask: Mask
) -> None:
    """A slide of 7 level-0 px per mask pixel, seen at 3 level-0 px per overview pixel."""
    path = picture(tmp_path_factory.getbasetemp() / "any.png", mask)
    height, width = mask.shape[0] * 7, mask.shape[1] * 7
    shape = (-(-height // 3), -(-width // 3))
    found = read_mask(str(path), (width, height), shape, 3.0)
    for row, column in np.ndindex(*shape):
        y, x = min(int((row + 0.5) * 3), height - 1), min(int((column + 0.5) * 3), width - 1)
        assert found[row, column] == mask[y // 7, x // 7]


def test_polygons_give_the_mask_that_they_outline(tmp_path: Path) -> None:
    for suffix in (".geojson", ".json", ".GeoJSON"):
        path = tmp_path / f"mask{suffix}"
        path.write_text(json.dumps(to_geojson(regions_of(truth(), "Tissue", DOWNSAMPLE, 0.5))), encoding="utf-8")
        np.testing.assert_array_equal(read(path), truth())


def test_pen_among_the_polygons_is_no_tissue_and_other_classes_are(tmp_path: Path) -> None:
    def feature(left: float, name: str | None) -> dict[str, Any]:
        properties = {"classification": {"name": name}} if name else {}
        return {"type": "Feature", "geometry": mapping(box(left, 0, left + 160, 160)), "properties": properties}

    path = tmp_path / "mask.geojson"
    features = [feature(0, "Tissue"), feature(320, "Pen"), feature(640, "Tumor"), feature(960, None)]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    found = read(path)
    assert [int(found[:10, x : x + 10].mean()) for x in (0, 20, 40, 60)] == [1, 0, 1, 1]


# What is refused


@pytest.mark.parametrize("shape", [(100, 100), (75, 103), (100, 75)])
def test_a_picture_of_another_shape_than_the_slide_is_refused_with_both_sizes(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    path = picture(tmp_path / "mask.png", np.ones(shape, np.uint8))
    with pytest.raises(StudyError, match=f"{shape[1]} x {shape[0]} px.* 1600 x 1200 px") as caught:
        read(path)
    (problem,) = caught.value.problems
    assert problem.where == str(path)
    assert "whole slide" in problem.remedy


@pytest.mark.parametrize("shape", [(75, 101), (74, 100), (8, 10), (7, 10), (1, 1)])
def test_sides_that_are_rounded_are_no_other_shape(tmp_path: Path, shape: tuple[int, int]) -> None:
    assert read(picture(tmp_path / "mask.png", np.ones(shape, np.uint8))).all()


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n broken", b"II*\0broken"])
def test_what_is_no_picture_is_refused_with_a_remedy(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mask.png"
    path.write_bytes(content)
    with pytest.raises(StudyError, match="no picture") as caught:
        read(path)
    assert caught.value.problems[0].where == str(path)
    assert "PNG" in caught.value.problems[0].remedy


@pytest.mark.parametrize("name", ["absent.png", "absent.geojson", "."])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(StudyError, match="cannot be read") as caught:
        read(tmp_path / name)
    assert caught.value.problems[0].where == str(tmp_path / name)


def test_a_geojson_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mask.geojson"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(StudyError, match="not a GeoJSON"):
        read(path)
