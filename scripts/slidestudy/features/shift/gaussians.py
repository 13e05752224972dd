"""Fréchet distances between the Gaussians of tile features, out of core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slidestudy.features import components
from slidestudy.features.components import Moments, principal_components

Array = NDArray[np.float64]
MOST_COMPONENTS = 64
"""Components in which distances are taken (our choice): a bootstrap holds a matrix of this size for each slide."""
SAMPLES = 64
"""Bootstrap samples whose matrices are held at once."""


@dataclass(frozen=True)
class Basis:
    """The coordinates in which distances are taken.

    Attributes:
        centre: Mean of the development tiles, (dim,).
        scale: Standard deviation of each feature over the development tiles, (dim,).
        axes: Principal components of the standardised features, (k, dim).
        share: Share of the variance that they hold.
    """

    centre: Array
    scale: Array
    axes: Array
    share: float

    def project(self, features: NDArray[np.floating[Any]]) -> Array:
        """Coordinates of some tiles (n, dim), (n, k)."""
        return (features.astype(np.float64) - self.centre) @ (self.axes / self.scale).T


def basis_of(development: Moments, others: Sequence[Moments], most: int = MOST_COMPONENTS) -> Basis:
    """The coordinates for cohorts.

    Features are divided by their standard deviation over the development tiles, that no feature of a large unit rules
    and that encoders can be compared. The components are those of development and external tiles together, each side
    with half the weight and each external cohort alike, since a shift may lie where the development tiles do not vary.

    Args:
        development: Moments of the development tiles.
        others: Moments of each external cohort.
        most: Most components.
    """
    parts = [development, *others]
    weights = np.array([0.5, *[0.5 / len(others)] * len(others)]) if others else np.ones(1)
    centre = development.mean
    gaps = [part.mean - centre for part in parts]
    middle = sum(w * gap for w, gap in zip(weights, gaps, strict=True))
    spread = sum(
        w * (part.scatter / max(part.n - 1, 1) + np.outer(gap - middle, gap - middle))
        for w, part, gap in zip(weights, parts, gaps, strict=True)
    )
    variance = np.diag(development.scatter) / max(development.n - 1, 1)
    # A feature that is constant in development has the unit of all tiles.
    scale = np.sqrt(np.where(variance > 0, variance, np.diag(spread)))
    scale[scale == 0] = 1
    n = sum(part.n for part in parts)
    found = principal_components(Moments(n, centre, spread / np.outer(scale, scale) * (n - 1)), most)
    return Basis(centre, scale, found.axes, float(np.nansum(found.ratio)))


@dataclass(frozen=True)
class Tiles:
    """Sums over the tiles of each of some slides, in the coordinates of a basis.

    Attributes:
        n: Tiles, (slides,).
        sums: Sums of the coordinates, (slides, k).
        products: Sums of their products, (slides, k, k).
    """

    n: Array
    sums: Array
    products: Array

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Tiles:
        return Tiles(self.n[chosen], self.sums[chosen], self.products[chosen])

    def gaussians(self, weights: Array) -> tuple[Array, Array]:
        """Means (b, k) and covariances (b, k, k) of the tiles of slides drawn so often, (b, slides)."""
        k = self.sums.shape[1]
        n = weights @ self.n
        mean = weights @ self.sums / n[:, None]
        products = (weights @ self.products.reshape(len(self.n), -1)).reshape(-1, k, k)
        covariance = products - n[:, None, None] * mean[:, :, None] * mean[:, None]
        return mean, covariance / np.maximum(n - 1, 1)[:, None, None]


def sums_of(features: NDArray[np.floating[Any]], basis: Basis) -> Tiles:
    """The sums of one slide's tiles (n, dim), some rows at a time."""
    k = len(basis.axes)
    sums, products = np.zeros(k), np.zeros((k, k))
    for start in range(0, len(features), components.ROWS):
        at = basis.project(features[start : start + components.ROWS])
        sums += at.sum(0)
        products += at.T @ at
    return Tiles(np.array([float(len(features))]), sums[None], products[None])


def join(parts: Sequence[Tiles]) -> Tiles:
    """The sums of several slides."""
    return Tiles(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("n", "sums", "products")))


def frechet_squared(mean_a: Array, covariance_a: Array, mean_b: Array, covariance_b: Array) -> Array:
    """Squared Fréchet distances of Gaussians (Dowson & Landau 1982, J Multivar Anal 12:450, eq. 4).

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2), which holds for singular covariances too; on features
    of images it is the FID (Heusel et al. 2017, arXiv:1706.08500).

    Args:
        mean_a: (b, k).
        covariance_a: (b, k, k).
        mean_b: (b, k).
        covariance_b: (b, k, k).

    Returns:
        (b,).
    """
    values, vectors = np.linalg.eigh(covariance_a)
    root = vectors * np.sqrt(np.maximum(values, 0))[:, None]
    cross = np.linalg.eigvalsh(root.transpose(0, 2, 1) @ covariance_b @ root)
    traces = np.trace(covariance_a, axis1=1, axis2=2) + np.trace(covariance_b, axis1=1, axis2=2)
    squared = ((mean_a - mean_b) ** 2).sum(1) + traces - 2 * np.sqrt(np.maximum(cross, 0)).sum(1)
    return np.maximum(squared, 0)


def frechet(own: Tiles, weights: Array, other: Tiles, others: Array, unit: float) -> Array:
    """Squared Fréchet distances between the tiles of two sides.

    Args:
        own: Tiles of one side.
        weights: How often each of its slides is drawn, (b, slides).
        other: Tiles of the other side.
        others: How often each of its slides is drawn, (b, slides).
        unit: What they are divided by.

    Returns:
        (b,); NaN where a side has no slide.
    """
    found = np.full(len(weights), np.nan)
    there = np.flatnonzero((weights.sum(1) > 0) & (others.sum(1) > 0))
    for start in range(0, len(there), SAMPLES):
        at = there[start : start + SAMPLES]
        found[at] = frechet_squared(*own.gaussians(weights[at]), *other.gaussians(others[at]))
    return found / unit
