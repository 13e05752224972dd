"""The tissue stage of one slide: its record, its polygons and its overlay agree; a slide without tissue says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from shapely.geometry import box, mapping, shape

from slidestudy.demo.study import generate_study
from slidestudy.errors import StudyError
from slidestudy.geometry import rasterise
from slidestudy.tissue.polygons import read_polygons
from slidestudy.tissue.segmentation import OVERLAY_SIDE, Segmentation, draw_overlay, segment_tissue

OPTIONS = {"mpp": 8, "min_area_mm2": 0.02, "min_hole_mm2": 0.01, "exclude_pen": True}
FIELD_MM2 = 0.768 * 0.512
"""The generated slides' size: a whole number of mask pixels."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    generate_study(folder, seed=7, scale=0.5, patients={"north": 2, "south": 1, "west": 1}, workers=1)
    return folder


def segment(path: Path, slide_mpp: float, roi: Path | None = None, **options: Any) -> Segmentation:
    entry = {"slide_id": "s1", "patient_id": "p1", "cohort": "c1", "path": str(path), "roi": roi and str(roi)}
    return segment_tissue(entry, {"mpp": {"value": slide_mpp}}, {**OPTIONS, **options})


def areas(found: Segmentation, kind: str) -> list[float]:
    features = [f["properties"] for f in found.geojson["features"]]
    return [p["area_mm2"] for p in features if p["classification"]["name"] == kind]


@pytest.fixture(scope="module")
def inked(study: Path) -> Segmentation:
    """The slide of the south cohort, which bears black pen."""
    return segment(study / "slides/south/S01-1.tif", 0.4)


def test_the_record_is_json_and_says_how_the_mask_was_made(inked: Segmentation) -> None:
    record = json.loads(json.dumps(inked.record, allow_nan=False))
    assert [record[key] for key in ("slide_id", "patient_id", "cohort")] == ["s1", "p1", "c1"]
    assert (record["status"], record["reason"]) == ("admitted", None)
    assert record["mask_mpp"] == pytest.approx(8)
    assert 12 <= record["saturation_threshold"] < 255
    assert {"slidestudy", "opencv-python-headless", "shapely"} <= record["software"].keys()


def test_areas_of_record_and_polygons_agree(inked: Segmentation) -> None:
    record = inked.record
    assert record["sections"] == len(areas(inked, "Tissue")) >= 1
    assert record["tissue_mm2"] == pytest.approx(sum(areas(inked, "Tissue")), abs=1e-5)
    assert record["pen_mm2"] == pytest.approx(sum(areas(inked, "Pen")), abs=1e-5)
    assert record["pen_mm2"] > 0.01
    assert record["tissue_fraction"] == pytest.approx(record["tissue_mm2"] / FIELD_MM2, abs=1e-5)


def test_tissue_and_pen_do_not_overlap(inked: Segmentation) -> None:
    shapes = {"Tissue": [], "Pen": []}
    for feature in inked.geojson["features"]:
        shapes[feature["properties"]["classification"]["name"]].append(shape(feature["geometry"]))
    assert not any(t.intersects(p) for t in shapes["Tissue"] for p in shapes["Pen"])


def test_the_same_tissue_has_about_the_same_area_on_both_scanners(study: Path) -> None:
    """North's second patient has two slides of the same recipe on different scanners; areas are real ones."""
    first, second = segment(study / "slides/north/N02-1.tif", 0.4), segment(study / "slides/north/N02-2.svs", 0.5)
    for found in (first, second):
        assert 0.35 * FIELD_MM2 < found.record["tissue_mm2"] + found.record["pen_mm2"] < 0.85 * FIELD_MM2


def test_a_slide_of_half_the_mpp_has_a_quarter_of_the_area(study: Path) -> None:
    path = study / "slides/north/N02-2.svs"
    whole, half = segment(path, 0.5), segment(path, 0.25)
    assert half.record["tissue_mm2"] == pytest.approx(whole.record["tissue_mm2"] / 4, rel=0.1)


def test_pen_is_kept_as_tissue_or_glass_where_it_is_not_to_be_excluded(study: Path, inked: Segmentation) -> None:
    kept = segment(study / "slides/south/S01-1.tif", 0.4, exclude_pen=False)
    assert kept.record["pen_mm2"] == 0
    assert areas(kept, "Pen") == []
    assert kept.record["settings"] != inked.record["settings"]


def test_segmenting_twice_gives_the_same(study: Path, inked: Segmentation) -> None:
    again = segment(study / "slides/south/S01-1.tif", 0.4)
    assert (again.geojson, again.record) == (inked.geojson, inked.record)
    np.testing.assert_array_equal(again.overlay, inked.overlay)


