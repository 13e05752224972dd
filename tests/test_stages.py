"""Each stage sees what it reads of a configuration, and no more."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from slidestudy.settings import check_config
from slidestudy.stages import (
    comparison_candidates,
    pretraining_cohorts,
    rivals_of,
    shift_encoders,
    stage_settings,
)
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
        ("models.til.target_range", [0, 200], {"models.til", "validation.til", "heatmaps.til", "report"}),
        (
            "validation.bootstrap",
            500,
            {
                "validation.til",
                "validation.other",
                "explanations.scores",
                "explanations.gate",
                "explanations.attribution",
                "comparisons.by-tils",
                "summaries.own",
                "shift.stain-texture",
                "survival.til",
            },
        ),
        ("validation.interval", "bca", {"validation.til", "validation.other"}),
        ("validation.survival.overall.times", [5], {"survival.til"}),
        ("validation.heatmaps.slides", "all", {"heatmaps.til", "heatmaps.other"}),
        ("validation.shift.percentile", 90, {"shift.stain-texture"}),
        ("validation.shift.tiles_per_slide", 9, {"shift.stain-texture"}),
        ("explanations.sample.near", 0.3, {"explanations.sample", "report"}),
        ("explanations.sample.x1", 0.7, {"explanations.scores", "report"}),
        ("explanations.sample.unit", "logit", {"explanations.sample", "explanations.scores", "report"}),
        ("explanations.sample.strata_by", "center", {"explanations.sample", "report"}),
        ("explanations.smallest", 5, {"explanations.scores", "report"}),
        ("explanations.attribution.method", "occlusion", {"explanations.attribution", "report"}),
        ("explanations.repeats", 2, {"explanations.reader", "report"}),
        ("explanations.gate.smallest_auroc", 0.8, {"explanations.gate", "report"}),
        ("explanations.controls", ["empty"], {"report"}),
        ("truth", {"table": "t.tsv", "columns": {"til": "true_tils"}}, {"validation.til", "report"}),
        ("results", "elsewhere", set()),
    ],
)
def test_a_changed_key_changes_the_stages_that_read_it(path: str, value: Any, stages: set[str]) -> None:
    assert differing(path, value) == stages


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        (["development", "external"], ["stain-texture"]),
        (["development", "development"], []),
        (["external", "pretraining"], []),
    ],
)
def test_shift_is_measured_between_development_and_external_cohorts_of_encoders_in_use(
    roles: list[str], expected: list[str]
) -> None:
    config = check_config(changed("cohorts", {f"c{i}": {"role": role} for i, role in enumerate(roles)}), "study.yaml")
    assert shift_encoders(config) == expected
    stages = stage_settings(config)
    assert [name for name in stages if name.startswith("shift.")] == [f"shift.{name}" for name in expected]
    assert stages["report"]["shifts"] == expected


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


def with_rivals(**changes: Any) -> dict[str, Any]:
    """A configuration with a second model of the target of `til`, changed as said."""
    twin = {**CONFIG["models"]["til"], "aggregator": "mean", **changes}
    return check_config(changed("models.twin", twin), "study.yaml")


def test_models_of_the_same_target_are_rivals_of_each_other() -> None:
    config = with_rivals()
    assert [rivals_of(config, name) for name in ("til", "twin", "other")] == [["twin"], ["til"], []]
    stages = stage_settings(config)
    assert stages["model_comparisons.til"]["rivals"] == ["twin"]
    assert "model_comparisons.other" not in stages


@pytest.mark.parametrize(
    "changes", [{"target": "stiffness"}, {"task": "classification"}, {"target_range": [0, 1]}, {"target": None}]
)
def test_another_target_task_or_range_makes_no_rival(changes: dict[str, Any]) -> None:
    config = with_rivals()
    config["models"]["twin"] |= changes
    assert rivals_of(config, "til") == []
    assert rivals_of(config, "twin") == []


def test_both_survival_tasks_predict_a_risk_and_are_rivals() -> None:
    config = with_rivals()
    for name, task in (("til", "survival-cox"), ("twin", "survival-discrete")):
        config["models"][name] |= {"task": task, "target": ["time", "event"]}
    assert rivals_of(config, "til") == ["twin"]


def test_groups_are_a_stage_of_every_model_that_its_metrics_do_not_read() -> None:
    plain = stage_settings(check_config(CONFIG, "study.yaml"))
    config = check_config(changed("validation.subgroups", {"age": {"edges": [50]}, "center": {}}), "study.yaml")
    found = stage_settings(config)
    assert {name for name in found if found[name] != plain.get(name)} == {"subgroups.til", "subgroups.other", "report"}
    columns = [{"column": "age", "smallest": 5, "edges": [50]}, {"column": "center", "smallest": 5, "edges": []}]
    assert found["subgroups.til"]["subgroups"] == columns
    assert found["report"]["subgroups"] == ["age", "center"]
