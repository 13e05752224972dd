"""What an endpoint's analysis depends on: its models and scores, and a table of its patients."""

from __future__ import annotations

from typing import Any

import pytest

from slidestudy.settings import check_config
from slidestudy.settings_files import publish_settings
from slidestudy.stages import stage_settings, survival_endpoints
from slidestudy.tables import read_raw
from slidestudy.yaml_files import load_yaml
from tests.configurations import changed
from tests.drafts import Draft

ENDPOINT: dict[str, Any] = {
    "time": "years", "event": "died", "scores": {"tils": {"per": 10}, "til": {}, "mucin": {}}, "strata": ["center"],
    "cluster": "center", "covariates": {"grade": {"reference": "1"}},
}  # fmt: skip
FURTHER = {"years": "1.5 2 3 0 1", "died": "1 0 1 0 0", "grade": "1 2 ? 1 3"}


def with_endpoint(draft: Draft, **cells: str) -> Draft:
    """The draft with an endpoint and the columns that it needs; `?` is a blank cell."""
    columns = [[name, *values.replace("?", "").split(" ")] for name, values in {**FURTHER, **cells}.items()]
    draft.patients = ["\t".join([line, *further]) for line, *further in zip(draft.patients, *columns, strict=True)]
    draft.config["validation"] = {"survival": {"overall": ENDPOINT}}
    return draft


def test_the_table_of_an_endpoint_has_its_columns_once_and_levels_as_text(draft: Draft) -> None:
    study = with_endpoint(draft).load()
    publish_settings(study)
    table = read_raw(study.results / "settings" / "survival" / "overall.tsv")
    assert list(table) == ["patient_id", "cohort", "time", "event", "tils", "grade", "center"]
    assert table["patient_id"].tolist() == ["A1", "A2", "A3", "A4", "B1"]
    assert table["time"].astype(float).tolist() == [1.5, 2, 3, 0, 1]
    assert table["grade"].tolist() == ["1", "2", None, "1", "3"]


def test_scores_stand_in_the_configurations_order_but_the_model_first(draft: Draft) -> None:
    study = with_endpoint(draft).load()
    publish_settings(study)
    for name in ("til", "mucin"):
        settings = load_yaml(study.results / "settings" / f"survival.{name}.yaml")
        assert list(settings["endpoints"]["overall"]["scores"]) == [name, "tils"]


def test_a_model_that_is_no_score_has_no_such_stage_and_its_metrics_read_no_endpoint() -> None:
    endpoint = {"time": "time", "event": "event", "scores": {"til": {}}}
    config = check_config(changed("validation.survival", {"overall": endpoint}), "study.yaml")
    assert set(survival_endpoints(config, "til")) == {"overall"}
    assert survival_endpoints(config, "other") == {}
    stages = stage_settings(config)
    assert "survival.other" not in stages
    assert "survival" not in stages["validation.til"]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"years": "1 -2 3 0 1"}, "line 3, column years: 'years' is '-2.0', which is below 0"),
        ({"died": "1 0 2 0 0"}, "line 4, column died: 'died' is '2', which is none of 0, 1"),
        ({"years": "1 soon 3 0 1"}, "line 3, column years"),
        ({"years": "? 2 3 0 1"}, "time or event is blank where the other is known: A1"),
        ({"died": "0 0 0 0 0"}, "no patient has an event in 'died'"),
        ({"grade": "2 2 ? 3 3"}, "'1' is no level of 'grade'"),
    ],
)
def test_cells_that_cannot_be_are_told_with_their_line(draft: Draft, cells: dict[str, str], words: str) -> None:
    message = with_endpoint(draft, **cells).message()
    assert words in message, message
