"""Groups of slides by a column: every value is in one, edges belong above, blanks are unknown."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slidestudy.grouping import UNKNOWN, edge_names, group_names, in_order, inspected_columns


def test_a_value_at_an_edge_is_in_the_group_above_it():
    values = pd.Series(["49.9", "50", "64", "65", None, "90", ""])
    found = group_names(values, [50, 65]).tolist()
    assert found == ["< 50", "50 to < 65", "50 to < 65", ">= 65", UNKNOWN, ">= 65", UNKNOWN]


def test_without_edges_each_value_is_a_group_and_whole_numbers_have_no_decimals():
    assert group_names(pd.Series([1.0, None, 3.0]), []).tolist() == ["1", UNKNOWN, "3"]
    assert group_names(pd.Series(["NA", None, "x"]), []).tolist() == ["NA", UNKNOWN, "x"]


@given(
    st.lists(st.one_of(st.none(), st.floats(-100, 100)), min_size=1),
    st.lists(st.integers(-90, 90), min_size=1, max_size=5, unique=True).map(sorted),
)
def test_every_number_is_in_the_one_group_whose_edges_are_about_it(values, edges):
    names, ends = edge_names(edges), [float("-inf"), *edges, float("inf")]
    for value, group in zip(values, group_names(pd.Series(values, dtype=object), edges), strict=True):
        if value is None:
            assert group == UNKNOWN
        else:
            at = names.index(group)
            assert ends[at] <= value < ends[at + 1]


@pytest.mark.parametrize(
    ("groups", "edges", "expected"),
    [
        (["unknown", "b", "a", "b"], [], ["a", "b", "unknown"]),
        (["10", "9", "unknown"], [], ["9", "10", "unknown"]),
        ([">= 65", "< 50", "unknown"], [50, 65], ["< 50", ">= 65", "unknown"]),
        ([], [], []),
    ],
)
def test_groups_are_in_the_order_of_their_values_and_the_unknown_last(groups, edges, expected):
    assert in_order(groups, edges) == expected


def test_a_scanner_comes_from_the_slides_where_no_table_has_it():
    slides = pd.DataFrame(columns=["slide_id", "stain"])
    assert inspected_columns({"scanner": {}, "stain": {}}, slides) == ["scanner"]
    assert inspected_columns({"scanner": {}}, slides.assign(scanner=None)) == []
