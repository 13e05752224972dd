"""What holds for every aggregator, whatever its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.models.mil import aggregator_options, build_model
from slidestudy.models.packing import PackedBags, pack
from slidestudy.models.segments import segment_sum
from slidestudy.statistics import auroc
from tests.models.small_models import (
    COVARIATES,
    DIM,
    FUSING,
    NAMES,
    close,
    make_bags,
    one_by_one,
    small_architecture,
    small_model,
)

torch.set_num_threads(1)
ATTENTIVE = ["abmil", "clam-mb", "clam-sb", "dsmil", "ectil", "gated-abmil", "transformer"]
CONTEXT = ["mcat", "motcat", "transformer", "transmil"]
VARIANTS = [
    *((name, {}) for name in NAMES),
    ("abmil", {"batch_norm": True}),
    ("dtfd-mil", {"distillation": "max"}),
    ("dtfd-mil", {"distillation": "maxmin"}),
]
EVERY = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=lambda v: v if isinstance(v, str) else "-".join(v))
OUTPUTS = pytest.mark.parametrize("outputs", [1, 3])
sizes_of = st.lists(st.integers(1, 12), min_size=1, max_size=4)


@EVERY
@OUTPUTS
@settings(max_examples=6, deadline=None)
@given(sizes=sizes_of, seed=st.integers(0, 99))
def test_packed_slides_are_scored_as_one_by_one(name, options, outputs, sizes, seed):
    model, packed = small_model(name, outputs, **options), make_bags(sizes, seed)
    found, singles = model(packed), [model(single) for single in one_by_one(packed)]
    for field in ("slide", "tile_logits", "attention_logits", "attention"):
        close(getattr(found, field), torch.cat([getattr(single, field) for single in singles]))
    assert found.slide.shape == (len(sizes), outputs)
    assert found.tile_logits.shape == (sum(sizes), outputs)
    if found.pooled is not None:
        close(found.pooled, torch.cat([single.pooled for single in singles]))


@EVERY
@OUTPUTS
def test_gradients_are_those_of_slides_one_by_one(name, options, outputs):
    model, packed = small_model(name, outputs, **options), make_bags([5, 1, 9])
    parameters = [p for p in model.parameters() if p.requires_grad]
    ours = torch.autograd.grad(model(packed).slide.tanh().sum(), parameters, allow_unused=True)
    looped = torch.stack([model(single).slide.tanh().sum() for single in one_by_one(packed)]).sum()
    theirs = torch.autograd.grad(looped, parameters, allow_unused=True)
    assert any(g is not None and bool((g != 0).any()) for g in ours)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine is None) == (other is None)
        if mine is not None and other is not None:
            torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4)


@EVERY
def test_a_slide_does_not_depend_on_the_others(name, options):
    model, sizes = small_model(name, **options), [4, 6, 3]
    before, after = make_bags(sizes), make_bags(sizes)
    after.features[4:10] = 30000.0
    assert torch.equal(model(before).slide[[0, 2]], model(after).slide[[0, 2]])


@pytest.mark.parametrize(("name", "options"), [v for v in VARIANTS if v[0] != "transmil"], ids=str)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 99))
def test_the_order_of_tiles_does_not_matter(name, options, seed):
    model, packed = small_model(name, 2, **options), make_bags([9, 5], seed)
    order = torch.from_numpy(np.r_[np.random.default_rng(seed).permutation(9), 9 + np.arange(5)[::-1]])
    straight, shuffled = model(packed), model(PackedBags(packed.features[order], packed.offsets, packed.covariates))
    close(shuffled.slide, straight.slide)
    for field in ("tile_logits", "attention", "attention_logits"):
        close(getattr(shuffled, field), getattr(straight, field)[order])


@pytest.mark.parametrize("name", [*ATTENTIVE, *FUSING, "mean", "max", "linear"])
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 99))
def test_every_tile_twice_leaves_the_slide_as_it_is(name, seed):
    model, packed = small_model(name), make_bags([6, 3], seed)
    twice = pack([bag.repeat(2, 1) for bag in packed.bags()], packed.covariates)
    close(model(twice).slide, model(packed).slide)


@EVERY
@OUTPUTS
def test_a_tile_logit_is_the_output_of_a_slide_of_that_tile_alone(name, options, outputs):
    model, packed = small_model(name, outputs, **options), make_bags([5, 1, 9])
    alone = torch.cat([model(single).slide for single in one_by_one(packed.alone())])
    output = model(packed)
    close(model.score_tiles(packed, output), alone)
    assert bool(output.tile_logits.isnan().all()) == (name in CONTEXT)


@EVERY
def test_attention_sums_to_one_within_each_slide(name, options):
    packed = make_bags([5, 1, 9])
    attention = small_model(name, 2, **options)(packed).attention
    assert (attention >= 0).all()
    close(segment_sum(attention, packed), torch.ones(3))


def test_transmil_says_where_it_has_no_attention():
    packed = make_bags([6, 3])
    found = small_model("transmil", attention_tiles=5)(packed)
    assert bool(found.attention[:6].isnan().all())
    assert not bool(found.attention[6:].isnan().any())
    assert bool(found.attention_logits.isnan().all())


@EVERY
def test_covariates_change_the_slide_of_their_own_and_no_other(name, options):
    model, packed = small_model(name, **options), make_bags([4, 2])
    assert packed.covariates is not None
    moved = PackedBags(packed.features, packed.offsets, packed.covariates + torch.tensor([[1.0], [0.0]]))
    before, after = model(packed).slide, model(moved).slide
    assert abs(float((after - before)[0].detach())) > 1e-3
    assert torch.equal(before[1], after[1])


@EVERY
def test_a_missing_covariate_counts_as_the_training_mean(name, options):
    model, packed = small_model(name, **options), make_bags([4, 2])
    covariates = packed.covariates
    assert covariates is not None
    blank, mean = covariates.clone(), covariates.clone()
    blank[0, 1], mean[0, 1] = torch.nan, model.covariate_standardiser.mean[1]
    slides = [model(PackedBags(packed.features, packed.offsets, c)).slide for c in (blank, mean)]
    close(*slides)


@EVERY
def test_bags_of_other_covariates_are_refused(name, options):
    with pytest.raises(ValueError, match=f"the bags have 0 covariates, the model takes {COVARIATES}"):
        small_model(name, **options)(make_bags([3], covariates=0))
    with pytest.raises(ValueError, match=f"the bags have {COVARIATES} covariates, the model takes 3"):
        small_model(name, covariates=3, **options)(make_bags([3]))


@EVERY
def test_weights_and_scaling_come_back_from_a_state_dict(name, options):
    model, packed = small_model(name, 2, **options), make_bags([4, 2])
    torch.manual_seed(99)
    fresh = build_model({**small_architecture(name, 2), **options})
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh.eval()(packed).slide, model(packed).slide)


@EVERY
def test_every_parameter_of_a_trained_model_learns(name, options):
    """One step on all that the method trains moves all weights: nothing is left out of the graph."""
    model, packed = small_model(name, 2, **options).train(), make_bags([12, 9, 10, 11])
    output = model(packed)
    objectives = output.objectives or ((output.slide, torch.arange(4)),)
    loss = torch.stack([outputs.square().sum() for outputs, _ in objectives]).sum()
    extra = model.instance_loss(output, torch.tensor([0, 1, 1, 0]))
    (loss if extra is None else loss + extra).backward()
    idle = [key for key, p in model.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    # torchmil's layer has a second norm that it uses with an MLP only, which TransMIL has not.
    idle = [key for key in idle if not (name == "transmil" and ".norm2." in key)]
    # A constant added to all attention logits of a slide changes no softmax.
    free = {"attention.attention.bias", "attention.2.bias", "first_attention.attention.bias", "query.bias"}
    assert set(idle) <= free, idle


@EVERY
def test_gradients_reach_the_features_of_their_own_slide_alone(name, options):
    """What Grad-CAM needs. With distillation of single tiles the others get none."""
    model, packed = small_model(name, **options), make_bags([6, 4])
    features = packed.features.float().requires_grad_()
    slide = model(PackedBags(features, packed.offsets, packed.covariates)).slide
    (gradient,) = torch.autograd.grad(slide[0, 0], features)
    assert bool((gradient[:6] != 0).any())
    assert not bool((gradient[6:] != 0).any())
    if name == "motcat":
        return  # Its gradient takes the plan for constant.
    step = 1e-3 * gradient / gradient.norm()
    moved = model(PackedBags(features + step, packed.offsets, packed.covariates)).slide
    # Along its gradient the output grows by the gradient's length.
    assert float((moved - slide)[0, 0].detach()) == pytest.approx(1e-3 * float(gradient.norm()), rel=0.1, abs=1e-5)


@pytest.mark.parametrize("name", CONTEXT)
def test_a_tile_of_a_model_with_context_sees_the_others(name):
    """What sets these models apart: moving one tile changes how the others compare with one another."""
    model, packed = small_model(name), make_bags([6])
    before = model(packed).attention[1:].detach()
    packed.features[0] += 2
    after = model(packed).attention[1:].detach()
    assert float((after / after.sum() - before / before.sum()).abs().max()) > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_does_not_depend_on_chance(name):
    """The library drops attention in evaluation mode, and deals pseudo-bags by numpy's chance: neither reaches us."""
    model, packed = small_model(name, **({"dropout": 0.5} if name != "linear" else {})), make_bags([9, 4])
    first = model(packed)
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    assert torch.equal(model(packed).slide, first.slide)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in CONTEXT])
def test_half_precision_features_are_scaled_in_single(name):
    """A standardised feature whose mean is large keeps the digits that float16 has of it."""
    model, packed = small_model(name), make_bags([5])
    single = PackedBags(packed.features.float(), packed.offsets, packed.covariates)
    assert torch.equal(model(packed).slide, model(single).slide)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FUSING])
