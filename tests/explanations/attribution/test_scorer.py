"""Patches are scored as the study's tiles were: the same rounding, the same folds, each a bag of one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.explanations.attribution.doubles import Reads, abmil, network, planted, scorer_of

from slidestudy.errors import StudyError
from slidestudy.explanations.attribution.attributing import choose_patches, member_weights
from slidestudy.models.bags import Bag
from slidestudy.models.prediction import predict_slide


def test_unchanged_patches_have_the_logit_and_attention_of_the_predicted_tiles():
    encoder, tiles = network("resnet10t"), planted(3)
    members = [abmil(encoder.identity.dim, seed) for seed in (0, 1)]
    features = torch.from_numpy(encoder.encode(tiles)).half()
    bag = Bag("s", features, np.zeros((3, 2), np.int32), np.ones(3, np.float32))
    expected = predict_slide(members, bag, link="identity")
    found = scorer_of(encoder, members, tiles).score(tiles, np.arange(3))
    np.testing.assert_allclose(found["output"], expected.tile_logit, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["attention"], expected.attention_logit, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["attention_x_score"], expected.tile_score, rtol=1e-5, atol=1e-6)


def test_attention_times_score_counts_how_attention_changes(monkeypatch):
    from tests.explanations.attribution.doubles import bright_encoder

    tiles = planted(2)
    scorer = scorer_of(bright_encoder(monkeypatch), [Reads(1, 2.0, 3.0)], tiles)
    dark = np.full_like(tiles, 150)
    found = scorer.score(dark, np.arange(2))
    score, moved = found["output"], found["attention"] - scorer.intact["attention"].numpy()
    np.testing.assert_allclose(found["attention_x_score"], score * np.exp(moved), rtol=1e-5)
    assert (moved != 0).all()


def test_each_patient_is_scored_by_the_folds_that_may_predict_it():
    folds = [[(None, {})], [(None, {}), (None, {})], [(None, {})]]
    weights = member_weights(folds, {"a": [1], "b": [0, 1, 2]}, ["a", "b", "a"])
    np.testing.assert_allclose(weights, [[0, 0.5, 0.5, 0], [0.25] * 4, [0, 0.5, 0.5, 0]])
    with pytest.raises(StudyError, match="no fold may predict the patient a"):
        member_weights(folds, {"a": []}, ["a"])


def test_chosen_patches_are_spread_over_the_logits_in_the_samples_order():
    import pandas as pd

    table = pd.DataFrame({"patch_id": list("abcdefg"), "logit": [3.0, 1, 7, 5, 2, 6, 4]})
    assert list(choose_patches(table, 3)["patch_id"]) == ["b", "c", "g"]
    assert list(choose_patches(table, None)["patch_id"]) == list("abcdefg")
    assert list(choose_patches(table, 9)["patch_id"]) == list("abcdefg")
