"""The report shows models of every task: their headline metric, their targets, and what is left out of very many."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from slidestudy.report.agreement import agreement_parts
from slidestudy.report.build import build_report
from slidestudy.report.collect import Results, read_results
from slidestudy.report.headline import cards, glance_table
from slidestudy.report.layout import Table, interval, interval_note
from slidestudy.report.metric_rows import ENDS, chosen_rows, threshold_words
from slidestudy.report.modelling import decisions_table, figures, metrics_table, prediction_table
from slidestudy.report.recipes import recipe_table, splits_table
from slidestudy.tables import load_table
from slidestudy.validation.metrics import MAIN_METRIC
from tests.report.fake_study import GENES, build_fake_results, further_models
from tests.report.test_report import Page


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("study")
    return folder, build_fake_results(folder, every_task=True)


@pytest.fixture(scope="module")
def results(study: tuple[Path, dict[str, Any]]) -> Results:
    return read_results(*study)


def written(study: tuple[Path, dict[str, Any]], model: str) -> pd.DataFrame:
    return load_table(study[0] / "validation" / model / "metrics.tsv")


def column(table: Table, title: str) -> list[str]:
    place = [head.title for head in table.columns].index(title)
    return [row[place].text for row in table.rows]


def test_every_model_is_at_a_glance_with_its_headline_metric(study, results: Results) -> None:
    table = glance_table(results)
    assert table is not None
    shown = dict(zip(column(table, "Model"), column(table, "north"), strict=True))
    for name, model in further_models().items():
        metric = MAIN_METRIC[model["task"]]
        rows = written(study, name).query("level == 'slide' and cohort == 'north' and target == ''")
        row = rows[(rows["metric"] == metric) & rows["threshold"].isna()].iloc[0]
        assert shown[name] == interval(row["value"], row["ci_low"], row["ci_high"], metric)


def test_the_page_has_every_task_and_no_blank_number(study) -> None:
    page = Page(build_report(*study))
    for word in ("AUROC, adenoma", "Pearson r, mean of targets", "C-index (Harrell)", "AUROC, event by 20", "Balanced"):
        assert word in page.text
    assert "nan" not in page.text.lower().split()
    assert "None" not in page.text.split()
    ids = page.values("id")
    assert len(ids) == len(set(ids))


def test_a_table_of_many_targets_has_the_means_and_the_highest_and_lowest(study, results: Results) -> None:
    table = metrics_table("genes", "slide", results)
    assert table is not None
    metrics = written(study, "genes").query("level == 'slide' and cohort == 'north' and metric == 'pearson'")
    order = metrics.sort_values("value", ascending=False)["target"].tolist()
    labels = column(table, "Metric")
    assert labels[:3] == [f"{name}, mean of targets" for name in ("Pearson r", "Spearman ρ", "Explained variance")]
    assert labels[3:] == [f"Pearson r, {gene}" for gene in [*order[:ENDS], *order[-ENDS:]]]
    assert f"the 20 highest and the 20 lowest of {len(GENES)} targets" in table.caption
    assert "metrics.tsv has all" in table.caption
    assert table.rows[0][1].note == f"of {len(GENES)} targets"


def test_a_table_of_few_targets_has_every_metric_of_each(results: Results) -> None:
    table = metrics_table("markers", "slide", results)
    assert table is not None
    assert len(table.rows) == 3 + 8 * 3
    assert "metrics.tsv" not in table.caption


def test_targets_without_a_value_do_not_count_as_the_lowest() -> None:
    names = [f"g{i}" for i in range(45)]
    table = pd.DataFrame({"cohort": "north", "metric": "pearson", "target": names, "threshold": None})
    table["value"] = [None, *[i / 100 for i in range(44)]]
    rows, note = chosen_rows(table, "multi-regression")
    assert [row.target for row in rows] == [*names[:-21:-1], *names[20:0:-1]]
    assert "of 45 targets" in note


def test_decisions_have_a_table_of_their_own_with_a_row_for_each_threshold(results: Results) -> None:
    for level in ("slide", "patient"):
        table = decisions_table("histology", level, results)
        assert table is not None
        assert [head.title for head in table.columns] == ["Cohort", "Sensitivity", "Specificity", "PPV", "NPV", "F1"]
        assert [row[0].text for row in table.rows] == ["north"] * 3 + ["south"] * 3
        assert table.rows[0][0].note.startswith("adenoma; ")
    rows = metrics_table("histology", "slide", results)
    assert rows is not None
    labels = column(rows, "Metric")
    assert "Balanced accuracy" in labels
    assert "Brier score, adenoma" in labels
    assert not [label for label in labels if label.startswith(("Sensitivity", "F1"))]
    assert decisions_table("outcome", "slide", results) is None


@pytest.mark.parametrize(
    ("task", "threshold", "words"),
    [("classification", 0.4123, "at 0.412"), ("regression", 30, "≥ 30"), ("classification", None, "no threshold")],
)
def test_the_threshold_of_a_decision_is_told_in_words(task: str, threshold: float | None, words: str) -> None:
    assert threshold_words("", threshold, task, ">=") == words


def test_the_kind_of_the_intervals_is_told() -> None:
    known = {"confidence": 0.95, "bootstrap": 2000}
    assert interval_note({**known, "interval": "percentile"}).startswith(
        "95% percentile intervals from 2,000 bootstrap"
    )
    said = interval_note({**known, "interval": "bca"})
    assert said.startswith("95% BCa intervals")
    assert "means over targets are percentile" in said
    assert "BCa" not in interval_note({**known, "interval": "bca"}, percentile=True)


def test_classes_and_events_are_counted(results: Results) -> None:
    table = metrics_table("outcome", "patient", results)
    assert table is not None
    assert column(table, "Metric") == ["C-index (Harrell)", "C-index (Uno), until 20", "AUROC, event by 20"]
    assert table.rows[0][1].note.endswith(("event", "events"))
    classes = metrics_table("histology", "slide", results)
    assert classes is not None
    assert "of 3 classes" in classes.rows[0][1].note


@pytest.mark.parametrize(("model", "spread"), [("histology", "0.1"), ("markers", "0.25"), ("outcome", "0.05")])
def test_labelled_slides_and_the_spread_over_models_are_shown(model: str, spread: str, results: Results) -> None:
    table = prediction_table(model, results)
    assert column(table, "Labelled slides") == ["11", "6"]
    assert column(table, "Spread") == [spread, spread]


def test_predictions_of_one_model_have_no_spread(results: Results) -> None:
    assert column(prediction_table("til", results), "Spread") == ["–", "–"]


def test_a_recipe_says_what_differs_from_the_default_and_what_was_searched(study) -> None:
    settings = study[1]
    changed = {
        **settings["models"]["til"],
        "training": {"epochs": 7, "learning_rate": 0.0001, "ema": None, "threads": 4},
        "options": {"layers": 3},
        "search": {"space": {"weight_decay": [0.0, 0.1]}},
        "covariates": ["age"],
        "splits": {"scheme": "leave-one-center-out"},
    }
    rows = recipe_table(read_results(study[0], {**settings, "models": {"til": changed}, "explanations": {}})).rows
    (cells,) = rows
    assert (cells[-1].text, cells[-1].note) == ("epochs 7, layers 3", "searched in each fold: weight decay")
    assert (cells[2].text, cells[2].note) == ("ectil", "with age")
    assert cells[5].text == "leave-one-center-out"


def test_folds_tell_what_their_search_found(results: Results) -> None:
    found = {"best": {"learning_rate": 0.01}, "value": 0.5, "number": 1, "trials": 4, "failed": 1}
    files = results.models["til"]
    cards = {fold: {**card, "search": found} for fold, card in files.cards.items()}
    searched = replace(results, models={"til": replace(files, cards=cards)})
    table = splits_table("til", searched)
    assert table is not None
    place = [head.title for head in table.columns].index("setting found")
    assert {(row[place].text, row[place].note) for row in table.rows} == {
        ("learning rate 0.01", "0.50; 4 trials, 1 failed")
    }
    plain = splits_table("til", results)
    assert plain is not None
    assert "setting found" not in [head.title for head in plain.columns]


def test_a_roc_figure_without_cut_offs_is_not_shown(results: Results) -> None:
    assert len(figures("load", results)) == 1
    assert len(figures("histology", results)) == 2


def test_targets_and_ranges_are_named(results: Results) -> None:
    table = recipe_table(results)
    place = [head.title for head in table.columns].index("Target")
    found = {row[0].text: (row[place].text, row[place].note) for row in table.rows}
    assert found["til"] == ("tils", "0 to 100")
    assert found["load"] == ("load", "without bounds")
    assert found["genes"] == ("50 columns: GENE00, GENE01, GENE02, ...", "")
    assert found["outcome"] == ("months, died", "")


def test_the_header_has_the_headline_metric_of_a_study_without_a_regression(study) -> None:
    for name, model in further_models().items():
        settings = {**study[1], "models": {name: model}, "explanations": {}}
        titles = {card.title for card in cards(read_results(study[0], settings))}
        assert any(title.endswith("cross-validated") for title in titles), name


def test_calibration_and_agreement_are_shown_where_they_mean_something_and_are_not_too_many(results: Results) -> None:
    assert len(results.models["genes"].agreement.agreement) == 50 * 4 * 2 * 2
    tables = {
        name: [part.caption for part in agreement_parts(name, results) if isinstance(part, Table)]
        for name in further_models()
    }
    assert tables["genes"] == tables["outcome"] == []
    assert [len(tables[name]) for name in ("histology", "markers", "load")] == [1, 1, 2]
    assert "histology: calibration per slide" in tables["histology"][0]
    assert "markers: agreement with the labels" in tables["markers"][0]
