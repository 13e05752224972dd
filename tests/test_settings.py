"""A configuration is completed, or every mistake in it is named."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from slidestudy.errors import StudyError
from slidestudy.settings import check_config
from slidestudy.yaml_files import load_yaml
from tests.configurations import CONFIG, changed


def message(config: Any) -> str:
    with pytest.raises(StudyError) as caught:
        check_config(config, "study.yaml")
    return str(caught.value)


# Reading


def yaml_message(path: Path) -> str:
    with pytest.raises(StudyError) as caught:
        load_yaml(path)
    return str(caught.value)


def test_yaml_is_read_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("tiles: {size: 256, mpp: 0.5}\nbase: &b {a: 1}\nmore: {<<: *b, c: 1.0e-4}\n")
    assert load_yaml(tmp_path / "a.yaml") == {
        "tiles": {"size": 256, "mpp": 0.5},
        "base": {"a": 1},
        "more": {"a": 1, "c": 1e-4},
    }


def test_invalid_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("study: x\ntiles:\n  size: 256\n mpp: 0.5\n")
    text = yaml_message(tmp_path / "a.yaml")
    assert "a.yaml, line 4: not valid YAML" in text
    assert "indentation" in text


def test_a_key_given_twice_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("models:\n  til: {}\n  other: {}\n  til: {}\n")
    assert "line 4: not valid YAML: the key 'til' stands twice" in yaml_message(tmp_path / "a.yaml")


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    assert "a.yaml: the configuration does not exist" in yaml_message(tmp_path / "a.yaml")


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    assert "is a folder" in yaml_message(tmp_path)


def test_a_configuration_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes("study: é".encode("latin-1"))
    assert "save it as UTF-8" in yaml_message(tmp_path / "a.yaml")


# Checking


def test_a_configuration_is_completed_with_defaults_and_registry_entries() -> None:
    config = check_config(CONFIG, "study.yaml")
    assert config["seed"] == 12345
    assert config["inspection"] == {
        "regions": 16,
        "max_unreadable": 0.05,
        "mpp_tolerance": 0.05,
        "near_duplicates": "report",
        "near_duplicate_bits": 48,
    }
    assert config["models"]["til"]["training"]["epochs"] == 100
    assert config["encoders"]["resnet18-untrained"]["architecture"] == "resnet18"
    reader = config["explanations"]["reader"]
    assert (reader["kind"], reader["structured"], reader["max_cost"]) == ("morphometry", "auto", None)


def test_what_is_given_stands_against_default_and_registry() -> None:
    config = check_config(changed("encoders.resnet18-untrained.input_size", 128), "study.yaml")
    assert config["encoders"]["resnet18-untrained"]["input_size"] == 128
    config = check_config(changed("models.til.training.epochs", 3), "study.yaml")
    assert config["models"]["til"]["training"]["epochs"] == 3
    assert config["models"]["til"]["training"]["patience"] == 15


def test_checking_does_not_change_what_was_read() -> None:
    before = copy.deepcopy(CONFIG)
    check_config(CONFIG, "study.yaml")
    assert before == CONFIG


def test_a_complete_configuration_is_left_as_it_is() -> None:
    config = check_config(CONFIG, "study.yaml")
    assert check_config(config, "study.yaml") == config


def test_names_chosen_by_the_user_keep_their_order() -> None:
    cohorts = {name: {"role": "external"} for name in ("zulu", "alpha", "mike")}
    assert list(check_config({**CONFIG, "cohorts": cohorts}, "study.yaml")["cohorts"]) == ["zulu", "alpha", "mike"]


@pytest.mark.parametrize(
    ("path", "value", "where", "said", "remedy"),
    [
        ("tilez", {}, "study.yaml:", "unknown key 'tilez'", "did you mean 'tiles'?"),
        ("tiles.sise", 3, "key tiles:", "unknown key 'sise'", "did you mean 'size'?"),
        ("models.til.training.lerning_rate", 1, "key models.til.training:", "'lerning_rate'", "'learning_rate'"),
        ("tiles.size", 25.6, "key tiles.size:", "25.6 is not of type 'integer'", "tile side"),
        ("tiles.size", "256", "key tiles.size:", "reads '256' as text", "without quotes"),
        ("models.til.training.learning_rate", "1e-4", "learning_rate:", "reads '1e-4' as text", "1.0e-4"),
        ("tiles.mpp", 50, "key tiles.mpp:", "50 is greater than the maximum", "resolution of the tiles"),
        ("tiles.mpp", float("nan"), "key tiles.mpp:", "nan is not a finite number", "give a number"),
        ("models.til.folds", 2, "key models.til.folds:", "2 is less than the minimum of 3", "folds"),
        ("models.til.task", "ranking", "key models.til.task:", "'ranking' is not one of", "classification"),
        ("cohorts.north.role", "training", "key cohorts.north.role:", "'training' is not one of", "development"),
        ("cohorts.north", None, "key cohorts.north:", "has no value", "section"),
        ("encoders", {}, "key encoders:", "{}", "patch encoders"),
        ("encoders.stain texture", {}, "key encoders:", "'stain texture' has characters", "letters"),
    ],
)
def test_a_mistake_is_named_with_key_and_remedy(path: str, value: Any, where: str, said: str, remedy: str) -> None:
    text = message(changed(path, value))
    assert text.startswith("1 problem")
    assert all(part in text for part in (where, said, remedy)), text


def test_a_missing_key_is_named_with_what_it_means() -> None:
    config = copy.deepcopy(CONFIG)
    del config["patients"], config["models"]["til"]["target"]
    text = message(config)
    assert "study.yaml: the key 'patients' is missing" in text
    assert "table of patients" in text
    assert "key models.til: the key 'target' is missing" in text


def test_a_name_that_yaml_takes_for_a_number_must_be_quoted() -> None:
    text = message({**CONFIG, "cohorts": {2020: {"role": "development"}}})
    assert "key cohorts: YAML does not read the name 2020 as text" in text
    assert "put it in quotes" in text


def test_an_encoder_outside_the_registry_needs_a_backend() -> None:
    text = message(changed("encoders.stain-textur", {}))
    assert "key encoders.stain-textur: no such encoder in the registry" in text
    assert "did you mean 'stain-texture'?" in text


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"kind": "openai", "model": "m"}, ["base_url", "api_key_env"]),
        ({"kind": "transformers"}, ["weights"]),
        ({"kind": "clip"}, ["architecture", "weights"]),
    ],
)
def test_a_reader_must_say_what_its_kind_needs(given: dict[str, str], missing: list[str]) -> None:
    prompts = [] if given["kind"] == "clip" else ["describe_prompt", "answer_prompt", "image_only_prompt"]
    text = message(changed("explanations.reader", given))
    for key in missing + prompts:
        assert f"key explanations.reader: the key '{key}' is missing" in text
    assert text.startswith(f"{len(missing + prompts)} problems")


@pytest.mark.parametrize("config", [None, [], "text", {}])
def test_something_else_than_a_configuration_is_refused(config: Any) -> None:
    assert "slidestudy init" in message(config)


def test_all_mistakes_are_reported_together_and_always_in_the_same_order() -> None:
    config = changed("tiles.size", 1)
    config |= {"seeed": 1, "study": "", "cohorts": {"north": {}}}
    texts = {message(copy.deepcopy(config)) for _ in range(3)}
    assert len(texts) == 1
    assert texts.pop().startswith("4 problems")
