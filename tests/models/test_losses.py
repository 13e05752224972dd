"""Losses against scikit-learn, against sums written out, and against brute force."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from slidestudy.models.epochs import Part, Trainer
from slidestudy.models.loading import BagSource
from slidestudy.models.losses import (
    ClassWeights,
    binary_cross_entropy,
    class_cross_entropy,
    class_weights,
    contrastive_loss,
    cox_loss,
    hazard_loss,
    masked_squared_error,
    part_loss,
)
from slidestudy.models.optimisation import DEFAULTS
from slidestudy.models.survival import CoxSurvival, DiscreteSurvival
from slidestudy.models.targets import Classification, Multiclass, Targets, UnboundedRegression
from tests.models.builders import RECIPE, make_bag

rng = np.random.default_rng(0)


def targets(values: torch.Tensor, mask: torch.Tensor | None = None) -> Targets:
    mask = torch.ones_like(values, dtype=torch.bool) if mask is None else mask
    return Targets(tuple(f"s{i}" for i in range(len(values))), values.float(), mask)


def test_missing_labels_neither_count_nor_pull():
    outputs = torch.tensor([[1.0, 5.0], [2.0, 2.0], [0.0, 9.0]], requires_grad=True)
    labels = torch.tensor([[0.0, 0.0], [4.0, 0.0], [1.0, 0.0]])
    mask = torch.tensor([[True, False], [True, True], [True, False]])
    assert masked_squared_error(outputs, labels, mask).tolist() == [1.0, 8.0, 1.0]
    task = UnboundedRegression(("a", "b"), (0.0, 0.0), (1.0, 1.0))
    loss = part_loss(task, outputs, targets(labels, mask), ClassWeights())
    assert float(loss.detach()) == pytest.approx(10 / 4)
    loss.backward()
    assert outputs.grad is not None
    assert (outputs.grad[~mask] == 0).all()


def test_binary_cross_entropy_is_that_of_scikit_learn_with_positives_weighted():
    logits, labels = torch.from_numpy(rng.normal(size=(30, 1))), torch.from_numpy(rng.integers(0, 2, (30, 1))).double()
    each = binary_cross_entropy(logits, labels, torch.ones(30, 1, dtype=torch.bool), 3.0)
    weights = np.where(labels[:, 0] == 1, 3.0, 1.0)
    expected = log_loss(labels[:, 0], torch.sigmoid(logits[:, 0]), sample_weight=weights) * weights.sum()
    assert float(each.sum()) == pytest.approx(expected)


def test_class_cross_entropy_is_that_of_scikit_learn_with_classes_weighted():
    logits, labels = torch.from_numpy(rng.normal(size=(30, 3))), torch.from_numpy(rng.integers(0, 3, (30, 1)))
    weights = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    each = class_cross_entropy(logits, labels, torch.ones(30, 1, dtype=torch.bool), weights)
    of_slides = weights[labels[:, 0]].numpy()
    expected = log_loss(labels[:, 0], torch.softmax(logits, 1), sample_weight=of_slides, labels=[0, 1, 2])
    assert float(each.sum()) == pytest.approx(expected * of_slides.sum())


@pytest.mark.parametrize(("positive", "negative", "weight"), [(2, 6, 3.0), (6, 2, 1 / 3), (4, 0, 1.0), (0, 4, 1.0)])
def test_a_class_is_weighted_by_the_number_of_the_other(positive, negative, weight):
    values = torch.tensor([1.0] * positive + [0.0] * negative).unsqueeze(1)
    assert class_weights(Classification(("target",)), targets(values)).positive == pytest.approx(weight)


def test_with_the_weight_both_classes_pull_equally():
    """Three negatives to one positive: at logit 0 the loss has no slope."""
    logits = torch.zeros(4, 1, requires_grad=True)
    labels = targets(torch.tensor([[1.0], [0.0], [0.0], [0.0]]))
    task = Classification(("target",))
    part_loss(task, logits, labels, class_weights(task, labels)).backward()
    assert logits.grad is not None
    assert float(logits.grad.sum()) == pytest.approx(0, abs=1e-7)


def test_with_weights_all_of_several_classes_pull_equally():
    labels = targets(torch.tensor([[0], [0], [0], [0], [1], [1], [2]]))
    task = Multiclass(("target",), ("a", "b", "c"))
    found = class_weights(task, labels)
    assert found.classes is not None
    assert found.classes.tolist() == pytest.approx([7 / 12, 7 / 6, 7 / 3])
    logits = torch.zeros(7, 3, requires_grad=True)
    part_loss(task, logits, labels, found).backward()
    assert logits.grad is not None
    assert logits.grad.sum(0).abs().max() < 1e-6


def breslow(risk: np.ndarray, time: np.ndarray, event: np.ndarray) -> float:
    terms = [np.log(np.exp(risk[time >= time[i]]).sum()) - risk[i] for i in range(len(time)) if event[i]]
    return float(np.mean(terms)) if terms else 0.0


def efron(risk: np.ndarray, time: np.ndarray, event: np.ndarray) -> float:
    terms = []
    for t in np.unique(time[event == 1]):
        died = (time == t) & (event == 1)
        at_risk, dying = np.exp(risk[time >= t]).sum(), np.exp(risk[died]).sum()
        terms += [np.log(at_risk - k / died.sum() * dying) - r for k, r in enumerate(risk[died])]
    return float(np.mean(terms)) if terms else 0.0


rows = st.lists(st.tuples(st.floats(-3, 3, width=32), st.integers(1, 5), st.integers(0, 1)), min_size=2, max_size=12)


@settings(max_examples=100, deadline=None)
@given(rows)
def test_cox_loss_is_efrons_sum_over_events(found):
    risk, time, event = (np.array(column, float) for column in zip(*found, strict=True))
    loss = cox_loss(*(torch.tensor(v, dtype=torch.float32) for v in (risk, time, event)))
    assert float(loss) == pytest.approx(efron(risk, time, event), rel=1e-5, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(rows)
def test_cox_loss_without_ties_is_breslows(found):
    risk, _, event = (np.array(column, float) for column in zip(*found, strict=True))
    time = np.arange(len(risk))[::-1].astype(float)
    loss = cox_loss(*(torch.tensor(v, dtype=torch.float32) for v in (risk, time, event)))
    assert float(loss) == pytest.approx(breslow(risk, time, event), rel=1e-5, abs=1e-6)


def test_cox_likelihood_is_the_probability_of_the_order_of_deaths():
    """Of all orders in which three may die, drawn by their hazards, the likelihoods add up to 1."""
    risk = torch.tensor([0.3, -1.0, 0.8])
    event = torch.ones(3)
    likelihoods = [
        np.exp(-3 * float(cox_loss(risk, torch.tensor(order), event))) for order in permutations([1.0, 2, 3])
    ]
    assert sum(likelihoods) == pytest.approx(1, abs=1e-5)


def test_cox_loss_of_huge_risks_is_finite():
    assert torch.isfinite(cox_loss(torch.tensor([800.0, -800, 0]), torch.tensor([1.0, 2, 3]), torch.ones(3)))


def test_the_risk_sets_are_those_of_the_whole_training_part():
    """At the same weights the gradients of all packs and batches add up to that of the whole part."""
    generator = np.random.default_rng(4)
    bags = [make_bag(generator.normal(size=(5, 6)), f"s{i}") for i in range(12)]
    labels = pd.DataFrame(
        {"slide_id": [b.slide_id for b in bags], "time": generator.permutation(12) + 1.0, "event": 1.0}
    )
    labels.loc[3:5, "event"] = 0.0
    task = CoxSurvival(("time", "event"))
    part = Part(BagSource(bags), task.encode(labels))
    recipe = {**DEFAULTS, **RECIPE, "dropout": 0.0, "batch_size": 4, "pack_tiles": 10}
    architecture = {
        "aggregator": "gated-abmil",
        "dim": 6,
        "hidden": 8,
        "attention": 4,
        "dropout": 0.0,
        "tile_dropout": 0.0,
    }
    trainer = Trainer(part, part, task, architecture, recipe, 0, "fold")
    trainer.prepare()
    key = "classifier.weight"
    for batch in range(3):
        for pack in trainer._loaders["train"].packs([list(range(4 * batch, 4 * batch + 4))]):
            trainer._pack_loss(pack, 4.0, 4)[0].backward()
    summed = dict(trainer.model.named_parameters())[key].grad
    assert summed is not None
    summed = summed / 3
    trainer.model.zero_grad()
    trainer._loaders["train"].pack_tiles = 1000
    whole = next(iter(trainer._loaders["train"].packs([list(range(12))])))
    part_loss(task, trainer.model(whole.bags).slide, part.targets, ClassWeights()).backward()
    expected = dict(trainer.model.named_parameters())[key].grad
    torch.testing.assert_close(summed, expected, rtol=1e-4, atol=1e-7)


def test_hazard_loss_is_minus_the_log_of_the_probability_of_what_happened():
    hazards = np.array([0.2, 0.5, 0.1])
    logits = torch.tensor(np.log(hazards / (1 - hazards))).repeat(4, 1)
    time, event = torch.tensor([1.0, 2.0, 5.0, 3.5]), torch.tensor([1.0, 0.0, 1.0, 1.0])
    found = hazard_loss(logits, time, event, torch.tensor([2.0, 4.0]))
    # Died in bin 0; censored in bin 1 (a time at an edge is the later bin's); died in bin 2; died in bin 1.
    expected = [0.2, 0.8, 0.8 * 0.5 * 0.1, 0.8 * 0.5]
    assert found.tolist() == pytest.approx((-np.log(expected)).tolist())


def test_hazard_likelihoods_of_all_bins_and_of_outliving_them_add_up_to_1():
    logits = torch.tensor([[0.3, -1.0, 0.4]])
    cuts = torch.tensor([2.0, 4.0])
    died = sum(float(torch.exp(-hazard_loss(logits, torch.tensor([t]), torch.ones(1), cuts))) for t in (1.0, 3.0, 9.0))
    outlived = float(torch.sigmoid(-logits).prod())
    assert died + outlived == pytest.approx(1, abs=1e-6)


def test_a_survival_part_with_censoring_has_a_mean_over_slides():
    task = DiscreteSurvival(("time", "event"), (2.0,))
    labels = targets(torch.tensor([[1.0, 1.0], [3.0, 0.0]]))
    raw = torch.tensor([[0.2, 0.1], [-0.4, 0.3]])
    each = hazard_loss(raw, labels.values[:, 0], labels.values[:, 1], torch.tensor([2.0]))
    assert float(part_loss(task, raw, labels, ClassWeights())) == pytest.approx(float(each.mean()))


def test_contrastive_loss_is_khoslas_sum():
    vectors, labels, temperature = rng.normal(size=(7, 4)), np.array([0, 1, 0, 2, 1, 0, 3]), 0.3
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    terms = []
    for i in range(7):
        others = [j for j in range(7) if j != i]
        partners = [j for j in others if labels[j] == labels[i]]
        total = sum(np.exp(unit[i] @ unit[j] / temperature) for j in others)
        if partners:
            terms.append(-np.mean([np.log(np.exp(unit[i] @ unit[p] / temperature) / total) for p in partners]))
    found = contrastive_loss(torch.from_numpy(vectors), torch.from_numpy(labels), temperature)
    assert float(found) == pytest.approx(np.mean(terms), rel=1e-5)


def test_contrastive_loss_is_lower_where_classes_lie_apart_and_0_without_pairs():
    apart = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    mixed = apart[[0, 2, 1, 3]]
    labels = torch.tensor([0, 0, 1, 1])
    assert contrastive_loss(apart, labels, 0.1) < contrastive_loss(mixed, labels, 0.1)
    assert float(contrastive_loss(apart, torch.arange(4), 0.1)) == 0.0


def test_contrastive_loss_has_finite_gradients():
    vectors = torch.randn(6, 3, requires_grad=True)
    contrastive_loss(vectors, torch.tensor([0, 0, 1, 1, 2, 3]), 0.1).backward()
    assert vectors.grad is not None
    assert torch.isfinite(vectors.grad).all()
