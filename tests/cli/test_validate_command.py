"""`slidestudy validate`: any table of predictions through the whole validation, and every mistake told at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.cli.conftest import Command
from tests.validation.made_predictions import of_classes, of_targets, of_times

from slidestudy.tables import load_table
from slidestudy.yaml_files import load_yaml

FAST = "bootstrap: 100\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with settings of few draws."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fast.yaml").write_text(FAST)
    return tmp_path


def write(name: str, table: pd.DataFrame) -> str:
    """A table beside the others, tabs or commas by its suffix."""
    table.to_csv(name, sep="," if name.endswith(".csv") else "\t", index=False)
    return name


def regression(n: int = 40, seed: int = 3) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions of two slides for each patient, of two cohorts, and their patients."""
    rng = np.random.default_rng(seed)
    patients = pd.DataFrame(
        {"patient_id": [f"{i:03d}" for i in range(n // 2)], "tils": rng.uniform(0, 80, n // 2).round()}
    )
    slides = pd.DataFrame(
        {"slide_id": [f"s{i}" for i in range(n)], "patient_id": np.repeat(patients["patient_id"].to_numpy(), 2)}
    )
    truth = np.repeat(patients["tils"].to_numpy(), 2)
    predicted = (truth + rng.normal(0, 10, n)).clip(0, 100)
    cohorts = np.where(np.arange(n) < n // 2, "east", "west")
    return slides.assign(prediction=predicted, cohort=cohorts), patients


def validate(run: Command, *arguments: Any) -> Any:
    return run("validate", *arguments, "--settings", "fast.yaml")


def value(metrics: pd.DataFrame, metric: str, threshold: float | None = None, level: str = "slide") -> float:
    """A metric of the only cohort."""
    rows = metrics[(metrics["metric"] == metric) & (metrics["level"] == level) & (metrics["target"] == "")]
    rows = rows[rows["threshold"].isna()] if threshold is None else rows[rows["threshold"] == threshold]
    return float(rows["value"].item())


@pytest.mark.shared
def test_the_published_predictions_of_ectil_give_the_published_figures(
    run: Command, folder: Path, shared: Path
) -> None:
    files = sorted((shared / "ectil_tcga").glob("slide-level-output_test_fold_*.csv"))
    parts = [pd.read_csv(file).assign(fold=number) for number, file in enumerate(files)]
    table = pd.concat(parts, ignore_index=True)
    table["slide_id"] = table["h5_paths"].str.split("/").str[-1].str.removesuffix(".h5")
    table["patient_id"] = table["slide_id"].str[:12]
    table = table.assign(prediction=100 * table["preds"], tils=(100 * table["targets"]).round(9))
    patients = table[["patient_id", "tils"]].drop_duplicates()
    predictions = write("ectil.csv", table[["slide_id", "patient_id", "fold", "prediction"]])
    options = ["--patients", write("patients.tsv", patients), "--target", "tils", "--range", "0", "100"]
    cutoffs = [word for cutoff in (10, 30, 50, 75) for word in ("--cutoff", cutoff)]
    ended = validate(run, predictions, *options, *cutoffs, "--development", "ectil")
    assert (ended.code, ended.err) == (0, "")
    metrics = load_table(folder / "validation-ectil" / "metrics.tsv")
    published = {"pearson": 0.6127115, "spearman": 0.6304756, "ccc": 0.5526924, "mse": 238.204346}
    for metric, number in published.items():
        assert value(metrics, metric) == pytest.approx(number, rel=1e-6)
    for cutoff, area, precision in [
        (10, 0.8230075, 0.8330420),
        (30, 0.8424481, 0.5706637),
        (50, 0.8209427, 0.3063093),
        (75, 0.8876081, 0.1785689),
    ]:
        assert value(metrics, "auroc", cutoff) == pytest.approx(area, rel=1e-6)
        assert value(metrics, "average_precision", cutoff) == pytest.approx(precision, rel=1e-6)
    assert set(metrics["n"]) == {356, 342}
    assert set(metrics["role"]) == {"development"}


def test_all_that_a_model_of_a_study_gets_is_written(run: Command, folder: Path) -> None:
    predictions, patients = regression()
    arguments = [write("p.csv", predictions), "--patients", write("patients.tsv", patients), "--target", "tils"]
    ended = validate(run, *arguments, "--cutoff", 30, "--title", "Reader A", "--output", "out")
    assert (ended.code, ended.err) == (0, "")
    assert "Reader A" in ended.out
    assert "auroc > 30" in ended.out
    assert str(folder / "out") in ended.out
    made = {path.name for path in (folder / "out").iterdir()}
    for stem in ("scatter", "roc", "pr", "calibration", "bland_altman", "forest"):
        assert {f"{stem}.svg", f"{stem}.png"} <= made
    assert {"metrics.tsv", "calibration.tsv", "agreement.tsv", "pooled.tsv", "tables", "validation.yaml"} <= made
    assert "truth.tsv" not in made
    metrics = load_table("out/metrics.tsv")
    assert dict(metrics.groupby(["cohort", "level"])["n"].max()) == {
        ("east", "patient"): 10, ("east", "slide"): 20, ("west", "patient"): 10, ("west", "slide"): 20,
    }  # fmt: skip
    assert len(load_table("out/pooled.tsv"))
    card = load_yaml("out/validation.yaml")
    assert (card["settings"]["bootstrap"], card["settings"]["model"], card["files"]["patients"]["name"]) == (
        100,
        "Reader A",
        "patients.tsv",
    )


def test_the_same_tables_give_the_same_bytes(run: Command, folder: Path) -> None:
    predictions, patients = regression()
    arguments = [write("p.csv", predictions), "--patients", write("patients.tsv", patients), "--target", "tils"]
    for output in ("one", "two"):
        assert validate(run, *arguments, "--output", output).code == 0
    one, two = (
        {p.relative_to(folder / name): p.read_bytes() for p in (folder / name).rglob("*") if p.is_file()}
        for name in ("one", "two")
    )
    assert one == two


@pytest.mark.parametrize(
    ("task", "table", "labels", "options", "main"),
    [
        ("multiclass", of_classes(60), ["target"], [], "auroc_macro"),
        ("multi-regression", of_targets(40, ["g1", "g2", "g3"]), ["g1", "g2", "g3"], [], "pearson_mean"),
        ("survival-cox", of_times(60), ["time", "event"], ["--cutoff", 20], "c_index"),
    ],
)
def test_every_task_can_be_validated(
    run: Command, folder: Path, task: str, table: pd.DataFrame, labels: list[str], options: list[Any], main: str
) -> None:
    patients = write("patients.tsv", table[["patient_id", *labels]].drop_duplicates())
    predictions = write("p.tsv", table.drop(columns=[*labels, "fold", "center"]))
    ended = validate(run, predictions, "--patients", patients, "--task", task, *options)
    assert (ended.code, ended.err) == (0, "")
    metrics = load_table("validation-p/metrics.tsv")
    row = metrics[(metrics["metric"] == main) & (metrics["level"] == "slide") & metrics["threshold"].isna()].iloc[0]
    assert row["ci_low"] < row["value"] < row["ci_high"]
    assert f"{row['value']:.3f}" in ended.out


def test_a_classification_decides_at_the_files_thresholds(run: Command, folder: Path) -> None:
    rng = np.random.default_rng(1)
    high = rng.integers(0, 2, 50)
    table = pd.DataFrame({"patient_id": [f"p{i}" for i in range(50)], "prediction": 0.2 + 0.5 * high, "threshold": 0.5})
    patients = write("patients.tsv", table[["patient_id"]].assign(high=high))
    arguments = [write("p.tsv", table), "--patients", patients, "--target", "high", "--task", "classification"]
    assert validate(run, *arguments).code == 0
    assert value(load_table("validation-p/metrics.tsv"), "accuracy", 0.5) == 1


def test_all_mistakes_of_both_tables_are_told_at_once(run: Command, folder: Path) -> None:
    table = pd.DataFrame({
        "slide_id": ["a", "a", "c", "d", "e"],
        "patient_id": ["p1", None, "p3", "nobody", "p5"],
        "prediction": ["1", "2", "much", "3", "4"],
        "time": [None, None, None, None, 9],
    })  # fmt: skip
    patients = pd.DataFrame({
        "patient_id": ["p1", "p1", "p3", "p4", "p5"], "months": [3, 4, -1, 2, 8], "died": [1, 1, 0, 2, 1],
    })  # fmt: skip
    arguments = [write("p.csv", table), "--patients", write("patients.csv", patients), "--task", "survival-cox"]
    ended = validate(run, *arguments, "--target", "months", "--target", "died", "--development", "north")
    assert ended.code == 1
    for said in (
        "p.csv, lines 2, 3, column slide_id: 'a' stands more than once",
        "p.csv, line 3, column patient_id: 'patient_id' is blank",
        "p.csv, line 4, column prediction: 'prediction' is 'much', which is no number",
        "p.csv, line 5, column patient_id: 'nobody' is not in patients.csv",
        "p.csv, line 6, column time: 'time' is 9.0, patients.csv says 8.0 of the patient",
        "patients.csv, lines 2, 3, column patient_id: 'p1' stands more than once, with different labels",
        "patients.csv, line 4, column months: 'months' is '-1', which is negative",
        "patients.csv, line 5, column died: 'died' is '2', which is neither 0 nor 1",
        "--development: there is no cohort 'north'",
    ):
        assert said in ended.err, said
    assert ended.err.startswith("ERROR: 9 problems in the study:")
    assert "Traceback" not in ended.err
    assert not (folder / "validation-p").exists()


def bad_regressions() -> dict[str, tuple[pd.DataFrame, pd.DataFrame, list[str], str]]:
    """What is wrong -> predictions, patients, options and what is said."""
    slides, patients = regression(8)
    named = ["--target", "tils"]
    misnamed = slides.rename(columns={"prediction": "predictions"})
    without = slides.drop(columns="patient_id")
    nobody = patients.rename(columns={"patient_id": "id"})
    two, blank = slides.assign(cohort=["a", "b"] * 4), slides.assign(cohort=["a", None] * 4)
    missing = "the column 'patient_id' is missing"
    return {
        "a label outside the range": (slides, patients, [*named, "--range", "0", "5"], "is not between 0 and 5"),
        "a range upside down": (slides, patients, [*named, "--range", "5", "0"], "--range: [5.0, 0.0] is not a range"),
        "a column misspelt": (slides, patients, ["--target", "tls"], "did you mean 'tils'?"),
        "a column not named": (slides, patients, [], "name it by --target; known are: tils"),
        "no label": (slides, patients.assign(tils=None), named, "no row has a label"),
        "no column of predictions": (misnamed, patients, named, "did you mean 'predictions'?"),
        "no column of patients": (without, patients, named, f"p.tsv: {missing}"),
        "no patients' ids": (slides, nobody, named, f"patients.tsv: {missing}"),
        "no ids at all": (without.drop(columns="slide_id"), patients, named, f"p.tsv: {missing}"),
        "a patient of two cohorts": (two, patients, named, "patient '000' is in the cohorts a and b"),
        "a cohort left blank": (blank, patients, named, "line 3, column cohort: 'cohort' is blank"),
        "two targets": (slides, patients, [*named, *named], "the task regression has 1 label column, not 2"),
    }


@pytest.mark.parametrize("wrong", bad_regressions())
def test_a_mistake_is_a_message_with_a_remedy(run: Command, folder: Path, wrong: str) -> None:
    predictions, patients, options, said = bad_regressions()[wrong]
    ended = validate(run, write("p.tsv", predictions), "--patients", write("patients.tsv", patients), *options)
    assert ended.code == 1
    assert said in ended.err
    assert "remedy: " in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bootstrp: 100\n", "unknown key 'bootstrp'"),
        ("bootstrap: 3\n", "key bootstrap"),
        ("- 1\n", "is not of type 'object'"),
        ("a: [\n", "not valid YAML"),
    ],
)
def test_settings_are_checked_by_the_configurations_schema(run: Command, folder: Path, text: str, said: str) -> None:
    (folder / "fast.yaml").write_text(text)
    predictions, patients = regression(8)
    arguments = [write("p.tsv", predictions), "--patients", write("patients.tsv", patients), "--target", "tils"]
    ended = validate(run, *arguments)
    assert ended.code == 1
    assert "fast.yaml" in ended.err
    assert said in ended.err


def test_tables_that_cannot_be_read_are_told_together(run: Command, folder: Path) -> None:
    (folder / "p.tsv").write_bytes(b"\xff\xfe\x00")
    ended = validate(run, "p.tsv", "--patients", "absent.tsv", "--range", "5", "0")
    assert ended.code == 1
    for said in ("p.tsv: not a readable UTF-8 table", "absent.tsv: the table does not exist", "--range: [5.0, 0.0]"):
        assert said in ended.err, said
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_few_rows_are_measured_and_what_is_undefined_says_so(run: Command, folder: Path, n: int) -> None:
    table = pd.DataFrame({"patient_id": [f"p{i}" for i in range(n)], "prediction": range(n)})
    patients = write("patients.tsv", table[["patient_id"]].assign(target=range(n)))
    ended = validate(run, write("p.tsv", table), "--patients", patients, "--cutoff", 1)
    assert (ended.code, ended.err) == (0, "")
    metrics = load_table("validation-p/metrics.tsv")
    blank = metrics[metrics["value"].isna() | metrics["ci_low"].isna()]
    assert len(blank)
    assert (blank["undefined_reason"] != "").all()


def test_what_is_left_out_is_stated(run: Command, folder: Path) -> None:
    predictions, patients = regression()
    predictions.loc[0, "prediction"] = np.nan
    patients.loc[1, "tils"] = np.nan
    again = pd.concat([patients, patients[3:5]])
    arguments = [write("p.tsv", predictions), "--patients", write("patients.tsv", again), "--target", "tils"]
    (folder / "fast.yaml").write_text(f"{FAST}heatmaps: {{slides: 1}}\n")
    ended = validate(run, *arguments)
    assert ended.code == 0
    assert "heatmaps needs tiles: it is not made" in ended.out
    assert "east: left out of 20 rows are 1 without a prediction and 2 without a label" in ended.out
    assert "2 patients stand more than once in patients.tsv, with the same labels: the first row counts" in ended.out


def test_one_class_only_is_stated_and_no_error(run: Command, folder: Path) -> None:
    table = pd.DataFrame({"patient_id": list("abcd"), "prediction": [0.1, 0.4, 0.6, 0.8]})
    patients = write("patients.tsv", table[["patient_id"]].assign(target=1))
    ended = validate(run, write("p.tsv", table), "--patients", patients, "--task", "classification")
    assert ended.code == 0
    assert "p: all labels are 1, so that nothing can be told apart" in ended.out
    assert "one class only" in ended.out


def test_labels_that_stand_beside_the_predictions_are_taken(run: Command, folder: Path) -> None:
    predictions, patients = regression()
    predictions["target"] = np.repeat(patients["tils"].to_numpy(), 2) + np.tile([0, 5], 20)
    arguments = [write("p.tsv", predictions), "--patients", write("patients.tsv", patients[["patient_id"]])]
    assert validate(run, *arguments).code == 0
    assert load_table("validation-p/predictions.tsv")["target"].tolist() == predictions["target"].tolist()


def test_an_earlier_validation_is_replaced_and_anything_else_is_not(run: Command, folder: Path) -> None:
    predictions, patients = regression(12)
    arguments = [write("p.tsv", predictions), "--patients", write("patients.tsv", patients), "--target", "tils"]
    assert validate(run, *arguments).code == 0
    assert validate(run, *arguments).code == 0
    (folder / "validation-p" / "notes.txt").write_text("mine")
    ended = validate(run, *arguments)
    assert ended.code == 1
    assert "holds other things: notes.txt" in ended.err
    assert (folder / "validation-p" / "notes.txt").read_text() == "mine"
    ended = validate(run, *arguments, "--output", "p.tsv")
    assert "is no folder" in ended.err
    assert "is the working folder" in validate(run, *arguments, "--output", ".").err


ENDPOINT = """
bootstrap: 100
survival:
  overall:
    time: years
    event: died
    scores:
      model: {per: 10, cutoffs: [30]}
      tils: {per: 10}
    covariates:
      age: {per: 10}
      grade: {reference: "1"}
    times: [2]
subgroups:
  grade: {}
  age: {edges: [50]}
  scanner: {}
"""


def followed(seed: int = 6, n: int = 80) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions of patients whose survival depends on their label, age and grade."""
    rng = np.random.default_rng(seed)
    tils, age, grade = rng.uniform(0, 80, n).round(), rng.integers(30, 80, n), rng.integers(1, 4, n)
    happens = rng.exponential(5 * np.exp(0.03 * tils - 0.02 * age))
    censored = rng.uniform(1, 12, n)
    patients = pd.DataFrame({
        "patient_id": [f"p{i}" for i in range(n)], "tils": tils, "age": age, "grade": grade,
        "years": np.minimum(happens, censored).round(3) + 0.01, "died": (happens <= censored).astype(int),
    })  # fmt: skip
    predictions = patients[["patient_id"]].assign(
        prediction=(tils + rng.normal(0, 10, n)).clip(0, 100), scanner=np.where(rng.uniform(size=n) < 0.5, "A", "B")
    )
    return predictions, patients


def test_endpoints_and_groups_of_the_settings_are_analysed(run: Command, folder: Path) -> None:
    predictions, patients = followed()
    (folder / "further.yaml").write_text(ENDPOINT)
    arguments = [write("p.tsv", predictions), "--patients", write("patients.tsv", patients), "--target", "tils"]
    ended = run("validate", *arguments, "--settings", "further.yaml", "--title", "model")
    assert (ended.code, ended.err) == (0, "")
    home = folder / "validation-p"
    cox = load_table(home / "cox.tsv")
    adjusted = cox[(cox["analysis"] == "multivariable") & (cox["term"] == cox["score"])].set_index("score")
    assert set(adjusted.index) == {"model", "tils"}
    # More TILs, longer lives: the hazard falls by about exp(-0.3) for 10 of them.
    assert (adjusted["ci_high"] < 1).all()
    assert set(load_table(home / "kaplan_meier.tsv")["score"]) == {"model", "tils"}
    groups = load_table(home / "subgroups.tsv")
    shown = groups.groupby("column")["group"].agg(lambda found: set(map(str, found)))
    assert (shown["grade"], shown["scanner"]) == ({"1", "2", "3"}, {"A", "B"})
    assert shown["age"] == {"< 50", ">= 50"}
    made = {path.name for path in home.iterdir()}
    assert {
        "hazard_ratios.png",
        "kaplan_meier_median.svg",
        "logrank.tsv",
        "subgroup_tests.tsv",
        "subgroups.png",
    } <= made
    assert {"cox.tex", "subgroups.md", "metrics.tex"} <= {path.name for path in (home / "tables").iterdir()}
    assert run("validate", *arguments, "--settings", "further.yaml", "--title", "model").code == 0


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("time: years", "time: year", "key survival.overall.time: 'year' is no column"),
        ("model: {per: 10, cutoffs: [30]}", "other: {}", "none of the scores is a model"),
        ('reference: "1"', 'reference: "7"', "'7' is no level of 'grade'"),
        ("age: {edges: [50]}", "age: {}", "key subgroups.age: 'age' holds"),
        ("scanner: {}", "vendor: {}", "key subgroups.vendor: no table has a column 'vendor'"),
        ("event: died", "event: grade", "column grade: 'grade' is '3', which is neither 0 nor 1"),
    ],
)
def test_endpoints_and_groups_are_checked_as_a_studys(
    run: Command, folder: Path, before: str, after: str, said: str
) -> None:
    predictions, patients = followed()
    assert before in ENDPOINT
    (folder / "further.yaml").write_text(ENDPOINT.replace(before, after))
    arguments = [write("p.tsv", predictions), "--patients", write("patients.tsv", patients), "--target", "tils"]
    ended = run("validate", *arguments, "--settings", "further.yaml", "--title", "model")
    assert ended.code == 1
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert not (folder / "validation-p").exists()
