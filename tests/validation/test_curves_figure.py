"""ROC and precision-recall curves: the points that scikit-learn gives, areas of the metrics, bands over patients."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve, roc_curve
from tests.validation.made_predictions import MULTICLASS, SURVIVAL, of_classes, of_times

from slidestudy import statistics
from slidestudy.statistics import PatientDraws
from slidestudy.validation.curves_figure import GRID, PR, ROC, band, pr, pr_points, roc_points
from slidestudy.validation.study import validate
from slidestudy.validation.views import Cut

CASES = st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(1, 3)), min_size=4, max_size=40).filter(
    lambda rows: len({row[0] for row in rows}) == 2
)


def columns(rows):
    positive, score, weights = (np.array(column, float) for column in zip(*rows, strict=True))
    return positive, score, weights


@given(CASES)
def test_the_roc_curve_goes_through_the_points_of_scikit_learn(rows):
    positive, score, weights = columns(rows)
    found = roc_points(positive, score, weights[None])[0]
    x, y, _ = roc_curve(positive, score, sample_weight=weights)
    # At an upright part of the curve the upper end is meant.
    expected = [np.interp(at, x, y) if at not in x else y[x == at].max() for at in GRID]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@given(CASES)
def test_precision_is_that_of_the_first_threshold_that_reaches_the_recall(rows):
    positive, score, weights = columns(rows)
    found = pr_points(positive, score, weights[None])[0]
    thresholds = np.unique(score)[::-1]
    hits = np.array([weights[(score >= t) & (positive > 0)].sum() for t in thresholds])
    seen = np.array([weights[score >= t].sum() for t in thresholds])
    recall = hits / hits[-1]
    for at, precision in zip(GRID, found, strict=True):
        first = np.flatnonzero((recall >= at - 1e-12) & (recall > 0))[0]
        assert precision == pytest.approx(hits[first] / seen[first])


@given(CASES)
def test_the_area_under_the_drawn_curves_is_the_metric(rows):
    positive, score, weights = columns(rows)
    x, y = ROC.trace(positive, score, weights)
    assert np.trapezoid(y, x) == pytest.approx(statistics.auroc(positive, score, weights[None])[0])
    x, y = PR.trace(positive, score, weights)
    assert np.trapezoid(y, x) == pytest.approx(statistics.average_precision(positive, score, weights[None])[0])


@given(CASES)
def test_the_corners_of_a_precision_recall_curve_are_points_of_scikit_learn(rows):
    positive, score, weights = columns(rows)
    precision, recall, _ = precision_recall_curve(positive, score, sample_weight=weights)
    known = {(round(r, 9), round(p, 9)) for r, p in zip(recall, precision, strict=True)}
    x, y = PR.trace(positive, score, weights)
    assert {(round(r, 9), round(p, 9)) for r, p in zip(x[1::2], y[1::2], strict=True)} <= known


def cut_of(n: int, per_patient: int = 1) -> Cut:
    rng = np.random.default_rng(3)
    positive = pd.Series(rng.uniform(size=n) < 0.4)
    table = pd.DataFrame(
        {"prediction": positive + rng.normal(size=n), "patient_id": [f"p{i // per_patient}" for i in range(n)]}
    )
    return Cut(None, positive, table)


@pytest.mark.parametrize("kind", [ROC, PR], ids=["roc", "pr"])
def test_a_band_holds_the_quantiles_of_curves_drawn_one_by_one(kind):
    cut = cut_of(60, per_patient=2)
    draws = PatientDraws(cut.table["patient_id"], 250, 1)
    low, high = band(kind, cut, draws, 0.9)
    positive, score = cut.positive.to_numpy(float), cut.table["prediction"].to_numpy()
    curves = []
    for weights in draws.weights(cut.table["patient_id"]):
        rows = np.repeat(np.arange(60), weights.astype(int))
        curves.append(kind.points(positive[rows], score[rows], np.ones((1, len(rows))))[0])
    np.testing.assert_allclose(low, np.quantile(curves, 0.05, axis=0))
    np.testing.assert_allclose(high, np.quantile(curves, 0.95, axis=0))


def test_a_band_needs_three_patients():
    cut = cut_of(8, per_patient=4)
    assert band(ROC, cut, PatientDraws(cut.table["patient_id"], 100, 1), 0.95) is None


def texts(path, cohorts, settings) -> list[str]:
    metrics, _ = validate(cohorts, dict.fromkeys(cohorts, "external"), settings, None)
    pr(cohorts, metrics, settings, path)
    return ["".join(e.itertext()) for e in ElementTree.parse(path).getroot().iter("{http://www.w3.org/2000/svg}text")]


def test_the_legend_says_the_average_precision_of_the_metrics(tmp_path):
    table = of_classes(40)
    found = texts(tmp_path / "a.svg", {"north": table}, MULTICLASS)
    metrics, _ = validate({"north": table}, {"north": "external"}, MULTICLASS, None)
    rows = metrics.query("metric == 'average_precision' and level == 'slide'")
    assert len(rows) == 3
    for row in rows.itertuples():
        assert f"{row.target}: {row.value:.2f} ({row.ci_low:.2f} to {row.ci_high:.2f})" in found


def test_survival_has_no_precision_recall_curve(tmp_path):
    found = texts(tmp_path / "a.svg", {"north": of_times(30)}, {**SURVIVAL, "cutoffs": [12]})
    assert len(found) == 1
    assert "no precision-recall curve" in found[0]
