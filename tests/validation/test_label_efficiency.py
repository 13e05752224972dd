"""The summary of label efficiency: the validation's own metric, its mean over draws with an interval, its figure."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from slidestudy.models.tasks import TASKS
from slidestudy.statistics import cluster_weights, pearson
from slidestudy.tables import load_table, write_table
from slidestudy.validation.label_efficiency import COLUMNS, MOST_REASONS, over_folds, summarise
from slidestudy.validation.label_efficiency_figure import draw_label_efficiency
from slidestudy.validation.metrics import MAIN_METRIC, cohort_metrics

ROLES = {"north": "development", "south": "external"}
SETTINGS = {
    "model": "m",
    "task": "regression",
    "target": "tils",
    "columns": ["target"],
    "cutoffs": [30],
    "cutoff_rule": ">",
    "bootstrap": 300,
    "confidence": 0.95,
    "seed": 4,
}
FOLDS, FRACTIONS = 3, [0.2, 0.5, 1.0]


def made_study(noise: float = 12.0, seed: int = 0, repeats: int = 2, slides: int = 60) -> tuple[pd.DataFrame, ...]:
    """Predictions that are the better the larger the share: each fold's own test slides, and all of the south's."""
    rng, rows, shares = np.random.default_rng(seed), [], []
    truth = {cohort: rng.uniform(0, 100, slides // 2).repeat(2) for cohort in ROLES}
    for fold in range(FOLDS):
        for fraction in FRACTIONS:
            for repeat in range(repeats if fraction < 1 else 1):
                patients = round(40 * fraction) + fold
                shares.append([fold, fraction, repeat, patients, 2 * patients, "3", ""])
                for cohort, values in truth.items():
                    for i, value in enumerate(values):
                        if cohort == "north" and i % FOLDS != fold:
                            continue
                        ids = [f"{cohort}-{i}", f"{cohort}-p{i // 2}", "c"]
                        said = value + rng.normal() * noise / fraction
                        rows.append([cohort, fraction, repeat, patients, *ids, fold, said, value, np.nan])
    columns = ["cohort", "fraction", "repeat", "n_patients", "slide_id", "patient_id", "center", "fold"]
    names = ["fold", "fraction", "repeat", "n_patients", "n_slides", "best_epoch", "reason"]
    predictions = pd.DataFrame(rows, columns=[*columns, "prediction", "target", "prediction_sd"])
    return predictions, pd.DataFrame(shares, columns=names)


def as_task(table: pd.DataFrame, task: str) -> tuple[pd.DataFrame, list[str]]:
    """The predictions of a regression as those of another task."""
    share, truth = (table[name] / 100 for name in ("prediction", "target"))
    if task == "classification":
        return table.assign(prediction=share, target=(truth > 0.5).astype(float)), ["target"]
    if task == "multiclass":
        scores = np.exp(-((share.to_numpy()[:, None] - [0.2, 0.5, 0.8]) ** 2) * 8)
        named = {f"probability.{c}": scores[:, k] / scores.sum(1) for k, c in enumerate("abc")}
        classes = np.array(list("abc"), object)[np.minimum((3 * truth).astype(int), 2)]
        return table.assign(prediction=np.array(list("abc"), object)[scores.argmax(1)], target=classes, **named), ["g"]
    if task == "multi-regression":
        both = {"prediction.one": share, "prediction.two": -share, "one": truth, "two": -(truth**2)}
        return table.drop(columns=["prediction", "target"]).assign(**both), ["one", "two"]
    if task.startswith("survival"):
        event = (table["patient_id"].str[-1] != "3").astype(float)
        return table.drop(columns="target").assign(prediction=share, time=1.1 - truth, event=event), ["time", "event"]
    return table, ["target"]


def test_rows_are_every_cohort_share_and_level_in_order():
    table = summarise(*made_study(), ROLES, SETTINGS)
    assert list(table.columns) == COLUMNS
    keys = [(c, f, level) for c in ROLES for f in FRACTIONS for level in ("slide", "patient")]
    assert list(table[["cohort", "fraction", "level"]].itertuples(index=False, name=None)) == keys
    assert (table["role"] == table["cohort"].map(ROLES)).all()
    for _, row in table.iterrows():
        assert row["train_patients"] == pytest.approx(round(40 * row["fraction"]) + 1)
        assert row["train_slides"] == 2 * row["train_patients"]
        assert row["repeats"] == (2 if row["fraction"] < 1 else 1)
        assert row["trainings"] == FOLDS * row["repeats"]
        assert row["n"] == (60 if row["level"] == "slide" else 30)
        assert row["n_patients"] == 30
    assert table["failed"].eq(0).all()
    values = table[table["level"] == "slide"].pivot_table("value", "cohort", "fraction")
    assert (values[0.2] < values[0.5]).all()
    assert (values[0.5] < values[1.0]).all()


@pytest.mark.parametrize("task", TASKS)
def test_of_one_draw_it_is_the_validations_own_headline_row(task):
    predictions, shares = made_study(repeats=1)
    predictions, columns = as_task(predictions, task)
    settings = {**SETTINGS, "task": task, "columns": columns}
    table = summarise(predictions, shares, ROLES, settings)
    for cohort, role in ROLES.items():
        own = over_folds(predictions[(predictions["cohort"] == cohort) & (predictions["fraction"] == 0.5)])
        expected = cohort_metrics(own, settings, cohort, role)
        main = (expected["metric"] == MAIN_METRIC[task]) & expected["threshold"].isna() & (expected["target"] == "")
        for level in ("slide", "patient"):
            (wanted,) = expected[main & (expected["level"] == level)].to_dict("records")
            (found,) = table.query("cohort == @cohort and fraction == 0.5 and level == @level").to_dict("records")
            for key in ("value", "ci_low", "ci_high", "n", "n_patients"):
                assert found[key] == wanted[key]
            assert found["metric"] == MAIN_METRIC[task]


def test_several_draws_are_measured_each_and_their_mean_is_bootstrapped_on_the_same_samples():
    predictions, shares = made_study(repeats=4)
    row = summarise(predictions, shares, ROLES, SETTINGS).query("cohort == 'north' and fraction == 0.2").iloc[0]
    values, draws = [], []
    for _, table in predictions.query("cohort == 'north' and fraction == 0.2").groupby("repeat"):
        truth, said = table["target"].to_numpy(), table["prediction"].to_numpy()
        weights = cluster_weights(table["patient_id"].to_numpy(), SETTINGS["bootstrap"], SETTINGS["seed"])
        values.append(pearson(truth, said, np.ones((1, len(truth))))[0])
        draws.append(pearson(truth, said, weights))
    assert row["value"] == pytest.approx(np.mean(values))
    assert row[["ci_low", "ci_high"]].tolist() == pytest.approx(np.quantile(np.mean(draws, 0), [0.025, 0.975]))
    assert row["repeat_sd"] == pytest.approx(np.std(values, ddof=1))
    assert row[["repeat_low", "repeat_high"]].tolist() == pytest.approx([min(values), max(values)])
    averaged = predictions.query("cohort == 'north' and fraction == 0.2").groupby("slide_id").mean(numeric_only=True)
    assert row["value"] < np.corrcoef(averaged["prediction"], averaged["target"])[0, 1] - 0.05, "no ensemble of draws"


def test_the_interval_covers_the_planted_correlation():
    """Slides of a uniform truth with noise of known size: r = 1 / sqrt(1 + noise variance / truth variance)."""
    noise, hits, trials = 20.0, 0, 60
    expected = 1 / np.sqrt(1 + (noise / FRACTIONS[1]) ** 2 / (100**2 / 12))
    for seed in range(trials):
        predictions, shares = made_study(noise, seed, repeats=1)
        predictions = predictions[(predictions["fraction"] == 0.5) & (predictions["cohort"] == "north")]
        table = summarise(predictions, shares[shares["fraction"] == 0.5], {"north": "development"}, SETTINGS)
        row = table.iloc[0]
        hits += row["ci_low"] <= expected <= row["ci_high"]
    # Of 60 intervals of 95%, fewer than 51 have a chance below one in a hundred thousand; percentile ones are short.
    assert hits >= 51


def test_external_slides_have_the_mean_of_the_folds():
    predictions, _ = made_study(repeats=1)
    own = predictions.query("cohort == 'south' and fraction == 0.5")
    merged = over_folds(own).set_index("slide_id")
    assert len(merged) == 60
    np.testing.assert_allclose(merged["prediction"], own.groupby("slide_id")["prediction"].mean().loc[merged.index])
    assert merged.loc["south-3", "patient_id"] == "south-p1"


def test_classes_are_averaged_over_folds_also_where_a_training_did_not_know_one():
    common = {"slide_id": "s", "patient_id": "p", "target": "b"}
    rows = [
        {**common, "fold": 0, "prediction": "a", "probability.a": 0.6, "probability.b": 0.4},
        {**common, "fold": 1, "prediction": "c", "probability.b": 0.45, "probability.c": 0.55},
    ]
    (row,) = over_folds(pd.DataFrame(rows)).to_dict("records")
    assert [row[f"probability.{c}"] for c in "abc"] == pytest.approx([0.3, 0.425, 0.275])
    assert row["prediction"] == "b"


def failing(folds: list[int], fraction: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A study in which some folds could not be trained on a share."""
    predictions, shares = made_study()
    bad = shares["fold"].isin(folds) & (shares["fraction"] == fraction)
    shares.loc[bad, "reason"] = "the train part has slides of class 1 only"
    gone = predictions["fold"].isin(folds) & (predictions["fraction"] == fraction)
    return predictions[~gone], shares


