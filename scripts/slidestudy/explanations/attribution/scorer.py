"""The study's own model on patches: encoder, then the folds that may predict each patient, as in its predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from slidestudy.attribution_kinds import ATTENTION, OUTPUT, PRODUCT
from slidestudy.features.identity import Encoder
from slidestudy.features.torch_encoder import TorchEncoder
from slidestudy.models.aggregators.base import MilModel
from slidestudy.models.packing import PackedBags
from slidestudy.models.prediction import LINKS

Tiles = NDArray[np.uint8]
BATCH = 32
"""Patches that are encoded at a time."""
MAIN = 0
"""The output that stands for a slide where there are several, as in the tile scores."""


class TileScorer:
    """What a model says of single patches, each as a bag of one.

    `output` is the tile's raw output, `attention` its attention before the softmax, both the mean over the folds of
    the patch. `attention_x_score` is the score times exp(attention), relative to that of the unchanged patch: what the
    patch adds to the attention-weighted sum of its slide while the other tiles stay as they are.

    Args:
        encoder: The study's encoder.
        members: The models of all folds, in evaluation mode.
        link: A key of `prediction.LINKS`.
        tiles: The unchanged patches as the encoder sees them, uint8 (n, size, size, 3).
        weights: Weight of each member in the mean of each patch (n, n_members); rows sum to 1.
        covariates: float32 (n, n_covariates), for models that take them.
    """

    def __init__(
        self,
        encoder: Encoder,
        members: Sequence[MilModel],
        link: str,
        tiles: Tiles,
        weights: NDArray[np.float64],
        covariates: torch.Tensor | None = None,
    ) -> None:
        self.encoder, self.tiles = encoder, tiles
        self._members, self._link = members, LINKS[link]
        self._weights = torch.from_numpy(weights).float()
        self._covariates = covariates
        with torch.inference_mode():
            parts = [self._heads(self._encode(tiles[part]), part) for part in self._parts(np.arange(len(tiles)))]
        # Not inference tensors, which take no part in gradients.
        self._anchor = torch.cat([attention for _, attention in parts]).clone()
        self.intact = self._means(torch.cat([raw for raw, _ in parts]), self._anchor, np.arange(len(tiles)))
        """Target -> what the model says of the unchanged patches, (n,)."""

    def undefined(self) -> dict[str, str]:
        """The targets that the model does not have, and why."""
        attention = self.intact[ATTENTION]
        if bool(torch.isnan(attention).any()):
            return dict.fromkeys((ATTENTION, PRODUCT), "the model defines no attention")
        if not bool(attention.any()):
            return dict.fromkeys((ATTENTION, PRODUCT), "the model gives all tiles the same attention")
        return {}

    def score(self, tiles: Tiles, rows: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """What the model says of changed patches.

        Args:
            tiles: uint8 (m, size, size, 3).
            rows: Which patch each of them was (m,).

        Returns:
            Target -> (m,).
        """
        with torch.inference_mode():
            found = [self.targets(self._encode(tiles[part]), rows[part]) for part in self._parts(np.arange(len(tiles)))]
        return {name: torch.cat([part[name] for part in found]).double().numpy() for name in found[0]}

    def targets(self, vectors: torch.Tensor, rows: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """Target -> its value for each feature vector (m,), with gradients where the vectors have them.

        Args:
            vectors: (m, dim).
            rows: Which patch each of them is of (m,).
        """
        return self._means(*self._heads(vectors, rows), rows)

    def _parts(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]

    def _encode(self, tiles: Tiles) -> torch.Tensor:
        if isinstance(self.encoder, TorchEncoder):
            return self.encoder.vectors(np.ascontiguousarray(tiles)).cpu()
        return torch.from_numpy(self.encoder.encode(tiles))

    def _heads(self, vectors: torch.Tensor, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Every member's raw outputs (m, n_members, n_outputs) and attention logits (m, n_members)."""
        vectors = vectors.cpu()
        # Rounded as in a feature store; the gradient passes by, as half precision would lose small ones.
        features = vectors + (vectors.half().float() - vectors).detach()
        covariates = None if self._covariates is None else self._covariates[torch.from_numpy(rows)]
        packed = PackedBags(features, torch.arange(len(vectors) + 1), covariates)
        found = [model(packed) for model in self._members]
        return torch.stack([one.slide for one in found], 1), torch.stack([one.attention_logits for one in found], 1)

    def _means(self, raw: torch.Tensor, attention: torch.Tensor, rows: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """The means over members, of raw outputs (m, n_members, n_outputs) and attention logits (m, n_members)."""
        index = torch.from_numpy(rows)
        weights, anchor = self._weights[index], self._anchor[index]
        scores = self._link(raw)[..., MAIN]
        return {
            OUTPUT: (weights * raw[..., MAIN]).sum(1),
            ATTENTION: (weights * attention).sum(1),
            PRODUCT: (weights * scores * torch.exp(attention - anchor)).sum(1),
        }
