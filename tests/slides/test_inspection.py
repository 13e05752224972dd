"""The inspection of a slide: what is recorded, and the reason of every slide that cannot be used."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openslide
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn
from PIL import ImageCms

from slidestudy.slides.inspection import REGION, check_regions, fingerprint, inspect_slide, quality
from slidestudy.slides.reader import Slide

RGB = npt.NDArray[np.uint8]
Write = Callable[..., Path]
OPTIONS = {"regions": 4, "mpp_tolerance": 0.05, "max_unreadable": 0.05}


def inspect(path: Path, mpp: float | None = None, **options: Any) -> dict[str, Any]:
    entry = {"slide_id": "s1", "patient_id": "p1", "cohort": "c1", "path": str(path), "mpp": mpp, "roi": None}
    return inspect_slide(entry, {**OPTIONS, **options})


# Real slides

ADMITTED = {
    "cmu-1-small-region.svs": (None, "aperio", (2220, 2967), 0.499, "vendor"),
    "her2st_C2.tif": (None, "generic-tiff", (9274, 9911), 0.69, "tiff-tags"),
    "her2st_C3.tif": (None, "generic-tiff", (9270, 9936), 0.69, "tiff-tags"),
    "tcga-cr-7395-01a-01-ts1.svs": (0.5, "aperio", (4443, 3567), 0.5, "table"),
    "kidney-48-5.tif": (0.5, "tiff", (1493, 901), 0.5, "table"),
}
EXCLUDED = {
    "broken.svs": "unreadable",
    "camelyon_overview_jpeg.dcm": "mpp_implausible",
    "camelyon_overview_jpeg2000.dcm": "mpp_implausible",
    "invalid_resolutions_tiff.tif": "mpp_missing",
    "kidney-48-5.tif": "mpp_missing",
    "no_dzi.tif": "not_brightfield",
    "panimg_full_with_bot.dcm": "mpp_implausible",
    "sm_image_grayscale.dcm": "unreadable",
    "sm_image_jpegls.dcm": "unreadable",
    "small_dicom.dcm": "unreadable",
    "small_vectra.qptiff": "not_brightfield",
    "tcga-cr-7395-01a-01-ts1.svs": "mpp_missing",
    "truncated_mrxs/Mirax2-Fluorescence-1.mrxs": "unreadable",
    "valid_tiff.tif": "mpp_implausible",
}


@pytest.mark.shared
def test_every_real_slide_has_an_expected_outcome(shared: Path) -> None:
    files = {str(p.relative_to(shared / "slides")) for p in (shared / "slides").iterdir() if p.is_file()}
    assert files <= ADMITTED.keys() | EXCLUDED.keys()


@pytest.mark.shared
@pytest.mark.parametrize("name", ADMITTED)
def test_a_real_slide_is_admitted_with_its_size_and_resolution(shared: Path, name: str) -> None:
    table_mpp, vendor, size, mpp, source = ADMITTED[name]
    record = inspect(shared / "slides" / name, table_mpp)
    assert (record["status"], record["reason"], record["warnings"]) == ("admitted", None, [])
    assert (record["vendor"], (record["width"], record["height"])) == (vendor, size)
    assert record["mpp"]["value"] == pytest.approx(mpp)
    assert record["mpp"]["source"] == source


@pytest.mark.shared
@pytest.mark.parametrize("name", EXCLUDED)
def test_a_real_slide_is_excluded_with_its_reason(shared: Path, name: str) -> None:
    record = inspect(shared / "slides" / name)
    assert record["status"] == "excluded"
    assert record["reason"]["code"] == EXCLUDED[name], record["reason"]["message"]
    assert record["reason"]["message"]


@pytest.mark.shared
def test_label_and_macro_images_are_never_read(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shared / "slides" / "cmu-1-small-region.svs"
    with openslide.OpenSlide(path) as slide:
        assert {"label", "macro"} <= slide.associated_images.keys(), "there is something not to read"

    def forbidden(_: openslide.OpenSlide) -> None:
        raise AssertionError("associated images were asked for")

    monkeypatch.setattr(openslide.OpenSlide, "associated_images", property(forbidden))
    record = inspect(path)
    assert record["status"] == "admitted"
    text = json.dumps(record)
    assert "label" not in text
    assert "macro" not in text
    assert len(text) < 5000, "too long for a record without pictures"


def test_nothing_in_the_library_asks_for_associated_images(repository: Path) -> None:
    files = [*(repository / "scripts").rglob("*.py"), *(repository / "workflow").rglob("*.smk")]
    assert len(files) > 50
    assert [path.name for path in files if "associated_images" in path.read_text(encoding="utf-8")] == []


# The record


def test_the_record_is_json_and_says_what_the_file_is(same_tissue: dict[float, Path]) -> None:
    record = json.loads(json.dumps(inspect(same_tissue[0.5]), allow_nan=False))
    assert [record[key] for key in ("slide_id", "patient_id", "cohort")] == ["s1", "p1", "c1"]
    assert record["levels"] == [
        {"width": 1024, "height": 768, "downsample": 1.0},
        {"width": 256, "height": 192, "downsample": 4.0},
        {"width": 64, "height": 48, "downsample": 16.0},
    ]
    assert record["objective"] == "20"
    assert record["icc"] is None
    assert {"slidestudy", "openslide-python", "openslide-bin"} <= record["software"].keys()


def test_a_conflict_of_table_and_file_is_kept_as_a_warning(same_tissue: dict[float, Path]) -> None:
    record = inspect(same_tissue[0.5], 0.25)
    assert record["status"] == "admitted"
    assert record["mpp"]["value"] == 0.25
    assert len(record["warnings"]) == 1
    assert inspect(same_tissue[0.5], 0.25, mpp_tolerance=0.6)["warnings"] == []


def test_the_icc_profile_is_recorded_by_its_digest(tmp_path: Path, picture: RGB, write_tiff: Write) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    record = inspect(write_tiff(tmp_path / "slide.tif", picture, iccprofile=profile))
    assert record["icc"] == hashlib.sha256(profile).hexdigest()[:16]


def test_an_excluded_slides_record_keeps_what_was_found_until_then(
    tmp_path: Path, picture: RGB, write_tiff: Write
) -> None:
    record = inspect(write_tiff(tmp_path / "slide.tif", picture, mpp=None))
    assert record["reason"]["code"] == "mpp_missing"
    assert (record["width"], record["height"]) == (900, 700)


# Decoding


@pytest.mark.parametrize("tile", [0, 11])
def test_a_damaged_tile_costs_the_slide_or_is_warned_of(
    tmp_path: Path, picture: RGB, write_tiff: Write, spoil_tile: Callable[[Path, int], Path], tile: int
) -> None:
    path = write_tiff(tmp_path / "slide.tif", picture, compression="jpeg")
    assert inspect(path)["status"] == "admitted"
    spoil_tile(path, tile)
    record = inspect(path)
    assert record["reason"]["code"] == "unreadable_tiles"
    assert "of level 0 cannot be decoded" in record["reason"]["message"]
    record = inspect(path, max_unreadable=0.5)
    assert (record["status"], record["reason"]) == ("admitted", None)
    assert [w["code"] for w in record["warnings"]] == ["unreadable_tiles"]


def test_a_file_too_short_for_its_tiles_is_truncated(tmp_path: Path, picture: RGB, write_tiff: Write) -> None:
    path = write_tiff(tmp_path / "slide.tif", picture, compression="jpeg")
    with tifffile.TiffFile(path) as file:
        end = max(o + n for o, n in zip(file.pages[0].dataoffsets, file.pages[0].databytecounts, strict=True))
    path.write_bytes(path.read_bytes()[: end - 1])
    record = inspect(path)
    assert record["reason"]["code"] == "truncated"
    assert "1 of 12 of its image tiles lie beyond its end" in record["reason"]["message"]


def test_a_copy_without_its_last_bytes_is_to_be_copied_anew(tmp_path: Path, picture: RGB, write_tiff: Write) -> None:
    path = write_tiff(tmp_path / "slide.tif", picture, compression="jpeg")
    path.write_bytes(path.read_bytes()[:-500])
    record = inspect(path)
    assert record["status"] == "excluded"
    assert "copy the file anew" in record["reason"]["message"]


def test_a_copy_that_ends_before_its_smaller_levels_is_truncated(
    same_tissue: dict[float, Path], tmp_path: Path
) -> None:
    path = tmp_path / "cut.svs"
    path.write_bytes(same_tissue[0.5].read_bytes()[:40_000])
    assert inspect(path)["reason"]["code"] == "truncated"


def test_an_empty_file_is_truncated(tmp_path: Path) -> None:
    (tmp_path / "slide.svs").touch()
    record = inspect(tmp_path / "slide.svs")
    assert record["reason"]["code"] == "truncated"
    assert record["reason"]["message"].startswith("the file is empty")


@pytest.mark.parametrize("regions", [1, 4, 16])
def test_regions_spread_over_every_level_up_to_its_last_corner(same_tissue: dict[float, Path], regions: int) -> None:
    reads: list[tuple[int, int, int]] = []

    class Watched(Slide):
        def read(self, x: int, y: int, level: int, width: int, height: int) -> RGB:
            reads.append((level, x + width, y + height))
            return super().read(x, y, level, width, height)

    with Watched(same_tissue[0.5]) as slide:
        assert check_regions(slide, regions) == (len(reads), [])
    assert {level for level, _, _ in reads} == {0, 1, 2}
    assert sum(level == 0 for level, _, _ in reads) <= 2 * regions
    if regions > 1:
        assert (0, 1024, 768) in reads


def test_a_slide_smaller_than_a_region_is_decoded_whole(tmp_path: Path, picture: RGB, write_tiff: Write) -> None:
    assert REGION > 100
    record = inspect(write_tiff(tmp_path / "small.tif", picture[:100, :60]))
    assert record["status"] == "admitted"
    assert record["regions_decoded"] >= 1


@pytest.mark.parametrize(("value", "code"), [(0, "not_brightfield"), (40, "not_brightfield"), (200, None)])
def test_a_dark_slide_is_not_bright_field(tmp_path: Path, write_tiff: Write, value: int, code: str | None) -> None:
    record = inspect(write_tiff(tmp_path / "slide.tif", np.full((300, 300, 3), value, np.uint8)))
    assert (record["reason"] or {}).get("code") == code
    assert record["quality"]["brightness"] == value


# What the file says


def test_scanner_date_and_reader_are_recorded(shared: Path) -> None:
    record = inspect(shared / "slides" / "cmu-1-small-region.svs")
    assert (record["scanner"], record["scan_date"]) == ("CPAPERIOCS", "12/29/09")
    assert record["reader"] == {"kind": "chunks", "why": ""}


def test_a_slide_read_through_openslide_says_why(shared: Path) -> None:
    record = inspect(shared / "slides" / "camelyon_overview_jpeg.dcm")
    assert record["reader"] == {"kind": "openslide", "why": "format dicom"}


def test_a_staged_slide_is_inspected_as_it_lies_and_its_copy_removed(
    same_tissue: dict[float, Path], tmp_path: Path
) -> None:
    path = same_tissue[0.5]
    entry = {"slide_id": "s1", "patient_id": "p1", "cohort": "c1", "path": str(path), "mpp": None, "roi": None}
    assert inspect_slide(entry, OPTIONS, {"staging": str(tmp_path / "scratch")}) == inspect(path)
    assert list((tmp_path / "scratch").iterdir()) == []


# Fingerprints


def test_a_copy_under_another_name_has_the_same_fingerprint(same_tissue: dict[float, Path], tmp_path: Path) -> None:
    copy = tmp_path / "renamed.svs"
    shutil.copy(same_tissue[0.5], copy)
    assert inspect(copy)["fingerprint"] == inspect(same_tissue[0.5])["fingerprint"]


def test_other_slides_have_other_fingerprints(same_tissue: dict[float, Path], tmp_path: Path, picture: RGB) -> None:
    prints = [inspect(path)["fingerprint"] for path in same_tissue.values()]
    assert len(set(prints)) == 2, "the same tissue scanned twice is not the same file"


@settings(deadline=None)
@given(stn.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3))), st.data())
def test_any_other_pixel_changes_the_fingerprint(image: RGB, data: st.DataObject) -> None:
    changed = image.copy()
    at = tuple(data.draw(st.integers(0, side - 1)) for side in image.shape)
    changed[at] ^= np.uint8(data.draw(st.integers(1, 255)))
    assert fingerprint(changed) != fingerprint(image)
    assert fingerprint(image.copy()) == fingerprint(image)


def test_the_shape_is_part_of_the_fingerprint() -> None:
    image = np.zeros((2, 6, 3), np.uint8)
    assert fingerprint(image) != fingerprint(image.reshape(6, 2, 3))


def test_quality_is_brightness_and_saturation() -> None:
    assert quality(np.full((4, 4, 3), 255, np.uint8)) == {"brightness": 255.0, "saturation": 0.0}
    half_red = np.zeros((2, 2, 3), np.uint8)
    half_red[0, :, 0] = 255
    assert quality(half_red) == {"brightness": pytest.approx(42.5), "saturation": pytest.approx(0.5)}
