"""The models against the published formulas in plain numpy, and the invariants of multiple-instance learning."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.errors import StudyError
from slidestudy.models.mil import AGGREGATORS, Standardiser, build_model
from slidestudy.models.prediction import predict_slide
from tests.models.builders import make_bag

torch.set_num_threads(1)
DIM = 7
BOTH = pytest.mark.parametrize("aggregator", sorted(AGGREGATORS))
seeds = st.integers(0, 2**31 - 1)
tile_counts = st.integers(1, 40)


def small_model(aggregator: str, seed: int = 0, dropout: float = 0.4, tile_dropout: float = 0.1) -> torch.nn.Module:
    """An untrained model whose weights are large enough for outputs to differ, in evaluation mode."""
    torch.manual_seed(seed)
    widths = {"dim": DIM, "hidden": 9, "attention": 5}
    model = build_model({"aggregator": aggregator, **widths, "dropout": dropout, "tile_dropout": tile_dropout})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.8)
        model.standardiser.mean.normal_()
        model.standardiser.deviation.uniform_(0.5, 2)
    return model.eval()


def bag_features(seed: int, tiles: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(tiles, DIM)).astype(np.float16))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def by_hand(state: dict[str, torch.Tensor], features: torch.Tensor, aggregator: str) -> dict[str, np.ndarray]:
    """The forward pass in numpy from the weights alone: FACTS of ECTIL, and eq. 8 and 9 of Ilse et al. 2018."""
    w = {key: value.double().numpy() for key, value in state.items()}
    x = (features.double().numpy() - w["standardiser.mean"]) / w["standardiser.deviation"]
    x = np.clip(x, -10, 10)
    hidden = np.maximum(x @ w["post_encoder.0.weight"].T + w["post_encoder.0.bias"], 0)
    v = np.tanh(hidden @ w["attention.attention_hidden.0.weight"].T + w["attention.attention_hidden.0.bias"])
    u = sigmoid(hidden @ w["attention.gate.0.weight"].T + w["attention.gate.0.bias"])
    attention_logits = ((v * u) @ w["attention.attention.weight"].T + w["attention.attention.bias"])[:, 0]
    attention = np.exp(attention_logits - attention_logits.max())
    attention /= attention.sum()
    tile_logits = (hidden @ w["classifier.weight"].T + w["classifier.bias"])[:, 0]
    if aggregator == "ectil":
        slide = (attention * sigmoid(tile_logits)).sum()
        logit = np.log(slide / (1 - slide))
    else:
        logit = ((attention[:, None] * hidden).sum(0) @ w["classifier.weight"].T + w["classifier.bias"])[0]
        slide = sigmoid(logit)
    return {"slide": slide, "slide_logit": logit, "tile_logits": tile_logits, "attention_logits": attention_logits}


@BOTH
@settings(max_examples=25, deadline=None)
@given(seed=seeds, tiles=tile_counts)
def test_the_forward_pass_is_the_published_formula(aggregator, seed, tiles):
    model, features = small_model(aggregator, seed), bag_features(seed, tiles)
    found, expected = model(features)._asdict(), by_hand(model.state_dict(), features, aggregator)
    for name, value in found.items():
        if name != "slide_logit" or 1e-5 < expected["slide"] < 1 - 1e-5:
            np.testing.assert_allclose(value.detach().numpy(), expected[name], rtol=2e-4, atol=2e-5, err_msg=name)


@settings(max_examples=40, deadline=None)
@given(seeds, tile_counts)
def test_an_ectil_slide_lies_between_its_lowest_and_highest_tile(seed, tiles):
    output = small_model("ectil", seed)(bag_features(seed + 1, tiles))
    scores = torch.sigmoid(output.tile_logits)
    assert scores.min() - 1e-6 <= output.slide <= scores.max() + 1e-6


@BOTH
@settings(max_examples=25, deadline=None)
@given(seed=seeds, tiles=tile_counts)
def test_the_order_of_tiles_does_not_matter(aggregator, seed, tiles):
    model, features = small_model(aggregator, seed), bag_features(seed, tiles)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(tiles))
    straight, shuffled = model(features), model(features[order])
    torch.testing.assert_close(straight.slide, shuffled.slide, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(straight.tile_logits[order], shuffled.tile_logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(straight.attention_logits[order], shuffled.attention_logits, rtol=1e-4, atol=1e-5)


@BOTH
@settings(max_examples=25, deadline=None)
@given(seed=seeds, tiles=tile_counts)
def test_every_tile_twice_leaves_the_slide_as_it_is(aggregator, seed, tiles):
    model, features = small_model(aggregator, seed), bag_features(seed, tiles)
    torch.testing.assert_close(model(features).slide, model(features.repeat(2, 1)).slide, rtol=1e-4, atol=1e-6)


@BOTH
def test_a_tile_logit_is_what_the_slide_would_be_were_the_tile_alone(aggregator):
    model, features = small_model(aggregator), bag_features(3, 12)
    alone = torch.stack([model(features[i : i + 1]).slide for i in range(12)])
    torch.testing.assert_close(torch.sigmoid(model(features).tile_logits), alone, rtol=1e-5, atol=1e-6)


@BOTH
def test_a_tile_with_all_the_attention_decides_the_slide(aggregator):
    model, features = small_model(aggregator), bag_features(3, 12)
    top = int(model(features).attention_logits.argmax())
    with torch.no_grad():
        model.attention.attention.weight *= 1000
        model.classifier.weight *= 0.2
    output = model(features)
    scores = torch.sigmoid(output.tile_logits).tolist()
    assert scores[top] == pytest.approx(float(output.slide.detach()), abs=1e-4)
    assert sum(abs(score - scores[top]) < 1e-2 for score in scores) == 1


@BOTH
@settings(max_examples=15, deadline=None)
@given(seed=seeds, tiles=tile_counts)
def test_attention_sums_to_one(aggregator, seed, tiles):
    models = [small_model(aggregator, seed + k) for k in range(3)]
    prediction = predict_slide(models, make_bag(bag_features(seed, tiles).numpy()))
    assert (prediction.attention >= 0).all()
    assert prediction.attention.sum() == pytest.approx(1, abs=1e-5)


@BOTH
def test_dropout_acts_in_training_only(aggregator):
    model, features = small_model(aggregator), bag_features(5, 20)
    assert torch.equal(model(features).slide, model(features).slide)
    model.train()
    assert not torch.equal(model(features).slide, model(features).slide)


@BOTH
def test_tile_dropout_drops_whole_tiles(aggregator):
    """A dropped tile's hidden vector is zero, so that its logit is the classifier's bias alone."""
    model = small_model(aggregator, dropout=0.0, tile_dropout=0.5).train()
    features = bag_features(5, 400)
    kept = model.eval()(features).tile_logits
    found = model.train()(features).tile_logits
    bias = model.classifier.bias
    dropped = torch.isclose(found, bias.expand_as(found), atol=1e-6)
    assert 150 < int(dropped.sum()) < 250
    # What is kept is scaled up by 1 / (1 - 0.5), and no tile is dropped in part.
    torch.testing.assert_close((found - bias)[~dropped], (2 * (kept - bias))[~dropped], rtol=1e-4, atol=1e-5)


@BOTH
def test_attention_does_not_see_dropout(aggregator):
    model, features = small_model(aggregator), bag_features(5, 20)
    assert torch.equal(model.eval()(features).attention_logits, model.train()(features).attention_logits)


def test_the_standardiser_gives_mean_zero_and_unit_spread():
    features = bag_features(1, 500)
    standardiser = Standardiser(DIM)
    standardiser.mean, standardiser.deviation = features.float().mean(0), features.float().std(0)
    scaled = standardiser(features)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(DIM), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.std(0), torch.ones(DIM), atol=1e-5, rtol=0)


def test_one_odd_tile_is_cut_at_ten_deviations():
    assert Standardiser(2)(torch.tensor([[60000.0, -60000.0]], dtype=torch.float16)).tolist() == [[10.0, -10.0]]


@BOTH
def test_the_scaling_is_saved_with_the_weights(aggregator):
    state = small_model(aggregator).state_dict()
    assert {"standardiser.mean", "standardiser.deviation"} <= set(state)
    fresh = build_model({"aggregator": aggregator, "dim": DIM, "hidden": 9, "attention": 5})
    fresh.load_state_dict(state)
    features = bag_features(2, 6)
    assert torch.equal(fresh.eval()(features).slide, small_model(aggregator)(features).slide)


def test_an_unknown_aggregator_is_refused_with_the_known_ones():
    with pytest.raises(StudyError, match="ectil, gated-abmil"):
        build_model({"aggregator": "clam", "dim": 4})
