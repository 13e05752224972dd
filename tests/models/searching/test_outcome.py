"""The outcome of a search is on disk whole, and goes into the recipe of the fold."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from tests.models.searching.planted_search import run

from slidestudy.errors import StudyError
from slidestudy.files import read_json
from slidestudy.models.searching.outcome import load_search, with_setting
from slidestudy.tables import load_table
from slidestudy.yaml_files import load_yaml


def test_the_outcome_is_on_disk(finished):
    result, output = finished
    assert {p.name for p in output.iterdir()} == {"best.yaml", "trials.tsv", "search.json"}
    assert {p.name for p in output.parent.iterdir()} == {"fold-1"}
    assert load_yaml(output / "best.yaml") == result.best
    table, said = load_table(output / "trials.tsv"), read_json(output / "search.json")
    scores = [f"score.{k}" for k in range(3)]
    assert list(table) == ["number", "state", "value", "learning_rate", "weight_decay", *scores, "best", "reason"]
    np.testing.assert_allclose(table["value"], table[scores].mean(axis=1), rtol=1e-12)
    assert table.loc[table["best"] == 1, "number"].tolist() == [result.number]
    assert result.value == table["value"].max()
    assert said["sampler"] == "random"
    assert "optuna" in said["software"]
    assert load_search(output) == {
        "best": result.best,
        "value": result.value,
        "number": result.number,
        "trials": 4,
        "failed": 0,
    }


def test_a_setting_goes_into_the_recipe_or_the_options():
    settings = {"aggregator": "transformer", "training": {"hidden": 8, "epochs": 3, "options": {"hidden": 4}}}
    found = with_setting(settings, {"epochs": 5, "hidden": 16, "heads": 2})
    assert found["training"] == {"hidden": 8, "epochs": 5, "options": {"hidden": 16, "heads": 2}}
    assert settings["training"] == {"hidden": 8, "epochs": 3, "options": {"hidden": 4}}


def test_values_that_are_neither_numbers_nor_text_are_told_as_json(study, tmp_path):
    result = run(study, tmp_path / "fold-1", space={"standardise": [False], "tiles_per_epoch": [None]}, trials=1)
    assert result.best == {"standardise": False, "tiles_per_epoch": None}
    assert load_yaml(tmp_path / "fold-1" / "best.yaml") == result.best
    row = (tmp_path / "fold-1" / "trials.tsv").read_text().splitlines()[1].split("\t")
    assert row[3:5] == ["false", "null"]


@pytest.mark.parametrize("missing", ["best.yaml", "search.json"])
def test_an_unfinished_search_is_no_search(finished, tmp_path, missing):
    folder = tmp_path / "fold-1"
    shutil.copytree(finished[1], folder)
    (folder / missing).unlink()
    with pytest.raises(StudyError, match="is no finished search"):
        load_search(folder)
