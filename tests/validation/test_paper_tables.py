"""A paper's tables hold the numbers of the validation's tables, each with its interval, or a dash and the reason."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from tests.validation.made_predictions import MULTICLASS, SURVIVAL, ids, of_classes, of_targets, of_times, several

from slidestudy.validation.cox import COX_COLUMNS
from slidestudy.validation.metrics import COLUMNS
from slidestudy.validation.paper_format import DASH, PaperTable
from slidestudy.validation.paper_tables import (
    comparison_tables,
    cox_tables,
    decision_tables,
    metric_tables,
    p_text,
    shift_tables,
    subgroup_tables,
    write_paper_tables,
)
from slidestudy.validation.study import validate

OPTIONS = {
    "model": "til_1", "task": "regression", "target": "tils", "columns": ["target"], "cutoffs": [10, 30],
    "cutoff_rule": ">", "bootstrap": 100, "confidence": 0.95, "interval": "percentile", "seed": 1, "truth_column": None,
}  # fmt: skip
ROLES = {"north": "development", "south": "external"}


def numbers(n: int, low: float = 0) -> pd.DataFrame:
    rng = np.random.default_rng(n)
    target = rng.uniform(low, 80, n)
    return ids(n, 2).assign(target=target, prediction=target + rng.normal(0, 12, n))


def classes(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(n)
    target = (rng.uniform(size=n) < 0.4).astype(float)
    probability = np.clip(0.4 * target + rng.uniform(0, 0.6, n), 0, 1)
    return ids(n).assign(target=target, prediction=probability, threshold=np.where(np.arange(n) % 2, 0.4, 0.5))


@pytest.fixture(scope="module")
def metrics() -> pd.DataFrame:
    return validate({"north": numbers(30), "south": numbers(12, 31)}, ROLES, OPTIONS, None)[0]


def cells(table: PaperTable) -> dict[str, list[str]]:
    return {name: [cell.text for cell in row] for name, row in table.rows}


def test_each_level_has_a_row_for_each_metric_and_cut_off_and_a_column_for_each_cohort(metrics):
    slide, patient = metric_tables(metrics, OPTIONS)
    assert slide.columns == ["Metric", "north (development)", "south (external)"]
    assert cells(slide)["n"] == ["30 slides, 15 patients", "12 slides, 6 patients"]
    assert cells(patient)["n"] == ["15 patients", "6 patients"]
    row = metrics.query("cohort == 'north' and metric == 'auroc' and threshold == 30 and level == 'slide'").iloc[0]
    text = f"{row['value']:.2f} ({row['ci_low']:.2f} to {row['ci_high']:.2f})"
    assert cells(slide)["AUROC, > 30"][0] == text
    assert (
        len(slide.rows) == 1 + len(metrics.query("cohort == 'north' and level == 'slide'")) - 2 * 7
    )  # the decisions at two cut-offs


def test_an_undefined_value_is_a_dash_with_its_reason(metrics):
    slide = metric_tables(metrics, OPTIONS)[0]
    found = dict(slide.rows)["AUROC, > 30"][1]
    assert (found.text, found.note) == (DASH, "one class only")


def test_the_caption_says_how_the_intervals_were_made(metrics):
    caption = metric_tables(metrics, {**OPTIONS, "interval": "bca"})[0].caption
    assert (
        "Model til_1 of tils: metrics per slide. 95% BCa intervals from 100 bootstrap samples of whole patients"
        in caption
    )


def test_decisions_of_a_regression_stand_at_their_cut_offs(metrics):
    slide, _ = decision_tables(metrics, OPTIONS)
    row = metrics.query("cohort == 'north' and metric == 'ppv' and threshold == 10 and level == 'slide'").iloc[0]
    assert cells(slide)["PPV, > 10"][0].startswith(f"{row['value']:.2f} (")


def test_decisions_of_a_classification_have_one_row_though_thresholds_differ():
    options = {**OPTIONS, "task": "classification", "target": "mucinous", "cutoffs": []}
    found, _ = validate({"north": classes(40), "south": classes(21)}, ROLES, options, None)
    slide = decision_tables(found, options)[0]
    assert cells(slide)["Threshold (mean)"] == ["0.45", "0.452"]
    assert all(len(row) == 2 and DASH not in row for row in cells(slide).values())


@pytest.mark.parametrize(
    ("options", "table"),
    [
        (MULTICLASS, of_classes(40)),
        (several(["A", "B"], cutoffs=[0.5]), of_targets(30, ["A", "B"])),
        (several([f"G{i}" for i in range(60)]), of_targets(30, [f"G{i}" for i in range(60)])),
        ({**SURVIVAL, "cutoffs": [12, 36]}, of_times(40)),
    ],
    ids=["multiclass", "targets", "many-targets", "survival"],
)
def test_tables_of_every_task_are_written_the_same_each_time(options, table, tmp_path):
    options = {**options, "model": "m", "interval": "percentile"}
    found, _ = validate({"north": table, "none": table[:0]}, {"north": "external", "none": "external"}, options, None)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_paper_tables(tmp_path / name, {"metrics": found}, options)
    files = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    assert files == {p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()}
    assert {"metrics.md", "metrics.tex"} <= set(files)
    assert all(b"nan" not in content for content in files.values())
    assert all(len(content.splitlines()) < 120 for content in files.values())


def cox_row(cohort: str, score: str, term: str, **more: object) -> dict[str, object]:
    row = dict.fromkeys(COX_COLUMNS) | {
        "endpoint": "os", "cohort": cohort, "role": ROLES[cohort], "score": score, "analysis": "univariable",
        "term": term, "level": "", "per": 10.0, "scale": "unit", "hazard_ratio": 0.86, "ci_low": 0.79,
        "ci_high": 0.94, "p": 0.0004, "n": 300, "n_events": 80, "undefined_reason": "",
    }  # fmt: skip
    return row | more


def test_hazard_ratios_have_their_unit_and_events():
    undefined = {"hazard_ratio": math.nan, "ci_low": math.nan, "ci_high": math.nan, "p": math.nan}
    rows = [
        cox_row("north", "til", "til"),
        cox_row("south", "til", "til", **undefined, undefined_reason="1 event"),
        cox_row("north", "til", "grade", analysis="multivariable", level="3", reference="1", scale="level", per=None),
        cox_row("north", "til", "age", analysis="multivariable", per=7.7, scale="sd"),
        cox_row("south", "til", "age", analysis="multivariable", per=9.9, scale="sd", p=0.25),
    ]
    (table,) = cox_tables(pd.DataFrame(rows), OPTIONS)
    assert cells(table) == {
        "til, univariable: til per 10": ["0.86 (0.79 to 0.94), p < 0.001; 300 patients, 80 events", DASH],
        "til, multivariable: grade 3 (to 1)": ["0.86 (0.79 to 0.94), p < 0.001; 300 patients, 80 events", DASH],
        "til, multivariable: age per SD": [
            "0.86 (0.79 to 0.94), p < 0.001; 300 patients, 80 events",
            "0.86 (0.79 to 0.94), p = 0.25; 300 patients, 80 events",
        ],
    }
    assert dict(table.rows)["til, univariable: til per 10"][1].note == "1 event"
    assert dict(table.rows)["til, multivariable: grade 3 (to 1)"][1].note == "not in this cohort"


def test_an_analysis_without_a_score_and_a_huge_interval_are_short():
    row = cox_row("north", "til", "age", analysis="covariates only", ci_high=3000359746.86) | {"score": None}
    (table,) = cox_tables(pd.DataFrame([row]), OPTIONS)
    ((name, (cell,)),) = table.rows
    assert name == "covariates only: age per 10"
    assert cell.text.startswith("0.86 (0.79 to 3e+09), p < 0.001")


def test_a_comparison_says_the_difference_and_the_corrected_p_value():
    row = {
        "model": "a", "rival": "b", "cohort": "north", "role": "development", "level": "slide", "metric": "auroc",
        "threshold": 30.0, "difference": -0.05, "ci_low": -0.11, "ci_high": 0.01, "p_holm": 0.0123, "n": 20,
        "n_patients": 18, "undefined_reason": "",
    }  # fmt: skip
    (table,) = comparison_tables(pd.DataFrame([row]), OPTIONS)
    assert cells(table) == {
        "n": ["20 slides, 18 patients"],
        "AUROC, > 30": ["-0.05 (-0.11 to 0.01), p = 0.012"],
    }


def test_subgroups_have_the_headline_metric_with_their_size(metrics):
    grouped = pd.concat([metrics.assign(column="center", group=group) for group in ("a", "b")])
    slide, _ = subgroup_tables(grouped, OPTIONS)
    row = metrics.query("cohort == 'north' and metric == 'pearson' and level == 'slide'").iloc[0]
    text = f"{row['value']:.2f} ({row['ci_low']:.2f} to {row['ci_high']:.2f}), n = 30"
    assert list(cells(slide)) == ["center: a", "center: b"]
    assert cells(slide)["center: a"][0] == text


def test_shift_has_three_significant_digits_and_what_would_be_expected():
    row = {
        "encoder": "e", "cohort": "south", "measure": "ood_share", "value": 0.01234, "ci_low": 2.7e-17,
        "ci_high": 0.0456, "expected": 0.05, "n": 7, "undefined_reason": "",
    }  # fmt: skip
    (table,) = shift_tables(pd.DataFrame([row]), OPTIONS)
    assert cells(table) == {"n": ["7 slides"], "ood share": ["0.0123 (0 to 0.0456); expected 0.05"]}


def test_p_values_are_never_zero():
    assert [p_text(p) for p in (1e-9, 0.0123, 0.25, 1.0)] == ["p < 0.001", "p = 0.012", "p = 0.25", "p = 1.00"]


def test_the_columns_that_are_read_are_those_of_the_metrics():
    assert {"cohort", "role", "level", "metric", "target", "threshold", "n", "n_patients"} <= set(COLUMNS)
