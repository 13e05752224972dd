"""Models that are published weights, beside one that was trained: nothing of a training is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from slidestudy.files import write_json
from slidestudy.models.splits import no_splits
from slidestudy.report import headline, modelling, predicted, recipes
from slidestudy.report.build import build_report
from slidestudy.report.collect import Results, read_results
from slidestudy.tables import write_table
from tests.report.fake_study import build_fake_results

WEIGHTS = {"title": "Scores of others", "source": "example.org", "licence": "MIT", "tiles": "512 px at 0.5 um/px"}


@pytest.fixture
def study(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """The made-up study, its first model turned into two files of published weights; an old fold is left."""
    settings = build_fake_results(tmp_path)
    settings["models"]["til"]["published"] = {"kind": "ectil", "files": ["/data/a.ckpt", "/data/b.ckpt"]}
    home = tmp_path / "models" / "til"
    write_table(home / "splits.tsv", no_splits())
    for fold, file in enumerate(("a.ckpt", "b.ckpt")):
        card = {**WEIGHTS, "file": file, "sha256": f"{fold}" * 64, "other_tiles": False}
        write_json(home / f"fold-{fold}" / "model.json", {"best_epoch": None, "seed": None, "published": card})
        columns = ["epoch", "train_loss", "validation_loss", "validation_score", "best"]
        write_table(home / f"fold-{fold}" / "history.tsv", pd.DataFrame(columns=columns))
    return tmp_path, settings


@pytest.fixture
def results(study: tuple[Path, dict[str, Any]]) -> Results:
    return read_results(*study)


def row_of(results: Results, name: str) -> list[str]:
    (row,) = [row for row in recipes.recipe_table(results).rows if row[0].text == name]
    return [f"{cell.text} {cell.note}".strip() for cell in row]


def test_the_recipe_is_title_files_digests_and_licence(results: Results) -> None:
    *_, folds, recipe = row_of(results, "til")
    assert folds == "\N{EN DASH}"
    assert recipe == (
        "published weights: Scores of others a.ckpt (sha256 000000000000), b.ckpt (sha256 111111111111); licence: MIT"
    )
    *_, folds, recipe = row_of(results, "mucin")
    assert "by" in folds
    assert "published" not in recipe


def test_there_are_no_splits_and_no_curves_though_a_fold_of_before_is_left(study: tuple[Path, dict[str, Any]]) -> None:
    folder, settings = study
    results = read_results(folder, settings)
    assert recipes.splits_table("til", results) is None
    assert recipes.splits_table("mucin", results) is not None
    # The fold that is left over has a history of its own.
    assert modelling.curves("til", results.models["til"]) is not None
    text = build_report(folder, settings)
    assert 'id="curves-mucin' in text
    assert 'id="curves-til' not in text
    assert "Nothing was trained: 2 files of published weights, example.org." in text


def test_every_caption_says_who_predicted(results: Results) -> None:
    for name, note in (("til", predicted.PUBLISHED_NOTE), ("mucin", predicted.TRAINED_NOTE)):
        table = modelling.metrics_table(name, "slide", results)
        assert table is not None
        assert note in table.caption
        assert note in modelling.prediction_table(name, results).caption
    assert predicted.TRAINED_NOTE in predicted.study_note(results)
    assert "Of til: all slides, of development cohorts too" in predicted.study_note(results)


def test_no_number_of_published_weights_is_called_cross_validated_or_external(results: Results) -> None:
    table = modelling.metrics_table("til", "slide", results)
    assert table is not None
    assert all(column.note.startswith("published weights; ") for column in table.columns[1:])
    titles = [card.title for card in headline.cards(results) if card.note.startswith("til on ")]
    assert titles
    assert all(title.endswith(", published weights") for title in titles)
    glance = headline.glance_table(results)
    assert glance is not None
    assert "published weights or cross-validated" in [column.note for column in glance.columns]


def test_tiles_that_the_weights_were_not_made_for_are_flagged(results: Results) -> None:
    card = results.models["til"].cards[0]["published"]
    card |= {"other_tiles": True, "applied_to": {"size": 128, "mpp": 0.5}}
    assert predicted.weights_cell("til", results).flag == "OTHER TILES"
    assert "The tiles of this study are others, 128 px at 0.5 um/px" in str(predicted.weights_note("til", results))
    assert predicted.weights_note("mucin", results) is None


def test_weights_that_are_not_there_yet_are_said_to_be_missing(results: Results) -> None:
    results.models["til"].cards.clear()
    assert predicted.weights_cell("til", results).note == "ectil"
    assert predicted.weights_note("til", results) == "Published weights, which were not found."
