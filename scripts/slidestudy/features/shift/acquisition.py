"""How an external cohort was scanned and stained, beside the development cohorts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from slidestudy.features.shift.sides import (
    Array,
    Counted,
    Expected,
    Sides,
    weighted_quantile,
    weighted_share,
)

STAIN = ("brightness", "saturation", "stain_density", "haematoxylin", "eosin", "focus")
"""The measures of the tissue stage that are compared."""
NAMES = ("scanner", "vendor", "objective")
MPP_MARGIN = 0.02
"""Relative difference in um/px by which a slide may lie outside the development range (our choice), so that rounded
values of one scanner do not count."""
FEWEST_SLIDES = 20
"""Fewest development slides on which a covariance of the six stain measures is estimated (our choice)."""


def acquisition_rows(sides: Sides) -> Iterator[dict[str, Any]]:
    """Rows of the scanner, vendor, objective and resolution, and of the stain.

    Args:
        sides: The slides, with `vendor scanner objective mpp` and the columns STAIN; blank where not known.

    Yields:
        A row for each measure.
    """
    for name in NAMES:
        yield _known_names(sides, name)
    yield from _resolution(sides)
    for name in STAIN:
        yield _stain_difference(sides, name)
    yield _stain_distance(sides)


def _known_names(sides: Sides, name: str) -> dict[str, Any]:
    """The share of slides whose scanner, vendor or objective the development cohorts have too."""
    labels = [table[name].fillna("").astype(str).str.strip() for table in (sides.development, sides.external)]
    own, other = (column.to_numpy() != "" for column in labels)
    side, measure = Counted(sides, own, other), f"{name}_known"
    if not other.any() or not own.any():
        whose = "no slide of the cohort" if not other.any() else "no development slide"
        return side.undefined(measure, f"{whose} says its {name}")
    patients = sides.development["patient_id"][own]
    owners = patients.groupby(labels[0][own]).nunique()
    # Of a development slide the patient's own slides do not count.
    elsewhere = (labels[0][own].map(owners) > 1).to_numpy()
    hits = labels[1][other].isin(owners.index).to_numpy()
    unseen = sorted(set(labels[1][other][~hits]))
    return side.row(
        measure,
        lambda _, weights: weighted_share(hits, weights),
        Expected(float(elsewhere.mean())),
        "",
        detail=f"not in development: {', '.join(unseen)}" if unseen else "",
        is_share=True,
    )


def _resolution(sides: Sides) -> Iterator[dict[str, Any]]:
    """The median resolution, its difference from development, and the share outside the development range."""
    own, other = (table["mpp"].to_numpy(float) for table in (sides.development, sides.external))
    side = Counted(sides, np.isfinite(own), np.isfinite(other))
    own, other = own[side.development], other[side.external]
    if not len(own) or not len(other):
        whose = "of the cohort" if not len(other) else "of development"
        for measure in ("mpp", "mpp_difference", "mpp_outside"):
            yield side.undefined(measure, f"the resolution of no slide {whose} is known")
        return
    low, high = float(own.min()), float(own.max())
    span = f"development: {low:g} to {high:g} um/px"
    middle = float(np.median(own))
    yield side.row("mpp", lambda _, weights: weighted_quantile(other, weights, 0.5), Expected(middle), "", detail=span)
    yield side.row(
        "mpp_difference",
        lambda w, weights: weighted_quantile(other, weights, 0.5) - weighted_quantile(own, w, 0.5),
        Expected(0.0),
        "",
    )
    outside = (other < low * (1 - MPP_MARGIN)) | (other > high * (1 + MPP_MARGIN))
    yield side.row(
        "mpp_outside",
        lambda _, weights: weighted_share(outside, weights),
        Expected(0.0),
        "",
        detail=span,
        is_share=True,
    )


def _measured(sides: Sides, names: tuple[str, ...]) -> tuple[Counted, Array, Array]:
    """The slides that have some measures, and their values (n, measures) on both sides."""
    own, other = (table[list(names)].to_numpy(float) for table in (sides.development, sides.external))
    side = Counted(sides, np.isfinite(own).all(1), np.isfinite(other).all(1))
    return side, own[side.development], other[side.external]


def _why_not_measured(side: Counted) -> str:
    if not side.external.any():
        return "measured on no slide of the cohort"
    return "" if side.development.any() else "measured on no development slide"


def _stain_difference(sides: Sides, name: str) -> dict[str, Any]:
    """The difference of the means over the standard deviation of the development slides (Glass 1976, Educ Res 5:3)."""
    side, own, other = _measured(sides, (name,))

    def difference(weights: Array, others: Array) -> Array:
        n = weights.sum(1)
        centred = own[:, 0] - own[:, 0].mean()
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = weights @ centred / n
            variance = (weights @ centred**2 - n * mean**2) / (n - 1)
            gap = others @ (other[:, 0] - own[:, 0].mean()) / others.sum(1) - mean
            return np.where(variance > 1e-12 * max(float((own**2).mean()), 1e-300), gap / np.sqrt(variance), np.nan)

    if why := _why_not_measured(side):
        return side.undefined(f"smd_{name}", why)
    return side.row(f"smd_{name}", difference, Expected(0.0), "it does not vary over the development slides")


def _stain_distance(sides: Sides) -> dict[str, Any]:
    """Distance of the mean stain (Mahalanobis 1936, Proc Natl Inst Sci India 2:49)."""
    side, own, other = _measured(sides, STAIN)
    why = _why_not_measured(side)
    if not why and len(own) < FEWEST_SLIDES:
        why = f"{len(own)} development slides have all measures, {FEWEST_SLIDES} are needed"
    if why:
        return side.undefined("stain_distance", why)
    varying = own.std(0) > 1e-9 * np.abs(own).mean(0)
    centre, spread = own[:, varying].mean(0), own[:, varying].std(0, ddof=1)
    own, other = (own[:, varying] - centre) / spread, (other[:, varying] - centre) / spread
    larger, smaller = side.splits()
    expected = side.expected(mahalanobis(own, larger, own, smaller) ** 2)
    return side.row(
        "stain_distance",
        lambda weights, others: mahalanobis(own, weights, other, others),
        Expected(*(None if end is None else end**0.5 for end in (expected.value, expected.low, expected.high))),
        "the measures do not vary over the development slides",
        detail=", ".join(name for name, kept in zip(STAIN, varying, strict=True) if kept),
        is_distance=True,
    )


def mahalanobis(own: Array, weights: Array, other: Array, others: Array) -> Array:
    """Mahalanobis distances of weighted means, by the covariance of the first side.

    Args:
        own: (n, k), of the order of 1.
        weights: (b, n).
        other: (m, k).
        others: (b, m).

    Returns:
        (b,); NaN where a side has too few rows.
    """
    if not own.shape[1]:
        return np.full(len(weights), np.nan)
    n, m = weights.sum(1), others.sum(1)
    enough = (n > own.shape[1] + 1) & (m > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = weights @ own / n[:, None]
        products = np.einsum("bn,nj,nk->bjk", weights, own, own)
        covariance = (products - n[:, None, None] * mean[:, :, None] * mean[:, None]) / (n - 1)[:, None, None]
        gap = others @ other / m[:, None] - mean
    found = np.full(len(weights), np.nan)
    # Directions without variance say nothing about how unusual a difference is.
    inverse = np.linalg.pinv(covariance[enough], rcond=1e-8, hermitian=True)
    squares = np.einsum("bj,bjk,bk->b", gap[enough], inverse, gap[enough])
    found[enough] = np.sqrt(np.maximum(squares, 0))
    return found


def slide_facts(slides: pd.DataFrame, inspections: Any, tissues: Any, resolutions: Any) -> pd.DataFrame:
    """Slides with what is known of their scanning and stain.

    Args:
        slides: `slide_id patient_id cohort ...`.
        inspections: `(cohort, slide_id)` -> inspection record.
        tissues: `(cohort, slide_id)` -> record of the tissue stage, of the slides that have one.
        resolutions: `(cohort, slide_id)` -> um/px that the feature store states.

    Returns:
        The slides with `vendor scanner objective mpp` and the columns STAIN; blank where not known.
    """
    rows = []
    for key in zip(slides["cohort"], slides["slide_id"], strict=True):
        record, quality = inspections.get(key) or {}, (tissues.get(key) or {}).get("quality") or {}
        stated = (record.get("mpp") or {}).get("value")
        named = {name: record.get(name) or "" for name in ("vendor", "scanner", "objective")}
        mpp = resolutions.get(key) if stated is None else stated
        rows.append({**named, "mpp": mpp, **{name: quality.get(name) for name in STAIN}})
    facts = pd.DataFrame(rows, columns=["vendor", "scanner", "objective", "mpp", *STAIN], index=slides.index)
    facts = facts.astype(dict.fromkeys(("mpp", *STAIN), float))
    return pd.concat([slides, facts], axis=1)
