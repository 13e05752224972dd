"""The frozen patch sample: drawn with a seed over strata of the model's score, before any explanation is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from slidestudy.errors import StudyError
from slidestudy.files import digest

COVARIATE = "covariate"
"""Column of the value within which a sample is balanced, where it is."""
STRATA = ("very_high", "high_near", "low_near", "very_low")
SAMPLE = [
    "patch_id",
    "slide_id",
    "patient_id",
    "cohort",
    "x",
    "y",
    "mpp",
    "stratum",
    "score",
    "logit",
    "attention_logit",
]


@dataclass(frozen=True)
class PatchSample:
    """A frozen sample.

    Attributes:
        table: The columns of SAMPLE, one row per patch.
        threshold: The logit that divides high from low: the median over the reference tiles, or one that was
            published with the model.
        spread: SD of the reference tiles' logits, the unit of the strata's distances.
        digest: Digest of the patches, part of every result.
        threshold_published: Whether the threshold came with the model.
    """

    table: pd.DataFrame
    threshold: float
    spread: float
    digest: str
    threshold_published: bool = False


def assign_strata(logits: np.ndarray, threshold: float, unit: float, near: float) -> np.ndarray:
    """The stratum of each logit: within `near` units of the threshold, or beyond it, on either side."""
    distance = (logits - threshold) / unit
    conditions = [distance > near, distance > 0, distance > -near]
    return np.select(conditions, STRATA[:3], default=STRATA[3])


def sample_patches(
    reference: np.ndarray, tiles: pd.DataFrame, settings: dict[str, Any], threshold: float | None = None
) -> PatchSample:
    """Draws a sample balanced over strata and limited per slide.

    Args:
        reference: Tile logits that set the unit, and the threshold if none is given: of the development cohorts' test
            folds, or of the sampled cohorts where a study has only published weights.
        tiles: Candidates: `slide_id patient_id cohort x y mpp score logit attention_logit tissue_fraction`, and
            `covariate` where the sample is to be balanced within each of its values; tiles without one are left out.
        settings: `per_stratum max_per_slide near unit min_tissue seed`; `near` is in logits or in SD of the reference.
        threshold: The logit that divides high from low, where one was published with the model.

    Returns:
        The sample; strata with too few tiles give fewer patches, all strata the same number. With a covariate, which
        becomes a column, so does each of its values, and a stratum's patches are shared out between them.

    Raises:
        StudyError: A stratum has fewer than two tiles, so that nothing could be told apart, or the tiles' tissue
            fraction is unknown.
    """
    published, spread = threshold is not None, float(np.std(reference))
    if not np.isfinite(spread) or np.ptp(reference) == 0:
        raise StudyError("the model gives every tile the same score", "sample_patches", "look at its training curves")
    threshold = float(np.median(reference)) if threshold is None else float(threshold)
    candidates = _with_tissue(tiles, settings["min_tissue"])
    unit = 1.0 if settings["unit"] == "logit" else spread
    candidates["stratum"] = assign_strata(candidates["logit"].to_numpy(), threshold, unit, settings["near"])
    # A fixed order before the draw, so that the draw depends on the seed alone.
    candidates = candidates.sort_values(["cohort", "slide_id", "y", "x"], ignore_index=True)
    rng = np.random.default_rng(settings["seed"])
    candidates = candidates.iloc[rng.permutation(len(candidates))]
    limited = candidates.groupby(["stratum", "slide_id"], sort=False).head(settings["max_per_slide"])
    drawn = _balanced(limited, settings["per_stratum"])
    drawn["patch_id"] = [patch_name(row.slide_id, row.x, row.y, row.mpp) for row in drawn.itertuples()]
    table = drawn[SAMPLE + [name for name in (COVARIATE,) if name in drawn]].reset_index(drop=True)
    key = [[row.patch_id, row.stratum] for row in table.itertuples()]
    return PatchSample(table, threshold, spread, digest(key), published)


def _balanced(tiles: pd.DataFrame, per_stratum: int) -> pd.DataFrame:
    """Equally many tiles of each stratum, within each value of the covariate if there is one."""
    if COVARIATE not in tiles:
        return _even(tiles, per_stratum, "")
    values = sorted(tiles[COVARIATE].dropna().unique())
    if not values:
        remedy = "fill the column in, or set explanations.sample.strata_by: null"
        raise StudyError("no slide has a value in the column of strata_by", "sample_patches", remedy)
    parts = [_even(tiles[tiles[COVARIATE] == v], per_stratum // len(values), f" of the value '{v}'") for v in values]
    drawn = pd.concat(parts)
    return pd.concat([drawn[drawn["stratum"] == name] for name in STRATA])


def _even(tiles: pd.DataFrame, most: int, of: str) -> pd.DataFrame:
    """Equally many tiles of each stratum, the first in their order."""
    counts = tiles["stratum"].value_counts().reindex(STRATA, fill_value=0)
    each = int(min(counts.min(), most))
    if each < 2:
        if counts.min() >= 2:
            what, remedy = (
                f"per_stratum leaves {each} patches{of} in each stratum",
                "raise explanations.sample.per_stratum",
            )
            raise StudyError(what, "sample_patches", remedy)
        remedy = "draw from more cohorts, or lower explanations.sample.near, min_tissue or raise max_per_slide"
        if of:
            remedy += ", or set strata_by: null"
        what = f"the stratum {counts.idxmin()}{of} has {counts.min()} patches"
        raise StudyError(what, "sample_patches", remedy)
    return pd.concat([tiles[tiles["stratum"] == name].head(each) for name in STRATA])


def _with_tissue(tiles: pd.DataFrame, least: float) -> pd.DataFrame:
    """The tiles with enough tissue; where none is demanded, those of unknown tissue fraction too."""
    fractions = tiles["tissue_fraction"]
    if least == 0:
        return tiles.copy()
    if fractions.isna().all():
        what = "the tissue fraction of the tiles is unknown, as their features were imported without it"
        raise StudyError(what, "sample_patches", "set explanations.sample.min_tissue: 0")
    return tiles[fractions >= least].copy()


def patch_name(slide_id: str, x: int, y: int, mpp: float) -> str:
    """A patch's id, also its folder: `<slide>/<x>-<y>-<mpp>`."""
    return f"{slide_id}/{x}-{y}-{mpp:.1f}"
