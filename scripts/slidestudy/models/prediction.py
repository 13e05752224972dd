"""Applying trained models to a slide: one, or the mean of an ensemble."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slidestudy.models.aggregators.base import MilModel
from slidestudy.models.bags import Bag
from slidestudy.models.packing import PackedBags, pack

LINKS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sigmoid": torch.sigmoid,
    "softmax": lambda raw: torch.softmax(raw, -1),
    "identity": lambda raw: raw,
}
"""From raw outputs (..., n_outputs) to scores: of a class or a bounded target sigmoid, of several classes softmax."""


@dataclass(frozen=True)
class SlidePrediction:
    """What a model, or an ensemble, says of a slide. Means over models are of scores, not of raw outputs.

    Attributes:
        raw: Raw outputs of each model, (n_models, n_outputs).
        outputs: Behind the link, mean over models, (n_outputs,).
        tile_logits: Raw outputs of every tile as a bag of one, mean over models, (n_tiles, n_outputs).
        tile_scores: Behind the link, mean over models, (n_tiles, n_outputs).
        attention: Attention within the slide (n_tiles,), sums to 1, mean over models; NaN where undefined.
        attention_logit: Before the softmax (n_tiles,), mean over models; NaN where undefined.
        main: The output that `output`, `tile_logit` and `tile_score` are of.
    """

    raw: NDArray[np.float64]
    outputs: NDArray[np.float64]
    tile_logits: NDArray[np.float32]
    tile_scores: NDArray[np.float32]
    attention: NDArray[np.float32]
    attention_logit: NDArray[np.float32]
    main: int = 0

    @property
    def output(self) -> float:
        """The slide's main output."""
        return float(self.outputs[self.main])

    @property
    def tile_logit(self) -> NDArray[np.float32]:
        """The main output's tile logits (n_tiles,)."""
        return np.ascontiguousarray(self.tile_logits[:, self.main])

    @property
    def tile_score(self) -> NDArray[np.float32]:
        """The main output's tile scores (n_tiles,)."""
        return np.ascontiguousarray(self.tile_scores[:, self.main])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of a tile-score store but coordinates and tissue; `scores` and `logits` if outputs are several."""
        arrays = {
            "score": self.tile_score,
            "logit": self.tile_logit,
            "attention": self.attention,
            "attention_logit": self.attention_logit,
        }
        if self.tile_logits.shape[1] > 1:
            arrays |= {"scores": self.tile_scores, "logits": self.tile_logits}
        return arrays


@torch.inference_mode()
def predict_slide(
    models: Sequence[MilModel],
    bag: Bag,
    *,
    link: str = "sigmoid",
    main: int = 0,
    covariates: NDArray[np.float32] | None = None,
) -> SlidePrediction:
    """Applies one model, or the mean of several, to a bag.

    Args:
        models: Models in evaluation mode.
        bag: The slide's tiles.
        link: A key of LINKS.
        main: The output that stands for the slide where there is room for one.
        covariates: The patient's, (n_covariates,), for models that take them.
    """
    packed = _packed(bag, covariates)
    raw, logits, attention, attention_logits = [], [], [], []
    for model in models:
        here = packed.to(model.standardiser.mean.device)
        output = model(here)
        raw.append(output.slide[0].double().cpu())
        logits.append(model.score_tiles(here, output).float().cpu())
        attention.append(output.attention.cpu())
        attention_logits.append(output.attention_logits.cpu())

    def mean(values: list[torch.Tensor]) -> NDArray[np.float32]:
        single: NDArray[np.float32] = torch.stack(values).double().mean(0).float().numpy()
        return single

    scores = LINKS[link]
    return SlidePrediction(
        raw=torch.stack(raw).numpy(),
        outputs=torch.stack([scores(values) for values in raw]).mean(0).numpy(),
        tile_logits=mean(logits),
        tile_scores=mean([scores(values) for values in logits]),
        attention=mean(attention),
        attention_logit=mean(attention_logits),
        main=main,
    )


@torch.inference_mode()
def raw_outputs(
    models: Sequence[MilModel], bag: Bag, covariates: NDArray[np.float32] | None = None
) -> list[NDArray[np.float64]]:
    """Raw outputs of several models for a bag, each (n_outputs,): what `predict_slide` gives, without the tiles.

    Args:
        models: Models in evaluation mode; they may differ in their number of outputs.
        bag: The slide's tiles.
        covariates: The patient's, (n_covariates,), for models that take them.
    """
    packed = _packed(bag, covariates)
    return [model(packed.to(model.standardiser.mean.device)).slide[0].double().cpu().numpy() for model in models]


def _packed(bag: Bag, covariates: NDArray[np.float32] | None) -> PackedBags:
    """A bag as a pack of one slide."""
    joined = None if covariates is None else torch.from_numpy(np.asarray(covariates, np.float32)).unsqueeze(0)
    return pack([bag.features], joined)
