"""Mistakes in the columns of groups are told, all together, each with its remedy."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from slidestudy.subgroup_checks import subgroup_problems

SLIDES = pd.DataFrame({"slide_id": ["a", "b"], "patient_id": ["p", "q"], "cohort": "n", "block": ["1", "2"]})
PATIENTS = pd.DataFrame({
    "patient_id": [f"p{i}" for i in range(20)], "cohort": "n", "center": [str(i) for i in range(20)],
    "age": [str(40 + i) for i in range(20)], "grade": ["1", "2"] * 10, "subtype": ["basal", None] * 10,
})  # fmt: skip


def problems(**subgroups: Any) -> list[tuple[str, str, str]]:
    complete = {name: {"edges": [], "smallest": 5, **options} for name, options in subgroups.items()}
    found = subgroup_problems(complete, SLIDES, PATIENTS, "study.yaml")
    return [(p.where, p.what, p.remedy) for p in found]


def test_columns_of_either_table_and_the_scanner_are_in_order():
    assert problems(age={"edges": [50, 65]}, grade={}, subtype={}, block={}, center={}, scanner={}) == []


@pytest.mark.parametrize(
    ("column", "options", "where", "what", "remedy"),
    [
        ("subtpye", {}, "", "no table has a column 'subtpye'", "did you mean 'subtype'?"),
        ("age", {}, "", "'age' holds 20 different numbers", "edges"),
        ("age", {"edges": [65, 50]}, ".edges", "[65, 50] do not increase", "lowest first"),
        ("age", {"edges": [50, 50]}, ".edges", "[50, 50] do not increase", "lowest first"),
        ("subtype", {"edges": [1]}, ".edges", "holds text such as 'basal'", "take the edges out"),
        ("center", {"edges": [1]}, ".edges", "holds names", "take the edges out"),
        ("scanner", {"edges": [1]}, ".edges", "holds names", "take the edges out"),
        ("cohort", {}, "", "each cohort is measured by itself", "take it out"),
        ("slide_id", {}, "", "'slide_id' makes no groups", "take it out"),
    ],
)
def test_each_mistake_has_its_place_and_remedy(column, options, where, what, remedy):
    (found,) = problems(**{column: options})
    assert found[0] == f"study.yaml, key validation.subgroups.{column}{where}"
    assert what in found[1]
    assert remedy in found[2]


def test_all_mistakes_are_told_together():
    assert len(problems(age={}, nothing={}, cohort={})) == 3


def test_a_column_of_both_tables_is_ambiguous():
    slides = SLIDES.assign(grade="1")
    (found,) = subgroup_problems({"grade": {"edges": [], "smallest": 5}}, slides, PATIENTS, "study.yaml")
    assert "stands in both tables" in found.what
