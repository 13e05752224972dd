"""Applying trained folds: the test fold's own model on development slides, the ensemble of folds elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from slidestudy.models.bags import Bag


@dataclass(frozen=True)
class SlidePrediction:
    """What a model, or an ensemble, says of a slide.

    Attributes:
        output: The slide's output in 0..1.
        tile_logit: Logit of every tile as a bag of one (n_tiles,), mean over folds.
        tile_score: Its probability or fraction (n_tiles,), mean over folds.
        attention: Attention within the slide (n_tiles,), sums to 1, mean over folds.
        attention_logit: Before the softmax (n_tiles,), mean over folds.
    """

    output: float
    tile_logit: NDArray[np.float32]
    tile_score: NDArray[np.float32]
    attention: NDArray[np.float32]
    attention_logit: NDArray[np.float32]


@torch.inference_mode()
def predict_slide(models: Sequence[torch.nn.Module], bag: Bag) -> SlidePrediction:
    """Applies one fold, or the mean of several, to a bag.

    Args:
        models: Models in evaluation mode.
        bag: The slide's tiles.
    """
    outputs = [model(bag.features) for model in models]

    def mean(values: list[torch.Tensor]) -> NDArray[np.float32]:
        return torch.stack(values).double().mean(0).float().numpy()

    return SlidePrediction(
        float(np.mean([float(o.slide.double()) for o in outputs])),
        mean([o.tile_logits for o in outputs]),
        mean([torch.sigmoid(o.tile_logits) for o in outputs]),
        mean([torch.softmax(o.attention_logits, 0) for o in outputs]),
        mean([o.attention_logits for o in outputs]),
    )
