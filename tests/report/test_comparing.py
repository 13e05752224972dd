"""The report shows the encoders compared and the summaries of features as the stages wrote them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from slidestudy.features.maps import draw_map
from slidestudy.features.summary import summarise
from slidestudy.files import write_json
from slidestudy.report.build import build_report
from slidestudy.tables import load_table, write_table
from tests.features.planted import three_cohorts
from tests.report.fake_study import build_fake_results
from tests.report.test_report import Page
from tests.validation.candidates import compared, label_table, write_candidates

SUMMARY = {
    "encoder": "stain-texture", "neighbours": 4, "components": 3, "duplicate_cosine": 0.9, "tiles_per_slide": 8,
    "seed": 1, "bootstrap": 50, "confidence": 0.9,
}  # fmt: skip


def write_summary(folder: Path, stores: Path) -> None:
    """Summarises planted features as the rule does."""
    paths = three_cohorts(stores)
    slides = pd.DataFrame(
        [
            {"slide_id": p.stem, "patient_id": p.stem, "cohort": p.parent.name, "center": p.parent.name, "biology": b}
            for p, b in zip(paths, "AB" * len(paths), strict=False)
        ]
    )
    found = summarise(paths, slides, SUMMARY)
    for name in ("shift", "duplicates", "robustness"):
        write_table(folder / f"{name}.tsv", getattr(found, name))
    draw_map(found.map, folder / "map.svg", found.no_map)
    write_json(folder / "summary.json", found.record)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("study")
    settings = build_fake_results(folder / "results")
    labels = label_table()
    settings["comparisons"] = {"by-tils": {"task": "regression", "target": "tils"}}
    settings["summaries"] = ["stain-texture"]
    compared(folder / "results" / "comparisons" / "by-tils", write_candidates(folder, labels), labels)
    write_summary(folder / "results" / "summaries" / "stain-texture", folder / "stores")
    return folder / "results", settings


@pytest.fixture(scope="module")
def page(study: tuple[Path, dict[str, Any]]) -> Page:
    return Page(build_report(*study))


def test_every_encoder_is_shown_with_the_metric_that_was_written(
    page: Page, study: tuple[Path, dict[str, Any]]
) -> None:
    metrics = load_table(study[0] / "comparisons" / "by-tils" / "metrics.tsv")
    rows = metrics[(metrics["metric"] == "pearson") & (metrics["level"] == "slide")]
    assert set(rows["candidate"]) == {"sharp", "vague", "blind"}
    for row in rows.itertuples():
        assert f"{row.value:.2f} (".replace("-", "\N{MINUS SIGN}") in page.text
    assert "Encoders compared: by-tils" in page.text
    assert "minus that of sharp" in page.text
    assert "corrected after Holm" in page.text


def test_robustness_is_shown_beside_its_value_at_random(page: Page) -> None:
    assert "robustness index of slide vectors" in page.text
    assert "at random" in page.text


def test_a_summary_shows_shift_robustness_and_the_map(page: Page, study: tuple[Path, dict[str, Any]]) -> None:
    assert "Features of whole cohorts: stain-texture" in page.text
    assert "absolute standardised difference" in page.text
    assert "robustness index of tiles" in page.text
    shift = load_table(study[0] / "summaries" / "stain-texture" / "shift.tsv")
    assert all(f"{a} and {b}" in page.text for a, b in zip(shift["cohort_a"], shift["cohort_b"], strict=True))
    ids = page.values("id")
    assert len(ids) == len(set(ids)), "ids of the inlined figures collide"


def test_a_study_without_them_has_no_such_section(tmp_path: Path) -> None:
    text = Page(build_report(tmp_path, build_fake_results(tmp_path))).text
    assert "Encoders compared" not in text
    assert "Features of whole cohorts" not in text
