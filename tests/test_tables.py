"""Tables are read typed, or every mistake in them is named with its line, column and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from slidestudy.errors import StudyError
from slidestudy.tables import did_you_mean, load_schema, read_raw, read_table, write_table

HEADER = "patient_id\tcohort\tcenter"
LABELS: dict[str, Any] = {
    "tils": {"type": ["number", "null"], "minimum": 0, "maximum": 100, "description": "between 0 and 100, or blank"},
    "mucinous": {"type": ["integer", "null"], "enum": [0, 1, None], "description": "0 or 1, or blank"},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "patients.tsv"


def message(path: Path, *lines: str, ranges: dict[str, Any] | None = None) -> str:
    """The message of a patient table that must be refused."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(StudyError) as caught:
        read_table(path, "patients", ranges)
    return str(caught.value)


def test_cells_have_the_type_that_their_schema_asks_for(path: Path) -> None:
    path.write_text(f"{HEADER}\ttils\tmucinous\ttime\tnote\n001\tn\tc\t30\t1\t4.5\t7\nb\tn\tc\t\t\t\t\n")
    table = read_table(path, "patients", LABELS)
    assert table["patient_id"].tolist() == ["001", "b"]
    assert table["tils"].tolist()[0] == 30.0
    assert table[["tils", "mucinous", "time"]].isna().sum().tolist() == [1, 1, 1]
    assert table["note"].iloc[0] == "7"


def test_whole_numbers_that_a_spreadsheet_writes_with_a_point_are_labels(path: Path) -> None:
    path.write_text(f"{HEADER}\tmucinous\na\tn\tc\t1.0\nb\tn\tc\t\nc\tn\tc\t0\n")
    assert read_table(path, "patients", LABELS)["mucinous"].dropna().tolist() == [1, 0]


def test_a_byte_order_mark_windows_line_ends_and_blanks_around_cells_do_no_harm(path: Path) -> None:
    path.write_bytes("\ufeff patient_id\tcohort \tcenter\r\n a \tn\tc\r\n\r\n".encode())
    assert read_table(path, "patients").to_numpy().tolist() == [["a", "n", "c"]]


def test_tabs_at_the_end_of_lines_do_not_shift_columns(path: Path) -> None:
    path.write_text(f"{HEADER}\na\tn\tc\t\nb\tn\tc\t\t\n")
    assert read_table(path, "patients")["patient_id"].tolist() == ["a", "b"]


def test_blank_cells_at_the_end_of_a_line_may_be_left_out(path: Path) -> None:
    path.write_text(f"{HEADER}\ttils\na\tn\tc\nb\tn\tc\t5\n")
    assert np.isnan(read_table(path, "patients", LABELS)["tils"].iloc[0])


def test_a_quoted_cell_loses_its_quotes(path: Path) -> None:
    path.write_text(f'{HEADER}\na\tn\t"St. Mary, ""North"""\n')
    assert read_table(path, "patients")["center"].tolist() == ['St. Mary, "North"']


def test_a_missing_table_is_named(path: Path) -> None:
    with pytest.raises(StudyError, match=r"patients\.tsv: the table does not exist"):
        read_table(path, "patients")


