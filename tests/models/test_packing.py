"""Packed bags hold what was packed, and nothing else."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slidestudy.models.packing import pack

lengths = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def make_bags(sizes: list[int], dim: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(len(sizes))
    return [torch.randn(n, dim, generator=generator).half() for n in sizes]


@given(lengths)
def test_what_is_packed_comes_back(sizes):
    bags = make_bags(sizes)
    packed = pack(bags)
    assert (packed.n_slides, packed.n_tiles, packed.lengths.tolist()) == (len(sizes), sum(sizes), sizes)
    assert all(torch.equal(a, b) for a, b in zip(packed.bags(), bags, strict=True))
    assert packed.features.dtype == torch.float16
    assert packed.segment.tolist() == [i for i, n in enumerate(sizes) for _ in range(n)]


@given(lengths)
def test_offsets_begin_at_zero_and_end_at_the_last_tile(sizes):
    offsets = pack(make_bags(sizes)).offsets
    assert offsets.dtype == torch.int64
    assert offsets[0] == 0
    assert offsets[-1] == sum(sizes)


def test_alone_every_tile_is_a_slide_with_the_covariates_of_its_own():
    alone = pack(make_bags([2, 1]), torch.tensor([[1.0], [5.0]])).alone()
    assert alone.n_slides == 3
    assert alone.lengths.tolist() == [1, 1, 1]
    assert alone.covariates is not None
    assert alone.covariates.tolist() == [[1.0], [1.0], [5.0]]


def test_moving_keeps_everything():
    packed = pack(make_bags([2, 1]), torch.zeros(2, 1)).to("meta")
    assert packed.features.device.type == packed.offsets.device.type == "meta"
    assert packed.covariates is not None
    assert packed.covariates.device.type == "meta"


@pytest.mark.parametrize(
    ("sizes", "covariates", "message"),
    [
        ([], None, "no bags"),
        ([2, 0, 1, 0], None, r"bags \[1, 3\] have no tiles"),
        ([2, 1], torch.zeros(3, 1), "covariates of shape"),
        ([2], torch.zeros(1), "covariates of shape"),
    ],
)
def test_what_cannot_be_packed_is_refused(sizes, covariates, message):
    with pytest.raises(ValueError, match=message):
        pack(make_bags(sizes), covariates)
