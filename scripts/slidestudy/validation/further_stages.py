"""What a validation has besides, where it is configured: survival analysis, and the model in groups of slides."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from slidestudy.tables import write_table
from slidestudy.validation.cox import analyse_endpoints
from slidestudy.validation.hazard_ratio_figure import draw_hazard_ratios
from slidestudy.validation.kaplan_meier import CUTOFFS, MEDIAN, split_endpoints
from slidestudy.validation.kaplan_meier_figure import draw_kaplan_meier
from slidestudy.validation.subgroup_figure import draw_subgroups
from slidestudy.validation.subgroups import measure_subgroups
from slidestudy.validation.survival_rows import endpoint_rows, sizes

Outputs = Mapping[str, str | os.PathLike[str]]
SURVIVAL = {
    "cox": "cox.tsv",
    "cox_tests": "cox_tests.tsv",
    "hazard_ratios": "hazard_ratios.svg",
    "hazard_ratios_png": "hazard_ratios.png",
    "kaplan_meier": "kaplan_meier.tsv",
    "kaplan_meier_curves": "kaplan_meier_curves.tsv",
    "logrank": "logrank.tsv",
    "kaplan_meier_figure": "kaplan_meier.svg",
    "kaplan_meier_png": "kaplan_meier.png",
    "kaplan_meier_median": "kaplan_meier_median.svg",
    "kaplan_meier_median_png": "kaplan_meier_median.png",
}
"""Files of a survival analysis, by their names among the outputs."""
SUBGROUPS = {
    "subgroups": "subgroups.tsv",
    "tests": "subgroup_tests.tsv",
    "figure": "subgroups.svg",
    "figure_png": "subgroups.png",
}
"""Files of the groups, likewise."""


def further_paths(folder: str | os.PathLike[str], names: Mapping[str, str]) -> dict[str, Path]:
    """All files of a stage, SURVIVAL or SUBGROUPS, in one folder."""
    return {name: Path(folder) / file for name, file in names.items()}


def run_survival(
    predictions: Mapping[str, pd.DataFrame],
    roles: Mapping[str, str],
    tables: Mapping[str, pd.DataFrame],
    settings: dict[str, Any],
    outputs: Outputs,
) -> pd.DataFrame:
    """Relates a model's predictions, and the scores beside them, to the time until the event, and writes all of it.

    Args:
        predictions: Cohort -> predictions, as `models.cohort.predict_cohort` gives them.
        roles: Cohort -> `development` or `external`.
        tables: Endpoint -> its patients, as `survival_rows.load_endpoint` reads them.
        settings: `settings/survival.<model>.yaml`.
        outputs: The files, by the names of SURVIVAL.

    Returns:
        The Cox models.
    """
    endpoints = settings["endpoints"]
    rows = {name: endpoint_rows(predictions, tables[name], endpoint) for name, endpoint in endpoints.items()}
    patients = {name: sizes(tables[name]) for name in endpoints}
    cox, cox_tests = analyse_endpoints(rows, patients, roles, settings)
    draw_hazard_ratios(cox, settings, outputs["hazard_ratios"], outputs["hazard_ratios_png"])
    found = split_endpoints(rows, patients, roles, settings)
    draw_kaplan_meier(found.splits, CUTOFFS, outputs["kaplan_meier_figure"], outputs["kaplan_meier_png"])
    draw_kaplan_meier(found.splits, MEDIAN, outputs["kaplan_meier_median"], outputs["kaplan_meier_median_png"])
    written = {
        "kaplan_meier": found.survival,
        "kaplan_meier_curves": found.curves,
        "logrank": found.tests,
        "cox_tests": cox_tests,
        "cox": cox,
    }
    for name, table in written.items():
        write_table(outputs[name], table)
    return cox


def run_subgroups(
    predictions: Mapping[str, pd.DataFrame],
    roles: Mapping[str, str],
    groups: pd.DataFrame,
    settings: dict[str, Any],
    outputs: Outputs,
) -> pd.DataFrame:
    """Measures a model in every group of slides, and writes what was found.

    Args:
        predictions: Cohort -> predictions, as `models.cohort.predict_cohort` gives them.
        roles: Cohort -> `development` or `external`.
        groups: `slide_id cohort column group`.
        settings: `settings/subgroups.<model>.yaml`.
        outputs: The files, by the names of SUBGROUPS.

    Returns:
        The metrics of the groups.
    """
    found, tests = measure_subgroups(predictions, roles, groups, settings)
    draw_subgroups(found, tests, settings, outputs["figure"], outputs["figure_png"])
    write_table(outputs["tests"], tests)
    write_table(outputs["subgroups"], found)
    return found
