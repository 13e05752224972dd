"""The rule in the real workflow: one self-supervised and one fine-tuned encoder, made once and by the right slides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.workflow.small_study import Run, run

from slidestudy.demo.study import generate_study
from slidestudy.features.encoders import build_encoder
from slidestudy.yaml_files import load_yaml

pytestmark = pytest.mark.workflow
TARGETS = ("results/encoders/contrasted", "results/encoders/tuned")


def encoder(**pretraining: Any) -> dict[str, Any]:
    small = {"tiles_per_slide": 6, "epochs": 2, "batch_size": 8, "crop": 32}
    return {
        "backend": "timm",
        "architecture": "test_resnet",
        "weights": "study",
        "pretraining": {**small, **pretraining},
    }


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    folder = tmp_path_factory.mktemp("study")
    generate_study(folder / "data", seed=7, scale=0.45, patients={"north": 3, "south": 4, "west": 1}, workers=1)
    config = {
        "study": "encoders of a study's own",
        "results": "results",
        "slides": "data/slides.tsv",
        "patients": "data/patients.tsv",
        "cohorts": {"north": {"role": "external"}, "south": {"role": "pretraining"}, "west": {"role": "external"}},
        "tiles": {"size": 64, "mpp": 1.0},
        "encoders": {
            "contrasted": encoder(method="simclr", cohorts=["south"]),
            "tuned": encoder(method="fine-tune", target="tils", task="regression", trainable="blocks"),
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder, run(folder / "config.yaml", folder, *TARGETS)


def test_encoders_are_trained_on_the_pretraining_cohort_only(first_run: tuple[Path, Run]) -> None:
    folder, done = first_run
    assert done.status == 0, done.output
    assert done.jobs["pretrain_encoder"] == ["encoder=contrasted", "encoder=tuned"]
    assert all("cohort=south" in wildcards for wildcards in done.jobs["segment_tissue"])
    for target in TARGETS:
        assert "| cohorts | south (" in (folder / target / "card.md").read_text()


def test_trained_encoders_are_usable_by_their_entries(first_run: tuple[Path, Run]) -> None:
    folder, _ = first_run
    for target in TARGETS:
        ((name, entry),) = load_yaml(folder / target / "entry.yaml").items()
        options = {**entry, "name": name, "weights": str(folder / target / entry["weights"])}
        assert build_encoder(options, 64, 1.0, 1).identity.dim == 96


def test_a_second_run_trains_nothing_and_a_changed_recipe_one_encoder(first_run: tuple[Path, Run]) -> None:
    folder, _ = first_run
    source = folder / "config.yaml"
    assert "pretrain_encoder" not in run(source, folder, *TARGETS).jobs
    config = load_yaml(source)
    config["encoders"]["tuned"]["pretraining"]["blocks"] = 2
    source.write_text(yaml.safe_dump(config, sort_keys=False))
    assert run(source, folder, *TARGETS, "--dry-run").jobs["pretrain_encoder"] == ["encoder=tuned"]
