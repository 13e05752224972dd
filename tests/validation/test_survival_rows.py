"""The patients of an endpoint: scores of models and of the table, covariates as numbers or text, blanks kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from tests.validation.endpoints import endpoint

from slidestudy.validation.survival_rows import endpoint_rows, load_endpoint, sizes

TABLE = """patient_id\tcohort\ttime\tevent\ttils\tage\tgrade\tcenter
007\tnorth\t2.5\t1\t30\t61\t1\tc1
P2\tnorth\t3\t0\t\t\t\t2
P3\tnorth\t\t\t10\t50\t3\tc1
NA\tsouth\t0\t0\t5\t40\t2\tc2
"""
PREDICTIONS = {
    "north": pd.DataFrame({"slide_id": list("abc"), "patient_id": ["007", "007", "P2"], "prediction": [10.0, 20.0, 4]}),
    "south": pd.DataFrame({"slide_id": [], "patient_id": [], "prediction": []}),
}
COVARIATES = {"age": {"per": 10}, "grade": {"reference": "1"}}
OPTIONS = endpoint({"til": {}, "tils": {}}, covariates=COVARIATES, strata=["center"], cluster="center")


def rows(tmp_path: Path) -> pd.DataFrame:
    (tmp_path / "os.tsv").write_text(TABLE, encoding="utf-8")
    return endpoint_rows(PREDICTIONS, load_endpoint(str(tmp_path / "os.tsv")), OPTIONS)


def test_a_patient_has_the_mean_of_its_slides_and_a_blank_without_any(tmp_path: Path) -> None:
    found = rows(tmp_path)
    assert found["patient_id"].tolist() == ["007", "P2", "NA"]
    assert found["score.til"].tolist()[:2] == [15.0, 4.0]
    assert np.isnan(found["score.til"].iloc[2])
    assert found["score.tils"].tolist()[::2] == [30.0, 5.0]
    assert list(found) == [
        "patient_id", "cohort", "time", "event", "score.til", "score.tils", "age", "grade", "center",
    ]  # fmt: skip


def test_levels_stay_text_and_numbers_become_numbers(tmp_path: Path) -> None:
    found = rows(tmp_path)
    assert found["grade"].dropna().tolist() == ["1", "2"]
    assert found["center"].tolist() == ["c1", "2", "c2"]
    assert found["age"].dtype == float
    assert found.loc[1, ["age", "grade", "score.tils"]].isna().all()


def test_patients_without_an_outcome_are_left_out_and_counted(tmp_path: Path) -> None:
    found = rows(tmp_path)
    assert "P3" not in set(found["patient_id"])
    assert sizes(load_endpoint(str(tmp_path / "os.tsv"))) == {"north": 3, "south": 1}
