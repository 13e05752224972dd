"""The published encoder: usable by its entry, the same bytes each time, and a card that says what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.features.pretraining.toys import SIZE, VIT, recipe, spec, toy_tiles

from slidestudy.features.encoders import build_encoder
from slidestudy.features.pretraining.optimisation import Trained
from slidestudy.features.pretraining.publication import caveats, publish, zoom
from slidestudy.features.pretraining.training import train_encoder
from slidestudy.files import file_digest
from slidestudy.tables import load_table
from slidestudy.yaml_files import load_yaml

GRID = {"size": SIZE, "mpp": 0.5}
FILES = {"model.safetensors", "entry.yaml", "history.tsv", "curves.svg", "card.md"}


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train_encoder(toy_tiles(4, 4), spec(), recipe("simclr", epochs=2), 1, lambda line: None)


def published(folder: Path, trained: Trained, options: dict[str, Any] | None = None) -> Path:
    publish(folder, trained, toy_tiles(4, 4), options or spec(), recipe("simclr", epochs=2), GRID, 1)
    return folder


def test_the_entry_makes_the_encoder(trained: Trained, tmp_path: Path) -> None:
    folder = published(tmp_path / "toy", trained)
    assert {path.name for path in folder.iterdir()} == FILES
    ((name, entry),) = load_yaml(folder / "entry.yaml").items()
    assert entry["weights"] == "model.safetensors"
    assert entry["tiles"] == [GRID]
    options = {**entry, "name": name, "weights": str(folder / entry["weights"])}
    tiles = toy_tiles(1, 3).tiles
    features = build_encoder(options, SIZE, 0.5, 99).encode(tiles)
    untrained = build_encoder({**options, "weights": "none"}, SIZE, 0.5, 1).encode(tiles)
    assert features.shape == (3, entry["dim"])
    assert not np.allclose(features, untrained, atol=1e-2)


def test_the_entry_of_a_vit_keeps_its_arguments_and_pooling(tmp_path: Path) -> None:
    options = spec(VIT, pooling="cls+mean", mean=[0.5] * 3, std=[0.5] * 3)
    network = train_encoder(toy_tiles(2, 2), options, recipe("simclr", epochs=1), 1, lambda line: None)
    folder = published(tmp_path / "toy", network, options)
    entry = load_yaml(folder / "entry.yaml")["toy"]
    assert {key: entry[key] for key in ("arguments", "pooling", "mean", "std")} == {
        key: options[key] for key in ("arguments", "pooling", "mean", "std")
    }
    weights = str(folder / "model.safetensors")
    assert build_encoder({**entry, "name": "toy", "weights": weights}, SIZE, 0.5, 1).identity.dim == entry["dim"]


def test_equal_trainings_give_equal_files(trained: Trained, tmp_path: Path) -> None:
    again = train_encoder(toy_tiles(4, 4), spec(), recipe("simclr", epochs=2), 1, lambda line: None)
    first, second = published(tmp_path / "a", trained), published(tmp_path / "b", again)
    assert {name: file_digest(first / name) for name in FILES} == {name: file_digest(second / name) for name in FILES}


def test_the_history_is_a_table_and_the_curves_a_picture(trained: Trained, tmp_path: Path) -> None:
    folder = published(tmp_path / "toy", trained)
    history = load_table(folder / "history.tsv")
    assert list(history["epoch"]) == [0, 1, 2]
    assert history["loss"].notna().sum() == 2
    drawn = (folder / "curves.svg").read_text()
    assert all(title in drawn for title in ("loss", "nearest neighbours", "spread", "rank"))


def test_the_card_says_data_recipe_weights_and_caveats(trained: Trained, tmp_path: Path) -> None:
    folder = published(tmp_path / "toy", trained)
    card = (folder / "card.md").read_text()
    for text in (
        "SimCLR",
        "east (4 slides)",
        "| tiles | 16, 4 to 4 of a slide; 32 px at 0.5 um/px |",
        file_digest(folder / "model.safetensors"),
        "whose nearest tile is their own; guessing gives 0.0625",
        "learning_rate: 0.002",
        "| seed | 1 |",
        "no foundation model",
        "lightly",
    ):
        assert text in card


def test_the_card_of_fine_tuned_weights_warns_of_the_labels_in_them() -> None:
    (first, second) = caveats(toy_tiles(2, 2), spec(), recipe("fine-tune"), GRID)
    assert "2 slides of 2 patients" in first
    assert "labels are in its weights" in second


def test_cells_shown_at_another_size_than_in_training_are_told() -> None:
    large = {"size": 256, "mpp": 0.5}
    options = recipe("simclr", crop=96, min_scale=0.3)
    assert zoom(spec(), options, large) == pytest.approx(2.15, abs=0.01)
    assert "Set input_size: 128" in caveats(toy_tiles(2, 2), spec(), options, large)[-1]
    assert len(caveats(toy_tiles(2, 2), spec(input_size=128), options, large)) == 2
