"""Each stage sees what it reads of a configuration, and no more."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from slidestudy.settings import check_config
from slidestudy.stages import comparison_candidates, explanation_names, pretraining_cohorts, stage_settings
from slidestudy.yaml_files import dump_yaml
from tests.configurations import CONFIG, changed


def differing(path: str, value: Any) -> set[str]:
    """Names of the stages whose settings differ once a key is changed."""
    before, after = (stage_settings(check_config(c, "study.yaml")) for c in (CONFIG, changed(path, value)))
    assert before.keys() == after.keys()
    return {name for name in before if dump_yaml(before[name]) != dump_yaml(after[name])}


def test_changing_the_tile_size_changes_features_and_what_shows_tiles_only() -> None:
    changed_stages = differing("tiles.size", 512)
    features = {"features.stain-texture", "features.resnet18-untrained", "features.own", "pretraining.own"}
    assert features <= changed_stages
    assert changed_stages <= features | {"explanations.sample", "report"}


@pytest.mark.parametrize(
    ("path", "value", "stages"),
    [
        ("tissue.mpp", 4, {"tissue"}),
        ("inspection.regions", 4, {"slides"}),
        ("encoders.resnet18-untrained.input_size", 64, {"features.resnet18-untrained", "report"}),
        ("encoders.resnet18-untrained.licence", "another", {"report"}),
        ("encoders.own.batch_size", 8, {"features.own", "report"}),
        ("encoders.own.architecture", "resnet34", {"features.own", "pretraining.own", "report"}),
        ("encoders.own.pretraining.epochs", 7, {"pretraining.own", "report"}),
        ("slide_encoders.spread.precision", "bf16", {"slide_encoders.spread"}),
        ("comparisons.by-tils.folds", 4, {"comparisons.by-tils", "report"}),
        ("comparisons.by-tils.encoders", ["own"], {"comparisons.by-tils", "report"}),
        ("summaries.components", 8, {"summaries.own"}),
        ("weights_dir", "/weights", set()),
        ("dask.scheduler", "tcp://somewhere:8786", set()),
        ("models.til.training.epochs", 5, {"models.til", "report"}),
        ("models.til.cutoffs", [10], {"validation.til", "report"}),
        ("models.til.target_range", [0, 200], {"models.til", "validation.til", "report"}),
        (
            "validation.bootstrap",
            500,
            {"validation.til", "validation.other", "explanations.scores", "comparisons.by-tils", "summaries.own"},
        ),
        ("validation.interval", "bca", {"validation.til", "validation.other"}),
        ("explanations.sample.near", 0.3, {"explanations.sample", "report"}),
        ("explanations.sample.x1", 0.7, {"explanations.scores", "report"}),
        ("truth", {"table": "t.tsv", "columns": {"til": "true_tils"}}, {"validation.til", "report"}),
        ("results", "elsewhere", set()),
    ],
)
def test_a_changed_key_changes_the_stages_that_read_it(path: str, value: Any, stages: set[str]) -> None:
    assert differing(path, value) == stages


def test_every_patch_encoder_has_its_mean_and_all_are_compared_where_none_is_named() -> None:
    config = check_config(CONFIG, "study.yaml")
    means = ["stain-texture.mean", "resnet18-untrained.mean", "own.mean"]
    assert comparison_candidates(config, "by-tils") == ["spread", *means]
    config["comparisons"]["by-tils"]["encoders"] = ["own", "spread", "stain-texture.mean"]
    assert comparison_candidates(config, "by-tils") == ["own.mean", "spread", "stain-texture.mean"]
    assert stage_settings(config)["slide_encoders.own.mean"]["encoder"] == "own"


@pytest.mark.parametrize(
    ("method", "named", "roles", "expected"),
    [
        ("simclr", [], {"a": "development", "b": "external"}, ["a"]),
        ("simclr", [], {"a": "development", "b": "pretraining"}, ["b"]),
        ("dino", ["a"], {"a": "development", "b": "pretraining"}, ["a"]),
        ("fine-tune", [], {"a": "development", "b": "external"}, []),
        ("fine-tune", [], {"a": "development", "b": "pretraining"}, ["b"]),
    ],
)
def test_encoders_are_trained_on_their_own_cohorts_and_labels_are_never_seen_on_others(
    method: str, named: list[str], roles: dict[str, str], expected: list[str]
) -> None:
    config = changed("cohorts", {name: {"role": role} for name, role in roles.items()})
    config["encoders"]["own"]["pretraining"] = {"method": method, "cohorts": named}
    assert pretraining_cohorts(check_config(config, "study.yaml"), "own") == expected


def test_another_seed_reaches_every_stage_that_draws() -> None:
    stages = differing("seed", 1)
    assert {"features.resnet18-untrained", "models.til", "validation.til", "explanations.sample"} <= stages
    assert not stages & {"slides", "tissue"}


def test_equal_settings_are_equal_text_whatever_their_order() -> None:
    assert dump_yaml({"a": 1, "b": {"d": 2, "c": 3}}) == dump_yaml({"b": {"c": 3, "d": 2}, "a": 1})
    assert yaml.safe_load(dump_yaml({"um": "µm", "x": [1, None]})) == {"um": "µm", "x": [1, None]}


@pytest.mark.parametrize(
    ("controls", "names"),
    [
        ([], ["short", "long"]),
        (["inverted"], ["short", "long", "short.inverted", "long.inverted"]),
        (["irrelevant"], ["short", "long", "control.irrelevant"]),
    ],
)
def test_explanations_are_named_with_their_controls(controls: list[str], names: list[str]) -> None:
    assert explanation_names(check_config(changed("explanations.controls", controls), "study.yaml")) == names


def test_a_search_is_a_stage_of_its_own_that_training_does_not_read() -> None:
    space = {"hidden": [8, 16]}
    plain = stage_settings(check_config(CONFIG, "study.yaml"))
    first, second = (
        stage_settings(check_config(changed("models.til.search", {"space": space, "trials": n}), "study.yaml"))
        for n in (5, 6)
    )
    assert first["search.til"] == {
        "seed": plain["models.til"]["seed"],
        "space": space,
        "trials": 5,
        "inner_folds": 3,
        "sampler": "tpe",
    }
    assert {name for name in first if first[name] != second[name]} == {"search.til", "report"}
    assert "search.til" not in plain
    assert first["models.til"] == plain["models.til"]


def test_shares_are_trained_anew_neither_by_another_bootstrap_nor_with_the_model() -> None:
    plain = stage_settings(check_config(CONFIG, "study.yaml"))
    config = changed("models.til.label_efficiency", {"repeats": 2})
    first = stage_settings(check_config(config, "study.yaml"))
    assert first["label_efficiency.til"] == {"fractions": [0.1, 0.2, 0.4, 0.7, 1.0], "repeats": 2}
    assert first["models.til"] == plain["models.til"]
    assert "label_efficiency.til" not in plain
    config["validation"] = {"bootstrap": 300}
    second = stage_settings(check_config(config, "study.yaml"))
    assert second["label_efficiency.til"] == first["label_efficiency.til"]
    assert second["validation.til"] != first["validation.til"]
