"""The summary of faithfulness: means over patches, paired differences, and reasons where there is nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from slidestudy.explanations.attribution.summary import FAITHFULNESS, summarise

SETTINGS = {"bootstrap": 400, "confidence": 0.95, "seed": 1}


def rows(gain: float, patients: int = 12, each: int = 3) -> pd.DataFrame:
    """Insertion of one target whose maps gain so much over the random ones."""
    rng = np.random.default_rng(0)
    random = rng.normal(size=patients * each)
    return pd.DataFrame(
        {
            "patient_id": np.repeat([f"p{i}" for i in range(patients)], each),
            "target": "output",
            "measure": "insertion",
            "value": random + gain + rng.normal(0, 0.2, len(random)),
            "random_value": random,
        }
    )


def test_the_difference_is_paired_by_patch():
    table = summarise(rows(0.5), "gradcam", {}, SETTINGS)
    assert list(table.columns) == FAITHFULNESS
    row = table[(table["map"] == "gradcam_output") & (table["measure"] == "insertion")].iloc[0]
    known = rows(0.5)
    assert row["value"] == pytest.approx(known["value"].mean())
    assert row["difference"] == pytest.approx((known["value"] - known["random_value"]).mean())
    assert 0.3 < row["difference_ci_low"] < row["difference"] < row["difference_ci_high"] < 0.7
    # The values themselves scatter far more than the differences.
    assert row["ci_high"] - row["ci_low"] > 2 * (row["difference_ci_high"] - row["difference_ci_low"])
    assert row["p"] < 0.01
    assert (row["n"], row["n_patients"]) == (36, 12)


def test_no_gain_is_no_difference():
    row = summarise(rows(0.0), "gradcam", {}, SETTINGS).iloc[0]
    assert row["difference_ci_low"] < 0 < row["difference_ci_high"]
    assert row["p"] > 0.05


def test_what_is_undefined_is_blank_and_says_why():
    table = summarise(rows(0.5), "occlusion", {"attention": "the model defines no attention"}, SETTINGS)
    assert len(table) == 9
    row = table[table["map"] == "occlusion_attention"].iloc[0]
    assert row["undefined_reason"] == "the model defines no attention"
    assert pd.isna(row["value"])
    assert pd.isna(row["p_holm"])
    few = summarise(rows(0.5, patients=2), "occlusion", {}, SETTINGS).iloc[0]
    assert few["undefined_reason"] == "no interval: 2 patients"
    assert few["value"] is not None
    assert pd.isna(few["ci_low"])
