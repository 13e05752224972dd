"""The report shows hazard ratios, their tests and concordance of the models that are scores of an endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from slidestudy.report.build import build_report
from slidestudy.report.collect import Results, read_results
from slidestudy.report.layout import Drawing, Table, interval
from slidestudy.report.survival import survival_parts
from slidestudy.tables import load_table, write_table
from slidestudy.validation.cox import analyse_endpoints
from slidestudy.validation.hazard_ratio_figure import draw_hazard_ratios
from slidestudy.yaml_files import dump_yaml
from tests.report.fake_study import build_fake_results
from tests.report.test_report import Page
from tests.validation.endpoints import endpoint, simulated

COVARIATES = {"age": {"per": 10}, "grade": {"reference": "1"}}
SETTINGS: dict[str, Any] = {
    "endpoints": {"death <b>": endpoint({"til": {}, "tils": {"per": 10}}, covariates=COVARIATES, unit="years")},
    "bootstrap": 100, "confidence": 0.9, "seed": 1,
}  # fmt: skip


def cohort(name: str, n: int) -> pd.DataFrame:
    rows = simulated(n, 3)
    return rows.assign(cohort=name, patient_id=[f"{name}{i}" for i in range(n)])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The model `til` is a score of an endpoint, `mucin` of none; nobody of `south` has an event."""
    folder = tmp_path_factory.mktemp("study")
    settings = build_fake_results(folder)
    rows = pd.concat([cohort("north", 120), cohort("south", 12).assign(event=0.0)], ignore_index=True)
    roles = {"north": "development", "south": "external"}
    cox, tests = analyse_endpoints({"death <b>": rows}, {"death <b>": {"north": 123, "south": 12}}, roles, SETTINGS)
    home = folder / "validation" / "til"
    write_table(home / "cox.tsv", cox)
    write_table(home / "cox_tests.tsv", tests)
    draw_hazard_ratios(cox, SETTINGS, home / "hazard_ratios.svg", home / "hazard_ratios.png")
    path = folder / "settings" / "survival.til.yaml"
    path.write_text(dump_yaml(SETTINGS, keep_order=True), encoding="utf-8")
    return folder, settings


@pytest.fixture(scope="module")
def results(study: tuple[Path, dict[str, Any]]) -> Results:
    return read_results(*study)


def tables(results: Results) -> tuple[Table, Table]:
    drawing, ratios, tests = survival_parts("til", results)
    assert isinstance(drawing, Drawing)
    assert isinstance(ratios, Table)
    assert isinstance(tests, Table)
    return ratios, tests


def test_every_hazard_ratio_is_shown_with_its_interval_and_its_unit(study: Any, results: Results) -> None:
    ratios, _ = tables(results)
    written = load_table(study[0] / "validation" / "til" / "cox.tsv")
    assert len(ratios.rows) == len(written)
    for row, found in zip(ratios.rows, written.itertuples(), strict=True):
        if found.undefined_reason:
            assert row[4].text == "undefined"
            assert row[4].note.startswith("fewer than two events")
        else:
            assert row[4].text == interval(found.hazard_ratio, found.ci_low, found.ci_high, "c_index")
        assert (row[2].text, row[3].text) == (str(found.n), str(found.n_events))
    assert ratios.rows[0][1].note.startswith("per SD (")
    assert ratios.rows[1][1].note == "per 10"
    assert [(row[1].text, row[1].note) for row in ratios.rows[3:5]] == [
        ("grade: 2", "against 1"), ("grade: 3", "against 1"),
    ]  # fmt: skip
    assert ratios.rows[0][2].note == "3 left out"
    assert "90% intervals" in ratios.caption


def test_tests_and_concordance_have_the_files_numbers(study: Any, results: Results) -> None:
    _, tests = tables(results)
    written = load_table(study[0] / "validation" / "til" / "cox_tests.tsv")
    assert [(row[0].text, row[0].note) for row in tests.rows] == [
        ("north", "til"), ("north", "tils"), ("south", "til"), ("south", "tils"),
    ]  # fmt: skip
    keys = {"cohort": "north", "score": "til"}
    own = written[(written["cohort"] == "north") & (written["score"] == keys["score"])]
    for place, analysis, test in ((4, "univariable", "c_index"), (7, "multivariable", "c_index"),
                                  (8, "multivariable", "c_index_difference")):  # fmt: skip
        (found,) = own[(own["analysis"] == analysis) & (own["test"] == test)].to_dict("records")
        assert tests.rows[0][place].text == interval(found["statistic"], found["ci_low"], found["ci_high"], "c_index")
    assert tests.rows[0][3].text == "p < 0.001"
    assert tests.rows[0][3].note.startswith("χ² = ")
    assert tests.rows[2][3].text == "undefined"


def test_a_model_that_is_no_score_shows_nothing(results: Results) -> None:
    assert survival_parts("mucin", results) == []


def test_the_page_holds_figure_and_tables_with_names_escaped(study: Any) -> None:
    html = build_report(*study)
    page = Page(html)
    assert any("death <b>, hazard ratios of Cox models" in words for words in page.words)
    assert "death <b>" not in html
    # Its title, of the page's one drawing for this endpoint.
    assert html.count("hazard-ratios-til") >= 1
