"""Slides that look alike: copies are found whatever was done to them, other slides are not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.slides.levels import RGB
from slidestudy.slides.reader import Slide
from slidestudy.slides.similarity import appearance, distances, near_pairs

LIMIT = 48
hashes = st.binary(min_size=32, max_size=32).map(bytes.hex)


def differing(a: str, b: str) -> int:
    """Bits in which two hashes differ, the slow way."""
    return (int(a, 16) ^ int(b, 16)).bit_count()


@settings(deadline=None)
@given(st.lists(hashes, min_size=1, max_size=6), st.lists(hashes, min_size=1, max_size=6))
def test_distances_count_the_bits_that_differ(a: list[str], b: list[str]) -> None:
    assert distances(a, b).tolist() == [[differing(x, y) for y in b] for x in a]


@settings(deadline=None)
@given(st.lists(hashes, max_size=12), st.integers(0, 256), st.integers(1, 5))
def test_pairs_are_those_within_the_limit_whatever_the_block(some: list[str], limit: int, block: int) -> None:
    some += some[:2]
    expected = [(i, j, differing(some[i], some[j])) for i, j in combinations(range(len(some)), 2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slidestudy.slides.similarity.BLOCK", block)
        assert near_pairs(some, limit) == [pair for pair in expected if pair[2] <= limit]


def test_an_even_picture_has_no_appearance() -> None:
    assert appearance(np.full((100, 200, 3), 240, np.uint8)) is None
    assert appearance(np.zeros((3, 2, 3), np.uint8)) is None


def darker(picture: RGB) -> RGB:
    return (255 * (picture / 255.0) ** 1.3).astype(np.uint8)


def tinted(picture: RGB) -> RGB:
    return np.clip(picture * np.array([0.93, 1, 1.05]), 0, 255).astype(np.uint8)


def recompressed(picture: RGB) -> RGB:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], 1), np.uint8)


def smaller(picture: RGB) -> RGB:
    return np.asarray(cv2.resize(picture, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA), np.uint8)


def shifted(picture: RGB) -> RGB:
    return np.asarray(cv2.copyMakeBorder(picture, 9, 3, 12, 1, cv2.BORDER_CONSTANT, value=(245, 245, 245)), np.uint8)


@pytest.fixture(scope="module")
def thumbnails(shared: Path) -> list[RGB]:
    files = [shared / "slides" / name for name in ("cmu-1-small-region.svs", "her2st_C2.tif", "her2st_C3.tif")]
    files += [shared / "slides" / "tcga-cr-7395-01a-01-ts1.svs"]
    files += sorted((shared / "studies" / "colon-til" / "slides" / "crchisto").glob("*.svs"))[:25]
    files += sorted((shared / "studies" / "colon-til" / "slides" / "consep").glob("*"))[:10]
    pictures = []
    for path in files:
        with Slide(path) as slide:
            pictures.append(slide.read_overview(max(1.0, max(slide.size) / 256)).picture)
    return pictures


@pytest.mark.shared
@pytest.mark.parametrize("change", [darker, tinted, recompressed, smaller, shifted])
def test_copies_of_real_slides_look_alike_whatever_was_done_to_them(
    thumbnails: list[RGB], change: Callable[[RGB], RGB]
) -> None:
    told = [t for t in thumbnails if appearance(t) is not None]
    assert len(told) > 30
    found = [distances([appearance(t) or ""], [appearance(change(t)) or "0" * 64])[0, 0] <= LIMIT for t in told]
    assert np.mean(found) >= 0.95


@pytest.mark.shared
def test_different_real_slides_do_not_look_alike_serial_sections_included(thumbnails: list[RGB]) -> None:
    told = [look for t in thumbnails if (look := appearance(t)) is not None]
    assert near_pairs(told, LIMIT) == []
