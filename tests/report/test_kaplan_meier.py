"""The report shows Kaplan-Meier curves, survival at given times and log-rank tests, with the numbers of the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from slidestudy.files import write_text
from slidestudy.report.build import build_report
from slidestudy.report.kaplan_meier import FIGURES, kaplan_meier_parts
from slidestudy.report.kaplan_meier_files import KaplanMeierFiles, read_kaplan_meier
from slidestudy.report.layout import Drawing, Table, interval
from slidestudy.tables import load_table, write_table
from slidestudy.validation.kaplan_meier import CUTOFFS, MEDIAN, split_endpoints
from slidestudy.validation.kaplan_meier_figure import draw_kaplan_meier
from slidestudy.yaml_files import dump_yaml
from tests.report.fake_study import build_fake_results
from tests.report.test_report import Page

ROLES = {"north": "development", "south": "external"}
ENDPOINT: dict[str, Any] = {
    "unit": "years", "strata": [], "times": [1, 3, 20],
    "scores": {"til": {"cutoffs": [30, 75]}, "tils": {"cutoffs": []}},
}  # fmt: skip


def patients(cohort: str, seed: int, n: int = 50) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    score = rng.uniform(0, 100, n)
    happens, censored = rng.exponential(np.exp(0.03 * score)), rng.uniform(0, 12, n)
    return pd.DataFrame({
        "patient_id": [f"{cohort}{i}" for i in range(n)], "cohort": cohort,
        "time": np.minimum(happens, censored), "event": (happens <= censored).astype(int),
        "score.til": score, "score.tils": rng.uniform(0, 100, n), "grade": np.where(score > 40, "1", "2"),
    })  # fmt: skip


def write(folder: Path, rows: pd.DataFrame, model: str = "til", **changed: Any) -> None:
    """The files of a model, as the rule leaves them."""
    settings = {"confidence": 0.9, "endpoints": {"survival": {**ENDPOINT, **changed}}}
    found = split_endpoints({"survival": rows}, {"survival": dict.fromkeys(ROLES, 60)}, ROLES, settings)
    home = folder / "validation" / model
    write_table(home / "kaplan_meier.tsv", found.survival)
    write_table(home / "logrank.tsv", found.tests)
    draw_kaplan_meier(found.splits, CUTOFFS, home / "kaplan_meier.svg")
    draw_kaplan_meier(found.splits, MEDIAN, home / "kaplan_meier_median.svg")
    write_text(folder / "settings" / f"survival.{model}.yaml", dump_yaml(settings))


def read(folder: Path, model: str = "til") -> KaplanMeierFiles:
    return read_kaplan_meier(folder / "validation" / model, folder / "settings" / f"survival.{model}.yaml")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write(folder, pd.concat([patients("north", 1), patients("south", 2)]))
    return folder


def tables_of(folder: Path, model: str = "til") -> list[Table]:
    return [part for part in kaplan_meier_parts(model, read(folder, model)) if isinstance(part, Table)]


def test_figures_come_before_a_table_for_each_score(study) -> None:
    parts = kaplan_meier_parts("til", read(study))
    assert [type(part) for part in parts] == [Drawing, Drawing, Table, Table]
    words = ("by the cut-offs of each score", "each cohort's median", "til: survival, the share", "survival by tils")
    assert all(word in part.caption for part, word in zip(parts, words, strict=True))
    assert all("90%" in part.caption for part in parts)
    assert "not adjusted" in parts[-1].caption


def test_tables_have_the_files_numbers(study) -> None:
    written = load_table(study / "validation" / "til" / "kaplan_meier.tsv")
    for table, score in zip(tables_of(study), ("til", "tils"), strict=True):
        own = written[written["score"] == score]
        groups = own.drop_duplicates(["cohort", "split", "group"])
        assert len(table.rows) == len(groups)
        assert [column.title for column in table.columns[4:7]] == ["At 1", "At 3", "At 20"]
        for cells, group in zip(table.rows, groups.itertuples(), strict=True):
            shown = [cell.text for cell in cells[:4]]
            assert shown == [
                group.cohort,
                group.group.replace(">=", "≥").replace(" ", "\N{NO-BREAK SPACE}"),
                str(group.n),
                str(group.n_events),
            ]
            same = (own["cohort"] == group.cohort) & (own["split"] == group.split) & (own["group"] == group.group)
            for cell, row in zip(cells[4:7], own[same].itertuples(), strict=True):
                if pd.isna(row.survival):
                    assert (cell.text, cell.note) == ("undefined", row.undefined_reason)
                else:
                    assert cell.text == interval(row.survival, row.ci_low, row.ci_high, "auroc")
                    assert f"{row.at_risk} at risk" in cell.note
            if pd.notna(group.median_survival):
                assert cells[7].text.startswith(f"{group.median_survival:.3g} (")
            else:
                assert cells[7].text == "not reached"


def test_each_split_has_its_test_once(study) -> None:
    tests = load_table(study / "validation" / "til" / "logrank.tsv")
    for table, score in zip(tables_of(study), ("til", "tils"), strict=True):
        shown = [row[-1] for row in table.rows if row[-1].text]
        own = tests[tests["score"] == score]
        assert len(shown) == len(own)
        for cell, row in zip(shown, own.itertuples(), strict=True):
            assert cell.text == ("p < 0.001" if row.p < 0.001 else f"p = {row.p:.3f}")
            assert f"df = {row.df}" in cell.note
            assert f"n = {row.n}" in cell.note
            assert ("trend" in cell.note) == (row.df > 1)


def test_strata_and_undefined_tests_are_said(tmp_path) -> None:
    north = patients("north", 1).assign(grade=lambda t: t["grade"].where(t.index > 3))
    write(tmp_path, pd.concat([north, patients("south", 2).assign(event=0)]), strata=["grade"])
    cells = [row[-1] for row in tables_of(tmp_path)[0].rows if row[-1].text]
    assert ["within grade" in cell.note for cell in cells] == [True, True, False, False]
    assert "n = 46" in cells[0].note
    assert [(cell.text, cell.note) for cell in cells[2:]] == [("undefined", "no events")] * 2


def test_scores_without_cut_offs_have_one_figure_and_no_times_no_column(tmp_path) -> None:
    write(tmp_path, patients("north", 1), scores={"til": {"cutoffs": []}}, times=[])
    parts = kaplan_meier_parts("til", read(tmp_path))
    assert [type(part) for part in parts] == [Drawing, Table]
    table = parts[1]
    assert isinstance(table, Table)
    heads = ["Cohort", "Group", "Patients", "Events", "Median", "Log-rank"]
    assert [column.title for column in table.columns] == heads
    # South has no patients: its groups stand there with the reason.
    assert [(row[4].text, row[4].note) for row in table.rows[2:]] == [("undefined", "no patients")] * 2
    assert not any("nan" in cell.text + cell.note for row in table.rows for cell in row)


def test_models_without_the_files_have_no_such_part(study) -> None:
    assert kaplan_meier_parts("mucin", read(study, "mucin")) == []


def test_the_page_shows_each_figure_once_and_no_blank_number(tmp_path) -> None:
    settings = build_fake_results(tmp_path)
    write(tmp_path, pd.concat([patients("north", 1), patients("south", 2)]))
    page = Page(build_report(tmp_path, settings))
    labels = page.values("aria-label")
    for words in FIGURES.values():
        assert len([label for label in labels if words in label]) == 1
    assert page.text.count("til: survival by tils, the share without the event") == 1
    assert "nan" not in page.text.lower().split()
