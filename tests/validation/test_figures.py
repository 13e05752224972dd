"""Figures: valid SVG with the cohorts' names, the same bytes each time, whatever the cohorts lack."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from slidestudy.validation.figures import roc, scatter
from slidestudy.validation.study import validate

SETTINGS = {
    "task": "regression",
    "target": "tils",
    "cutoffs": [10, 30],
    "cutoff_rule": ">",
    "bootstrap": 50,
    "confidence": 0.95,
    "seed": 1,
    "truth_column": None,
}
SVG = "{http://www.w3.org/2000/svg}"
DRAWINGS = pytest.mark.parametrize("draw", [scatter, roc])


def cohort(n: int = 20, low: float = 0, high: float = 80) -> pd.DataFrame:
    rng = np.random.default_rng(n)
    target = rng.uniform(low, high, n)
    ids = [f"s{i}" for i in range(n)]
    return pd.DataFrame(
        {"slide_id": ids, "patient_id": ids, "prediction": target + rng.normal(0, 9, n), "target": target}
    )


COHORTS = {
    "north_1": cohort(),
    "one-class": cohort(12, 31, 80),
    "unlabelled": cohort(5).assign(target=np.nan),
}


def texts(draw, path, cohorts=COHORTS, settings=SETTINGS) -> list[str]:
    """Draws, and gives the texts of the figure."""
    metrics, _ = validate(cohorts, dict.fromkeys(cohorts, "external"), settings, None)
    draw(cohorts, metrics, settings, path)
    root = ElementTree.parse(path).getroot()
    assert root.tag == f"{SVG}svg"
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]


@DRAWINGS
def test_a_figure_names_each_cohort_with_its_number_of_labelled_slides(draw, tmp_path):
    found = texts(draw, tmp_path / "a.svg")
    for name, n in (("north_1", 20), ("one-class", 12), ("unlabelled", 0)):
        assert any(text.startswith(f"{name}, n = {n}") for text in found)
    assert [p.name for p in tmp_path.iterdir()] == ["a.svg"]


@DRAWINGS
def test_a_figure_drawn_twice_is_the_same_file(draw, tmp_path):
    texts(draw, tmp_path / "a.svg")
    texts(draw, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@DRAWINGS
def test_a_figure_shows_its_data(draw, tmp_path):
    texts(draw, tmp_path / "a.svg")
    moved = {**COHORTS, "north_1": COHORTS["north_1"].assign(prediction=lambda t: t["prediction"].to_numpy()[::-1])}
    texts(draw, tmp_path / "b.svg", moved)
    assert (tmp_path / "a.svg").read_bytes() != (tmp_path / "b.svg").read_bytes()


@DRAWINGS
def test_a_study_without_any_label_is_drawn(draw, tmp_path):
    assert any("unlabelled, n = 0" in t for t in texts(draw, tmp_path / "a.svg", {"unlabelled": COHORTS["unlabelled"]}))


def test_a_panel_says_the_value_of_the_metrics_table_or_that_it_is_undefined(tmp_path):
    metrics, _ = validate(COHORTS, dict.fromkeys(COHORTS, "external"), SETTINGS, None)
    pearson = metrics.query("cohort == 'north_1' and metric == 'pearson' and level == 'slide'").iloc[0]
    found = " ".join(texts(scatter, tmp_path / "a.svg"))
    assert f"Pearson r {pearson['value']:.2f} ({pearson['ci_low']:.2f} to {pearson['ci_high']:.2f})" in found
    assert "Pearson r undefined" in found


def test_a_cutoff_with_one_class_is_said_in_the_legend(tmp_path):
    found = texts(roc, tmp_path / "a.svg", {"one-class": COHORTS["one-class"]})
    assert [t for t in found if "undefined" in t] == ["> 10: undefined (one class)", "> 30: undefined (one class)"]


def test_every_cutoff_is_in_the_legend_however_many_there_are(tmp_path):
    settings = {**SETTINGS, "cutoffs": [5, 10, 20, 30, 40, 50, 60]}
    found = texts(roc, tmp_path / "a.svg", {"north_1": COHORTS["north_1"]}, settings)
    assert [t.split(":")[0] for t in found if t.startswith("> ")] == [f"> {c}" for c in settings["cutoffs"]]


def test_a_classifier_has_one_curve_without_a_cutoff(tmp_path):
    settings = {**SETTINGS, "task": "classification", "target": "mucinous"}
    table = cohort().assign(target=lambda t: (t["target"] > 40).astype(float))
    found = texts(roc, tmp_path / "a.svg", {"north_1": table}, settings)
    metrics, _ = validate({"north_1": table}, {"north_1": "external"}, settings, None)
    auroc = metrics.query("metric == 'auroc' and level == 'slide'")["value"].item()
    assert len([t for t in found if t.startswith(f"{auroc:.2f} (")]) == 1


def test_a_study_without_cutoffs_has_panels_without_a_legend(tmp_path):
    assert not any("AUROC" in t for t in texts(roc, tmp_path / "a.svg", settings={**SETTINGS, "cutoffs": []}))