def test_failed_trainings_are_counted_and_told():
    table = summarise(*failing([1], 0.2), ROLES, SETTINGS)
    few = table[table["fraction"] == 0.2]
    assert few["failed"].eq(2).all()
    assert few["failures"].eq("fold 1: the train part has slides of class 1 only").all()
    assert few["value"].notna().all()
    assert few[few["level"] == "slide"].set_index("cohort")["n"].to_dict() == {"north": 40, "south": 60}
    assert table.loc[table["fraction"] > 0.2, ["failed"]].eq(0).all(axis=None)


def test_a_share_that_no_fold_could_be_trained_on_is_undefined_with_the_reason():
    table = summarise(*failing([0, 1, 2], 0.2), ROLES, SETTINGS)
    few = table[table["fraction"] == 0.2]
    assert len(few) == 4
    assert few[["value", "ci_low", "ci_high"]].isna().all(axis=None)
    assert few["undefined_reason"].eq("no training was possible").all()
    assert few["failures"].str.count("the train part has slides of class 1 only").eq(MOST_REASONS).all()
    assert few["repeats"].eq(0).all()


def test_an_unlabelled_cohort_and_one_of_few_patients_say_so():
    predictions, shares = made_study()
    predictions = predictions[
        (predictions["cohort"] == "south") & predictions["patient_id"].isin(["south-p1", "south-p2"])
    ]
    table = summarise(predictions, shares, ROLES, SETTINGS).query("level == 'slide'").set_index("cohort")
    assert table.loc["north", "undefined_reason"].eq("no rows").all()
    assert table.loc["south", "undefined_reason"].eq("no interval: 2 patients").all()
    assert table.loc["south", "value"].notna().all()


