"""The report shows how a model gains from labels, where it was trained on shares of the patients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slidestudy.report.build import build_report
from slidestudy.tables import load_table, write_table
from slidestudy.validation.label_efficiency import summarise
from slidestudy.validation.label_efficiency_figure import draw_label_efficiency
from tests.report.fake_study import build_fake_results
from tests.report.test_report import Page
from tests.validation.test_label_efficiency import ROLES, SETTINGS, failing

CAPTION = "per slide when trained on shares of the training part's patients"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("study")
    settings = build_fake_results(folder / "results")
    settings["models"]["til"]["label_efficiency"] = {"fractions": [0.2, 0.5, 1.0], "repeats": 2}
    table = summarise(*failing([1], 0.2), ROLES, SETTINGS)
    home = folder / "results" / "validation" / "til"
    write_table(home / "label_efficiency.tsv", table)
    draw_label_efficiency(table, SETTINGS, home / "label_efficiency.svg")
    return folder / "results", settings


def test_every_share_is_shown_with_its_intervals_spread_and_failures(study):
    page = Page(build_report(*study))
    assert page.text.count(CAPTION) == 1
    table = load_table(study[0] / "validation" / "til" / "label_efficiency.tsv").query("level == 'slide'")
    for _, row in table.iterrows():
        assert f"{row['value']:.2f} ({row['ci_low']:.2f}–{row['ci_high']:.2f})" in page.text
    assert "9 patients, 18 slides (mean over folds)" in page.text
    assert "over 2 draws" in page.text
    assert "2 of 6 trainings failed" in page.text
    assert "only 40 slides; SD" in page.text
    assert "fold 1: the train part has slides of class 1 only" in page.text


def test_the_curves_are_shown_once(study):
    page = Page(build_report(*study))
    labels = [value for value in page.values("aria-label") if "against the number of patients" in value]
    assert len(labels) == 1
    assert "south, external (60 slides)" in page.text


def test_files_that_an_earlier_configuration_left_are_not_shown(study):
    folder, settings = study
    models = {**settings["models"], "til": {**settings["models"]["til"]}}
    del models["til"]["label_efficiency"]
    page = Page(build_report(folder, {**settings, "models": models}))
    assert CAPTION not in page.text
    assert "against the number of patients" not in " ".join(page.values("aria-label"))
