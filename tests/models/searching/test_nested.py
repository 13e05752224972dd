"""Inner folds hold what a fold may learn from, dealt by its own rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.models.builders import RECIPE, TASKS, planted_part
from tests.models.searching.planted_search import FOLD, NO_PAIRS, SETTINGS

from slidestudy.errors import StudyError
from slidestudy.models.searching.nested import inner_splits, raw_outputs
from slidestudy.models.training import train_fold


def test_raw_outputs_do_not_depend_on_the_packs():
    part = planted_part(9, 1)
    options: dict[str, Any] = {"aggregator": "ectil", "recipe": {**RECIPE, "epochs": 2}, "seed": 1}
    trained = train_fold(part, planted_part(6, 2), task=TASKS["regression"], log=lambda line: None, **options)
    np.testing.assert_allclose(raw_outputs(trained, part, 1), raw_outputs(trained, part), rtol=1e-4, atol=1e-5)


def cut(splits: pd.DataFrame, column: str) -> bool:
    """Whether a value stands in two parts of a fold."""
    places = splits[["fold", column, "part"]].drop_duplicates()
    return bool(places.duplicated(["fold", column]).any())


def test_inner_folds_hold_the_training_and_validation_slides_and_no_patient_stands_in_two_parts(study):
    labels, _, splits = study
    inner = inner_splits(splits, labels, FOLD, SETTINGS, 4, NO_PAIRS)
    own = splits[(splits["fold"] == FOLD) & (splits["part"] != "test")]
    assert inner["fold"].nunique() == 4
    for _, rows in inner.groupby("fold"):
        assert set(rows["slide_id"]) == set(own["slide_id"])
    assert not cut(inner, "patient_id")
    tested = inner[inner["part"] == "test"]
    assert sorted(tested["slide_id"]) == sorted(own["slide_id"])


def test_centres_and_look_alikes_stay_together_in_inner_folds_too(study):
    labels, _, splits = study
    centers = labels.set_index("slide_id")["center"]
    plain = inner_splits(splits, labels, FOLD, SETTINGS, 3, NO_PAIRS)
    first = plain[plain["fold"] == 0].drop_duplicates("part")["patient_id"].tolist()[:2]
    pairs = pd.DataFrame({"patient_id_a": first[:1], "patient_id_b": first[1:]})
    joined = inner_splits(splits, labels, FOLD, SETTINGS, 3, pairs)
    by_center = inner_splits(splits, labels, FOLD, {**SETTINGS, "group_by": "center"}, 3, NO_PAIRS)
    for inner, together in ((plain, False), (joined, True)):
        pair = inner[inner["patient_id"].isin(first)].assign(pair="the pair")
        assert cut(pair, "pair") != together
    for inner, together in ((plain, False), (by_center, True)):
        assert cut(inner.assign(center=inner["slide_id"].map(centers)), "center") != together


def test_more_inner_folds_than_groups_are_refused(study):
    labels, _, splits = study
    with pytest.raises(StudyError, match="5 folds need as many") as refused:
        inner_splits(splits, labels, FOLD, {**SETTINGS, "group_by": "center"}, 5, NO_PAIRS)
    assert refused.value.problems[0].where == "inner folds of model m, fold 1"
    assert "inner_folds" in refused.value.problems[0].remedy
