"""Small aggregators and packed bags, with weights large enough for outputs to differ."""

from __future__ import annotations

from typing import Any

import torch

from slidestudy.models.mil import AGGREGATORS, MilModel, aggregator_options, build_model, study_arguments
from slidestudy.models.packing import PackedBags, pack

DIM, COVARIATES, MODALITY = 7, 4, 3
SMALL = {"hidden": 8, "attention": 5, "heads": 2, "landmarks": 4, "groups": 3, "sampled": 3}
NAMES = sorted(AGGREGATORS)
FUSING = sorted(name for name, kind in AGGREGATORS.items() if kind.takes_modality)
GROUPS = [[0, 1], [1, 2]]


def small_model(name: str, outputs: int = 1, covariates: int = COVARIATES, **options: Any) -> MilModel:
    """An untrained model whose weights are large enough for outputs to differ, in evaluation mode."""
    torch.manual_seed(0)
    model = build_model({**small_architecture(name, outputs, covariates), **options})
    with torch.no_grad():
        for parameter in model.parameters():
            # Of more layers smaller ones, or the loss of a large output has no gradient.
            parameter.normal_(0, 0.4 if name in FUSING else 0.7)
        for standardiser in [model.standardiser, *([model.covariate_standardiser] if covariates else [])]:
            standardiser.mean.normal_()
            standardiser.deviation.uniform_(0.5, 2)
        if options.get("batch_norm"):
            model.norm.running_mean.normal_()
            model.norm.running_var.uniform_(0.5, 2)
    return model.eval()


def small_architecture(name: str, outputs: int = 1, covariates: int = COVARIATES) -> dict[str, Any]:
    """A small architecture; the last of the covariates are the second modality of models that take one."""
    small = {key: value for key, value in SMALL.items() if key in aggregator_options(name)}
    fused = {"n_modality": MODALITY} if name in FUSING else {}
    fused |= {"groups": GROUPS} if "groups" in study_arguments(name) else {}
    return {"aggregator": name, "dim": DIM, "n_outputs": outputs, "n_covariates": covariates, **small, **fused}


def make_bags(sizes: list[int], seed: int = 0, covariates: int = COVARIATES) -> PackedBags:
    generator = torch.Generator().manual_seed(seed)
    bags = [torch.randn(n, DIM, generator=generator).half() for n in sizes]
    return pack(bags, torch.randn(len(sizes), covariates, generator=generator) if covariates else None)


def one_by_one(packed: PackedBags) -> list[PackedBags]:
    rows = [None] * packed.n_slides if packed.covariates is None else packed.covariates.split(1)
    return [pack([bag], row) for bag, row in zip(packed.bags(), rows, strict=True)]


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)
