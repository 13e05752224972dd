"""The table of a second modality: which columns, which groups, which patients, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.errors import StudyError
from slidestudy.models.modality import check_modalities, modality_values, read_columns, read_modality

TABLE = """patient_id\tCD3E\tCD8A\tMKI67\tnote
p1\t1.5\t\t3\ta
p2\t-2\t4e-1\t0\tb
0003\t7\t8\t9\t
"""


def write(folder: Path, text: str = TABLE) -> Path:
    path = folder / "expression.tsv"
    path.write_text(text, encoding="utf-8")
    return path


def test_patterns_choose_columns_in_the_tables_order(tmp_path):
    found = read_modality(write(tmp_path), ["MKI67", "CD*"])
    assert found.names == ("CD3E", "CD8A", "MKI67")
    assert found.groups == {}
    np.testing.assert_array_equal(
        modality_values(found, ["p2", "absent", "p1", "p1", "0003"]),
        np.array(
            [[-2, 0.4, 0], [np.nan] * 3, [1.5, np.nan, 3], [1.5, np.nan, 3], [7, 8, 9]],
            np.float32,
        ),
    )


def test_groups_number_their_columns_and_may_share_them(tmp_path):
    found = read_modality(write(tmp_path), ["[CM]*"], {"t-cells": ["CD*"], "all": ["*"], "cycle": ["MKI67"]})
    assert found.groups == {"t-cells": (0, 1), "all": (0, 1, 2), "cycle": (2,)}
    assert found.card() == {
        "columns": ["CD3E", "CD8A", "MKI67"],
        "groups": {"t-cells": ["CD3E", "CD8A"], "all": ["CD3E", "CD8A", "MKI67"], "cycle": ["MKI67"]},
    }


@settings(max_examples=30, deadline=None)
@given(
    values=st.lists(st.one_of(st.none(), st.floats(-(2.0**99), 2.0**99, width=32)), min_size=1, max_size=8),
    seed=st.integers(0, 99),
)
def test_numbers_come_back_as_they_were_written(tmp_path_factory, values, seed):
    rows = [f"p{i}\t{'' if v is None else repr(v)}\t0" for i, v in enumerate(values)]
    path = write(tmp_path_factory.mktemp("t"), "\n".join(["patient_id\tx\tzero", *rows]) + "\n")
    order = np.random.default_rng(seed).permutation(len(values))
    found = modality_values(read_modality(path), [f"p{i}" for i in order])
    expected = np.array([np.nan if values[i] is None else values[i] for i in order], np.float32)
    np.testing.assert_array_equal(found[:, 0], expected)


def test_all_problems_are_told_together(tmp_path):
    path = write(tmp_path, "patient_id\ta\tb\tc\np1\t1\tx\t2\n\t1\t1\t1\np1\t1\tinf\t1\n")
    with pytest.raises(StudyError) as caught:
        read_modality(path, ["a", "b", "c", "z*"], {"one": ["a"], "two": ["b", "y"]})
    found = {(p.where.removeprefix(str(path)), p.what) for p in caught.value.problems}
    assert found == {
        ("", "no column fits 'z*' of modality.columns"),
        ("", "no column fits 'y' of modality.groups.two"),
        ("", "c is in no group"),
        (", line 3, column patient_id", "'patient_id' is blank"),
        (", lines 2, 4, column patient_id", "'p1' stands more than once"),
        (", line 2, column b", "'x' is not a number"),
        (", line 4, column b", "'inf' is not a number"),
    }
    assert all(problem.remedy for problem in caught.value.problems)


def test_a_table_without_patients_is_refused(tmp_path):
    with pytest.raises(StudyError, match="the column 'patient_id' is missing"):
        read_modality(write(tmp_path, "patient\ta\np1\t1\n"))


def test_text_in_a_column_that_is_not_used_is_no_problem(tmp_path):
    path = write(tmp_path)
    assert read_modality(path, ["CD3E"]).names == ("CD3E",)
    with pytest.raises(StudyError, match="line 2, column note: 'a' is not a number"):
        read_modality(path)


def test_a_trained_models_columns_are_read_by_name_and_in_its_order(tmp_path):
    path = write(tmp_path, "patient_id\ta*\tab\np1\t1\t2\n")
    assert modality_values(read_columns(path, ["ab", "a*"]), ["p1"]).tolist() == [[2.0, 1.0]]
    with pytest.raises(StudyError, match="2 problems") as caught:
        read_columns(path, ["ab", "b", "c"])
    assert ["'b'" in p.what or "'c'" in p.what for p in caught.value.problems] == [True, True]


def test_modalities_of_a_study_are_checked_together(tmp_path):
    spec = {"table": str(write(tmp_path)), "columns": ["CD*"], "groups": {}}
    models = {
        "plain": {"target": "x"},
        "good": {"target": "x", "modality": spec},
        "bad": {"target": "x", "modality": {**spec, "columns": ["XYZ"]}},
        "again": {"target": "x", "modality": {**spec, "columns": ["XYZ"]}},
        "told": {"target": ["CD3E", "y"], "modality": spec},
    }
    with pytest.raises(StudyError, match="2 problems") as caught:
        check_modalities(models)
    assert [p.what for p in caught.value.problems] == [
        "no column fits 'XYZ' of modality.columns",
        "the column 'CD3E' is the target of model told",
    ]
    check_modalities({"plain": {}, "good": models["good"]})
