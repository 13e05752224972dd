"""The whole validation of one model, from its predictions to its tables and figures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from slidestudy.tables import write_table
from slidestudy.validation.agreement import agree
from slidestudy.validation.agreement_figure import draw_agreement
from slidestudy.validation.calibration_curves import calibrate
from slidestudy.validation.calibration_figure import draw_calibration
from slidestudy.validation.cohort_levels import cohort_levels
from slidestudy.validation.curves_figure import pr, roc
from slidestudy.validation.figures import scatter
from slidestudy.validation.forest_figure import draw_forest
from slidestudy.validation.pooling import pool_cohorts
from slidestudy.validation.study import validate

TABLES = ("metrics", "truth", "calibration", "calibration_fit", "calibration_curve", "agreement", "pooled")
"""Tables of a validation, each `<name>.tsv`."""
FIGURES = {
    "scatter": "scatter",
    "roc": "roc",
    "pr": "pr",
    "calibration_figure": "calibration",
    "bland_altman": "bland_altman",
    "forest": "forest",
}
"""Figures of a validation -> the file's name without its suffix."""
PNG = "_png"
"""What is added to a figure's name for its picture in pixels."""

Target = str | os.PathLike[str]


def output_paths(folder: Target) -> dict[str, Path]:
    """All that a validation writes, by name, in one folder."""
    home = Path(folder)
    paths = {name: home / f"{name}.tsv" for name in TABLES}
    for name, stem in FIGURES.items():
        paths |= {name: home / f"{stem}.svg", name + PNG: home / f"{stem}.png"}
    return paths


def run_validation(
    predictions: Mapping[str, pd.DataFrame],
    roles: Mapping[str, str],
    settings: dict[str, Any],
    truth: pd.DataFrame | None,
    outputs: Mapping[str, Target],
) -> pd.DataFrame:
    """Measures a model on every cohort and writes what was found.

    Args:
        predictions: Cohort -> predictions, as `models.cohort.predict_cohort` gives them.
        roles: Cohort -> `development` or `external`.
        settings: The model's validation settings.
        truth: The table of true values of generated slides, or None.
        outputs: The files that are wanted, by the names of `output_paths`.

    Returns:
        The metrics.

    Raises:
        StudyError: The truth does not go with the model.
    """
    metrics, against_truth = validate(predictions, roles, settings, truth)

    def files(figure: str) -> list[Target]:
        return [outputs[name] for name in (figure, figure + PNG) if name in outputs]

    scatter(predictions, metrics, settings, *files("scatter"))
    roc(predictions, metrics, settings, *files("roc"))
    pr(predictions, metrics, settings, *files("pr"))
    levels = cohort_levels(predictions, roles, settings)
    calibration, agreement = calibrate(levels, settings), agree(levels, settings)
    pooled = pool_cohorts(levels, settings)
    draw_calibration(calibration, list(predictions), settings, *files("calibration_figure"))
    draw_agreement(predictions, agreement, settings, *files("bland_altman"))
    draw_forest(metrics, pooled, settings, *files("forest"))
    tables = {
        "calibration": calibration.bins,
        "calibration_fit": calibration.fits,
        "calibration_curve": calibration.curves,
        "agreement": agreement,
        "pooled": pooled,
        "truth": against_truth,
        "metrics": metrics,
    }
    for name, table in tables.items():
        if name in outputs:
            write_table(outputs[name], table)
    return metrics
