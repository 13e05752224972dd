"""Figures: valid SVG with the cohorts' names, the same bytes each time, whatever the cohorts lack."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from tests.validation.made_predictions import CLASSES, MULTICLASS, SURVIVAL, of_classes, of_targets, of_times, several

from slidestudy.validation.curves_figure import pr, roc
from slidestudy.validation.figures import scatter
from slidestudy.validation.study import validate
from slidestudy.validation.task_figures import confusion

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
DRAWINGS = pytest.mark.parametrize("draw", [scatter, roc, pr])


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


def words(draw, path, cohorts, settings) -> str:
    return " | ".join(texts(draw, path, cohorts, settings))


TASKS = {
    "multiclass": (MULTICLASS, lambda n: of_classes(n, seed=n)),
    "few-targets": (several(["A", "B"], cutoffs=[0.5]), lambda n: of_targets(n, ["A", "B"])),
    "many-targets": (several([f"G{i}" for i in range(12)]), lambda n: of_targets(n, [f"G{i}" for i in range(12)])),
    "hundreds": (several([f"G{i}" for i in range(70)]), lambda n: of_targets(n, [f"G{i}" for i in range(70)])),
    "survival": ({**SURVIVAL, "cutoffs": [12, 36]}, of_times),
}


@pytest.mark.parametrize("name", TASKS)
def test_figures_of_every_task_name_the_cohorts_and_are_the_same_when_drawn_twice(name, tmp_path):
    options, make = TASKS[name]
    blank = make(5).assign(**dict.fromkeys(options["columns"], np.nan))
    cohorts = {"north_1": make(30), "unlabelled": blank, "empty": make(5)[:0]}
    for draw in (scatter, roc, pr):
        found = words(draw, tmp_path / "a.svg", cohorts, options)
        if "ROC curve" not in found and "precision-recall curve" not in found:
            assert all(f"{cohort}, n = " in found for cohort in cohorts)
            assert "north_1, n = 30" in found
            assert "unlabelled, n = 0" in found
        words(draw, tmp_path / "b.svg", cohorts, options)
        assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("name", TASKS)
def test_figures_of_every_task_show_their_data(name, tmp_path):
    options, make = TASKS[name]
    drawn = set()
    for seed in (30, 31):
        words(scatter, tmp_path / "a.svg", {"north": make(seed)[:25]}, options)
        drawn.add((tmp_path / "a.svg").read_bytes())
    assert len(drawn) == 2


@pytest.mark.parametrize("name", TASKS)
def test_a_study_of_which_nothing_was_predicted_is_drawn(name, tmp_path):
    options, make = TASKS[name]
    for draw in (scatter, roc, pr):
        assert texts(draw, tmp_path / "a.svg", {"north": make(5)[:0]}, options)


def test_the_table_of_classes_counts_slides_and_keeps_classes_that_the_model_does_not_know():
    table = of_classes(40).replace({"target": {"normal": "lymphoma"}})
    found = confusion(table, [*CLASSES, "lymphoma"], CLASSES)
    assert found.shape == (4, 3)
    for truth in (*CLASSES, "lymphoma"):
        for predicted in CLASSES:
            counted = ((table["target"] == truth) & (table["prediction"] == predicted)).sum()
            assert found.loc[truth, predicted] == counted
    assert found.loc["normal"].sum() == 0


def test_each_class_has_a_curve(tmp_path):
    found = words(roc, tmp_path / "a.svg", {"north": of_classes(40)}, MULTICLASS)
    assert all(f"{name}: 0." in found or f"{name}: 1." in found for name in CLASSES)


def test_events_and_censored_times_are_told_apart_and_each_time_has_a_curve(tmp_path):
    table = of_times(40)
    found = words(scatter, tmp_path / "a.svg", {"north": table}, SURVIVAL)
    assert f"north, n = 40, {int(table['event'].sum())} with an event" in found
    assert "censored" in found
    found = words(roc, tmp_path / "b.svg", {"north": table}, {**SURVIVAL, "cutoffs": [12, 36]})
    assert "event by 12: " in found
    assert "event by 36: " in found


@pytest.mark.parametrize(("task", "word"), [("survival", "cut-off times"), ("regression", "cut-offs")])
def test_without_cutoffs_a_panel_says_so(task, word, tmp_path):
    table, options = (of_times(10), SURVIVAL) if task == "survival" else (cohort(), {**SETTINGS, "cutoffs": []})
    assert texts(roc, tmp_path / "a.svg", {"north": table}, options) == [
        f"no {word} are configured, so there is no ROC curve"
    ]


def test_a_few_targets_are_all_named_and_of_hundreds_the_ends(tmp_path):
    for name, count in (("many-targets", 12), ("hundreds", 70)):
        options, make = TASKS[name]
        table = make(40)
        found = texts(scatter, tmp_path / f"{name}.svg", {"north": table}, options)
        metrics, _ = validate({"north": table}, {"north": "external"}, options, None)
        rows = metrics.query("metric == 'pearson' and level == 'slide'")
        order = rows.sort_values("value", ascending=False)["target"]
        named = [target for target in order if any(text.split(" ")[0] == target for text in found)]
        assert named == (list(order) if count == 12 else [*order[:10], *order[-10:]])


def test_the_roc_curves_of_many_targets_are_not_drawn(tmp_path):
    options, make = TASKS["many-targets"]
    found = words(roc, tmp_path / "a.svg", {"north": make(20)}, {**options, "cutoffs": [0.0]})
    assert "ROC curves of 12 targets are not drawn" in found
