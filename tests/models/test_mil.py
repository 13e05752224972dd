"""ECTIL and gated ABMIL against the published formulas in plain numpy, and the making of models by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.errors import StudyError
from slidestudy.models.mil import (
    AGGREGATORS,
    FIXED,
    MilModel,
    Standardiser,
    aggregator_options,
    build_model,
    study_arguments,
)
from slidestudy.models.packing import MilOutput, pack
from slidestudy.models.prediction import predict_slide
from tests.models.builders import make_bag

torch.set_num_threads(1)
DIM = 7
BOTH = pytest.mark.parametrize("aggregator", ["ectil", "gated-abmil"])
seeds = st.integers(0, 2**31 - 1)
tile_counts = st.integers(1, 40)


def small_model(aggregator: str, seed: int = 0, dropout: float = 0.4, tile_dropout: float = 0.1) -> MilModel:
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


def score(model: MilModel, features: torch.Tensor) -> MilOutput:
    output: MilOutput = model(pack([features]))
    return output


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
        logit = np.log(slide / (attention * sigmoid(-tile_logits)).sum())
    else:
        logit = ((attention[:, None] * hidden).sum(0) @ w["classifier.weight"].T + w["classifier.bias"])[0]
    return {
        "slide": logit[None, None],
        "tile_logits": tile_logits[:, None],
        "attention_logits": attention_logits,
        "attention": attention,
    }


@BOTH
@settings(max_examples=25, deadline=None)
@given(seed=seeds, tiles=tile_counts)
def test_the_forward_pass_is_the_published_formula(aggregator, seed, tiles):
    model, features = small_model(aggregator, seed), bag_features(seed, tiles)
    found, expected = score(model, features)._asdict(), by_hand(model.state_dict(), features, aggregator)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].detach().numpy(), value, rtol=2e-4, atol=2e-5, err_msg=name)


@settings(max_examples=40, deadline=None)
@given(seeds, tile_counts)
def test_an_ectil_slide_lies_between_its_lowest_and_highest_tile(seed, tiles):
    output = score(small_model("ectil", seed), bag_features(seed + 1, tiles))
    assert output.tile_logits.min() - 1e-4 <= output.slide <= output.tile_logits.max() + 1e-4


@BOTH
def test_a_tile_with_all_the_attention_decides_the_slide(aggregator):
    model, features = small_model(aggregator), bag_features(3, 12)
    top = int(score(model, features).attention_logits.argmax())
    with torch.no_grad():
        model.attention.attention.weight *= 1000
        model.classifier.weight *= 0.2
    output = score(model, features)
    scores = torch.sigmoid(output.tile_logits[:, 0]).tolist()
    assert scores[top] == pytest.approx(float(torch.sigmoid(output.slide).detach()), abs=1e-4)
    assert sum(abs(value - scores[top]) < 1e-2 for value in scores) == 1


@BOTH
@settings(max_examples=15, deadline=None)
@given(seed=seeds, tiles=tile_counts)
def test_attention_of_an_ensemble_sums_to_one(aggregator, seed, tiles):
    models = [small_model(aggregator, seed + k) for k in range(3)]
    prediction = predict_slide(models, make_bag(bag_features(seed, tiles).numpy()))
    assert (prediction.attention >= 0).all()
    assert prediction.attention.sum() == pytest.approx(1, abs=1e-5)


@BOTH
def test_dropout_acts_in_training_only(aggregator):
    model, features = small_model(aggregator), bag_features(5, 20)
    assert torch.equal(score(model, features).slide, score(model, features).slide)
    model.train()
    assert not torch.equal(score(model, features).slide, score(model, features).slide)


@BOTH
def test_tile_dropout_drops_whole_tiles_of_every_slide(aggregator):
    """A dropped tile's hidden vector is zero, so that its logit is the classifier's bias alone."""
    model = small_model(aggregator, dropout=0.0, tile_dropout=0.5).train()
    packed = pack([bag_features(5, 200), bag_features(6, 200)])
    kept = model.eval()(packed).tile_logits[:, 0]
    found = model.train()(packed).tile_logits[:, 0]
    bias = model.classifier.bias
    dropped = torch.isclose(found, bias.expand_as(found), atol=1e-6)
    assert all(70 < int(part.sum()) < 130 for part in dropped.split(200))
    # What is kept is scaled up by 1 / (1 - 0.5), and no tile is dropped in part.
    torch.testing.assert_close((found - bias)[~dropped], (2 * (kept - bias))[~dropped], rtol=1e-4, atol=1e-5)


@BOTH
def test_attention_does_not_see_dropout(aggregator):
    model, features = small_model(aggregator), bag_features(5, 20)
    resting, training = score(model.eval(), features), score(model.train(), features)
    assert torch.equal(resting.attention_logits, training.attention_logits)


def test_the_standardiser_gives_mean_zero_and_unit_spread():
    features = bag_features(1, 500)
    standardiser = Standardiser(DIM)
    standardiser.mean, standardiser.deviation = features.float().mean(0), features.float().std(0)
    scaled = standardiser(features)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(DIM), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.std(0), torch.ones(DIM), atol=1e-5, rtol=0)


def test_one_odd_tile_is_cut_at_ten_deviations_unless_nothing_is_to_be_cut():
    odd = torch.tensor([[60000.0, -60000.0]], dtype=torch.float16)
    assert Standardiser(2)(odd).tolist() == [[10.0, -10.0]]
    assert Standardiser(2, clip=None)(odd).tolist() == odd.tolist()


@BOTH
def test_weights_saved_before_models_had_several_outputs_are_read(aggregator):
    """The state dict and the architecture of a fold as they were first written."""
    keys = {
        "standardiser.mean": (DIM,),
        "standardiser.deviation": (DIM,),
        "post_encoder.0.weight": (9, DIM),
        "post_encoder.0.bias": (9,),
        "attention.attention_hidden.0.weight": (5, 9),
        "attention.attention_hidden.0.bias": (5,),
        "attention.gate.0.weight": (5, 9),
        "attention.gate.0.bias": (5,),
        "attention.attention.weight": (1, 5),
        "attention.attention.bias": (1,),
        "classifier.weight": (1, 9),
        "classifier.bias": (1,),
    }
    torch.manual_seed(0)
    state = {key: torch.rand(shape) for key, shape in keys.items()}
    old = {"aggregator": aggregator, "dim": DIM, "hidden": 9, "attention": 5, "dropout": 0.4, "tile_dropout": 0.1}
    model = build_model(old)
    model.load_state_dict(state)
    features = bag_features(2, 6)
    expected = by_hand(state, features, aggregator)["slide"]
    np.testing.assert_allclose(score(model.eval(), features).slide.detach().numpy(), expected, rtol=1e-5)


def test_an_unknown_aggregator_is_refused_with_the_known_ones():
    with pytest.raises(StudyError, match="linear, mean, max, ectil, gated-abmil"):
        build_model({"aggregator": "clam", "dim": 4})


def test_an_unknown_option_is_refused_with_the_known_ones():
    with pytest.raises(StudyError, match="mean has no option heads, wings") as caught:
        build_model({"aggregator": "mean", "dim": 4, "wings": 2, "heads": 1})
    assert "hidden" in str(caught.value)


@pytest.mark.parametrize(
    "architecture",
    [
        {"aggregator": "dtfd-mil", "distillation": "boiling"},
        {"aggregator": "transformer", "hidden": 9, "heads": 2},
        {"aggregator": "transmil", "layers": 1},
        {"aggregator": "mean", "dropout": 2.0},
    ],
)
def test_options_of_no_use_are_refused_in_words(architecture):
    with pytest.raises(StudyError, match=f"{architecture['aggregator']} cannot be made of"):
        build_model({"dim": 4, **architecture})


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_options_have_defaults_that_make_a_model(aggregator):
    options: dict[str, Any] = aggregator_options(aggregator)
    assert not set(options) & {*FIXED, *study_arguments(aggregator)}
    fused = {"n_covariates": 3, "n_modality": 3} if AGGREGATORS[aggregator].takes_modality else {}
    assert isinstance(build_model({"aggregator": aggregator, "dim": 4, **fused, **options}), MilModel)
