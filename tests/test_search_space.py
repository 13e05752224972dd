"""The space of a search is refused, mistake by mistake, before anything runs."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from slidestudy.checks import check_references
from slidestudy.errors import Problem, StudyError
from slidestudy.label_checks import check_labels, complete_models
from slidestudy.search_space import NOT_SEARCHED, inner_fold_problems, is_integer, recipe_schemas, space_problems
from slidestudy.settings import check_config
from tests.configurations import changed

GOOD: dict[str, Any] = {
    "learning_rate": {"low": 1.0e-5, "high": 1.0e-2, "log": True},
    "hidden": {"low": 64, "high": 512},
    "optimiser": ["adam", "adamw"],
    "tiles_per_epoch": [None, 500],
    "standardise": [True, False],
    "layers": [1, 2],
}


def problems(**space: Any) -> list[Problem]:
    return space_problems(space, "config.yaml, key models.til.search.space")


def test_a_space_of_recipe_keys_and_aggregator_options_is_taken():
    assert problems(**GOOD) == []


@pytest.mark.parametrize(
    ("key", "values", "at", "what"),
    [
        ("weight_decay", {"low": 0.0, "high": 1.0, "log": True}, ".low", "cannot begin at 0.0"),
        ("learning_rate", {"low": 0.1, "high": 0.1}, "", "low (0.1) is not below high (0.1)"),
        ("dropout", {"low": 0.1, "high": 1.0}, ".high", "1.0 is greater than or equal"),
        ("hidden", {"low": 0, "high": 64}, ".low", "0 is less than the minimum"),
        ("hidden", {"low": 0.5, "high": 64}, ".low", "0.5 is not of type 'integer'"),
        ("optimiser", {"low": 1, "high": 2}, "", "is no number and has no range"),
        ("standardise", {"low": 0, "high": 1}, "", "is no number and has no range"),
        ("optimiser", ["adam", "sgd"], ".1", "'sgd' is not one of"),
        ("learning_rate", ["1e-4"], ".0", "YAML reads '1e-4' as text"),
        ("batch_size", [8, 16.0], ".1", "16.0 is no whole number"),
        ("batch_size", [8, 16, 8], "", "stands twice"),
    ],
)
def test_values_that_do_not_fit_their_key_are_named(key, values, at, what):
    found = problems(**{key: values})
    assert [problem.where.rpartition("space.")[2] for problem in found] == [f"{key}{at}"]
    assert what in found[0].what


@pytest.mark.parametrize("key", ["threads", "memory_gb", "seeds", "share_load"])
def test_keys_that_change_no_score_are_not_searched(key):
    assert [problem.what for problem in problems(**{key: [1, 2]})] == [f"'{key}' is not searched: {NOT_SEARCHED[key]}"]


def test_all_keys_that_are_not_searched_are_keys_of_the_recipe():
    assert set(recipe_schemas()) >= set(NOT_SEARCHED)


def test_all_mistakes_come_at_once():
    found = problems(threads=[1, 2], hidden={"low": 9, "high": 3}, optimiser=["sgd"], heads=[1, 2])
    assert [problem.where.rpartition("space.")[2] for problem in found] == ["threads", "hidden", "optimiser.0"]


def test_true_and_one_are_two_values_to_an_option():
    assert problems(some_option=[True, 1]) == []
    assert len(problems(some_option=[1.0, 1])) == 1


def test_a_recipe_key_s_own_type_says_whether_a_range_is_of_whole_numbers():
    assert is_integer("hidden", 8, 64)
    assert is_integer("tiles_per_epoch", 8, 64)
    assert not is_integer("contrastive_weight", 0, 2)
    assert is_integer("layers", 1, 4)
    assert not is_integer("layers", 1, 4.0)


def test_a_configuration_says_what_is_wrong_with_the_form_of_a_space():
    with pytest.raises(StudyError, match="YAML reads '1e-5' as text") as caught:
        check_config(changed("models.til.search", {"space": {"learning_rate": {"low": "1e-5", "high": 0.1}}}), "c.yaml")
    assert caught.value.problems[0].where.endswith("models.til.search.space.learning_rate.low")
    for space, what in (
        ({"hidden": {"low": 8}}, "'high' is missing"),
        ({"hidden": {"low": 8, "high": 9, "step": 1}}, "unknown key 'step'"),
        ({"hidden": []}, "[]"),
        ({"hidden": 8}, "8 is not of type"),
    ):
        with pytest.raises(StudyError) as refused:
            check_config(changed("models.til.search", {"space": space}), "c.yaml")
        assert what in str(refused.value)


def test_a_study_s_check_tells_mistakes_of_a_space_and_of_inner_folds():
    search = {"space": {"dropout": [0.1, 1.5]}, "inner_folds": 9}
    config = check_config(changed("models.til.search", search), "c.yaml")
    complete_models(config, "c.yaml")
    found = {problem.where: problem.what for problem in check_references(config, "c.yaml")}
    assert found["c.yaml, key models.til.search.space.dropout.1"].startswith("1.5 is greater")
    ids = [f"p{i}" for i in range(10)]
    labels = pd.DataFrame({"patient_id": ids, "cohort": "north", "center": "c", "target": range(10)})
    (problem,) = check_labels(labels, ["north"], config["models"]["til"], "here")
    assert problem.where == "here.search.inner_folds"
    assert "some have 8 at most" in problem.what


def test_a_configuration_is_completed():
    space = {"learning_rate": {"low": 1.0e-5, "high": 0.1}, "optimiser": ["adam", "adamw"]}
    search = check_config(changed("models.til.search", {"space": space}), "c.yaml")["models"]["til"]["search"]
    assert search == {
        "space": space,
        "trials": 20,
        "inner_folds": 3,
        "sampler": "tpe",
    }


@pytest.mark.parametrize(
    ("groups", "folds", "inner", "scheme", "fits"),
    [
        (9, 3, 6, "k-fold", True),
        (9, 3, 7, "k-fold", False),
        (10, 3, 7, "k-fold", False),
        (10, 5, 8, "repeated-k-fold", True),
        (9, 3, 9, "monte-carlo", True),
        (9, 3, 10, "monte-carlo", False),
    ],
)
def test_inner_folds_need_as_many_groups_in_the_smallest_rest(groups, folds, inner, scheme, fits):
    model = {"folds": folds, "group_by": "center", "splits": {"scheme": scheme}, "search": {"inner_folds": inner}}
    found = inner_fold_problems(model, groups, "here")
    assert (found == []) == fits
    assert all(problem.where == "here.search.inner_folds" for problem in found)


def test_a_model_without_a_search_has_no_inner_folds():
    assert inner_fold_problems({"folds": 3, "group_by": "patient", "splits": {"scheme": "k-fold"}}, 1, "here") == []
