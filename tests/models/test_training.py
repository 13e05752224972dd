"""Training: it learns what was planted, chooses by the validation part alone, and repeats byte for byte."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.models import training
from slidestudy.models.bags import feature_moments
from slidestudy.models.checkpoint import save_fold
from slidestudy.models.mil import build_model
from slidestudy.models.prediction import predict_slide
from slidestudy.models.training import HISTORY, Example, Trained, train_fold, youden_threshold
from slidestudy.statistics import auroc
from tests.models.builders import RECIPE, planted_examples

torch.set_num_threads(1)
AGGREGATOR = {"regression": "ectil", "classification": "gated-abmil"}


def fit(task: str = "regression", seed: int = 3, count: int = 24, **recipe) -> Trained:
    parts = planted_examples(count, 1, task), planted_examples(12, 2, task)
    return train_fold(*parts, task=task, aggregator=AGGREGATOR[task], recipe={**RECIPE, **recipe}, seed=seed)


def outputs(trained: Trained, examples: list[Example]) -> np.ndarray:
    model = build_model(trained.architecture)
    model.load_state_dict(dict(trained.state))
    return np.array([predict_slide([model.eval()], e.bag).output for e in examples])


def truths(examples: list[Example]) -> np.ndarray:
    return np.array([e.target for e in examples])


def test_a_planted_fraction_of_positive_tiles_is_learnt():
    held_out = planted_examples(40, 9)
    predicted = outputs(fit(count=40), held_out)
    assert np.corrcoef(predicted, truths(held_out))[0, 1] > 0.85


def test_a_planted_class_is_learnt():
    held_out = planted_examples(40, 9, "classification")
    predicted = outputs(fit("classification", count=40), held_out)
    assert auroc(truths(held_out), predicted, np.ones((1, 40)))[0] > 0.9


def test_two_trainings_with_a_seed_give_the_same_bytes_and_another_seed_does_not(tmp_path):
    """With dropout, tile draws and batches all at work."""
    digests = []
    for i, seed in enumerate([3, 3, 4]):
        trained = fit(seed=seed, epochs=6, max_tiles=20, tile_dropout=0.2)
        save_fold(tmp_path / str(i), trained, {"recipe": "r1"})
        files = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((tmp_path / str(i)).iterdir())}
        digests.append(files)
    assert set(digests[0]) == {"model.safetensors", "model.json", "history.tsv"}
    assert digests[0] == digests[1]
    assert digests[0]["model.safetensors"] != digests[2]["model.safetensors"]


def test_the_first_weights_depend_on_the_seed():
    """With steps of length zero the weights kept are those that training began with."""
    first, again, other = (fit(seed=seed, epochs=1, learning_rate=0.0).state for seed in (3, 3, 4))
    assert torch.equal(first["classifier.weight"], again["classifier.weight"])
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_training_in_between_does_not_change_a_training():
    first = fit(epochs=3)
    fit(seed=99, epochs=2)
    again = fit(epochs=3)
    assert all(torch.equal(first.state[key], again.state[key]) for key in first.state)


def test_the_weights_kept_are_those_of_the_epoch_with_the_best_validation_score():
    trained = fit(epochs=25)
    history = trained.history
    assert trained.best_epoch == history["epoch"][history["validation_score"].argmax()]
    assert history.loc[history["best"] == 1, "epoch"].max() == trained.best_epoch
    validation = planted_examples(12, 2)
    predicted = outputs(trained, validation)
    explained = 1 - np.var(truths(validation) - predicted) / np.var(truths(validation))
    assert explained == pytest.approx(history["validation_score"].max(), abs=1e-5)
    # Stopped at the best epoch, the same training ends with the same weights.
    shorter = fit(epochs=trained.best_epoch)
    assert all(torch.equal(trained.state[key], shorter.state[key]) for key in trained.state)


def test_of_epochs_that_score_the_same_the_first_is_kept():
    trained = fit("classification", epochs=12)
    scores = trained.history["validation_score"]
    assert (scores == scores.max()).sum() > 1
    assert trained.best_epoch == trained.history["epoch"][scores.argmax()]


def test_the_validation_part_is_not_trained_on():
    """Other validation labels change the chosen epoch and nothing of the course of training."""
    parts = planted_examples(24, 1), planted_examples(12, 2)
    opposite = [replace(e, target=1 - e.target) for e in parts[1]]
    common = dict(task="regression", aggregator="ectil", recipe={**RECIPE, "epochs": 12, "patience": 12}, seed=3)
    straight, inverted = train_fold(*parts, **common), train_fold(parts[0], opposite, **common)
    assert straight.history["train_loss"].tolist() == inverted.history["train_loss"].tolist()
    assert straight.best_epoch != inverted.best_epoch


def test_training_stops_once_patience_is_spent():
    history = fit(epochs=40, patience=3, learning_rate=0.05).history
    best = history.loc[history["best"] == 1, "epoch"].max()
    assert len(history) == best + 3 < 40


def test_history_has_one_row_per_epoch_and_the_loss_falls():
    history = fit(epochs=10).history
    assert list(history.columns) == HISTORY
    assert history["epoch"].tolist() == list(range(1, 11))
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]


@pytest.mark.parametrize(("standardise", "expected"), [(True, False), (False, True)])
def test_features_are_scaled_by_the_training_part_only_where_asked(standardise, expected):
    state = fit(epochs=1, standardise=standardise).state
    plain = torch.equal(state["standardiser.mean"], torch.zeros(6))
    assert plain is expected
    if standardise:
        mean, deviation = feature_moments([e.bag for e in planted_examples(24, 1)])
        assert torch.equal(state["standardiser.mean"], mean)
        assert torch.equal(state["standardiser.deviation"], deviation)


def test_no_step_sees_more_tiles_than_allowed(monkeypatch):
    sizes = []
    original = training._sample

    def watched(*arguments):
        sizes.append(len(original(*arguments)))
        return original(*arguments)

    monkeypatch.setattr(training, "_sample", watched)
    fit(epochs=1, max_tiles=11)
    assert sizes == [11] * 24


def test_thresholds_are_for_classification_only():
    assert fit(epochs=2).thresholds == {}
    trained = fit("classification", epochs=5)
    validation = planted_examples(12, 2, "classification")
    expected = youden_threshold(truths(validation), outputs(trained, validation))
    assert trained.thresholds == {"youden": pytest.approx(expected, abs=1e-6)}


def test_a_validation_part_of_one_class_gives_no_threshold_and_chooses_by_its_loss():
    examples = planted_examples(12, 2, "classification")
    ones = [e for e in examples if e.target == 1]
    common = dict(task="classification", aggregator="gated-abmil", recipe={**RECIPE, "epochs": 5}, seed=3)
    trained = train_fold(planted_examples(12, 1, "classification"), ones, **common)
    assert trained.thresholds == {}
    assert trained.best_epoch == trained.history["epoch"][trained.history["validation_loss"].argmin()]


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=30).filter(
        lambda rows: len({label for label, _ in rows}) == 2
    )
)
@settings(max_examples=80, deadline=None)
def test_no_threshold_is_better_by_youden_than_the_one_chosen(rows):
    truth, score = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows], float)

    def youden(threshold: float) -> float:
        called = score >= threshold
        return called[truth == 1].mean() - called[truth == 0].mean()

    assert youden(youden_threshold(truth, score)) == pytest.approx(max(youden(t) for t in range(8)))


def test_youden_has_no_threshold_with_one_class():
    assert youden_threshold(np.ones(4), np.arange(4.0)) is None


@pytest.mark.parametrize(("positive", "negative", "weight"), [(2, 6, 3.0), (6, 2, 1 / 3), (4, 0, 1.0), (0, 4, 1.0)])
def test_a_class_is_weighted_by_the_number_of_the_other(positive, negative, weight):
    bag = planted_examples(1, 0)[0].bag
    examples = [Example(bag, 1.0)] * positive + [Example(bag, 0.0)] * negative
    assert training._positive_weight(examples) == pytest.approx(weight)


def test_with_the_weight_both_classes_pull_equally():
    """Three negatives to one positive, weighted: at logit 0 the loss has no slope."""
    logits = torch.zeros(4, requires_grad=True)
    targets = torch.tensor([1.0, 0.0, 0.0, 0.0])
    training._loss(torch.sigmoid(logits), logits, targets, "classification", 3.0).backward()
    assert float(logits.grad.sum()) == pytest.approx(0, abs=1e-7)
