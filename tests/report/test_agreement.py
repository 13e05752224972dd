"""The report shows calibration, agreement and pooled metrics of the models that have them, with the files' numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from slidestudy.report.agreement import agreement_parts
from slidestudy.report.build import build_report
from slidestudy.report.collect import Results, read_results
from slidestudy.report.layout import Drawing, Table, interval
from slidestudy.tables import load_table, write_table
from slidestudy.validation.study import validate
from tests.report.fake_study import build_fake_results, write_agreement
from tests.report.test_report import Page
from tests.validation.made_predictions import ids

ROLES = {"north": "development", "south": "external", "east": "external", "west": "external"}
OPTIONS = {
    "task": "regression", "target": "tils", "columns": ["target"], "target_range": [0, 100], "cutoffs": [30],
    "cutoff_rule": ">", "bootstrap": 100, "confidence": 0.95, "seed": 1, "truth_column": None,
}  # fmt: skip


def cohort(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    target = rng.uniform(0, 80, 40)
    return ids(40, prefix=f"c{seed}").assign(target=target, prediction=target + rng.normal(3, 10 + 5 * seed, 40))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Three external cohorts for the model `til`; `mucin` has no files of its own."""
    folder = tmp_path_factory.mktemp("study")
    settings = build_fake_results(folder)
    settings["cohorts"] |= {name: {"role": "external", "description": "made up"} for name in ("east", "west")}
    tables = {name: cohort(seed) for seed, name in enumerate(ROLES)}
    metrics, _ = validate(tables, ROLES, OPTIONS, None)
    home = folder / "validation" / "til"
    write_table(home / "metrics.tsv", metrics)
    write_agreement(home, tables, ROLES, OPTIONS, metrics)
    return folder, settings


@pytest.fixture(scope="module")
def results(study: tuple[Path, dict[str, Any]]) -> Results:
    return read_results(*study)


def test_figures_and_tables_are_in_order(results: Results) -> None:
    parts = agreement_parts("til", results)
    assert [type(part) for part in parts] == [Drawing, Table, Drawing, Table, Drawing, Table]
    words = ("labels along", "calibration per slide", "prediction less label", "agreement", "every cohort", "pooled")
    assert all(word in part.caption for part, word in zip(parts, words, strict=True))


@pytest.mark.parametrize(("place", "name"), [(1, "calibration_fit"), (3, "agreement")])
def test_every_statistic_of_every_cohort_is_shown(place: int, name: str, study, results: Results) -> None:
    written = load_table(study[0] / "validation" / "til" / f"{name}.tsv").query("level == 'slide'")
    table = agreement_parts("til", results)[place]
    assert isinstance(table, Table)
    assert [row[0].text for row in table.rows] == list(ROLES)
    shown = {cell.text for row in table.rows for cell in row}
    for row in written.itertuples():
        metric = "pearson" if row.statistic in ("slope", "proportional_bias") else "mae"
        assert interval(row.value, row.ci_low, row.ci_high, metric) in shown


def test_the_pooled_table_has_the_files_numbers(study, results: Results) -> None:
    written = load_table(study[0] / "validation" / "til" / "pooled.tsv").query("level == 'slide'")
    table = agreement_parts("til", results)[-1]
    assert isinstance(table, Table)
    assert [row[0].text for row in table.rows] == ["Pearson r", "Spearman ρ", "Concordance (CCC)", "AUROC, ≥ 30"]
    assert {row[0].note for row in table.rows} == {"3 cohorts, 120 slides"}
    for row, metric in zip(table.rows, ("pearson", "spearman", "ccc", "auroc"), strict=True):
        found = written[written["metric"] == metric].set_index("effect")
        for cell, effect in zip(row[1:3], ("fixed", "random"), strict=True):
            at = found.loc[effect]
            assert (cell.text, cell.note) == (interval(at["value"], at["ci_low"], at["ci_high"], metric), "")
        random = found.loc["random"]
        assert row[3].text == f"{random['i2']:.0%}"
        assert f"{random['predicted_high']:.2f}" in row[-1].text


def test_models_without_the_files_have_no_such_part(results: Results) -> None:
    assert agreement_parts("mucin", results) == []


def test_the_page_shows_each_figure_once_and_no_blank_number(study) -> None:
    page = Page(build_report(*study))
    labels = page.values("aria-label")
    for words in ("labels along the predictions", "prediction less label", "metrics of every cohort"):
        assert len([label for label in labels if words in label]) == 1
    assert "nan" not in page.text.lower().split()
