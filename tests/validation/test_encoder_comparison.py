"""The encoder comparison: one set of folds, nothing chosen on test slides, and the better encoder comes out better."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from tests.validation.candidates import (
    NOISE,
    ROLES,
    SETTINGS,
    SIZES,
    TABLES,
    compared,
    label_table,
    write_candidates,
)

from slidestudy.errors import StudyError
from slidestudy.features.slide_encoders.identity import SlideEncoderIdentity
from slidestudy.features.slide_encoders.store import write_slide_features
from slidestudy.models.splits import check_disjoint
from slidestudy.tables import load_table
from slidestudy.validation.encoder_comparison import (
    biological_classes,
    measure,
    probe_candidate,
    read_candidates,
    stores_by_candidate,
)
from slidestudy.validation.measuring import BINARY, CONTINUOUS, DELONG, PROBABILITIES
from slidestudy.validation.metrics import cohort_metrics
from slidestudy.validation.paired_differences import holm


@pytest.fixture(scope="module")
def labels() -> pd.DataFrame:
    return label_table()


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory, labels: pd.DataFrame) -> dict[str, list[Path]]:
    return write_candidates(tmp_path_factory.mktemp("features"), labels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, paths: dict[str, list[Path]], labels: pd.DataFrame) -> Path:
    return compared(tmp_path_factory.mktemp("results") / "c", paths, labels)


@pytest.fixture(scope="module")
def tables(folder: Path) -> dict[str, pd.DataFrame]:
    return {name: load_table(folder / f"{name}.tsv") for name in TABLES}


def value(metrics: pd.DataFrame, candidate: str, probe: str, cohort: str, metric: str = "pearson") -> float:
    found = metrics.query("candidate == @candidate and probe == @probe and cohort == @cohort and metric == @metric")
    return float(found[found["level"] == "slide"]["value"].item())


# What is found


@pytest.mark.parametrize("probe", ["linear", "neighbours"])
@pytest.mark.parametrize("cohort", list(ROLES))
def test_the_encoder_that_carries_the_signal_beats_the_one_that_does_not(tables, probe, cohort):
    found = [value(tables["metrics"], name, probe, cohort) for name in NOISE]
    assert found[0] > 0.8
    assert found[0] > found[1] > found[2]
    differences = tables["differences"].query("candidate == 'blind' and probe == @probe and cohort == @cohort")
    row = differences.query("metric == 'pearson' and level == 'slide'").iloc[0]
    assert row["reference"] == "sharp"
    assert row["difference"] == pytest.approx(found[2] - found[0])
    assert row["ci_high"] < 0
    assert row["p"] < 0.05


def test_the_robustness_index_follows_the_signal_too(tables):
    found = tables["robustness"].set_index(["candidate", "scope"])["index"]
    for scope in ("development", "all"):
        assert found["sharp", scope] > found["blind", scope]


def test_classes_are_compared_by_auroc(tmp_path):
    labels = label_table("classification")
    result = compared(tmp_path / "c", write_candidates(tmp_path, labels), labels, task="classification")
    metrics = load_table(result / "metrics.tsv")
    assert set(metrics["metric"]) == {*BINARY, DELONG, *PROBABILITIES}
    assert value(metrics, "sharp", "linear", "south", "auroc") > 0.9
    assert abs(value(metrics, "blind", "linear", "south", "auroc") - 0.5) < 0.3
    assert set(load_table(result / "robustness.tsv")["classes"]) == {"classes of tils"}


# Folds and predictions


def test_all_candidates_share_one_set_of_folds_without_overlap(tables, labels):
    check_disjoint(tables["splits"], labels, "patient")
    tested = tables["splits"].query("part == 'test'")["slide_id"]
    assert sorted(tested) == sorted(labels.loc[labels["cohort"] == "north", "slide_id"])
    for _, part in tables["predictions"].groupby(["candidate", "probe"]):
        own = part[part["cohort"] == "north"].set_index("slide_id")["fold"].astype(int)
        of_test = tables["splits"].query("part == 'test'").set_index("slide_id")["fold"]
        pd.testing.assert_series_equal(own.sort_index(), of_test.sort_index(), check_names=False, check_dtype=False)


def test_every_slide_is_predicted_once_and_external_ones_by_all_folds(tables, labels):
    for _, part in tables["predictions"].groupby(["candidate", "probe"]):
        assert sorted(part["slide_id"]) == sorted(labels["slide_id"])
        assert set(part.loc[part["cohort"] == "south", "fold"]) == {"ensemble"}


def test_folds_by_centre_share_no_centre(paths, labels, tmp_path):
    result = compared(tmp_path / "c", paths, labels, group_by="center")
    check_disjoint(load_table(result / "splits.tsv"), labels, "center")


def test_an_external_slide_of_a_development_patient_is_predicted_by_the_fold_that_tested_on_the_patient(
    paths, labels, tmp_path
):
    moved = labels.copy()
    moved.loc[moved["slide_id"] == "south-03-1", "patient_id"] = "north-05"
    predictions = load_table(compared(tmp_path / "c", paths, moved) / "predictions.tsv")
    fold = predictions.query("patient_id == 'north-05'").groupby("slide_id")["fold"].first()
    assert fold["south-03-1"] == fold["north-05-0"]


@pytest.mark.parametrize("candidate", ["sharp", "vague"])
def test_shuffled_test_labels_change_no_choice_and_no_prediction_of_that_fold(paths, labels, tables, candidate):
    candidates = read_candidates(paths, labels)
    splits = tables["splits"]
    before = probe_candidate(candidate, candidates.vectors[candidate], candidates.table, splits, SETTINGS)
    tested = splits.query("part == 'test' and fold == 1")["slide_id"]
    changed = candidates.table.copy()
    rows = changed["slide_id"].isin(tested)
    changed.loc[rows, "target"] = changed.loc[rows, "target"].to_numpy()[::-1] * 0.3
    after = probe_candidate(candidate, candidates.vectors[candidate], changed, splits, SETTINGS)
    own = [choices[choices["fold"] == 1].reset_index(drop=True) for _, choices in (before, after)]
    pd.testing.assert_frame_equal(*own)
    found = [p[p["slide_id"].isin(tested)]["prediction"].to_numpy() for p, _ in (before, after)]
    np.testing.assert_array_equal(*found)
    # The same labels are training labels elsewhere, so that the other folds must have changed.
    assert not before[1].equals(after[1])


def test_external_labels_change_no_choice_and_no_prediction(paths, labels, tables, tmp_path):
    changed = labels.copy()
    external = changed["cohort"] == "south"
    changed.loc[external, "target"] = 100 - changed.loc[external, "target"]
    result = compared(tmp_path / "c", paths, changed)
    for name, columns in (("choices", None), ("splits", None), ("predictions", ["slide_id", "prediction"])):
        found = load_table(result / f"{name}.tsv")
        pd.testing.assert_frame_equal(found[columns or found.columns], tables[name][columns or found.columns])


# Slides and candidates


def test_slides_missing_in_one_candidate_are_left_out_for_all(labels, tmp_path):
    lost = {"north-03-1": "vague", "south-00-0": "sharp"}
    result = compared(tmp_path / "c", write_candidates(tmp_path, labels, lost=lost), labels)
    for name in ("predictions", "splits"):
        assert not set(load_table(result / f"{name}.tsv")["slide_id"]) & set(lost)
    metrics = load_table(result / "metrics.tsv")
    counts = metrics[metrics["level"] == "slide"].groupby(["cohort", "candidate"])["n"].unique()
    assert {n for _, ns in counts.items() for n in ns} == {SIZES["north"] - 1, SIZES["south"] - 1}
    said = json.loads((result / "comparison.json").read_text())
    assert said["slides_left_out"] == {"north-03-1": ["vague"], "south-00-0": ["sharp"]}
    assert said["slides"] == len(labels) - 2


def test_the_order_of_the_candidates_changes_nothing_but_order_and_reference(paths, labels, tables, tmp_path):
    order = ["vague", "blind", "sharp"]
    result = compared(tmp_path / "c", {name: paths[name] for name in order}, labels)
    for name in ("splits", "predictions", "metrics", "choices", "robustness"):
        found, expected = load_table(result / f"{name}.tsv"), tables[name]
        keys = [c for c in ("candidate", "probe", "cohort", "level", "metric", "scope", "fold", "part", "slide_id")
                if c in found]  # fmt: skip
        ordered = [t.sort_values(keys, ignore_index=True) for t in (found, expected)]
        pd.testing.assert_frame_equal(*ordered)
    differences = load_table(result / "differences.tsv")
    assert set(differences["reference"]) == {"vague"}
    pair = [
        table.query("candidate == @first and reference == @second and metric == 'mae'")
        for table, first, second in ((differences, "sharp", "vague"), (tables["differences"], "vague", "sharp"))
    ]
    np.testing.assert_allclose(pair[0]["difference"], -pair[1]["difference"])
    np.testing.assert_allclose(pair[0]["p"], pair[1]["p"])


def test_slides_without_a_label_are_predicted_but_not_learned_from_or_measured(paths, labels, tmp_path):
    changed = labels.copy()
    changed.loc[changed["slide_id"].isin(["north-00-0", "south-01-1"]), "target"] = np.nan
    result = compared(tmp_path / "c", paths, changed)
    assert "north-00-0" not in set(load_table(result / "splits.tsv")["slide_id"])
    predictions = load_table(result / "predictions.tsv")
    assert predictions.query("slide_id == 'south-01-1'")["prediction"].notna().all()
    assert set(load_table(result / "metrics.tsv").query("cohort == 'south' and level == 'slide'")["n"]) == {19}
    assert set(load_table(result / "robustness.tsv").query("scope == 'all'")["n_left_out"]) == {2}


def test_one_candidate_alone_has_no_differences(paths, labels, tmp_path):
    result = compared(tmp_path / "c", {"sharp": paths["sharp"]}, labels)
    assert len(load_table(result / "differences.tsv")) == 0
    assert value(load_table(result / "metrics.tsv"), "sharp", "linear", "south") > 0.8


def test_a_cohort_that_lost_all_slides_is_undefined_with_its_reason(labels, tmp_path):
    made = write_candidates(tmp_path, labels)
    for name in made:
        write_slide_features(made[name][1], np.zeros((0, 1), np.float32), [], [], "south", None, None)
    metrics = load_table(compared(tmp_path / "c", made, labels) / "metrics.tsv").query("cohort == 'south'")
    assert metrics["value"].isna().all()
    assert set(metrics["undefined_reason"]) == {"no rows"}


def test_candidates_without_a_common_slide_are_refused(labels, tmp_path):
    made = write_candidates(tmp_path, labels, ["sharp", "vague"])
    for path, cohort in zip(made["vague"], ROLES, strict=True):
        write_slide_features(path, np.zeros((0, 1), np.float32), [], [], cohort, None, None)
    with pytest.raises(StudyError, match="no slide has features of every encoder"):
        read_candidates(made, labels)


def test_cohorts_of_a_candidate_that_were_encoded_differently_are_refused(labels, tmp_path):
    made = write_candidates(tmp_path, labels, ["sharp"])
    ids = labels.loc[labels["cohort"] == "south", ["slide_id", "patient_id"]].to_numpy().T.tolist()
    identity = SlideEncoderIdentity("sharp", "mean", "x", 6, "x", "0" * 16, "fp32")
    write_slide_features(made["sharp"][1], np.zeros((20, 6), np.float32), *ids, "south", identity, "r2")
    with pytest.raises(StudyError, match=r"different recipes: north by .*, south by"):
        read_candidates(made, labels)


def test_too_few_patients_for_the_folds_are_told(paths, labels, tmp_path):
    with pytest.raises(StudyError, match="24 patients have usable slides"):
        compared(tmp_path / "c", paths, labels, folds=25)
    assert not (tmp_path / "c").exists()


# Tables


def test_the_metrics_are_those_of_a_models_validation(tables):
    predictions = tables["predictions"].query("candidate == 'vague' and probe == 'linear' and cohort == 'south'")
    options = {**SETTINGS, "cutoffs": [], "cutoff_rule": ">"}
    expected = cohort_metrics(predictions, options, "south", "external")
    found = tables["metrics"].query("candidate == 'vague' and probe == 'linear' and cohort == 'south'")
    np.testing.assert_allclose(found["ci_low"], expected["ci_low"])
    assert list(found["metric"]) == list(expected["metric"])
    assert set(found["level"]) == {"slide", "patient"}
    measured = measure(tables["predictions"], list(NOISE), ROLES, SETTINGS)
    np.testing.assert_allclose(measured["value"], tables["metrics"]["value"])


def test_differences_are_those_of_the_metrics_at_both_levels_also_of_patients_with_slides_of_both_classes(tmp_path):
    labels = label_table("classification")
    mixed = labels["slide_id"].isin(["south-00-0", "south-03-1", "north-02-0"])
    labels.loc[mixed, "target"] = 1 - labels.loc[mixed, "target"]
    result = compared(tmp_path / "c", write_candidates(tmp_path, labels), labels, task="classification")
    keys = ["candidate", "probe", "cohort", "level", "metric"]
    values = load_table(result / "metrics.tsv").set_index(keys)["value"]
    for _, row in load_table(result / "differences.tsv").iterrows():
        of_both = [values[(name, *row[keys[1:]])] for name in (row["candidate"], row["reference"])]
        assert row["difference"] == pytest.approx(of_both[0] - of_both[1])
        assert pd.notna(row["p_delong"]) == (row["metric"] == "auroc")


def test_p_values_are_corrected_over_candidates_and_cohorts_of_a_probe_level_and_metric(tables):
    families = tables["differences"].groupby(["probe", "level", "metric"])
    for _, family in families:
        assert len(family) == (len(NOISE) - 1) * len(ROLES)
        np.testing.assert_allclose(family["p_holm"].astype(float), np.array(holm(family["p"].tolist()), float))
    assert families.ngroups == 2 * 2 * len(CONTINUOUS)


def test_two_runs_give_the_same_bytes(folder, paths, labels, tmp_path):
    again = compared(tmp_path / "c", paths, labels)
    names = sorted(p.name for p in folder.iterdir())
    assert names == sorted([*(f"{t}.tsv" for t in TABLES), "comparison.json", "figure.png", "figure.svg"])
    assert all((folder / n).read_bytes() == (again / n).read_bytes() for n in names)


def test_the_provenance_names_reference_recipes_and_software(folder):
    said = json.loads((folder / "comparison.json").read_text())
    assert said["reference"] == "sharp"
    assert list(said["candidates"]) == list(NOISE)
    assert said["candidates"]["vague"]["patch_recipe"] == "r1"
    assert {"slidestudy", "scikit-learn"} <= set(said["software"])


def test_the_figure_names_every_candidate_and_cohort(folder):
    root = ElementTree.parse(folder / "figure.svg").getroot()
    texts = ["".join(e.itertext()) for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {*NOISE, "north (development), n = 48", "south (external), n = 20", "linear probe"} <= set(texts)
    assert "robustness index, 5 neighbours" in texts


# Classes of the robustness index


def test_classes_are_the_column_or_the_target_or_the_half_of_a_regression(labels):
    found, source = biological_classes(labels, ROLES, {**SETTINGS, "biology": "subtype"})
    assert (found, source) == (labels["biology"].tolist(), "column subtype")
    halves, source = biological_classes(labels, ROLES, SETTINGS)
    median = labels.loc[labels["cohort"] == "north", "target"].median()
    assert source == f"tils above {median:g}, the development median"
    assert halves == ["above" if t > median else "not above" for t in labels["target"]]
    classes, source = biological_classes(label_table("classification"), ROLES, {**SETTINGS, "task": "classification"})
    assert (set(classes), source) == ({0, 1}, "classes of tils")


def test_the_rules_input_is_grouped_by_candidate():
    grouped = stores_by_candidate(["a/n", "a/s", "b/n", "b/s"], ["a", "b"], 2)
    assert grouped == {"a": [Path("a/n"), Path("a/s")], "b": [Path("b/n"), Path("b/s")]}
    with pytest.raises(ValueError, match="3 stores"):
        stores_by_candidate(["a/n", "a/s", "b/n"], ["a", "b"], 2)
