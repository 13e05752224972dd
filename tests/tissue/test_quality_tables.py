"""The tables of the slides' quality and of what someone should look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from slidestudy.slides.admission import LOOKALIKES
from slidestudy.tables import load_table, write_table
from slidestudy.tissue.quality_tables import MEASURES, QUALITY, WARNINGS, quality_table, warning_table

NO_PAIRS = pd.DataFrame(columns=LOOKALIKES)


def inspected(slide: str, *warnings: str) -> dict[str, Any]:
    return {
        "slide_id": slide, "patient_id": "001", "cohort": "a", "vendor": "aperio", "scanner": "S1", "scan_date": None,
        "objective": "20", "width": 10, "height": 20, "mpp": {"value": 0.5, "source": "table"}, "icc": None,
        "reader": {"kind": "chunks", "why": ""}, "warnings": [{"code": code, "message": "x"} for code in warnings],
    }  # fmt: skip


def tissue(slide: str, *warnings: str) -> dict[str, Any]:
    return {
        "slide_id": slide, "patient_id": "001", "cohort": "a", "method": "otsu", "tissue_mm2": 1.5, "pen_mm2": 0.0,
        "sections": 2, "quality": dict.fromkeys(MEASURES, 0.25) | {"focus": None},
        "warnings": [{"code": code, "message": "y"} for code in warnings],
    }  # fmt: skip


def test_quality_joins_inspection_and_tissue_by_slide() -> None:
    table = quality_table([inspected("s2"), inspected("s1")], [tissue("s1")])
    assert list(table.columns) == QUALITY
    assert table["slide_id"].tolist() == ["s1", "s2"]
    assert table["sections"].tolist()[0] == 2
    assert table.loc[1, ["mask_method", "tissue_mm2", "brightness"]].isna().all()
    assert table["focus"].isna().all()


def test_a_slide_without_a_file_has_a_row_of_blanks() -> None:
    unseen = dict.fromkeys(("vendor", "scanner", "objective", "width", "height", "mpp", "reader"))
    table = quality_table([{**inspected("s1"), **unseen}], [])
    (row,) = table.to_dict("records")
    assert [row[key] for key in ("cohort", "slide_id", "patient_id")] == ["a", "s1", "001"]
    assert table.drop(columns=["cohort", "slide_id", "patient_id"]).isna().all(axis=None)
    assert list(table.columns) == QUALITY


def test_warnings_of_all_stages_are_listed_by_slide() -> None:
    table = warning_table(
        [inspected("s2", "mpp_conflict"), inspected("s1")], [tissue("s1", "blurred", "pen")], NO_PAIRS
    )
    assert list(table.columns) == WARNINGS
    assert table[["slide_id", "stage", "code"]].to_numpy().tolist() == [
        ["s1", "tissue", "blurred"],
        ["s1", "tissue", "pen"],
        ["s2", "inspection", "mpp_conflict"],
    ]


def test_only_lookalikes_that_leak_are_warned_of_also_when_read_from_a_file(tmp_path: Path) -> None:
    pair = {"slide_id_a": "01", "patient_id_a": "001", "cohort_a": "a", "slide_id_b": "02", "cohort_b": "b"}
    rows = [{**pair, "patient_id_b": p, "bits": 3, "leak": leak} for p, leak in (("002", True), ("001", False))]
    write_table(tmp_path / "pairs.tsv", pd.DataFrame(rows, columns=LOOKALIKES))
    (row,) = warning_table([], [], load_table(tmp_path / "pairs.tsv")).to_dict("records")
    assert (row["slide_id"], row["patient_id"], row["cohort"], row["code"]) == ("02", "002", "b", "near_duplicate")
    assert "slide 01 of patient 001, cohort a" in row["message"]


def test_a_study_without_warnings_keeps_the_columns(tmp_path: Path) -> None:
    write_table(tmp_path / "pairs.tsv", NO_PAIRS)
    assert list(warning_table([], [], load_table(tmp_path / "pairs.tsv")).columns) == WARNINGS
    assert list(quality_table([], []).columns) == QUALITY
