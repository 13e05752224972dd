"""Tables of predictions from elsewhere: what each task needs, and every problem with its line and column."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from slidestudy.errors import StudyError
from slidestudy.prediction_files import MOST_LISTED, read_predictions


def write(folder: Path, text: str, name: str = "p.tsv") -> Path:
    """A table whose columns are parted by blanks in the text, and by tabs or commas in the file."""
    path = folder / name
    separator = "," if name.lower().endswith(".csv") else "\t"
    lines = [separator.join("" if cell == "-" else cell for cell in line.split()) for line in text.strip().split("\n")]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def told(path: Path, task: str, targets: Sequence[str] | None = None) -> str:
    _, problems = read_predictions(path, task, targets)
    return "\n".join(map(str, problems))


@pytest.mark.parametrize("name", ["p.tsv", "p.csv", "P.CSV"])
def test_a_table_of_risks_has_numbers_and_text_ids(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, "slide_id patient_id prediction fold\n01 1 2.5 0\n02 1 - 1", name)
    table, problems = read_predictions(path, "regression")
    assert problems == []
    assert table["slide_id"].tolist() == ["01", "02"]
    assert table["patient_id"].tolist() == ["1", "1"]
    assert table["prediction"].tolist()[0] == 2.5
    assert table["prediction"].isna().tolist() == [False, True]


def test_a_csv_named_as_a_table_of_tabs_is_told(tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text("patient_id,prediction\na,1\n")
    with pytest.raises(StudyError, match="not separated by tabs"):
        read_predictions(tmp_path / "p.tsv", "regression")
    (tmp_path / "p.csv").write_text("patient_id\tprediction\na\t1\n")
    with pytest.raises(StudyError, match="not separated by commas"):
        read_predictions(tmp_path / "p.csv", "regression")


def test_all_problems_are_told_together_with_line_and_column(tmp_path: Path) -> None:
    text = "slide_id patient_id prediction threshold\na - 0.5 0.5\na p 1.5 half\nb q nan 0.5\n- r 0.1 -"
    said = told(write(tmp_path, text), "classification")
    for part in (
        "line 2, column patient_id: 'patient_id' is blank",
        "lines 2, 3, column slide_id: 'a' stands more than once",
        "line 3, column prediction: 'prediction' is '1.5', which is not between 0 and 1",
        "line 4, column prediction: 'prediction' is 'nan', which is no number",
        "line 3, column threshold: 'threshold' is 'half', which is no number",
        "line 5, column slide_id: 'slide_id' is blank",
    ):
        assert part in said, part
    assert len(said.split("\n    remedy: ")) == 7


def test_a_regression_may_predict_any_number(tmp_path: Path) -> None:
    assert told(write(tmp_path, "patient_id prediction\na -3\nb 120"), "regression") == ""


@pytest.mark.parametrize(
    ("header", "task", "missing"),
    [
        ("patient_id predicton", "regression", "'prediction' is missing\n    remedy: did you mean 'predicton'?"),
        ("prediction x", "regression", "the column 'patient_id' is missing"),
        ("patient_id probability.a", "multiclass", "there are 1 columns 'probability.<class>'"),
        ("patient_id prediction.a", "multi-regression", "there are 1 columns 'prediction.<target>'"),
        ("patient_id prediction", "survival-discrete", "there is no column 'survival.<time>'"),
        ("patient_id prediction survival.x", "survival-cox", "column survival.x: its name gives no time"),
    ],
)  # fmt: skip
def test_columns_that_a_task_needs_are_named(tmp_path: Path, header: str, task: str, missing: str) -> None:
    row = " ".join(["0.5"] * len(header.split()))
    assert missing in told(write(tmp_path, f"{header}\n{row}"), task)


def test_the_targets_that_are_named_must_be_there(tmp_path: Path) -> None:
    path = write(tmp_path, "patient_id prediction.a prediction.b\np 1 2")
    assert told(path, "multi-regression", ["a", "b"]) == ""
    assert "the column 'prediction.c' is missing" in told(path, "multi-regression", ["a", "c"])


def test_the_most_probable_class_is_the_one_predicted(tmp_path: Path) -> None:
    path = write(tmp_path, "patient_id probability.a probability.b prediction\np 0.4 0.6 a\nq - - a\nr 0.9 0.1 a")
    table, problems = read_predictions(path, "multiclass")
    assert problems == []
    assert table["prediction"].tolist() == ["b", None, "a"]


def test_probabilities_must_add_up_and_survival_must_not_rise(tmp_path: Path) -> None:
    path = write(tmp_path, "patient_id probability.a probability.b\np 0.4 0.4\nq 0.4 -\nr 0.504 0.5")
    said = told(path, "multiclass")
    assert "line 2: the probabilities add up to 0.8" in said
    assert "line 3: some of the probabilities are blank" in said
    assert "line 4" not in said
    path = write(tmp_path, "patient_id prediction survival.10 survival.2\np 1 0.5 0.9\nq 1 0.9 0.5")
    assert told(path, "survival-cox").startswith(f"{path}, line 3: the probability of no event rises")


def test_a_column_full_of_mistakes_is_told_in_few_lines(tmp_path: Path) -> None:
    rows = "\n".join(f"p{i} {i + 2}" for i in range(100))
    _, problems = read_predictions(write(tmp_path, f"patient_id prediction\n{rows}"), "classification")
    assert len(problems) == MOST_LISTED + 1
    assert f"has {100 - MOST_LISTED} more cells like these" in str(problems[-1])