# Without tissue


def blank(folder: Path) -> Path:
    path = folder / "blank.tif"
    glass = np.clip(240 + np.random.default_rng(0).normal(0, 2, (600, 800, 3)), 0, 255).astype(np.uint8)
    tifffile.imwrite(path, glass, tile=(256, 256), photometric="rgb", compression="jpeg")
    return path


def test_a_blank_slide_is_excluded_for_want_of_tissue(tmp_path: Path) -> None:
    found = segment(blank(tmp_path), 0.5)
    assert found.record["status"] == "excluded"
    assert found.record["reason"]["code"] == "no_tissue"
    assert "overlay" in found.record["reason"]["message"]
    assert (found.record["sections"], found.record["tissue_mm2"]) == (0, 0)
    assert found.geojson["features"] == []
    assert found.overlay.mean() > 230, "the overlay shows the glass"


def test_a_slide_that_fails_while_read_is_excluded_with_that_reason(study: Path, tmp_path: Path) -> None:
    path = tmp_path / "slide.svs"
    whole = (study / "slides/north/N02-2.svs").read_bytes()
    path.write_bytes(whole[: len(whole) // 3])
    found = segment(path, 0.5)
    assert found.record["status"] == "excluded"
    assert found.record["reason"]["code"] == "truncated"
    assert found.geojson["features"] == []
    json.dumps(found.record, allow_nan=False)


# Region of interest


def roi(folder: Path, *boxes: tuple[float, float, float, float]) -> Path:
    features = [{"type": "Feature", "properties": {}, "geometry": mapping(box(*b))} for b in boxes]
    path = folder / "roi.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    return path


def test_a_roi_restricts_the_tissue_to_itself(study: Path, tmp_path: Path) -> None:
    path = study / "slides/north/N02-2.svs"
    whole = segment(path, 0.5)
    inside = (400.0, 300.0, 1000.0, 900.0)
    found = segment(path, 0.5, roi(tmp_path, inside))
    assert 0 < found.record["tissue_mm2"] < whole.record["tissue_mm2"]
    # A mask pixel is 16 level-0 pixels; the region's border may take in the pixel that it touches.
    around = box(*inside).buffer(1.5 * 16)
    assert all(around.contains(shape(f["geometry"])) for f in found.geojson["features"])
    (tmp_path / "whole.geojson").write_text(json.dumps(whole.geojson))
    full = rasterise(read_polygons(tmp_path / "whole.geojson", "Tissue"), (64, 96), 16)
    assert found.record["tissue_mm2"] == pytest.approx(full[19:56, 25:62].sum() * 64e-6, rel=0.08)


def test_a_roi_beside_the_tissue_leaves_none(study: Path, tmp_path: Path) -> None:
    found = segment(study / "slides/north/N02-2.svs", 0.5, roi(tmp_path, (0, 0, 40, 40)))
    assert found.record["reason"]["code"] == "no_tissue"


def test_a_roi_that_is_no_geojson_stops_with_its_name(study: Path, tmp_path: Path) -> None:
    bad = tmp_path / "roi.geojson"
    bad.write_text("x,y\n1,2\n")
    with pytest.raises(StudyError, match="not a GeoJSON") as caught:
        segment(study / "slides/north/N02-2.svs", 0.5, bad)
    assert caught.value.problems[0].where == str(bad)


# Overlay


def test_the_overlay_is_bounded_and_shows_both_outlines() -> None:
    picture = np.full((1500, 3000, 3), 255, np.uint8)
    tissue, pen = np.zeros((2, 1500, 3000), np.uint8)
    tissue[300:900, 300:900], pen[300:900, 1500:2000] = 1, 1
    overlay = draw_overlay(picture, tissue, pen)
    assert overlay.shape == (OVERLAY_SIDE // 2, OVERLAY_SIDE, 3)
    assert (overlay[200, 95:110].astype(int) @ [-1, 2, -1] > 50).any(), "green where tissue begins"
    assert (overlay[200, 505:520].astype(int) @ [-1, -1, 2] > 50).any(), "blue where pen begins"
    assert (overlay[200, 200] == 255).all(), "the tissue itself stays as it is"
    assert (picture == 255).all()


def test_a_small_overview_is_not_enlarged() -> None:
    nothing = np.zeros((40, 60), np.uint8)
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    np.testing.assert_array_equal(draw_overlay(picture, nothing, nothing), picture)
