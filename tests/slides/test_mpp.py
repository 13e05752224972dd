"""The resolution of a slide: which source wins, what is refused, what is warned of."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.errors import Reason, SlideError
from slidestudy.slides.mpp import PLAUSIBLE, decide_mpp


def properties(x: object, y: object) -> dict[str, str]:
    return {"openslide.mpp-x": str(x), "openslide.mpp-y": str(y)}


def test_the_files_mpp_is_used_where_the_table_is_blank() -> None:
    mpp = decide_mpp(properties(0.25, 0.25), None, "s1")
    assert (mpp.value, mpp.x, mpp.y, mpp.source, mpp.warnings) == (0.25, 0.25, 0.25, "file", [])


def test_the_table_wins_over_the_file() -> None:
    mpp = decide_mpp(properties(0.25, 0.25), 0.5, "s1")
    assert (mpp.value, mpp.source) == (0.5, "table")


@pytest.mark.parametrize(("table", "warned"), [(0.5, True), (0.27, True), (0.26, False), (0.24, False), (0.23, True)])
def test_a_table_that_differs_from_the_file_beyond_the_tolerance_is_warned_of(table: float, warned: bool) -> None:
    warnings = decide_mpp(properties(0.25, 0.25), table, "s1", tolerance=0.05).warnings
    assert len(warnings) == warned
    assert all(f"{table:g}" in text and "0.25" in text for text in warnings)


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
    assert "0.5" in warning
    assert "0.52" in warning
    assert decide_mpp(properties(0.5, 0.505), None, "s1").warnings == []


def test_the_record_of_the_decision_is_json() -> None:
    mpp = decide_mpp(properties(0.5, 0.6), None, "s1")
    record = json.loads(json.dumps(mpp.to_dict(), allow_nan=False))
    assert record == {"value": 0.55, "x": 0.5, "y": 0.6, "source": "file", "warnings": mpp.warnings}


numbers = st.floats(allow_nan=True, allow_infinity=True).map(repr)
texts = st.none() | st.text(max_size=12) | numbers | st.floats(0.01, 20).map(repr)


@settings(deadline=None)
@given(texts, texts, st.none() | st.floats() | st.floats(0.01, 20))
def test_whatever_the_file_says_the_result_is_plausible_or_a_reason(
    x: str | None, y: str | None, table: float | None
) -> None:
    named = {"openslide.mpp-x": x, "openslide.mpp-y": y}
    found = {key: text for key, text in named.items() if text is not None}
    try:
        mpp = decide_mpp(found, table, "s1")
    except SlideError as error:
        expected = (Reason.MPP_MISSING, Reason.MPP_IMPLAUSIBLE) if table is None else (Reason.MPP_IMPLAUSIBLE,)
        assert error.reason in expected  # noqa: PT017 - a refusal is one of the two outcomes
        return
    assert PLAUSIBLE[0] <= min(mpp.x, mpp.y) <= mpp.value <= max(mpp.x, mpp.y) <= PLAUSIBLE[1]
    assert mpp.source == ("file" if table is None else "table")
