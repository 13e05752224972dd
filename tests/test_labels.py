"""Which columns a model's labels have, and which slides have one."""

from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slidestudy.labels import expand_columns, is_labelled, label_columns, target_columns, target_text

NAMES = st.lists(st.text("abc_1", min_size=1, max_size=4), unique=True, max_size=8)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("regression", [True, True, False, False]),
        ("survival-cox", [True, False, False, False]),
        ("multi-regression", [True, True, True, False]),
    ],
)
def test_one_of_several_targets_is_enough_and_half_a_survival_label_is_none(task: str, expected: list[bool]) -> None:
    table = pd.DataFrame({"a": [1.0, 2.0, np.nan, np.nan], "b": [1.0, np.nan, 3.0, np.nan]})
    columns = ["a"] if task == "regression" else ["a", "b"]
    assert is_labelled(table, task, columns).tolist() == expected


def test_a_task_names_its_columns_unless_they_are_given() -> None:
    assert label_columns("classification") == ["target"]
    assert label_columns("survival-discrete") == ["time", "event"]
    assert label_columns("multi-regression", ["ESR1", "ERBB2"]) == ["ESR1", "ERBB2"]


def test_a_target_is_told_in_words() -> None:
    assert target_text({"target": "tils"}) == "tils"
    assert target_text({"target": None}) == "no label"
    assert target_text({"target": ["years", "dead"]}) == "years, dead"
    assert target_text({"target": [f"g{i}" for i in range(50)]}) == "50 columns: g0, g1, g2, ..."
    assert target_columns({}) == []


def test_patterns_add_columns_and_take_them_out_again() -> None:
    present = ["gene_a", "gene_b", "gene_c", "age"]
    assert expand_columns(["gene_*", "!gene_b"], present) == (["gene_a", "gene_c"], [])
    assert expand_columns(["gene_c", "gene_?"], present) == (["gene_c", "gene_a", "gene_b"], [])
    assert expand_columns(["protein_*", "age", "!sex"], present) == (["age"], ["protein_*", "!sex"])


@given(present=NAMES, patterns=st.lists(st.text("abc_1*?", min_size=1, max_size=3), max_size=5))
def test_expanding_gives_each_column_that_fits_once_and_no_other(present: list[str], patterns: list[str]) -> None:
    found, unmatched = expand_columns(patterns, present)
    assert len(set(found)) == len(found)
    assert set(found) == {name for name in present if any(fnmatchcase(name, p) for p in patterns)}
    assert unmatched == [p for p in patterns if not any(fnmatchcase(name, p) for name in present)]
