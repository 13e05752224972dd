"""Segment operations against a loop over the slides, in value and gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.models.packing import PackedBags, pack
from slidestudy.models.segments import (
    segment_logsumexp,
    segment_max,
    segment_mean,
    segment_rank,
    segment_softmax,
    segment_sum,
    weighted_sum,
)

lengths = st.lists(st.integers(1, 8), min_size=1, max_size=6)
OPERATIONS = {
    "sum": (segment_sum, lambda x: x.sum(0, keepdim=True)),
    "mean": (segment_mean, lambda x: x.mean(0, keepdim=True)),
    "max": (segment_max, lambda x: x.amax(0, keepdim=True)),
    "logsumexp": (segment_logsumexp, lambda x: x.logsumexp(0, keepdim=True)),
    "softmax": (segment_softmax, lambda x: x.softmax(0)),
}


def bags_of(sizes: list[int]) -> PackedBags:
    return pack([torch.zeros(n, 1) for n in sizes])


def compare(found: torch.Tensor, expected: torch.Tensor, *inputs: torch.Tensor) -> None:
    """Values and gradients of a sum that weighs every element differently."""
    torch.testing.assert_close(found, expected)
    weights = torch.linspace(-1, 2, found.numel()).view_as(found)
    ours = torch.autograd.grad((found * weights).sum(), inputs)
    theirs = torch.autograd.grad((expected * weights).sum(), inputs)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("shape", [(), (3,)])
@settings(max_examples=25, deadline=None)
@given(sizes=lengths, seed=st.integers(0, 999))
def test_every_operation_is_that_of_a_loop(name, shape, sizes, seed):
    operation, one = OPERATIONS[name]
    torch.manual_seed(seed)
    values = (5 * torch.randn(sum(sizes), *shape)).requires_grad_()
    compare(operation(values, bags_of(sizes)), torch.cat([one(x) for x in values.split(sizes)]), values)


@settings(max_examples=25, deadline=None)
@given(lengths, st.integers(0, 999))
def test_a_weighted_sum_is_that_of_a_loop(sizes, seed):
    torch.manual_seed(seed)
    values, weights = torch.randn(sum(sizes), 4, requires_grad=True), torch.randn(sum(sizes), requires_grad=True)
    pairs = zip(values.split(sizes), weights.split(sizes), strict=True)
    compare(weighted_sum(values, weights, bags_of(sizes)), torch.stack([w @ x for x, w in pairs]), values, weights)


def test_a_softmax_of_far_apart_logits_stays_finite():
    found = segment_softmax(torch.tensor([1e4, 0.0, -1e4, -1e4]), bags_of([2, 2]))
    assert found.tolist() == [1.0, 0.0, 0.5, 0.5]


def test_half_precision_is_summed_in_single():
    values = torch.full((4096,), 1.0, dtype=torch.float16)
    assert segment_sum(values, bags_of([4096])).tolist() == [4096.0]


def test_double_precision_is_kept():
    assert segment_mean(torch.ones(2, dtype=torch.float64), bags_of([2])).dtype == torch.float64


def test_what_is_not_a_number_in_one_slide_stays_there():
    values = torch.tensor([[1.0], [float("nan")], [2.0]])
    found = weighted_sum(values, torch.ones(3), bags_of([2, 1]))
    assert torch.isnan(found[0]).all()
    assert found[1].item() == 2


@settings(max_examples=25, deadline=None)
@given(lengths, st.integers(0, 999))
def test_ranks_begin_at_the_highest_tile_of_each_slide(sizes, seed):
    values = torch.randint(0, 4, (sum(sizes),), generator=torch.Generator().manual_seed(seed)).float()
    ranks = segment_rank(values, bags_of(sizes))
    for value, rank in zip(values.split(sizes), ranks.split(sizes), strict=True):
        assert value[rank.argsort()].tolist() == sorted(value.tolist(), reverse=True)
        assert sorted(rank.tolist()) == list(range(len(value)))
