"""Figures of calibration, agreement and pooling: valid SVG that names cohorts and numbers, the same bytes each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from tests.validation.made_predictions import (
    MULTICLASS,
    SURVIVAL,
    ids,
    of_classes,
    of_targets,
    of_times,
    settings,
    several,
)

from slidestudy.validation.agreement import agree
from slidestudy.validation.agreement_figure import draw_agreement
from slidestudy.validation.calibration_curves import calibrate
from slidestudy.validation.calibration_figure import draw_calibration
from slidestudy.validation.cohort_levels import cohort_levels
from slidestudy.validation.forest_figure import draw_forest
from slidestudy.validation.pooling import pool_cohorts
from slidestudy.validation.study import validate

SVG = "{http://www.w3.org/2000/svg}"
ROLES = {"north_1": "development", "south": "external", "east": "external"}
NAMES = ("calibration", "bland_altman", "forest")


def regression(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(n)
    target = rng.uniform(0, 80, n)
    return ids(n).assign(prediction=target + rng.normal(0, 25, n), target=target)


def probabilities(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(n)
    p = rng.random(n)
    return ids(n).assign(prediction=p, target=(rng.random(n) < p).astype(float))


FEW: dict[str, Any] = {"bootstrap": 40}
TASKS: dict[str, tuple[dict[str, Any], Any]] = {
    "regression": (settings("regression", **FEW, target_range=[0, 100], cutoffs=[30, 50], target="tils"), regression),
    "unbounded": (settings("regression", **FEW, target_range=None), regression),
    "classification": (settings("classification", **FEW, target_range=[0, 1]), probabilities),
    "multiclass": ({**MULTICLASS, **FEW}, lambda n: of_classes(n, seed=n)),
    "few-targets": (several(["A", "B"], **FEW), lambda n: of_targets(n, ["A", "B"])),
    "many-targets": (several([f"G{i}" for i in range(8)], **FEW), lambda n: of_targets(n, [f"G{i}" for i in range(8)])),
    "survival": ({**SURVIVAL, **FEW, "cutoffs": [12]}, of_times),
}
EVERY_TASK = pytest.mark.parametrize("task", TASKS)


def draw(folder: Path, cohorts: dict[str, pd.DataFrame], options: dict[str, Any]) -> dict[str, str]:
    """Draws all figures, and gives the texts of each."""
    folder.mkdir(exist_ok=True)
    levels = cohort_levels(cohorts, ROLES, options)
    metrics, _ = validate(cohorts, ROLES, options, None)
    draw_calibration(calibrate(levels, options), list(cohorts), options, folder / "calibration.svg")
    draw_agreement(cohorts, agree(levels, options), options, folder / "bland_altman.svg")
    draw_forest(metrics, pool_cohorts(levels, options), options, folder / "forest.svg")
    found = {}
    for name in NAMES:
        root = ElementTree.parse(folder / f"{name}.svg").getroot()
        assert root.tag == f"{SVG}svg"
        found[name] = " | ".join("".join(element.itertext()) for element in root.iter(f"{SVG}text"))
    assert sorted(p.stem for p in folder.iterdir()) == sorted(NAMES)
    return found


def cohorts_of(task: str, n: int = 40) -> dict[str, pd.DataFrame]:
    return {name: TASKS[task][1](n + k) for k, name in enumerate(ROLES)}


@EVERY_TASK
def test_figures_of_every_task_are_the_same_when_drawn_twice_and_show_no_nan(task, tmp_path):
    for name in ("a", "b"):
        found = draw(tmp_path / name, cohorts_of(task), TASKS[task][0])
    assert not any("nan" in text for text in found.values())
    for name in NAMES:
        assert (tmp_path / "a" / f"{name}.svg").read_bytes() == (tmp_path / "b" / f"{name}.svg").read_bytes()


@EVERY_TASK
def test_cohorts_without_labels_or_predictions_are_drawn(task, tmp_path):
    options, make = TASKS[task]
    blank = make(12).assign(**dict.fromkeys(options["columns"], np.nan))
    found = draw(tmp_path, {"north_1": make(30), "south": blank, "east": make(12)[:0]}, options)
    assert "undefined" in found["forest"]
    assert "not pooled" in found["forest"]
    draw(tmp_path, {"north_1": make(12)[:0]}, options)


def test_panels_name_cohorts_sizes_and_the_numbers_of_the_tables(tmp_path):
    options, cohorts = TASKS["regression"][0], cohorts_of("regression")
    found = draw(tmp_path, cohorts, options)
    levels = cohort_levels(cohorts, ROLES, options)
    for k, name in enumerate(ROLES):
        assert f"{name}, n = {40 + k}" in found["calibration"]
        assert f"{name}, n = {40 + k}" in found["bland_altman"]
        assert f"{name} ({ROLES[name]})" in found["forest"]
    slides = calibrate(levels, options).fits.query("level == 'slide' and statistic == 'slope'")
    for row in slides.itertuples():
        assert f"slope {row.value:.2f} ({row.ci_low:.2f} to {row.ci_high:.2f})" in found["calibration"]
    for value in agree(levels, options).query("level == 'slide' and statistic == 'upper_limit'")["value"]:
        assert f"{value:.3g}" in found["bland_altman"]
    for row in pool_cohorts(levels, options).query("level == 'slide' and effect == 'random'").itertuples():
        if row.metric in ("pearson", "auroc"):
            assert f"{row.value:.2f} ({row.ci_low:.2f} to {row.ci_high:.2f})" in found["forest"]
            assert f"I² = {row.i2:.0%}" in found["forest"]
    assert "AUROC, > 30" in found["forest"]


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_shows_its_data(name, tmp_path):
    options, cohorts = TASKS["regression"][0], cohorts_of("regression")
    draw(tmp_path / "a", cohorts, options)
    turned = cohorts["south"].assign(prediction=lambda t: t["prediction"].to_numpy()[::-1])
    draw(tmp_path / "b", {**cohorts, "south": turned}, options)
    assert (tmp_path / "a" / f"{name}.svg").read_bytes() != (tmp_path / "b" / f"{name}.svg").read_bytes()


def test_with_one_external_cohort_the_forest_shows_the_cohorts_alone(tmp_path):
    cohorts = cohorts_of("classification")
    del cohorts["east"]
    found = draw(tmp_path, cohorts, TASKS["classification"][0])["forest"]
    assert "south (external)" in found
    assert "effect" not in found


@pytest.mark.parametrize(
    ("task", "name", "words"),
    [
        ("survival", "calibration", "calibration is not drawn for task survival-cox"),
        ("survival", "bland_altman", "limits of agreement are of numbers"),
        ("classification", "bland_altman", "limits of agreement are of numbers"),
        ("many-targets", "bland_altman", "agreement of 8 targets is not drawn"),
    ],
)
def test_what_is_not_drawn_is_said(task, name, words, tmp_path):
    assert words in draw(tmp_path, cohorts_of(task), TASKS[task][0])[name]
