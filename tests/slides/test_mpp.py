"""The resolution of a slide: which source wins, what is refused, what is warned of."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.errors import Reason, SlideError
from slidestudy.slides.mpp import PLAUSIBLE, candidates, decide_mpp


def properties(x: object, y: object) -> dict[str, str]:
    return {"openslide.mpp-x": str(x), "openslide.mpp-y": str(y)}


def test_the_files_mpp_is_used_where_the_table_is_blank() -> None:
    mpp = decide_mpp(properties(0.25, 0.25), None, "s1")
    assert (mpp.value, mpp.x, mpp.y, mpp.source, mpp.warnings) == (0.25, 0.25, 0.25, "vendor", [])


def test_the_table_wins_over_the_file() -> None:
    mpp = decide_mpp(properties(0.25, 0.25), 0.5, "s1")
    assert (mpp.value, mpp.source) == (0.5, "table")


@pytest.mark.parametrize(("table", "warned"), [(0.5, True), (0.27, True), (0.26, False), (0.24, False), (0.23, True)])
def test_a_table_that_differs_from_the_file_beyond_the_tolerance_is_warned_of(table: float, warned: bool) -> None:
    warnings = decide_mpp(properties(0.25, 0.25), table, "s1", tolerance=0.05).warnings
    assert len(warnings) == warned
    assert all(w["code"] == "mpp_conflict" for w in warnings)
    assert all(f"{table:g}" in w["message"] and "0.25" in w["message"] for w in warnings)


@pytest.mark.parametrize(
    "given_properties",
    [
        {},
        {"openslide.mpp-x": "0.5"},
        {"openslide.mpp-y": "0.5"},
        *[properties(text, text) for text in ("", "abc", "0,5", "nan", "inf", "-0.5", "0", "1e999", "0.5 um")],
        properties("0.5", "?"),
    ],
)
def test_a_resolution_that_nobody_tells_is_missing(given_properties: dict[str, str]) -> None:
    with pytest.raises(SlideError, match="s1") as caught:
        decide_mpp(given_properties, None, "s1")
    assert caught.value.reason is Reason.MPP_MISSING
    assert "slides.tsv" in caught.value.remedy


@pytest.mark.parametrize("text", ["", "abc", "1000", "0"])
def test_the_table_rescues_a_slide_whose_file_says_nothing_usable(text: str) -> None:
    assert decide_mpp(properties(text, text), 0.5, "s1").value == 0.5


@pytest.mark.parametrize(("x", "y"), [(1000, 1000), (0.04, 0.04), (0.5, 18.0), (18.0, 0.5), (0.01, 0.5)])
def test_an_implausible_file_is_refused_even_where_only_one_direction_is(x: float, y: float) -> None:
    with pytest.raises(SlideError) as caught:
        decide_mpp(properties(x, y), None, "s1")
    assert caught.value.reason is Reason.MPP_IMPLAUSIBLE
    assert "file" in caught.value.what


@pytest.mark.parametrize("value", [0.0, -1.0, 0.049, 10.1, math.inf, math.nan])
def test_an_implausible_table_is_refused_though_the_file_is_fine(value: float) -> None:
    with pytest.raises(SlideError) as caught:
        decide_mpp(properties(0.5, 0.5), value, "s1")
    assert caught.value.reason is Reason.MPP_IMPLAUSIBLE
    assert "table" in caught.value.what


def test_pixels_that_are_not_square_are_averaged_with_a_warning() -> None:
    mpp = decide_mpp(properties(0.5, 0.52), None, "s1")
    assert mpp.value == pytest.approx(0.51)
    (warning,) = mpp.warnings
    assert "0.5" in warning["message"]
    assert "0.52" in warning["message"]
    assert decide_mpp(properties(0.5, 0.505), None, "s1").warnings == []


def test_directions_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(SlideError) as caught:
        decide_mpp(properties(0.25, 0.5), None, "s1")
    assert caught.value.reason is Reason.MPP_CONFLICT
    assert decide_mpp(properties(0.25, 0.5), 0.25, "s1").source == "table"


def test_the_record_of_the_decision_is_json() -> None:
    mpp = decide_mpp(properties(0.5, 0.6), None, "s1")
    record = json.loads(json.dumps(mpp.to_dict(), allow_nan=False))
    said = {"source": "vendor", "x": 0.5, "y": 0.6}
    assert record == {"value": 0.55, "x": 0.5, "y": 0.6, "source": "vendor", "candidates": [said]}


# Sources

TAGS = {"tiff.XResolution": "40000", "tiff.YResolution": "40000", "tiff.ResolutionUnit": "centimeter"}
OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image><Pixels '
    'PhysicalSizeX="{x}" PhysicalSizeXUnit="{unit}" PhysicalSizeY="{y}" PhysicalSizeYUnit="{unit}"/></Image></OME>'
)


def test_sources_are_asked_in_order_and_all_are_kept() -> None:
    file = {**properties(0.5, 0.5), **TAGS, "tiff.ImageDescription": "Aperio |MPP = 0.125|AppMag = 40"}
    assert [(c.source, c.value) for c in candidates(file, 1.0)] == [
        ("table", 1.0),
        ("vendor", 0.5),
        ("tiff-tags", 0.25),
        ("image-description", 0.125),
    ]
    order = ["openslide.mpp-x", "tiff.XResolution", "tiff.ImageDescription"]
    expected = ["vendor", "tiff-tags", "image-description"]
    for gone, source in zip([None, *order], [*expected, None], strict=True):
        if gone is not None:
            del file[gone]
        if source is not None:
            assert decide_mpp(file, None, "s1").source == source


@pytest.mark.parametrize(
    ("unit", "pixels", "mpp"), [("centimeter", 20_000, 0.5), ("inch", 50_800, 0.5), ("inch", 101_600, 0.25)]
)
def test_resolution_tags_count_pixels_per_unit(unit: str, pixels: int, mpp: float) -> None:
    file = {"tiff.XResolution": str(pixels), "tiff.YResolution": str(pixels), "tiff.ResolutionUnit": unit}
    found = decide_mpp(file, None, "s1")
    assert (found.value, found.source) == (pytest.approx(mpp), "tiff-tags")


def test_tags_without_a_unit_say_nothing() -> None:
    with pytest.raises(SlideError) as caught:
        decide_mpp({**TAGS, "tiff.ResolutionUnit": "none"}, None, "s1")
    assert caught.value.reason is Reason.MPP_MISSING


def test_a_generic_tiffs_resolution_is_that_of_its_tags() -> None:
    file = {**properties(0.25, 0.25), **TAGS, "openslide.vendor": "generic-tiff"}
    assert [c.source for c in candidates(file, None)] == ["tiff-tags"]


@pytest.mark.parametrize(("unit", "size"), [("µm", 0.5), ("um", 0.5), ("nm", 500), ("mm", 0.0005)])
def test_ome_xml_gives_physical_sizes_in_its_units(unit: str, size: float) -> None:
    found = decide_mpp({"tiff.ImageDescription": OME.format(x=size, y=size, unit=unit)}, None, "s1")
    assert (found.value, found.source) == (pytest.approx(0.5), "image-description")


def test_ome_xml_of_an_unknown_unit_says_nothing() -> None:
    with pytest.raises(SlideError) as caught:
        decide_mpp({"tiff.ImageDescription": OME.format(x=1, y=1, unit="pixel")}, None, "s1")
    assert caught.value.reason is Reason.MPP_MISSING


def test_imagej_gives_its_unit_in_words_and_pixels_per_unit_in_the_tags() -> None:
    file = {**TAGS, "tiff.XResolution": "4", "tiff.YResolution": "4", "tiff.ResolutionUnit": "none"}
    found = decide_mpp({**file, "tiff.ImageDescription": "ImageJ=1.53t\nunit=micron\nspacing=1\n"}, None, "s1")
    assert (found.value, found.source) == (0.25, "image-description")


def test_an_implausible_source_is_passed_over_with_a_warning() -> None:
    # 72 pixels per inch is what programs write that know nothing.
    tags = {"tiff.XResolution": "72", "tiff.YResolution": "72", "tiff.ResolutionUnit": "inch"}
    found = decide_mpp({**tags, "tiff.ImageDescription": "MPP = 0.25"}, None, "s1")
    assert (found.value, found.source) == (0.25, "image-description")
    (warning,) = found.warnings
    assert warning["code"] == "mpp_implausible"
    assert "352.8" in warning["message"]


numbers = st.floats(allow_nan=True, allow_infinity=True).map(repr)
texts = st.none() | st.text(max_size=12) | numbers | st.floats(0.01, 20).map(repr)
descriptions = st.none() | st.text(max_size=40) | st.from_regex(r"MPP ?= ?[0-9.e+-]{0,8}", fullmatch=True)
files = st.fixed_dictionaries(
    {},
    optional={
        "openslide.mpp-x": texts.filter(bool),
        "openslide.mpp-y": texts.filter(bool),
        "tiff.XResolution": texts.filter(bool),
        "tiff.YResolution": texts.filter(bool),
        "tiff.ResolutionUnit": st.sampled_from(["inch", "centimeter", "none", "?"]),
        "tiff.ImageDescription": descriptions.filter(bool),
    },
)


@settings(deadline=None)
@given(files, st.none() | st.floats() | st.floats(0.01, 20))
def test_whatever_the_file_says_the_result_is_plausible_or_a_reason(file: dict[str, str], table: float | None) -> None:
    try:
        mpp = decide_mpp(file, table, "s1")
    except SlideError as error:
        allowed = {Reason.MPP_IMPLAUSIBLE} | ({Reason.MPP_MISSING, Reason.MPP_CONFLICT} if table is None else set())
        assert error.reason in allowed  # noqa: PT017 - a refusal is one of the two outcomes
        return
    assert PLAUSIBLE[0] <= min(mpp.x, mpp.y) <= mpp.value <= max(mpp.x, mpp.y) <= PLAUSIBLE[1]
    assert (mpp.source == "table") == (table is not None)
    json.dumps(mpp.to_dict(), allow_nan=False)
