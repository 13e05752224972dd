"""The report shows how a model compares with its rivals and whether groups differ, with the files' numbers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from slidestudy.report.build import build_report
from slidestudy.report.collect import Results, read_results
from slidestudy.report.layout import Drawing, Table, interval
from slidestudy.report.rivals import rivals_parts
from slidestudy.report.subgroups import subgroups_parts
from slidestudy.tables import load_table, write_table
from slidestudy.validation.model_comparison import compare_models
from slidestudy.validation.subgroup_figure import draw_subgroups
from slidestudy.validation.subgroups import measure_subgroups
from tests.report.fake_study import build_fake_results
from tests.report.test_report import Page
from tests.validation.made_predictions import ids

ROLES = {"north": "development", "south": "external"}
OPTIONS = {
    "model": "til", "rivals": ["twin"], "task": "regression", "columns": ["target"], "cutoffs": [30],
    "cutoff_rule": ">", "bootstrap": 100, "confidence": 0.95, "interval": "percentile", "seed": 1,
    "subgroups": [{"column": "site", "edges": [], "smallest": 5}, {"column": "one", "edges": [], "smallest": 5}],
}  # fmt: skip


def cohort(seed: int, noise: float) -> pd.DataFrame:
    target = np.random.default_rng(seed).uniform(0, 80, 40)
    predicted = target + np.random.default_rng(seed + 10).normal(3, noise, 40)
    return ids(40, prefix=f"c{seed}").assign(target=target, prediction=predicted)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The model `til` has the rival `twin` and is measured in groups; `mucin` has neither."""
    folder = tmp_path_factory.mktemp("study")
    settings = build_fake_results(folder)
    settings["models"]["twin"] = copy.deepcopy(settings["models"]["til"])
    settings["subgroups"] = ["site", "one"]
    tables = {name: cohort(seed, 10) for seed, name in enumerate(ROLES)}
    rival = {name: cohort(seed, 30) for seed, name in enumerate(ROLES)}
    rival["south"] = rival["south"][2:]
    home = folder / "validation" / "til"
    write_table(home / "comparison.tsv", compare_models({"til": tables, "twin": rival}, ROLES, OPTIONS))
    slides = pd.concat(tables.values())[["slide_id"]]
    site = slides.assign(column="site", group=np.tile(["a & <b>", "c"], 40))
    groups = pd.concat([site, slides.assign(column="one", group="x")])
    found, tests = measure_subgroups(tables, ROLES, groups, OPTIONS)
    write_table(home / "subgroups.tsv", found)
    write_table(home / "subgroup_tests.tsv", tests)
    draw_subgroups(found, tests, OPTIONS, home / "subgroups.svg")
    return folder, settings


@pytest.fixture(scope="module")
def results(study: tuple[Path, dict[str, Any]]) -> Results:
    return read_results(*study)


def test_the_table_of_differences_has_the_files_numbers(study, results: Results) -> None:
    (table,) = rivals_parts("til", results)
    assert isinstance(table, Table)
    assert "against the other model of its target, twin" in table.caption
    assert [column.title for column in table.columns] == ["Metric", "north", "south"]
    assert table.columns[2].note == "38 slides, 2 left out"
    written = load_table(study[0] / "validation" / "til" / "comparison.tsv").query("level == 'slide'")
    labels = ["Pearson r", "Spearman ρ", "Concordance (CCC)", "Mean squared error", "Mean absolute error"]
    assert [row[0].text for row in table.rows] == [*labels, "AUROC, ≥ 30"]
    assert [row[0].note for row in table.rows][2:4] == ["higher is better", "lower is better"]
    south = written[written["cohort"] == "south"].reset_index(drop=True)
    for row, at in zip(table.rows, south.to_dict("records"), strict=True):
        assert row[2].text == interval(at["difference"], at["ci_low"], at["ci_high"], at["metric"], signed=True)
        assert ("DeLong p" in row[2].note) == (at["metric"] == "auroc")
        assert f"p = {at['p_holm']:.3f}" in row[2].note


def test_figure_and_tests_of_the_groups_have_the_files_numbers(study, results: Results) -> None:
    figure, table = subgroups_parts("til", results)
    assert isinstance(figure, Drawing)
    assert isinstance(table, Table)
    written = load_table(study[0] / "validation" / "til" / "subgroup_tests.tsv")
    keep = (written["level"] == "slide") & (written["test"] == "wald") & written["threshold"].isna()
    site = written[keep & (written["column"] == "site")]
    assert [(row[0].text, row[0].note) for row in table.rows][:2] == [
        ("site", "Pearson r"),
        ("site", "Prediction less label"),
    ]
    for row, metric in zip(table.rows, ("pearson", "mean_difference"), strict=False):
        at = site[(site["metric"] == metric) & (site["cohort"] == "south")].iloc[0]
        assert row[2].text == f"p = {at['p_holm']:.3f}"
        assert f"{at['highest']} less {at['lowest']}" in row[2].note
    # One group cannot differ.
    assert {cell.text for row in table.rows[2:] for cell in row[1:]} == {"undefined"}


def test_models_without_rivals_or_groups_have_no_such_part(results: Results) -> None:
    assert rivals_parts("mucin", results) == []
    assert subgroups_parts("mucin", results) == []


def test_what_an_earlier_configuration_left_is_not_shown(study) -> None:
    folder, settings = study
    earlier = copy.deepcopy(settings)
    del earlier["models"]["twin"]
    earlier["subgroups"] = []
    found = read_results(folder, earlier)
    assert rivals_parts("til", found) == []
    assert subgroups_parts("til", found) == []


def test_the_page_shows_both_and_no_blank_number(study) -> None:
    page = Page(build_report(*study))
    assert len([label for label in page.values("aria-label") if "in groups of slides" in label]) == 1
    assert "against the other model of its target" in page.text
    assert "nan" not in page.text.lower().split()
