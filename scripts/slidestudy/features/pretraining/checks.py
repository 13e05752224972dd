"""Whether an encoder in training is any good: nearest neighbours, and early signs of collapse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor

from slidestudy.errors import StudyError
from slidestudy.features.pretraining.backbone import Backbone, resized
from slidestudy.features.pretraining.sampling import TileSet
from slidestudy.features.pretraining.views import Views

MOST_TILES = 2000
"""Tiles that the checks look at."""
BATCH = 128
SPREAD_COLLAPSED, RANK_COLLAPSED = 1e-3, 1.5
"""Below either of these the features of all tiles are the same, but for noise or for one number."""


@dataclass(frozen=True)
class Check:
    """What a check found.

    Attributes:
        knn: The nearest-neighbour measure, 0..1; see `measure_name`. NaN where undefined.
        feature_spread: See `feature_spread`.
        effective_rank: See `effective_rank`.
    """

    knn: float
    feature_spread: float
    effective_rank: float


def normalised(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Features scaled to length 1, row by row; rows of zeros stay as they are."""
    values = np.asarray(features, np.float64)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def feature_spread(features: NDArray[np.floating]) -> float:
    """Mean standard deviation of the normalised features per dimension, relative to 1/sqrt(dim).

    1 for features spread evenly over the sphere, 0 where all are the same (as in Chen and He, CVPR 2021).

    Args:
        features: (n, dim).
    """
    unit = normalised(features)
    return float(unit.std(axis=0).mean() * np.sqrt(unit.shape[1]))


def effective_rank(features: NDArray[np.floating]) -> float:
    """Exponential of the entropy of the singular values of the centred, normalised features.

    RankMe (Garrido et al., ICML 2023), on centred features, since those of a network that ends in a ReLU share a large
    mean.

    Args:
        features: (n, dim).

    Returns:
        1 (all tiles on a line) to min(n, dim); 0 where all features are the same.
    """
    unit = normalised(features)
    values = np.linalg.svd(unit - unit.mean(axis=0), compute_uv=False)
    if values.sum() < 1e-9:
        return 0.0
    share = values / values.sum()
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def class_from_others(
    features: NDArray[np.floating], classes: NDArray[np.str_], patients: NDArray[np.str_], neighbours: int
) -> float:
    """Balanced accuracy of each tile's class, told by its nearest neighbours among the tiles of other patients.

    Args:
        features: (n, dim).
        classes: (n,); tiles with a blank one are left out.
        patients: (n,).
        neighbours: How many neighbours vote, each weighted by its cosine similarity.

    Returns:
        0..1; NaN with fewer than two classes or patients.
    """
    known = classes != ""
    unit, classes, patients = normalised(features[known]), classes[known], patients[known]
    names, codes = np.unique(classes, return_inverse=True)
    if len(names) < 2 or len(np.unique(patients)) < 2:
        return float("nan")
    similarity = unit @ unit.T
    similarity[patients[:, None] == patients[None, :]] = -np.inf
    count = min(neighbours, len(unit) - 1)
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :count]
    weights = np.take_along_axis(similarity, nearest, axis=1)
    votes = np.zeros((len(unit), len(names)))
    for k in range(count):
        votes[np.arange(len(unit)), codes[nearest[:, k]]] += np.where(np.isfinite(weights[:, k]), 1 + weights[:, k], 0)
    return float(balanced_accuracy_score(codes, votes.argmax(axis=1)))


def own_tile_found(features: NDArray[np.floating], views: NDArray[np.floating]) -> float:
    """Share of augmented views whose nearest tile is the one that they show.

    Args:
        features: Of the whole tiles, (n, dim).
        views: Of one view of each, (n, dim).
    """
    nearest = (normalised(views) @ normalised(features).T).argmax(axis=1)
    return float((nearest == np.arange(len(features))).mean())


def measure_name(check_label: str | None) -> str:
    """What `Check.knn` is, in words."""
    if check_label:
        return f"balanced accuracy of {check_label} from the neighbours of other patients"
    return "share of augmented views whose nearest tile is their own"


def chance(tiles: TileSet, check_label: str | None) -> float:
    """What `Check.knn` would be by guessing."""
    if check_label:
        return 1 / max(1, len(set(tiles.classes[tiles.classes != ""])))
    return 1 / max(1, min(len(tiles), MOST_TILES))


class Checker:
    """Checks an encoder on the same tiles and views each time.

    Args:
        tiles: The training tiles; a seeded draw of at most `MOST_TILES` is used.
        side: Side at which the encoder will see whole tiles, px.
        views: The augmentation of instance retrieval.
        check_label: Column of the classes; None retrieves instances.
        neighbours: Neighbours that vote.
        seed: Seed of the draws.
    """

    def __init__(
        self, tiles: TileSet, side: int, views: Views, *, check_label: str | None, neighbours: int, seed: int
    ) -> None:
        order = np.random.default_rng(seed).permutation(len(tiles))[:MOST_TILES]
        self._tiles, self._side = tiles.rows(np.sort(order)), side
        self._label, self._neighbours = check_label, neighbours
        self._pixels = torch.from_numpy(self._tiles.tiles).permute(0, 3, 1, 2)
        # The checks' draws must not shift those of the training.
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self._views = None if check_label else views(self._pixels)

    def __call__(self, encoder: Backbone) -> Check:
        """Checks the encoder as it stands; its mode (training or not) is left as it was."""
        features = self._encode(encoder, None)
        if self._views is None:
            knn = class_from_others(features, self._tiles.classes, self._tiles.patients, self._neighbours)
        else:
            knn = own_tile_found(features, self._encode(encoder, self._views))
        return Check(knn, feature_spread(features), effective_rank(features))

    @torch.no_grad()
    def _encode(self, encoder: Backbone, views: Tensor | None) -> NDArray[np.float32]:
        """Features of the whole tiles, or of the views."""
        training, device = encoder.training, encoder.mean.device
        encoder.eval()
        parts = []
        for start in range(0, len(self._pixels), BATCH):
            rows = slice(start, start + BATCH)
            pixels = resized(self._pixels[rows], self._side, encoder.interpolation) if views is None else views[rows]
            parts.append(encoder(pixels.to(device)).float().cpu().numpy())
        encoder.train(training)
        return np.concatenate(parts)


def refuse_collapse(check: Check, epoch: int, encoder: str) -> None:
    """Ends a training that has come to nothing.

    Raises:
        StudyError: The features of all tiles are the same, or differ in one number only, or are none.
    """
    finite = np.isfinite([check.feature_spread, check.effective_rank]).all()
    if finite and check.feature_spread >= SPREAD_COLLAPSED and check.effective_rank >= RANK_COLLAPSED:
        return
    found = f"spread of the features {check.feature_spread:.2g}, effective rank {check.effective_rank:.2g}"
    remedy = "lower pretraining.learning_rate, enlarge batch_size, or use the other method"
    raise StudyError(f"collapsed at epoch {epoch} ({found})", f"encoder {encoder}", remedy)