def test_every_aggregator_learns_whether_there_are_odd_tiles(name):
    """A fifth of the tiles of the positive slides is moved; slides held out are told apart."""
    rng = np.random.default_rng(3)
    labels = np.arange(40) % 2
    bags = []
    for label in labels:
        features = rng.normal(size=(int(rng.integers(15, 30)), DIM))
        features[: len(features) // 5, :2] += 3.0 * label
        bags.append(torch.tensor(features[rng.permutation(len(features))], dtype=torch.float32))
    train, held_out, truth = pack(bags[:24]), pack(bags[24:]), torch.tensor(labels[:24], dtype=torch.float32)
    torch.manual_seed(1)
    small = {"hidden": 16, "heads": 2, "landmarks": 8, "dropout": 0.0, "tile_dropout": 0.0}
    options = {key: value for key, value in small.items() if key in aggregator_options(name)}
    model = build_model({"aggregator": name, "dim": DIM, **options}).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(10 if name == "transmil" else 40):
        output = model(train)
        objectives = output.objectives or ((output.slide, torch.arange(24)),)
        losses = [torch.nn.functional.binary_cross_entropy_with_logits(o[:, 0], truth[of]) for o, of in objectives]
        extra = model.instance_loss(output, truth.long())
        optimiser.zero_grad()
        (torch.stack(losses).sum() if extra is None else torch.stack(losses).sum() + extra).backward()
        optimiser.step()
    predicted = model.eval()(held_out).slide[:, 0].detach().double().numpy()
    assert auroc(labels[24:].astype(float), predicted, np.ones((1, 16)))[0] > 0.85
