"""Sections: near pieces belong together, far ones do not, and numbers run as one reads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Polygon, box

from slidestudy.tissue.sections import number_sections

boxes = st.builds(
    lambda x, y, w, h: box(x, y, x + w, y + h),
    st.integers(0, 60),
    st.integers(0, 60),
    st.integers(1, 8),
    st.integers(1, 8),
)
pieces = st.lists(boxes, max_size=12)
gaps = st.sampled_from([0.0, 1.0, 2.5, 7.0, 100.0])


@settings(deadline=None)
@given(pieces, gaps)
def test_pieces_of_different_sections_are_more_than_the_gap_apart(polygons: list[Polygon], gap: float) -> None:
    numbers = number_sections(polygons, gap)
    for i, first in enumerate(polygons):
        for j, second in enumerate(polygons):
            if numbers[i] != numbers[j]:
                assert first.distance(second) > gap


@settings(deadline=None)
@given(pieces, gaps)
def test_a_section_cannot_be_parted_without_a_gap(polygons: list[Polygon], gap: float) -> None:
    """From any piece of a section all others are reached by steps of at most the gap."""
    numbers = number_sections(polygons, gap)
    for section in set(numbers):
        members = [i for i, n in enumerate(numbers) if n == section]
        reached, fresh = {members[0]}, [members[0]]
        while fresh:
            here = fresh.pop()
            steps = [i for i in members if i not in reached and polygons[here].distance(polygons[i]) <= gap]
            reached.update(steps)
            fresh += steps
        assert reached == set(members)


@settings(deadline=None)
@given(pieces, gaps)
def test_sections_are_numbered_from_one_without_a_break(polygons: list[Polygon], gap: float) -> None:
    numbers = number_sections(polygons, gap)
    assert len(numbers) == len(polygons)
    assert set(numbers) == set(range(1, len(set(numbers)) + 1))


@settings(deadline=None)
@given(pieces, gaps, st.randoms())
def test_the_order_of_the_pieces_does_not_matter(polygons: list[Polygon], gap: float, random: object) -> None:
    unlike = list({p.wkb: p for p in polygons}.values())
    numbers = dict(zip([p.wkb for p in unlike], number_sections(unlike, gap), strict=True))
    random.shuffle(unlike)  # type: ignore[attr-defined]
    again = dict(zip([p.wkb for p in unlike], number_sections(unlike, gap), strict=True))
    together = {frozenset(k for k in numbers if numbers[k] == n) for n in numbers.values()}
    assert together == {frozenset(k for k in again if again[k] == n) for n in again.values()}
    bounds = [p.bounds for p in unlike]
    if gap == 0 and len({(b[0], b[1] + b[3]) for b in bounds}) == len(bounds) == len(set(numbers.values())):
        assert again == numbers


@settings(deadline=None)
@given(pieces)
def test_a_wider_gap_never_parts_what_a_narrower_one_joins(polygons: list[Polygon]) -> None:
    narrow, wide = number_sections(polygons, 1.0), number_sections(polygons, 5.0)
    for i in range(len(polygons)):
        for j in range(i):
            assert narrow[i] != narrow[j] or wide[i] == wide[j]


def test_rows_are_read_from_left_to_right_though_they_do_not_quite_align() -> None:
    """Two rows of three sections; heights differ by up to a third of a section."""
    rng = np.random.default_rng(0)
    lefts, tops = np.meshgrid([0, 100, 200], [0, 120])
    jitter = rng.uniform(-10, 10, tops.shape)
    polygons = [box(x, y, x + 60, y + 60) for x, y in zip(lefts.ravel(), (tops + jitter).ravel(), strict=True)]
    order = rng.permutation(6)
    numbers = number_sections([polygons[i] for i in order], 5)
    assert numbers == [i + 1 for i in order]


def test_a_tall_section_stands_in_the_row_of_its_centre() -> None:
    """Three small sections one above the other, beside one as high as all three."""
    small = [box(100, y, 120, y + 20) for y in (0, 40, 80)]
    assert number_sections([box(0, 0, 50, 100), *small], 5) == [2, 1, 3, 4]


def test_a_piece_in_the_hole_of_another_belongs_to_it_where_the_gap_reaches() -> None:
    ring = box(0, 0, 100, 100).difference(box(20, 20, 80, 80))
    inner = box(45, 45, 55, 55)
    assert number_sections([ring, inner], 25) == [1, 1]
    assert number_sections([ring, inner], 24.9) == [1, 2]


def test_no_piece_makes_no_section() -> None:
    assert number_sections([], 10) == []


@pytest.mark.parametrize("gap", [0.0, 3.0])
def test_many_pieces_are_numbered_quickly(gap: float) -> None:
    polygons = [box(10 * x, 10 * y, 10 * x + 6, 10 * y + 6) for y in range(70) for x in range(70)]
    assert max(number_sections(polygons, gap)) == 4900
    assert max(number_sections(polygons, 4.0)) == 1