def lines_of(path) -> list[str]:
    """The texts of a figure."""
    return [text.text for text in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text") if text.text]


def test_the_figure_has_a_line_per_cohort_and_the_sizes_on_its_axis(tmp_path):
    table = summarise(*made_study(), ROLES, SETTINGS)
    draw_label_efficiency(table, SETTINGS, tmp_path / "f.svg")
    texts = lines_of(tmp_path / "f.svg")
    assert "north, cross-validated (60 slides)" in texts
    assert "south, external (60 slides)" in texts
    assert {"9", "21", "41"} <= set(texts)
    assert "Pearson r, per slide" in texts
    assert not [text for text in texts if "failed" in text or "undefined" in text]


def test_the_figure_tells_of_failed_and_undefined_points(tmp_path):
    predictions, shares = failing([0], 0.5)
    worse = shares["fraction"] == 0.2
    shares.loc[worse, "reason"] = "diverged"
    table = summarise(predictions[predictions["fraction"] > 0.2], shares, ROLES, SETTINGS)
    draw_label_efficiency(table, SETTINGS, tmp_path / "f.svg")
    texts = lines_of(tmp_path / "f.svg")
    assert "some trainings failed" in texts
    assert any(text.startswith("undefined (") for text in texts)


@pytest.mark.parametrize("case", ["one share", "nothing defined"])
def test_the_figure_of_little_is_drawn(tmp_path, case):
    predictions, shares = made_study(repeats=1)
    if case == "one share":
        predictions, shares = (table[table["fraction"] == 0.5] for table in (predictions, shares))
    else:
        predictions = predictions[:0]
    table = summarise(predictions, shares, ROLES, SETTINGS)
    draw_label_efficiency(table, SETTINGS, tmp_path / "f.svg")
    assert "north, cross-validated" in " ".join(lines_of(tmp_path / "f.svg"))


def test_table_and_figure_are_the_same_bytes_twice_and_after_reading_the_tables(tmp_path):
    predictions, shares = failing([1], 0.2)
    contents = []
    for name in ("one", "two"):
        write_table(tmp_path / "p.tsv", predictions)
        write_table(tmp_path / "s.tsv", shares)
        table = summarise(load_table(tmp_path / "p.tsv"), load_table(tmp_path / "s.tsv"), ROLES, SETTINGS)
        write_table(tmp_path / f"{name}.tsv", table)
        draw_label_efficiency(table, SETTINGS, tmp_path / f"{name}.svg")
        contents.append([(tmp_path / f"{name}.{kind}").read_bytes() for kind in ("tsv", "svg")])
    assert contents[0] == contents[1]
