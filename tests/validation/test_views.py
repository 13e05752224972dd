"""Views: which truth stands beside which prediction, for every task, per slide and per patient."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tests.validation.made_predictions import (
    CLASSES,
    MULTICLASS,
    SURVIVAL,
    of_classes,
    of_targets,
    of_times,
    settings,
    several,
)

from slidestudy.validation.views import classes_of, cuts, of_several_labels, views


def test_each_class_is_compared_with_the_rest_by_its_own_probability():
    table = of_classes(20)
    table.loc[3, "target"] = None
    found = views(table, MULTICLASS)
    assert [view.target for view in found] == list(CLASSES) == classes_of(table)
    for view in found:
        assert view.kind == "binary"
        assert view.table["slide_id"].tolist() == table["slide_id"].drop(3).tolist()
        own = table.set_index("slide_id").loc[view.table["slide_id"]]
        assert view.table["truth"].tolist() == (own["target"] == view.target).astype(float).tolist()
        assert view.table["prediction"].tolist() == own[f"probability.{view.target}"].tolist()


def test_classes_that_are_numbers_are_found_by_their_name():
    table = of_classes(20, classes=("1", "2"))
    read_back = table.assign(target=table["target"].astype(float))
    for one, other in zip(views(table, MULTICLASS), views(read_back, MULTICLASS), strict=True):
        assert one.table["truth"].sum() > 0
        pd.testing.assert_frame_equal(one.table, other.table)


def test_each_of_several_targets_has_the_slides_that_have_its_label():
    table = of_targets(10, ["A", "B"])
    table.loc[[0, 4], "B"] = np.nan
    first, second = views(table, several(["A", "B"]))
    assert (first.target, first.kind, len(first.table)) == ("A", "continuous", 10)
    assert (second.target, len(second.table)) == ("B", 8)
    assert second.table["prediction"].tolist() == table["prediction.B"].drop([0, 4]).tolist()
    assert second.table["truth"].tolist() == table["B"].drop([0, 4]).tolist()


@pytest.mark.parametrize("column", ["time", "event", "prediction"])
def test_a_slide_without_time_event_or_risk_is_left_out(column):
    table = of_times(10)
    table.loc[2, column] = np.nan
    (view,) = views(table, SURVIVAL)
    assert (view.target, view.kind) == ("", "survival")
    assert view.table["slide_id"].tolist() == table["slide_id"].drop(2).tolist()
    assert view.table["event"].tolist() == table["event"].drop(2).tolist()


@pytest.mark.parametrize(
    ("table", "options"),
    [
        (of_classes(8, per_patient=2), MULTICLASS),
        (of_targets(8, ["A", "B"], per_patient=2), several(["A", "B"])),
        (of_times(8, per_patient=2), SURVIVAL),
    ],
)
def test_a_patient_has_the_mean_of_the_slides(table, options):
    for view in views(table, options):
        patients = view.per_patient().table
        assert len(patients) == 4
        for name in ("truth", "prediction"):
            expected = view.table.groupby("patient_id")[name].mean()
            assert patients.set_index("patient_id")[name].tolist() == pytest.approx(expected.tolist())


def test_a_patients_prediction_of_a_target_is_that_of_the_slides_with_its_label():
    table = of_targets(2, ["A", "B"], per_patient=2)
    table.loc[0, "A"] = np.nan
    patient = views(table, several(["A", "B"]))[0].per_patient().table
    assert patient["prediction"].item() == table.loc[1, "prediction.A"]


def test_patients_whose_slides_differ_in_class_or_time_are_named():
    table = of_classes(9, per_patient=3)
    table["target"] = ["normal", "adenoma", None, "normal", "normal", "normal", "adenoma", "adenoma", None]
    assert of_several_labels(table, MULTICLASS) == ["s-p000"]
    times = of_times(6, per_patient=2)
    times.loc[0, "time"] += 1
    times.loc[2, "event"] = 1 - times.loc[3, "event"]
    assert of_several_labels(times, SURVIVAL) == ["s-p000", "s-p001"]
    assert of_several_labels(of_targets(6, ["A"], per_patient=2), several(["A"])) == []


def test_cutoffs_are_thresholds_of_a_number_and_times_of_survival():
    numbers = views(of_targets(30, ["A", "B"]), several(["A", "B"]))[0]
    found = cuts(numbers, several(["A", "B"], cutoffs=[-0.5, 0.5]))
    assert [cut.threshold for cut in found] == [-0.5, 0.5]
    assert found[1].positive.tolist() == (numbers.table["truth"] > 0.5).tolist()
    table = of_times(40)
    (cut,) = cuts(views(table, SURVIVAL)[0], {**SURVIVAL, "cutoffs": [20]})
    known = ~((table["time"] < 20) & (table["event"] == 0))
    assert cut.table["slide_id"].tolist() == table.loc[known, "slide_id"].tolist()
    assert cut.positive.tolist() == ((table["time"] <= 20) & (table["event"] == 1))[known].tolist()
    assert 0 < len(cut.table) < len(table)
    # Cases count for those who were censored before them, controls all alike.
    assert (cut.weights[~cut.positive] == 1).all()
    assert (cut.weights[cut.positive] >= 1).all()
    assert cut.weights.max() > 1


@pytest.mark.parametrize(
    "options", [MULTICLASS, SURVIVAL, several(["A", "B"]), settings("regression"), settings("classification")]
)
def test_a_cohort_without_predictions_has_views_without_rows(options):
    nothing = pd.DataFrame(columns=["slide_id", "patient_id", "center", "fold", "prediction", "target"])
    assert [len(view.table) for view in views(nothing, options)] in ([], [0], [0, 0])
    assert of_several_labels(nothing, options) == []
