"""Models that are predictions from a file, beside one that was trained: the file is named, and no training is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slidestudy.files import write_json
from slidestudy.report import attrition, headline, modelling, predicted, provenance, recipes
from slidestudy.report.build import build_report
from slidestudy.report.collect import Results, read_results
from tests.report.fake_study import build_fake_results

MADE = ("encoder", "aggregator", "training", "options", "splits", "folds", "group_by")
DIGEST = "ab" * 32


@pytest.fixture
def study(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """The made-up study, its first model turned into predictions from a file; folds of before are left."""
    settings = build_fake_results(tmp_path, explanations=False)
    model = {key: value for key, value in settings["models"]["til"].items() if key not in MADE}
    settings["models"]["til"] = {**model, "predictions": "/data/reader.tsv"}
    for cohort, slides in (("north", 11), ("south", 6)):
        card = {"file": "reader.tsv", "sha256": DIGEST, "key": "patient_id", "rows": 20, "rows_elsewhere": 3}
        counts = {"slides": slides, "slides_predicted": slides - 1}
        write_json(tmp_path / "predictions" / "til" / f"{cohort}.json", {**card, **counts})
    return tmp_path, settings


@pytest.fixture
def results(study: tuple[Path, dict[str, Any]]) -> Results:
    return read_results(*study)


def test_the_recipe_is_the_file_and_its_digest(results: Results) -> None:
    rows = {row[0].text: row for row in recipes.recipe_table(results).rows}
    assert rows["til"][-1].text == f"predictions from a file (sha256 {DIGEST[:12]})"
    assert rows["til"][-1].note == "reader.tsv, joined by patient_id"
    assert [cell.text for cell in (rows["til"][2], rows["til"][3], rows["til"][5])] == ["\N{EN DASH}"] * 3
    assert "file" not in rows["mucin"][-1].text
    digests = [[cell.text for cell in row] for row in provenance.digest_table(results).rows]
    assert ["til", "file of its predictions", DIGEST] in digests
    assert not [row for row in digests if row[0] == "til" and row[1] != "file of its predictions"]


def test_nothing_of_a_training_is_told_though_folds_are_left(study: tuple[Path, dict[str, Any]]) -> None:
    folder, settings = study
    assert recipes.splits_table("til", read_results(folder, settings)) is None
    text = build_report(folder, settings)
    assert 'id="curves-til' not in text
    assert 'id="curves-mucin' in text
    assert "20 rows, joined by patient_id. Each slide has its patient&#39;s prediction." in text
    assert "north: 10 of 11 admitted slides; south: 5 of 6 admitted slides" in text


def test_no_cohort_counts_as_cross_validated_or_external(results: Results) -> None:
    table = modelling.metrics_table("til", "slide", results)
    assert table is not None
    assert predicted.ADOPTED_NOTE in table.caption
    assert all(column.note.startswith("predictions from a file; ") for column in table.columns[1:])
    assert predicted.TRAINED_NOTE in str(getattr(modelling.metrics_table("mucin", "slide", results), "caption", ""))
    titles = [card.title for card in headline.cards(results) if card.note.startswith("til on ")]
    assert titles
    assert all(title.endswith(", predictions from a file") for title in titles)
    glance = headline.glance_table(results)
    assert glance is not None
    assert "predictions from a file or cross-validated" in [column.note for column in glance.columns]
    assert f"Of til: {predicted.ADOPTED_NOTE[0].lower()}{predicted.ADOPTED_NOTE[1:]}" in predicted.study_note(results)


def test_slides_are_told_by_fold_only_of_trained_models(results: Results) -> None:
    of_file, trained = (modelling.prediction_table(name, results).rows[0] for name in ("til", "mucin"))
    assert [cell.text for cell in of_file[2:4]] == ["\N{EN DASH}"] * 2
    assert all(cell.text.isdigit() for cell in trained[2:4])


def test_the_flow_of_such_a_model_starts_at_the_admitted_slides(results: Results) -> None:
    flows = attrition.study_flows(results)
    admitted = {step.title: step.branches[0].slides for step in flows["south"]}["Admitted"]
    labelled = {branch.name: branch.slides for branch in flows["south"][-1].branches}
    lost = results.ledger[(results.ledger["cohort"] == "south") & (results.ledger["stage"] == "labels:til")]
    assert labelled["til"] == admitted - len(lost)


def test_a_file_that_was_not_read_yet_is_said_to_be_missing(results: Results) -> None:
    results.models["til"].adopted.clear()
    assert predicted.file_cell("til", results).text == "predictions from a file"
    assert predicted.weights_note("til", results) == "Predictions from a file, which was not read yet."
