"""The faithfulness of maps over patches, against random maps on the same patches, with patient-clustered intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slidestudy.attribution_kinds import TARGETS
from slidestudy.difference_statistics import difference_of_draws, holm
from slidestudy.statistics import PatientDraws, measure

Array = NDArray[np.float64]
MEASURES = ("insertion", "deletion", "infidelity")
FAITHFULNESS = [
    "map", "measure", "value", "ci_low", "ci_high", "random_value", "difference", "difference_ci_low",
    "difference_ci_high", "p", "p_holm", "n", "n_patients", "undefined_reason",
]  # fmt: skip
NOT_MEASURED = "no patch could be measured"


def summarise(
    rows: pd.DataFrame, method: str, undefined: Mapping[str, str], settings: Mapping[str, Any]
) -> pd.DataFrame:
    """One row per map and measure: the mean over patches, that of random maps, and the paired difference.

    Args:
        rows: `patient_id target measure value random_value`, one row per patch, target and measure.
        method: `gradcam` or `occlusion`.
        undefined: Target -> why it has no map.
        settings: `bootstrap confidence seed`.

    Returns:
        The columns of FAITHFULNESS.
    """
    draws = PatientDraws(rows["patient_id"], settings["bootstrap"], settings["seed"])
    found = []
    for target in TARGETS:
        for kind in MEASURES:
            part = rows[(rows["target"] == target) & (rows["measure"] == kind)]
            row = {"map": f"{method}_{target}", "measure": kind}
            found.append({**row, **_row(part, draws, undefined.get(target, ""), settings["confidence"])})
    table = pd.DataFrame(found, columns=FAITHFULNESS)
    table["p_holm"] = holm([None if pd.isna(p) else float(p) for p in table["p"]])
    return table


def _row(part: pd.DataFrame, draws: PatientDraws, reason: str, confidence: float) -> dict[str, Any]:
    """The mean, that of the random maps, and their difference."""
    part = part[part["value"].notna() & part["random_value"].notna()]
    patients = part["patient_id"].to_numpy()
    row: dict[str, Any] = {"n": len(part), "n_patients": len(np.unique(patients))}
    if not len(part):
        return {**row, "undefined_reason": reason or NOT_MEASURED}
    values, chance = part["value"].to_numpy(float), part["random_value"].to_numpy(float)
    estimate, _ = measure(_mean, values, values, patients, draws, confidence)
    difference = float((values - chance).mean())
    moved = _mean(values - chance, values, draws.weights(patients))
    told = difference_of_draws(difference, moved, len(part), row["n_patients"], confidence)
    return {
        **row,
        "value": estimate.value,
        "ci_low": estimate.ci_low,
        "ci_high": estimate.ci_high,
        "random_value": float(chance.mean()),
        "difference": difference,
        "difference_ci_low": told["ci_low"],
        "difference_ci_high": told["ci_high"],
        "p": told["p"],
        "undefined_reason": estimate.undefined_reason or told["undefined_reason"],
    }


def _mean(values: Array, _: Array, weights: Array) -> Array:
    """The weighted mean, (b,)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return weights @ values / weights.sum(1)
