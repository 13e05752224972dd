"""The workflow on another study's exported features, without a slide: the same predictions, and what reruns."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import pandas as pd
import pytest
import yaml

from slidestudy.features.interchange import Format, export_stores
from slidestudy.features.store import read_attributes, read_features
from slidestudy.features.verification import find_stores, verify_stores
from slidestudy.tables import load_table
from tests.workflow.small_study import COHORTS, Run, run, write_small_study

pytestmark = pytest.mark.workflow
SAME = ["models/til/splits.tsv", *(f"predictions/til/{cohort}.tsv" for cohort in COHORTS), "validation/til/metrics.tsv"]


@dataclass(frozen=True)
class Pair:
    """A study on slides, and one on the features that it exported.

    Attributes:
        source: Configuration of the first.
        config: Configuration of the second, which has run.
        first_run: The second's first run.
    """

    source: Path
    config: Path
    first_run: Run

    @property
    def original(self) -> Path:
        return self.source.parent / "results"

    @property
    def folder(self) -> Path:
        return self.config.parent

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def rerun(self) -> dict[str, list[str]]:
        time.sleep(1.1)
        done = run(self.config, self.folder)
        assert done.status == 0, done.output
        return done.jobs


def write_config(path: Path, config: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    first = tmp_path_factory.mktemp("first")
    source = write_small_study(first)
    config = yaml.safe_load(source.read_text(encoding="utf-8"))
    config["explanations"] = {"models": []}
    write_config(source, config)
    done = run(source, first, "results/validation/til/metrics.tsv")
    assert done.status == 0, done.output

    second = tmp_path_factory.mktemp("second")
    for cohort in COHORTS:
        stores = find_stores([first / "results" / "features" / "stain-texture" / cohort])
        export_stores(stores, Format.TRIDENT, second / "h5" / cohort)
    slides = pd.read_csv(first / "data" / "slides.tsv", sep="\t", dtype=str)
    slides.assign(path="", mpp="").to_csv(second / "slides.tsv", sep="\t", index=False)
    for name in ("patients.tsv", "truth.tsv"):
        (second / name).write_bytes((first / "data" / name).read_bytes())
    dim = read_attributes(stores[0])["encoder"]["dim"]
    config |= {"slides": "slides.tsv", "patients": "patients.tsv", "encoders": {"stain-texture": {"dim": dim}}}
    config["truth"]["table"] = "truth.tsv"
    config["features"] = {"import": {"stain-texture": {"files": "h5/{cohort}/{slide}.h5"}}}
    write_config(second / "config.yaml", config)
    again = run(second / "config.yaml", second)
    assert again.status == 0, again.output
    return Pair(source, second / "config.yaml", again)


def test_a_study_without_slides_predicts_what_the_original_did(pair: Pair) -> None:
    for name in SAME:
        assert (pair.results / name).read_bytes() == (pair.original / name).read_bytes(), name
    assert not {"extract_features", "segment_tissue"} & set(pair.first_run.jobs)
    assert (pair.results / "report" / "report.html").is_file()


def test_imported_stores_are_sound_share_a_recipe_and_say_where_they_are_from(pair: Pair) -> None:
    verdicts = list(verify_stores(find_stores([pair.results / "features"])))
    assert {verdict.problems for verdict in verdicts} == {()}
    original = read_attributes(pair.original / "features" / "stain-texture" / "south" / "S01-1.zarr")["encoder"]
    encoder = read_attributes(pair.results / "features" / "stain-texture" / "south" / "S01-1.zarr")["encoder"]
    assert encoder == {**original, "backend": "imported"}


def test_a_slide_without_a_file_of_features_is_in_the_ledger(pair: Pair) -> None:
    (damaged,) = load_table(pair.original / "slides" / "lost_at_inspection.tsv")["slide_id"]
    ledger = load_table(pair.results / "slides" / "ledger.tsv")
    (row,) = ledger[ledger["slide_id"] == damaged].to_dict("records")
    assert (row["stage"], row["code"]) == ("features:stain-texture", "features_missing")
    warnings = load_table(pair.results / "slides" / "warnings.tsv")
    assert set(warnings["code"]) == {"no_slide_file"}


def test_a_second_run_does_nothing(pair: Pair) -> None:
    assert pair.rerun() == {}


def test_a_touched_file_is_imported_again_alone_with_what_follows(pair: Pair) -> None:
    (pair.folder / "h5" / "south" / "S01-1.h5").touch()
    assert pair.rerun() == {
        "build_report": [""],
        "complete_ledger": [""],
        "import_features": ["encoder=stain-texture, cohort=south, slide=S01-1"],
        "measure_shift": ["encoder=stain-texture"],
        "predict_cohort": ["model=til, cohort=south"],
        "tabulate_model": ["model=til"],
        "validate_model": ["model=til"],
    }


def test_a_file_that_appears_is_imported_though_it_is_old(pair: Pair) -> None:
    hidden, file = pair.folder / "hidden.h5", pair.folder / "h5" / "south" / "S01-1.h5"
    file.rename(hidden)
    jobs = pair.rerun()
    assert [("S01-1" in wildcards) for wildcards in jobs["import_features"]] == [True]
    store = pair.results / "features" / "stain-texture" / "south" / "S01-1.zarr"
    assert read_attributes(store)["reason"]["code"] == "features_missing"
    hidden.rename(file)
    assert [("S01-1" in wildcards) for wildcards in pair.rerun()["import_features"]] == [True]
    assert read_attributes(store)["status"] == "admitted"


def test_a_pattern_that_finds_nothing_is_told_before_any_job_starts(pair: Pair) -> None:
    config = yaml.safe_load(pair.config.read_text(encoding="utf-8"))
    config["features"]["import"]["stain-texture"]["files"] = "nowhere/{slide}.h5"
    wrong = pair.folder / "wrong.yaml"
    write_config(wrong, config)
    done = run(wrong, pair.folder)
    assert (done.status != 0, done.jobs) == (True, {})
    assert "cohort 'north': no slide has its files" in done.output
    assert "Traceback" not in done.output


def test_features_of_another_tool_stand_beside_extracted_ones_at_the_slides_own_resolution(pair: Pair) -> None:
    config = yaml.safe_load(pair.source.read_text(encoding="utf-8"))
    folder, admitted = pair.source.parent, load_table(pair.original / "slides" / "admitted.tsv")
    for cohort, slide in zip(admitted["cohort"], admitted["slide_id"], strict=True):
        store = read_features(pair.original / "features" / "stain-texture" / cohort / f"{slide}.zarr")
        (folder / "other" / cohort).mkdir(parents=True, exist_ok=True)
        with h5py.File(folder / "other" / cohort / f"{slide}.h5", "w") as file:
            file["features"] = store.features[:, :4].astype("float32")
            file["coords"] = store.coords
    config["encoders"]["other"] = {"backend": "imported", "dim": 4}
    config["features"] = {"import": {"other": {"files": "other/{cohort}/{slide}.h5", "unit": "px"}}}
    write_config(folder / "both.yaml", config)
    done = run(folder / "both.yaml", folder, "features")
    assert done.status == 0, done.output
    jobs = {rule: len(wildcards) for rule, wildcards in done.jobs.items() if rule != "features"}
    assert jobs == {"import_features": len(admitted)}
    for slide, cohort in (("S01-1", "south"), ("N01-1", "north")):
        extracted, imported = (
            read_attributes(pair.original / "features" / name / cohort / f"{slide}.zarr")
            for name in ("stain-texture", "other")
        )
        same = ("status", "slide_mpp", "fingerprint", "n_tiles", "tile_size_level0")
        assert {key: imported[key] for key in same} == {key: extracted[key] for key in same}
