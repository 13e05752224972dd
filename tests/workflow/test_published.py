"""Published weights in a real study: all slides by all files, explained, reported, and what reruns."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from numpy.typing import NDArray

from slidestudy.demo.study import generate_study
from slidestudy.models.tile_scores import read_tile_scores
from slidestudy.tables import load_table
from tests.models.published_files import by_hand, crc_state, ectil_state
from tests.workflow.small_study import Run, run

pytestmark = pytest.mark.workflow
SIDE_UM, TILES_A_SIDE, DIM = 64, 8, 2048
FILES = {"til": ["til-0.ckpt", "til-1.ckpt"], "risk": ["risk.pth"]}
KINDS = {"til": "ectil", "risk": "crc-prognosis"}
EXPLAINED = "risk"
SAMPLE = f"results/explanations/{EXPLAINED}/patches"
THRESHOLD = -0.135


@dataclass(frozen=True)
class Published:
    """A study of published weights on features of another tool, which has run.

    Attributes:
        config: Its configuration.
        first_run: Its first run.
        features: Slide -> its features, as they are stored.
        states: Model -> the state dicts of its files.
    """

    config: Path
    first_run: Run
    features: dict[str, NDArray[np.float16]]
    states: dict[str, list[dict[str, torch.Tensor]]]

    @property
    def folder(self) -> Path:
        return self.config.parent

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def rerun(self, *targets: str, config: Path | None = None) -> dict[str, list[str]]:
        time.sleep(1.1)
        done = run(config or self.config, self.folder, *targets)
        assert done.status == 0, done.output
        return done.jobs

    def card(self, model: str, fold: int) -> dict[str, Any]:
        path = self.results / "models" / model / f"fold-{fold}" / "model.json"
        return json.loads(path.read_text(encoding="utf-8"))


def write_tables(folder: Path) -> pd.DataFrame:
    """Generates four slides of 512 um of three patients of two cohorts; returns the table of slides."""
    generate_study(folder / "data", seed=7, scale=0.4, patients={"north": 2, "south": 2, "west": 1}, workers=2)
    for name in ("slides.tsv", "patients.tsv"):
        table = pd.read_csv(folder / "data" / name, sep="\t", dtype=str)
        table[table["patient_id"].isin(["N02", "S01", "S02"])].to_csv(folder / "data" / name, sep="\t", index=False)
    return pd.read_csv(folder / "data" / "slides.tsv", sep="\t", dtype=str)


def write_features(folder: Path, slides: pd.DataFrame) -> dict[str, NDArray[np.float16]]:
    """A file of features of every slide, 8 by 8 tiles, in the layout of another tool."""
    rng = np.random.default_rng(3)
    steps = np.arange(TILES_A_SIDE) * SIDE_UM
    coords = np.stack([np.tile(steps, TILES_A_SIDE), np.repeat(steps, TILES_A_SIDE)], axis=1)
    features = {}
    for row in slides.itertuples():
        path = folder / "h5" / str(row.cohort) / f"{row.slide_id}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.maximum(rng.normal(0.1, 0.5, (len(coords), DIM)), 0).astype(np.float16)
        with h5py.File(path, "w") as file:
            file["features"], file["coords"] = values, coords
        features[str(row.slide_id)] = values
    return features


def write_weights(folder: Path, features: dict[str, NDArray[np.float16]]) -> dict[str, list[dict[str, torch.Tensor]]]:
    """Files in the published layouts, the risk moved so that its threshold lies among the tiles', off their middle."""
    risk = crc_state(seed=5)
    logits = np.concatenate([by_hand("crc-prognosis", risk, x.astype(np.float64))[1] for x in features.values()])
    risk["head.3.bias"] += float(THRESHOLD + 0.3 * logits.std() - np.median(logits))
    states = {"til": [ectil_state(seed=1), ectil_state(seed=2)], "risk": [risk]}
    for model, files in FILES.items():
        for name, state in zip(files, states[model], strict=True):
            torch.save(state, folder / name)
    return states


