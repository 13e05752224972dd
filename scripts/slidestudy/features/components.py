"""Moments, shift and principal components of the features of whole cohorts, computed out of core."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import dask
import numpy as np
import pandas as pd
from dask.delayed import delayed
from numpy.typing import NDArray

from slidestudy.features.cohorts import CohortFeatures, merge_all

Array = NDArray[np.float64]

ROWS = 4096
"""Tiles that are held in double precision at once."""
LARGE_SHIFT = 0.2
"""Standardised difference from which a dimension counts as shifted: a small effect (Cohen 1988)."""


@dataclass(frozen=True)
class Moments:
    """What is kept of the features of some tiles.

    Attributes:
        n: Number of tiles.
        mean: (dim,).
        scatter: Sum over tiles of the products of deviations from the mean, (dim, dim).
    """

    n: int
    mean: Array
    scatter: Array

    @property
    def variance(self) -> Array:
        """Variance of each dimension with n - 1, (dim,); NaN for a single tile."""
        diagonal = np.diag(self.scatter)
        return diagonal / (self.n - 1) if self.n > 1 else np.full_like(diagonal, np.nan)


def moments_of(features: NDArray[np.floating[Any]]) -> Moments:
    """Moments of features in memory, (n, dim), n at least 1; in double precision, some rows at a time."""
    found: list[Moments] = []
    for start in range(0, len(features), ROWS):
        rows = features[start : start + ROWS].astype(np.float64)
        mean = rows.mean(0)
        rows -= mean
        found = [merge_moments([*found, Moments(len(rows), mean, rows.T @ rows)])]
    return found[0]


def merge_moments(parts: list[Moments]) -> Moments:
    """Moments of the union of disjoint sets of tiles (Chan, Golub and LeVeque 1983, Am. Stat. 37:242)."""
    n, mean, scatter = parts[0].n, parts[0].mean, parts[0].scatter
    for part in parts[1:]:
        total, gap = n + part.n, part.mean - mean
        scatter = scatter + part.scatter + np.outer(gap, gap) * (n * part.n / total)
        mean, n = mean + gap * (part.n / total), total
    return Moments(n, mean, scatter)


def cohort_moments(cohort: CohortFeatures) -> dict[str, Moments]:
    """Moments of each cohort's features in one pass over the stores.

    Held at once are the features of the slides being read and a few matrices (dim, dim).

    Args:
        cohort: The open stores.

    Returns:
        Cohort -> moments, by name.
    """
    parts = [delayed(moments_of)(block) for block in cohort.blocks]
    names = cohort.slides["cohort"].to_numpy()
    order = sorted(set(names))
    merged = [
        merge_all([part for part, of in zip(parts, names, strict=True) if of == name], merge_moments) for name in order
    ]
    return dict(zip(order, dask.compute(*merged), strict=True))


def moments_table(moments: Mapping[str, Moments]) -> pd.DataFrame:
    """Mean and variance of every dimension: `cohort dimension mean variance n_tiles`; dimensions from 0."""
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "cohort": name,
                    "dimension": np.arange(len(found.mean)),
                    "mean": found.mean,
                    "variance": found.variance,
                    "n_tiles": found.n,
                }
            )
            for name, found in moments.items()
        ],
        ignore_index=True,
    )


def standardised_difference(one: Moments, other: Moments) -> Array:
    """Difference of the means over the root mean of the two variances, (dim,), `other` minus `one`.

    Also called the standardised mean difference (Austin 2009, Stat. Med. 28:3083). NaN where a variance is
    unknown or both are zero.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = (other.mean - one.mean) / np.sqrt((one.variance + other.variance) / 2)
    return np.where(np.isfinite(difference), difference, np.nan)


SHIFT_COLUMNS = [
    "cohort_a", "cohort_b", "n_tiles_a", "n_tiles_b", "n_dimensions", "median", "percentile_90", "maximum",
    "share_shifted", "undefined_reason",
]  # fmt: skip


def shift_table(moments: Mapping[str, Moments]) -> pd.DataFrame:
    """How far the features of each two cohorts lie apart.

    Args:
        moments: Cohort -> moments.

    Returns:
        One row per pair of cohorts, with over the dimensions that are defined (`n_dimensions`) the median, the
        90th percentile and the maximum of the absolute standardised difference, and the share of dimensions in
        which it is at least 0.2. It describes the tiles at hand: no interval, as their number of slides, not of
        tiles, would set its width.
    """
    rows = []
    for (name_a, a), (name_b, b) in combinations(moments.items(), 2):
        difference = np.abs(standardised_difference(a, b))
        difference = difference[np.isfinite(difference)]
        row: dict[str, Any] = dict(
            cohort_a=name_a, cohort_b=name_b, n_tiles_a=a.n, n_tiles_b=b.n, n_dimensions=len(difference)
        )
        if len(difference):
            row["median"], row["percentile_90"] = np.quantile(difference, [0.5, 0.9])
            row["maximum"], row["share_shifted"] = difference.max(), float((difference >= LARGE_SHIFT).mean())
            row["undefined_reason"] = ""
        else:
            row["undefined_reason"] = "no dimension varies in both cohorts"
        rows.append(row)
    return pd.DataFrame(rows, columns=SHIFT_COLUMNS)


@dataclass(frozen=True)
class Components:
    """Principal components of features.

    Attributes:
        mean: (dim,).
        axes: Unit vectors, (n_components, dim), the largest entry of each positive.
        variance: Variance along each, (n_components,), descending.
        ratio: Share of the total variance, (n_components,); NaN where nothing varies.
    """

    mean: Array
    axes: Array
    variance: Array
    ratio: Array

    def project(self, features: NDArray[np.floating[Any]]) -> Array:
        """Coordinates of features (n, dim) along the components, (n, n_components)."""
        return (features - self.mean) @ self.axes.T


def principal_components(moments: Moments, count: int) -> Components:
    """Exact principal components, from the covariance matrix.

    Args:
        moments: Moments of all tiles.
        count: Most components; as many as the tiles span, if that is fewer.

    Returns:
        The components, of the same signs each time.
    """
    values, vectors = np.linalg.eigh(moments.scatter)
    count = max(1, min(count, len(values), moments.n - 1))
    variance = np.maximum(values[::-1], 0) / max(1, moments.n - 1)
    axes = vectors[:, ::-1][:, :count].T
    largest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], axis=1)
    total = variance.sum()
    ratio = variance[:count] / total if total > 0 else np.full(count, np.nan)
    return Components(moments.mean, axes * np.sign(largest), variance[:count], ratio)


def components_table(components: Components) -> pd.DataFrame:
    """`component explained_variance ratio`, components from 1."""
    numbers = np.arange(1, len(components.variance) + 1)
    return pd.DataFrame({"component": numbers, "explained_variance": components.variance, "ratio": components.ratio})
