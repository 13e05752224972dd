"""Endpoints are checked against the models and the patients' table, all problems together."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from slidestudy.survival_checks import endpoint_problems, named_columns, not_numbers, outcome_schemas

MODELS = {"til": {"task": "regression"}, "types": {"task": "multiclass"}, "age": {"task": "regression"}}
PATIENTS = pd.DataFrame(
    {
        "patient_id": ["p1", "p2", "p3"],
        "cohort": ["a", "a", "b"],
        "center": ["c", "d", "c"],
        "years": [1.0, 2.0, None],
        "died": [1.0, 0.0, None],
        "tils": ["10", None, "30.5"],
        "age": ["50", "60", "70"],
        "grade": ["1", "2", None],
        "stage": ["II", "III", "x"],
        "same": ["m", "m", None],
    }
)
GOOD: dict[str, Any] = {
    "time": "years", "event": "died", "scores": {"til": {}, "tils": {}}, "covariates": {"grade": {"reference": "1"}},
    "strata": [], "cluster": None,
}  # fmt: skip


def found(**changes: Any) -> list[tuple[str, str, str]]:
    models = {name: model for name, model in MODELS.items() if name != "age"}
    problems = endpoint_problems({"os": {**GOOD, **changes}}, models, PATIENTS, "study.yaml")
    return [(p.where.removeprefix("study.yaml, key validation.survival.os."), p.what, p.remedy) for p in problems]


def test_an_endpoint_in_order_has_no_problem() -> None:
    assert found() == []
    assert found(covariates={"age": {}, "stage": {"reference": "II"}}, strata=["center"], cluster="center") == []


@pytest.mark.parametrize(
    ("changes", "where", "words"),
    [
        ({"time": "year"}, "time", "no column of patients.tsv"),
        ({"strata": ["centre"]}, "strata", "no column"),
        ({"cluster": "centre"}, "cluster", "no column"),
        ({"covariates": {"grad": {}}}, "covariates.grad", "no column"),
        ({"scores": {"til": {}, "til_s": {}}}, "scores.til_s", "neither a model nor a column"),
        ({"scores": {"til": {}, "types": {}}}, "scores.types", "no single number"),
        ({"scores": {"tils": {}}}, "scores", "none of the scores is a model"),
        ({"scores": {"til": {}, "stage": {}}}, "scores.stage", "not numeric: II, III, x"),
        ({"covariates": {"stage": {}}}, "covariates.stage", "not numeric"),
        ({"covariates": {"grade": {"reference": "3"}}}, "covariates.grade.reference", "'3' is no level"),
        ({"covariates": {"grade": {"reference": "1", "per": 2}}}, "covariates.grade.per", "has no `per`"),
        ({"covariates": {"same": {"reference": "m"}}}, "covariates.same", "one level"),
        ({"covariates": {"years": {}}}, "covariates.years", "cannot be"),
        ({"covariates": {"tils": {}}}, "covariates.tils", "as well as a covariate"),
        ({"event": "years"}, "event", "one column"),
        ({"event": "age"}, "event", "blank where the other is known"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_a_remedy(changes: dict[str, Any], where: str, words: str) -> None:
    problems = found(**changes)
    assert any(place == where and words in what and remedy for place, what, remedy in problems), problems


def test_an_unknown_column_has_a_suggestion_and_all_problems_come_together() -> None:
    problems = found(time="year", cluster="centre")
    assert [remedy for _, _, remedy in problems] == ["did you mean 'years'?", "did you mean 'center'?"]


def test_a_score_that_is_both_a_model_and_a_column_is_refused() -> None:
    endpoint = {**GOOD, "scores": {"til": {}, "age": {}}}
    (problem,) = endpoint_problems({"os": endpoint}, MODELS, PATIENTS, "study.yaml")
    assert "both a model and a column" in problem.what


def test_columns_are_named_once_and_models_not() -> None:
    endpoint = {**GOOD, "strata": ["center"], "cluster": "center"}
    assert named_columns(endpoint, MODELS) == ["tils", "grade", "center"]


def test_times_are_not_negative_and_events_are_0_or_1() -> None:
    schemas = outcome_schemas({"os": GOOD})
    assert schemas["years"]["minimum"] == 0
    assert schemas["died"]["enum"] == [0, 1, None]


def test_cells_that_are_no_finite_numbers_are_found() -> None:
    assert not_numbers(pd.Series(["1", "nan", "x", None, "2.5", "inf"], dtype=object)) == ["nan", "x", "inf"]
