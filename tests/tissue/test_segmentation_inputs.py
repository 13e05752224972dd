"""What the tissue stage is given besides the slide: masks, regions of interest; and slides that are damaged."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from shapely.geometry import box, mapping, shape
from tests.tissue.pictures import METHODS, disc, overview
from tests.tissue.stage import codes, segment, slide

from slidestudy.errors import StudyError
from slidestudy.geometry import rasterise
from slidestudy.tissue.polygons import read_polygons
from slidestudy.tissue.segmentation import Segmentation

# Places that cannot be read


@pytest.mark.parametrize("method", METHODS)
def test_what_cannot_be_read_is_no_tissue_and_is_warned_of(damaged: Path, method: str) -> None:
    found = segment(damaged, 0.5, method=method, max_unreadable=0.5)
    record = found.record
    assert record["status"] == "admitted"
    assert 0 < record["unreadable_fraction"] <= 0.5
    assert "unreadable" in codes(found)
    spoiled = box(256, 256, 512, 512)
    tissue = [shape(f["geometry"]) for f in found.geojson["features"]]
    assert sum(t.intersection(spoiled).area for t in tissue) == 0
    assert record["tissue_fraction"] <= 1 - record["unreadable_fraction"]


def test_a_slide_of_which_too_much_cannot_be_read_is_excluded(damaged: Path) -> None:
    found = segment(damaged, 0.5)
    assert found.record["status"] == "excluded"
    assert found.record["reason"]["code"] == "unreadable_tiles"
    assert "max_unreadable = 0.05" in found.record["reason"]["message"]
    assert found.geojson["features"] == []
    assert max(found.overlay.shape) == 128, "the overlay shows what could be read"
    json.dumps(found.record, allow_nan=False)


def test_a_whole_slide_has_nothing_unreadable(inked: Segmentation) -> None:
    assert inked.record["unreadable_fraction"] == 0
    assert "unreadable" not in codes(inked)


# Masks from a file


def test_a_given_mask_is_taken_as_it_is(tmp_path: Path) -> None:
    """Neither pen nor least areas change it; a picture and its outlines give the same."""
    path = slide(tmp_path, overview(disc(90)), enlarged=4)
    drawn = np.zeros((300, 300), np.uint8)
    drawn[40:60, 50:90], drawn[200, 200] = 255, 255
    picture = tmp_path / "mask.png"
    picture.write_bytes(cv2.imencode(".png", drawn)[1].tobytes())
    found = segment(path, 2.0, mask=picture, section_gap_mm=0.1)
    assert found.record["method"] == "file"
    assert found.record["threshold"] is None
    assert found.record["tissue_mm2"] == pytest.approx((20 * 40 + 1) * 64e-6)
    assert (found.record["sections"], found.record["pen_mm2"]) == (2, 0)
    assert found.record["quality"]["pen_fraction"] is None
    outlines = tmp_path / "mask.geojson"
    outlines.write_text(json.dumps(found.geojson), encoding="utf-8")
    again = segment(path, 2.0, mask=outlines, section_gap_mm=0.1)
    assert again.geojson == found.geojson


def test_regions_of_interest_and_damage_apply_to_a_given_mask(tmp_path: Path, damaged: Path) -> None:
    everywhere = tmp_path / "mask.png"
    everywhere.write_bytes(cv2.imencode(".png", np.ones((64, 64), np.uint8))[1].tobytes())
    found = segment(damaged, 0.5, mask=everywhere, max_unreadable=0.5)
    assert found.record["tissue_fraction"] == pytest.approx(1 - found.record["unreadable_fraction"])
    part = segment(damaged, 0.5, roi(tmp_path, (1024, 1024, 1536, 1536)), everywhere, max_unreadable=0.5)
    assert part.record["tissue_mm2"] == pytest.approx((512 * 0.0005) ** 2, rel=0.05)


def test_a_given_mask_without_tissue_excludes_the_slide_with_its_name(tmp_path: Path) -> None:
    path = slide(tmp_path, overview(disc(90)))
    empty = tmp_path / "nothing.png"
    empty.write_bytes(cv2.imencode(".png", np.zeros((30, 30), np.uint8))[1].tobytes())
    reason = segment(path, 8.0, mask=empty).record["reason"]
    assert reason["code"] == "no_tissue"
    assert "nothing.png" in reason["message"]


def test_a_given_mask_of_another_slide_stops_with_its_name(tmp_path: Path) -> None:
    path = slide(tmp_path, overview(disc(90)))
    other = tmp_path / "other.png"
    other.write_bytes(cv2.imencode(".png", np.ones((30, 60), np.uint8))[1].tobytes())
    with pytest.raises(StudyError, match="60 x 30 px") as caught:
        segment(path, 8.0, mask=other)
    assert caught.value.problems[0].where == str(other)


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
    assert "roi.geojson" in found.record["reason"]["message"]


@pytest.mark.parametrize("method", METHODS)
def test_what_a_roi_leaves_out_and_what_remains_add_up(study: Path, tmp_path: Path, method: str) -> None:
    path, region = study / "slides/north/N02-2.svs", box(400, 300, 1000, 900)
    found = {}
    for name in ("Region", "Artefact: fold"):
        features = [{"properties": {"classification": {"name": name}}, "geometry": mapping(region)}]
        file = tmp_path / f"{name[:3]}.geojson"
        file.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
        found[name] = segment(path, 0.5, file, method=method).record["tissue_mm2"]
    whole = segment(path, 0.5, method=method).record["tissue_mm2"]
    assert sum(found.values()) == pytest.approx(whole, abs=1e-5)
    assert min(found.values()) > 0


def test_the_classes_that_a_roi_leaves_out_are_configured(study: Path, tmp_path: Path) -> None:
    features = [{"properties": {"classification": {"name": "Necrosis"}}, "geometry": mapping(box(0, 0, 900, 900))}]
    file = tmp_path / "roi.geojson"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    path = study / "slides/north/N02-2.svs"
    kept, cut = segment(path, 0.5, file), segment(path, 0.5, file, roi_exclude=["Necrosis"])
    whole = segment(path, 0.5)
    assert kept.record["tissue_mm2"] + cut.record["tissue_mm2"] == pytest.approx(whole.record["tissue_mm2"], abs=1e-5)


def test_a_roi_that_is_no_geojson_stops_with_its_name(study: Path, tmp_path: Path) -> None:
    bad = tmp_path / "roi.geojson"
    bad.write_text("x,y\n1,2\n")
    with pytest.raises(StudyError, match="not a GeoJSON") as caught:
        segment(study / "slides/north/N02-2.svs", 0.5, bad)
    assert caught.value.problems[0].where == str(bad)
