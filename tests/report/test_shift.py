"""The report shows the shift of the external cohorts beside each model's metrics, and in full once per encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slidestudy.errors import StudyError
from slidestudy.features.shift.measuring import measure_shift
from slidestudy.files import write_text
from slidestudy.report.build import build_report
from slidestudy.report.collect import Results, read_results
from slidestudy.report.layout import interval
from slidestudy.report.shift import BESIDE, NAMES, shift_beside, shift_sections
from slidestudy.tables import load_table, write_table
from slidestudy.validation.shift_figure import draw_shift
from slidestudy.yaml_files import dump_yaml
from tests.features.shift.made_shift import SETTINGS, records, write_stores
from tests.report.fake_study import build_fake_results
from tests.report.test_report import Page


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The model `til` has an encoder whose shift was measured, `mucin` one without."""
    folder = tmp_path_factory.mktemp("study")
    settings = {**build_fake_results(folder), "shifts": ["stain-texture"]}
    paths = write_stores(tmp_path_factory.mktemp("stores"), patients={"north": 20, "same": 6, "moved": 6})
    shift = measure_shift(paths, *records(paths), {**SETTINGS, "bootstrap": 100})
    home = folder / "shift" / "stain-texture"
    write_table(home / "shift.tsv", shift.measures)
    write_table(home / "slides.tsv", shift.slides)
    draw_shift(shift.measures, shift.slides, shift.limit, home / "shift.svg")
    write_text(folder / "settings" / "shift.stain-texture.yaml", dump_yaml(SETTINGS))
    return folder, settings


@pytest.fixture(scope="module")
def results(study: tuple[Path, dict[str, Any]]) -> Results:
    return read_results(*study)


def test_beside_the_metrics_stands_a_row_for_each_external_cohort(study: Any, results: Results) -> None:
    table = shift_beside("til", results)
    assert table is not None
    assert [(row[0].text, row[0].note) for row in table.rows] == [
        ("same", "8 slides, 6 patients"), ("moved", "8 slides, 6 patients"),
    ]  # fmt: skip
    assert "95% percentile intervals from 200 bootstrap samples" in table.caption
    written = load_table(study[0] / "shift" / "stain-texture" / "shift.tsv").set_index(["cohort", "measure"])
    for row in table.rows:
        for measure, cell in zip(BESIDE, row[1:], strict=True):
            found = written.loc[row[0].text, measure]
            assert cell.text == interval(found["value"], found["ci_low"], found["ci_high"], "share")
    moved = table.rows[1]
    assert "no shift: " in moved[1].note
    assert moved[4].note == "no shift: 1.00; not in development: GT450"


def test_a_model_whose_encoder_was_not_measured_has_no_such_table(results: Results) -> None:
    assert shift_beside("mucin", results) is None


def test_every_measure_and_the_slides_out_of_distribution_are_shown_once(results: Results) -> None:
    (section,) = shift_sections(results)
    assert [row[0] for row in section["measures"].rows] == [
        type(section["measures"].rows[0][0])(*words) for words in NAMES.values()
    ]
    assert [column.title for column in section["measures"].columns] == ["Measure", "same", "moved"]
    listed = [row[0].text for row in section["slides"].rows]
    assert {name for name in listed if name.startswith("moved")} == {
        f"moved-{i:02d}{slide}" for i in range(6) for slide in ("ab" if i % 5 == 0 else "a")
    }
    assert section["figure"].caption.startswith("stain-texture: stain, distances")


def test_what_is_undefined_says_why(tmp_path: Path) -> None:
    settings = {**build_fake_results(tmp_path), "shifts": ["stain-texture"]}
    paths = write_stores(tmp_path / "stores", patients={"north": 4, "moved": 2})
    shift = measure_shift(paths, [], [], {**SETTINGS, "roles": [["north", "development"], ["moved", "external"]]})
    write_table(tmp_path / "shift" / "stain-texture" / "shift.tsv", shift.measures)
    write_table(tmp_path / "shift" / "stain-texture" / "slides.tsv", shift.slides)
    table = shift_beside("til", read_results(tmp_path, settings))
    assert table is not None
    cells = dict(zip(BESIDE, table.rows[0][1:], strict=True))
    assert (cells["scanner_known"].text, cells["scanner_known"].muted) == ("undefined", True)
    assert cells["scanner_known"].note == "no slide of the cohort says its scanner"
    assert cells["frechet"].note.startswith("no interval: 2 patients")


def test_the_page_has_the_table_once_per_model_and_the_figure_once(study: Any) -> None:
    page = Page(build_report(*study))
    assert page.text.count("til: how far the external cohorts lie") == 1
    assert len([label for label in page.values("aria-label") if "Fréchet distances of the external" in label]) == 1
    assert "features-shift-stain-texture" in page.values("id")
    assert "nan" not in page.text.lower().split()


def test_a_study_without_shift_has_no_such_section(tmp_path: Path) -> None:
    page = Page(build_report(tmp_path, build_fake_results(tmp_path)))
    assert "Shift of the external cohorts" not in page.text


def test_a_damaged_table_is_named(study: Any, tmp_path: Path) -> None:
    settings = {**build_fake_results(tmp_path), "shifts": ["stain-texture"]}
    write_text(tmp_path / "shift" / "stain-texture" / "shift.tsv", "cohort\tvalue\nsouth\t1\n")
    with pytest.raises(StudyError, match=r"shift\.tsv: has no column measure"):
        read_results(tmp_path, settings)
