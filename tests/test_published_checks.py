"""A study that names published weights is told of every reason why they could not be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slidestudy.published_checks import MEANINGLESS, published_problems
from slidestudy.settings import check_config

ENCODERS = {"retccl": {"weights": "none"}, "small": {"backend": "timm", "architecture": "resnet18", "dim": 512}}
WHERE = "config.yaml, key models.theirs."
ECTIL_TILES, CRC_TILES = {"size": 512, "mpp": 0.5}, {"size": 224, "mpp": 1.14}


def problems_of(folder: Path, tiles: dict[str, Any] | None = None, **model: Any) -> list[tuple[str, str]]:
    """The problems of a study with one published model beside one that is trained: key, and what with its remedy."""
    (folder / "there.ckpt").touch()
    published = {"kind": "ectil", "files": [str(folder / "there.ckpt")], **model.pop("published", {})}
    own = {"task": "regression", "aggregator": "abmil", "encoder": "small", "target": "tils", "training": {"epochs": 2}}
    config = {
        "study": "a study",
        "results": "results",
        "slides": "slides.tsv",
        "patients": "patients.tsv",
        "cohorts": {"north": {"role": "development"}, "south": {"role": "external"}},
        "tiles": tiles or ECTIL_TILES,
        "encoders": ENCODERS,
        "models": {"theirs": {"encoder": "retccl", "published": published, **model}, "own": own},
    }
    found = published_problems(check_config(config, "config.yaml"), "config.yaml")
    assert all(problem.remedy and problem.where.startswith(WHERE) for problem in found)
    return [(problem.where.removeprefix(WHERE), f"{problem.what}; {problem.remedy}") for problem in found]


def test_published_weights_that_fit_have_no_problem(tmp_path: Path) -> None:
    assert problems_of(tmp_path) == []
    assert problems_of(tmp_path, CRC_TILES, published={"kind": "crc-prognosis"}) == []


def test_every_file_that_is_missing_is_named(tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("a.ckpt", "there.ckpt", "b.ckpt")]
    found = problems_of(tmp_path, published={"files": files})
    assert [key for key, _ in found] == ["published.files"] * 2
    assert [text.split(" does")[0] for _, text in found] == [files[0], files[2]]


def test_other_tiles_are_a_problem_unless_they_are_allowed(tmp_path: Path) -> None:
    ((key, text),) = problems_of(tmp_path, CRC_TILES)
    assert key == "published"
    assert "512 px at 0.5 um/px, these are 224 px at 1.14 um/px" in text
    assert "allow_other_tiles: true" in text
    assert problems_of(tmp_path, CRC_TILES, published={"allow_other_tiles": True}) == []


def test_an_encoder_of_another_length_is_named_with_both_numbers(tmp_path: Path) -> None:
    ((key, text),) = problems_of(tmp_path, encoder="small")
    assert (key, "small gives 512 features" in text, "take 2048" in text) == ("encoder", True, True)


TRAINING_KEYS: dict[str, Any] = {
    "training": {"epochs": 3, "hidden": 32},
    "options": {"heads": 2},
    "covariates": ["age"],
    "modality": {"table": "genes.tsv"},
    "splits": {"scheme": "monte-carlo"},
    "folds": 7,
    "group_by": "center",
    "time_bins": 3,
    "search": {"space": {"dropout": [0.1, 0.2]}},
    "label_efficiency": {},
}


@pytest.mark.parametrize("key", MEANINGLESS)
def test_a_key_that_only_training_has_is_a_problem(tmp_path: Path, key: str) -> None:
    ((found, text),) = problems_of(tmp_path, **{key: TRAINING_KEYS[key]})
    assert found == key
    assert "published weights are used as they are; leave the key out" in text


def test_of_a_section_the_keys_that_were_changed_are_named(tmp_path: Path) -> None:
    ((_, text),) = problems_of(tmp_path, training=TRAINING_KEYS["training"])
    assert "(hidden, epochs)" in text


def test_a_key_at_its_default_says_nothing_and_is_taken(tmp_path: Path) -> None:
    assert problems_of(tmp_path, folds=5, training={"epochs": 100}, splits={"scheme": "k-fold"}, covariates=[]) == []


@pytest.mark.parametrize(
    ("key", "value"), [("task", "classification"), ("aggregator", "abmil"), ("target_range", [0, 1])]
)
def test_what_the_weights_decide_cannot_be_said_otherwise(tmp_path: Path, key: str, value: Any) -> None:
    ((found, text),) = problems_of(tmp_path, **{key: value})
    assert found == key
    assert f"is {value}, but the published ectil weights have" in text


def test_saying_what_the_weights_decide_as_it_is_is_taken(tmp_path: Path) -> None:
    assert problems_of(tmp_path, task="regression", aggregator="ectil", target_range=[0, 100]) == []


def test_all_problems_are_told_together(tmp_path: Path) -> None:
    found = problems_of(
        tmp_path, CRC_TILES, encoder="small", task="classification", folds=7, published={"files": ["gone.ckpt"]}
    )
    assert sorted(key for key, _ in found) == ["encoder", "folds", "published", "published.files", "task"]
