"""Models that are predictions from a file: what their configuration may say, and how files go with the study."""

from __future__ import annotations

from typing import Any

import pytest

from slidestudy.stages import stage_settings
from tests.drafts import Draft

READER: dict[str, Any] = {"task": "regression", "target": "tils", "predictions": "reader.tsv"}
ROWS = "slide_id\tpatient_id\tprediction\nA1\tA1\t12\nA1b\tA1\t14\nelsewhere\tX\t1\n"


@pytest.fixture
def adopted(draft: Draft) -> Draft:
    """The draft with a model of this kind."""
    (draft.folder / "reader.tsv").write_text(ROWS)
    draft.config["models"]["reader"] = dict(READER)
    return draft


def test_such_a_model_needs_no_encoder_and_no_training(adopted: Draft) -> None:
    study = adopted.load()
    assert study.config["models"]["reader"]["predictions"] == str(adopted.folder / "reader.tsv")
    stages = stage_settings(study.config)
    assert set(stages["models.reader"]) == {"name", "predictions", "task", "target", "columns"}
    assert stages["validation.reader"]["target_range"] == [0, 100]
    assert study.labels("reader")["target"].notna().any()


def test_a_study_of_such_models_alone_needs_no_development_cohort(adopted: Draft) -> None:
    adopted.config["models"] = {"reader": dict(READER)}
    adopted.config["explanations"] = {}
    adopted.config["cohorts"]["north"]["role"] = "external"
    assert list(adopted.load().config["models"]) == ["reader"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("encoder", "stain-texture"),
        ("aggregator", "ectil"),
        ("training", {"epochs": 3}),
        ("folds", 3),
        ("search", {"space": {"hidden": [1, 2]}}),
        ("label_efficiency", {}),
        ("published", {"kind": "ectil", "files": ["a.ckpt"]}),
        ("covariates", ["age"]),
    ],
)
def test_keys_of_how_a_model_is_made_are_refused(adopted: Draft, key: str, value: Any) -> None:
    adopted.config["models"]["reader"][key] = value
    said = adopted.message()
    assert f"key models.reader.{key}: says how a model is made" in said
    assert said.startswith("1 problem ")


def test_a_model_without_tiles_cannot_be_explained(adopted: Draft) -> None:
    adopted.config["explanations"]["models"] = ["til", "reader"]
    said = adopted.message()
    assert "key explanations.models: the model reader is predictions from a file" in said
    assert "remedy: take reader out" in said


def test_task_and_target_are_still_needed(adopted: Draft) -> None:
    adopted.config["models"]["reader"] = {"predictions": "reader.tsv"}
    said = adopted.message()
    assert "the key 'task' is missing" in said
    assert "the key 'target' is missing" in said
    assert "encoder" not in said


def test_a_model_without_a_file_needs_its_encoder(adopted: Draft) -> None:
    del adopted.config["models"]["til"]["encoder"]
    assert "key models.til: the key 'encoder' is missing" in adopted.message()


def test_a_file_that_is_not_there_is_told(adopted: Draft) -> None:
    (adopted.folder / "reader.tsv").unlink()
    assert "key models.reader.predictions: " in adopted.message()
    assert "reader.tsv does not exist" in adopted.message()


def test_a_slide_of_another_patient_is_told_with_its_line(adopted: Draft) -> None:
    (adopted.folder / "reader.tsv").write_text(ROWS.replace("A1b\tA1", "A1b\tA2"))
    said = adopted.message()
    assert "line 3, column patient_id: 'patient_id' is 'A2', the study gives the slide to 'A1'" in said


def test_a_file_of_none_of_the_slides_is_told_but_not_single_ones(adopted: Draft) -> None:
    adopted.load()
    (adopted.folder / "reader.tsv").write_text("patient_id\tprediction\na1\t12\n")
    said = adopted.message()
    assert "no patient_id of" in said
    assert "e.g. 'a1'" in said


def test_cells_that_cannot_be_used_are_told_before_anything_runs(adopted: Draft) -> None:
    (adopted.folder / "reader.tsv").write_text("slide_id\tprediction\nA1\tmany\n")
    assert "line 2, column prediction: 'prediction' is 'many', which is no number" in adopted.message()