@pytest.mark.parametrize("text", ["", "\n\n", "\t\n"])
def test_an_empty_table_is_refused(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(StudyError, match="the table is empty"):
        read_table(path, "patients")


def test_a_table_without_rows_is_refused(path: Path) -> None:
    assert "a header and no row" in message(path, HEADER)


def test_a_table_in_another_encoding_is_refused(path: Path) -> None:
    path.write_bytes(f"{HEADER}\na\tn\tKöln\n".encode("utf-16"))
    with pytest.raises(StudyError, match="not a readable UTF-8 table"):
        read_table(path, "patients")


def test_a_comma_separated_table_is_recognised(path: Path) -> None:
    assert "not separated by tabs" in message(path, HEADER.replace("\t", ","), "a,n,c")


def test_a_missing_column_is_named_with_what_it_holds(path: Path) -> None:
    text = message(path, "patient_id\tcohort", "a\tn")
    assert "the column 'center' is missing" in text
    assert "the medical centre" in text


def test_a_misspelt_column_is_named_with_its_right_name(path: Path) -> None:
    assert "rename 'patientid' to 'patient_id'" in message(path, "patientid\tcohort\tcenter", "a\tn\tc")


def test_all_missing_columns_are_reported_together(path: Path) -> None:
    text = message(path, "name\tage", "a\t3")
    assert text.startswith("3 problems")


@pytest.mark.parametrize("second", ["tils", " tils "])
def test_a_column_that_stands_twice_is_refused(path: Path, second: str) -> None:
    assert "the column 'tils' stands twice" in message(path, f"{HEADER}\ttils\t{second}", "a\tn\tc\t1\t2")


def test_a_nameless_column_between_others_is_refused(path: Path) -> None:
    assert "a column has no name" in message(path, "patient_id\t\tcohort\tcenter\t", "a\t1\tn\tc\t")


def test_a_line_with_more_cells_than_columns_is_named(path: Path) -> None:
    text = message(path, HEADER, "a\tn\tc", "b\tn\tc\tx")
    assert "line 3: has 4 cells, though the header names 3 columns" in text


def test_a_blank_line_between_rows_is_named(path: Path) -> None:
    assert "line 3: the line is blank" in message(path, HEADER, "a\tn\tc", "", "b\tn\tc")


def test_an_open_quote_is_named_with_its_line(path: Path) -> None:
    assert "line 3: a quote is not closed" in message(path, HEADER, "a\tn\tc", 'b\tn\t"c', "d\tn\tc")


def test_a_blank_required_cell_is_named_with_line_and_column(path: Path) -> None:
    text = message(path, HEADER, "a\tn\tc", "b\tn\t")
    assert f"{path}, line 3, column center: 'center' is blank" in text
    assert "remedy: the medical centre" in text


def test_a_repeated_id_is_named_with_all_its_lines(path: Path) -> None:
    text = message(path, HEADER, "a\tn\tc", "b\tn\tc", "a\tn\tc", "a\tn\tc")
    assert f"{path}, lines 2, 4, 5, column patient_id: 'a' stands more than once" in text


def test_an_id_that_cannot_be_a_file_name_is_refused(path: Path) -> None:
    text = message(path, HEADER, "a/b\tn\tc")
    assert "'patient_id' is 'a/b', which has characters that are not allowed" in text
    assert "letters, digits" in text


@pytest.mark.parametrize(("label", "said"), [("130", "above 100"), ("-1", "below 0")])
def test_a_label_outside_its_range_is_named(path: Path, label: str, said: str) -> None:
    text = message(path, f"{HEADER}\ttils", "a\tn\tc\t20", f"b\tn\tc\t{label}", ranges=LABELS)
    assert "line 3, column tils" in text
    assert said in text
    assert "remedy: between 0 and 100" in text


@pytest.mark.parametrize("label", ["high", "NA", "nan", "inf", "12,5", "<5"])
def test_a_label_that_is_no_number_is_named(path: Path, label: str) -> None:
    text = message(path, f"{HEADER}\ttils", f"a\tn\tc\t{label}", ranges=LABELS)
    assert f"line 2, column tils: 'tils' is '{label}', which is not a number" in text


def test_a_class_label_other_than_0_or_1_is_named_once(path: Path) -> None:
    text = message(path, f"{HEADER}\tmucinous", "a\tn\tc\tyes", "b\tn\tc\t2", ranges=LABELS)
    assert text.startswith("2 problems")
    assert "'yes', which is not an integer" in text
    assert "'2', which is none of 0, 1" in text


@pytest.mark.parametrize(("column", "cell"), [("time", "-1"), ("event", "2"), ("event", "dead")])
def test_survival_columns_are_checked_where_they_stand(path: Path, column: str, cell: str) -> None:
    assert f"line 2, column {column}" in message(path, f"{HEADER}\t{column}", f"a\tn\tc\t{cell}")


def test_problems_of_different_kinds_are_reported_together(path: Path) -> None:
    text = message(path, f"{HEADER}\ttils", "a\tn\t\t130", "a\tn\tc\tx", ranges=LABELS)
    assert text.startswith("4 problems")
    assert all(part in text for part in ("'center' is blank", "above 100", "not a number", "more than once"))


def test_an_mpp_must_be_above_zero(tmp_path: Path) -> None:
    path = tmp_path / "slides.tsv"
    path.write_text("slide_id\tpatient_id\tcohort\tpath\tmpp\ns\tp\tc\tx.svs\t0\n")
    with pytest.raises(StudyError, match=r"line 2, column mpp: 'mpp' is '0.0', which is not above 0"):
        read_table(path, "slides")


def test_raw_cells_stay_text_and_blanks_are_missing(path: Path) -> None:
    path.write_text("a\tb\n01\t\n")
    table = read_raw(path)
    assert table.to_numpy().tolist() == [["01", None]]


def test_a_table_is_read_back_as_it_was_written(path: Path) -> None:
    written = pd.DataFrame(
        {
            "patient_id": ["a", "b"],
            "cohort": ["n", "n"],
            "center": ['with "quotes"', "tab\tinside"],
            "tils": [0.1 + 0.2, None],
        }
    )
    write_table(path, written)
    pd.testing.assert_frame_equal(read_table(path, "patients", LABELS), written, check_dtype=False)


def test_a_written_table_has_unix_line_ends_and_blank_missing_cells(path: Path) -> None:
    write_table(path, pd.DataFrame({"a": [1.5, np.nan], "b": ["x", None]}))
    assert path.read_bytes() == b"a\tb\n1.5\tx\n\t\n"


def test_hints_name_the_nearest_word_or_all_of_them() -> None:
    assert did_you_mean("cohrt", ["cohort", "center"]) == "did you mean 'cohort'?"
    assert did_you_mean("zzz", ["cohort", "center"]) == "known are: cohort, center"
    assert did_you_mean("zzz", []) == "known are: none"


@pytest.mark.parametrize("name", ["slides", "patients"])
def test_every_column_of_a_schema_says_what_it_holds(name: str) -> None:
    schema = load_schema(name)
    assert set(schema["required"]) <= set(schema["properties"])
    assert all(column.get("description") for column in schema["properties"].values())
