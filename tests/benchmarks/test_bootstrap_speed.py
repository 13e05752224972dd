"""The clustered bootstrap over all replicates at once, against a loop over scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from slidestudy import statistics
from tests.benchmarks.timing import seconds

pytestmark = pytest.mark.bench
REPLICATES = 1000


@pytest.mark.parametrize(
    ("name", "ours", "reference", "library"),
    [
        ("AUROC", statistics.auroc, metrics.roc_auc_score, "scikit-learn"),
        ("average precision", statistics.average_precision, metrics.average_precision_score, "scikit-learn"),
        ("MSE", statistics.mean_squared_error, metrics.mean_squared_error, "scikit-learn"),
        ("Spearman", statistics.spearman, lambda y, p: stats.spearmanr(y, p).statistic, "scipy"),
    ],
)
def test_bootstrap_against_a_loop(name, ours, reference, library, table):
    """356 slides of 342 patients, as in ECTIL-TCGA, and the same draws for both."""
    rng = np.random.default_rng(0)
    patients = np.r_[np.arange(342), np.arange(14)]
    truth = rng.normal(size=356)
    prediction = (truth + rng.normal(size=356)).round(2)
    if name in ("AUROC", "average precision"):
        truth = (truth > 0.5).astype(float)
    weights = statistics.cluster_weights(patients, REPLICATES, 1)
    drawn = [np.repeat(np.arange(356), row.astype(int)) for row in weights]
    found: dict[str, np.ndarray] = {}

    def vectorised():
        found["ours"] = ours(truth, prediction, weights)

    def loop():
        found["loop"] = np.array([reference(truth[rows], prediction[rows]) for rows in drawn])

    times = seconds(vectorised), seconds(loop, repeats=1)
    np.testing.assert_allclose(found["ours"], found["loop"], rtol=1e-9, atol=1e-12)
    table.add(f"bootstrap of {name}, {REPLICATES} draws", *times, f"loop over {library}")