def write_config(folder: Path) -> Path:
    """One model with labels, and one without any, which is explained."""
    models: dict[str, dict[str, Any]] = {
        model: {"encoder": "theirs", "published": {"kind": KINDS[model], "files": files, "allow_other_tiles": True}}
        for model, files in FILES.items()
    }
    models["til"]["target"] = "tils"
    (folder / "text.md").write_text("Lymphocytes raise the score.\n", encoding="utf-8")
    sample = {"per_stratum": 4, "max_per_slide": 4, "near": 0.4, "min_tissue": 0}
    explanations = {"models": [EXPLAINED], "texts": {"text": "text.md"}, "controls": [], "sample": sample}
    config = {
        "study": "published weights",
        "results": "results",
        "slides": "data/slides.tsv",
        "patients": "data/patients.tsv",
        "cohorts": {"north": {"role": "development"}, "south": {"role": "external"}},
        "tiles": {"size": 128, "mpp": 0.5},
        "encoders": {"theirs": {"backend": "imported", "dim": DIM}},
        "features": {"import": {"theirs": {"files": "h5/{cohort}/{slide}.h5", "unit": "um"}}},
        "models": models,
        "validation": {"bootstrap": 100},
        "explanations": explanations,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    folder = tmp_path_factory.mktemp("published")
    features = write_features(folder, write_tables(folder))
    states = write_weights(folder, features)
    config = write_config(folder)
    done = run(config, folder)
    assert done.status == 0, done.output
    return Published(config, done, features, states)


def test_nothing_is_dealt_or_trained(published: Published) -> None:
    assert not {"make_splits", "train_fold"} & set(published.first_run.jobs)
    assert published.first_run.jobs["adopt_weights"] == ["model=risk, fold=0", "model=til, fold=0", "model=til, fold=1"]
    for model in FILES:
        splits = load_table(published.results / "models" / model / "splits.tsv")
        assert (list(splits.columns), len(splits)) == (["patient_id", "slide_id", "fold", "part"], 0)


def test_every_slide_is_predicted_by_all_files_as_numpy_does(published: Published) -> None:
    predicted = set()
    for model, cohort in ((model, cohort) for model in FILES for cohort in ("north", "south")):
        table = load_table(published.results / "predictions" / model / f"{cohort}.tsv")
        assert set(table["fold"]) == {"ensemble"}
        for row in table.to_dict("records"):
            x = published.features[row["slide_id"]].astype(np.float64)
            found = [by_hand(KINDS[model], state, x)[0] for state in published.states[model]]
            expected = np.mean(found) * (100 if model == "til" else 1)
            assert row["prediction"] == pytest.approx(expected, rel=1e-4, abs=1e-4)
            predicted.add((model, row["slide_id"]))
    assert predicted == {(model, slide) for model in FILES for slide in published.features}


def test_labels_are_blank_where_the_study_gives_none(published: Published) -> None:
    risk = load_table(published.results / "predictions" / "risk" / "south.tsv")
    assert risk[["time", "event"]].isna().all(axis=None)
    metrics = load_table(published.results / "validation" / "risk" / "metrics.tsv")
    assert metrics["value"].isna().all()
    assert (metrics["undefined_reason"] != "").all()
    til = load_table(published.results / "validation" / "til" / "metrics.tsv")
    patients = load_table(published.folder / "data" / "patients.tsv").set_index("patient_id")["tils"]
    for cohort in ("north", "south"):
        slides = [slide for slide in published.features if slide[0] == cohort[0].upper()]
        labelled = [slide for slide in slides if np.isfinite(patients[slide.split("-")[0]])]
        assert set(til.loc[(til["cohort"] == cohort) & (til["level"] == "slide"), "n"]) == {len(labelled)}


def test_the_card_says_what_the_weights_are_and_that_the_tiles_are_others(published: Published) -> None:
    for fold, file in enumerate(FILES["til"]):
        card = published.card("til", fold)
        assert (card["name"], card["fold"], card["encoder"], card["target"]) == ("til", fold, "theirs", "tils")
        assert card["task_card"]["columns"] == ["target"]
        assert card["published"]["file"] == file
        assert card["published"]["trained_on"] == [{"size": 512, "mpp": 0.5}]
        assert (card["published"]["applied_to"], card["published"]["other_tiles"]) == ({"size": 128, "mpp": 0.5}, True)
    assert published.card("risk", 0)["task_card"]["columns"] == ["time", "event"]


def logits_of(published: Published, *cohorts: str) -> NDArray[np.float64]:
    """The logits of all tiles of some cohorts."""
    folder = published.results / "predictions" / EXPLAINED
    stores = [store for cohort in cohorts for store in sorted((folder / cohort).glob("*.zarr"))]
    return np.concatenate([read_tile_scores(store)[0]["logit"] for store in stores]).astype(float)


def sample_card(published: Published) -> dict[str, Any]:
    return json.loads((published.folder / SAMPLE / "sample.json").read_text(encoding="utf-8"))


def test_the_published_threshold_divides_the_patches(published: Published) -> None:
    card, logits = sample_card(published), logits_of(published, "north")
    assert (card["threshold"], card["threshold_from"]) == (THRESHOLD, "published weights")
    assert (card["spread"], card["spread_from"]) == (pytest.approx(logits.std()), "SD of the tiles of north")
    sample = load_table(published.folder / SAMPLE / "sample.tsv")
    high = sample["stratum"].isin(["very_high", "high_near"])
    assert ((sample["logit"] > THRESHOLD) == high).all()
    assert (high.sum(), set(sample["cohort"])) == (len(sample) / 2, {"south"})


def test_the_report_names_weights_and_no_training(published: Published) -> None:
    text = (published.results / "report" / "report.html").read_text(encoding="utf-8")
    for said in ("ECTIL: stromal TILs of breast cancer", "til-1.ckpt (sha256 ", "licence: MIT", "OTHER TILES"):
        assert said in text, said
    assert "predicted by the ensemble of all published weights" in text
    assert "cross-validated" not in text
    assert "Training and validation loss" not in text


def test_a_second_run_does_nothing(published: Published) -> None:
    assert published.rerun() == {}


def test_a_study_without_a_development_cohort_takes_the_unit_from_the_sampled_ones(published: Published) -> None:
    config = yaml.safe_load(published.config.read_text(encoding="utf-8"))
    config["cohorts"]["north"]["role"] = "external"
    other = published.folder / "external.yaml"
    other.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    shutil.rmtree(published.results / "explanations")
    assert set(published.rerun(SAMPLE, config=other)) == {"sample_patches"}
    card = sample_card(published)
    assert (card["threshold"], card["spread_from"]) == (THRESHOLD, "SD of the tiles of north, south")
    assert card["spread"] == pytest.approx(logits_of(published, "north", "south").std())


def test_weights_that_are_exchanged_are_adopted_anew(published: Published) -> None:
    (published.folder / "til-1.ckpt").touch()
    jobs = published.rerun("results/validation/til/metrics.tsv")
    assert jobs == {
        "adopt_weights": ["model=til, fold=1"],
        "predict_cohort": ["model=til, cohort=north", "model=til, cohort=south"],
        "validate_model": ["model=til"],
    }


def test_weights_that_do_not_fit_the_study_are_told_before_any_job_starts(published: Published) -> None:
    config = yaml.safe_load(published.config.read_text(encoding="utf-8"))
    config["models"]["til"] |= {"training": {"epochs": 2}}
    config["models"]["til"]["published"] |= {"allow_other_tiles": False, "files": ["gone.ckpt"]}
    wrong = published.folder / "wrong.yaml"
    wrong.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    done = run(wrong, published.folder)
    assert (done.status != 0, done.jobs) == (True, {})
    for said in ("gone.ckpt does not exist", "was trained on tiles of 512 px at 0.5 um/px", "models.til.training"):
        assert said in done.output, said
    assert "Traceback" not in done.output
