"""A fold's files are the same whether its job trains it alone or all folds with one reading."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from slidestudy.errors import StudyError
from slidestudy.files import read_json
from slidestudy.models import loading
from slidestudy.models.cohort import split_development
from slidestudy.models.fold_files import train_all_folds, train_to_files
from slidestudy.models.resuming import forget, resume_folder
from tests.models.builders import RECIPE, write_cohort

SETTINGS: dict[str, Any] = {
    "name": "til",
    "task": "regression",
    "target": "tils",
    "target_range": [0, 100],
    "aggregator": "gated-abmil",
    "encoder": "planted",
    "group_by": "patient",
    "folds": 3,
    "seed": 5,
    "covariates": [],
    "training": {**RECIPE, "epochs": 3, "seeds": 2},
}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Splits, labels and stores."""
    labels, stores = write_cohort(tmp_path_factory.mktemp("stores"))
    return split_development(labels, stores, SETTINGS), labels, stores


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def outputs(folder: Path) -> dict[int, str]:
    return {fold: str(folder / f"fold-{fold}") for fold in range(3)}


@pytest.mark.parametrize("memory_gb", [4.0, 1e-4])
def test_all_folds_in_one_job_are_the_folds_of_three_jobs(
    cohort: tuple[pd.DataFrame, pd.DataFrame, list[str]], tmp_path: Path, memory_gb: float
) -> None:
    settings = {**SETTINGS, "training": {**SETTINGS["training"], "memory_gb": memory_gb, "pack_tiles": 16}}
    for fold, output in outputs(tmp_path / "alone").items():
        train_to_files(settings, *cohort, fold, output)
        forget(output)
    train_all_folds(settings, *cohort, outputs(tmp_path / "together"), {})
    alone = files(tmp_path / "alone")
    assert files(tmp_path / "together") == alone
    assert {"fold-2/model.safetensors", "fold-2/seed-1/model.json", "fold-2/curves.svg"} <= set(alone)


def test_one_job_reads_each_slide_once(
    cohort: tuple[pd.DataFrame, pd.DataFrame, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: Counter[str] = Counter()
    read_bag = loading.read_bag

    def counted(path: Path, slide: str, recipe: str) -> Any:
        reads[slide] += 1
        return read_bag(path, slide, recipe)

    monkeypatch.setattr(loading, "read_bag", counted)
    train_all_folds(SETTINGS, *cohort, outputs(tmp_path), {})
    assert set(reads.values()) == {1}
    assert set(reads) == set(cohort[0]["slide_id"])


def test_a_fold_that_fails_leaves_what_the_others_go_on_from(
    cohort: tuple[pd.DataFrame, pd.DataFrame, list[str]], tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match="is no finished search"):
        train_all_folds(SETTINGS, *cohort, outputs(tmp_path), {1: str(tmp_path / "search")})
    assert (tmp_path / "fold-0" / "model.json").is_file()
    assert list(resume_folder(tmp_path / "fold-0").glob("*.pt"))


def test_a_search_is_taken_into_the_recipe_and_told(
    cohort: tuple[pd.DataFrame, pd.DataFrame, list[str]], tmp_path: Path
) -> None:
    search = tmp_path / "search"
    search.mkdir()
    (search / "best.yaml").write_text("hidden: 7\n")
    (search / "search.json").write_text('{"value": 0.5, "number": 3, "trials": 4, "failed": 1}')
    train_to_files(SETTINGS, *cohort, 0, tmp_path / "fold-0", search=str(search))
    card = read_json(tmp_path / "fold-0" / "model.json")
    assert card["architecture"]["hidden"] == card["training"]["hidden"] == 7
    assert card["search"] == {"best": {"hidden": 7}, "value": 0.5, "number": 3, "trials": 4, "failed": 1}
