"""The folder of attributions: every image of every patch, the same bytes twice, and what a reader is given of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from tests.explanations.attribution.doubles import CORNER, SIZE, abmil, network, planted

from slidestudy.explanations.attribution.attributing import attribute
from slidestudy.explanations.attribution.pictures import overlay
from slidestudy.explanations.patches import read_patches
from slidestudy.explanations.readers.images import chosen_images
from slidestudy.features.normalisation import Normaliser
from slidestudy.files import read_json
from slidestudy.models.tasks import fit_task
from slidestudy.tables import load_table

SETTINGS = {
    "method": "auto", "occlusion_window": 0.25, "occlusion_stride": 0.25, "faithfulness_patches": 3, "steps": 3,
    "perturbations": 4, "seed": 2, "bootstrap": 50, "confidence": 0.95,
}  # fmt: skip
COUNT = 4


class Half(Normaliser):
    """Darkens tiles to half: a normaliser of which the result is known."""

    def __init__(self) -> None:
        pass

    def apply(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return tiles // 2, np.ones(len(tiles), np.uint8)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """A folder of patches and its table."""
    folder = tmp_path_factory.mktemp("patches")
    rows = []
    for k, tile in enumerate(planted(COUNT)):
        name = f"s{k}/0-{k}-0.5"
        (folder / name).mkdir(parents=True)
        cv2.imwrite(str(folder / name / "rgb.jpeg"), tile)
        rows.append([name, f"s{k}", f"p{k % 3}", "very_high", float(k), 0.5])
    return folder, pd.DataFrame(rows, columns=["patch_id", "slide_id", "patient_id", "stratum", "logit", "mpp"])


def made(target: Path, sample: tuple[Path, pd.DataFrame], **changes: Any) -> Path:
    """Attributes the sample with an untrained network and two untrained folds."""
    folder, table = sample
    encoder = network("resnet10t")
    task = fit_task({"task": "regression", "target_range": [0, 100]}, pd.DataFrame({"target": [1.0, 2.0]}))
    folds = [[(abmil(encoder.identity.dim, seed), {"task_card": task.card()})] for seed in (0, 1)]
    patches = list(read_patches(folder, table))
    weights = np.full((COUNT, 2), 0.5)
    attribute(target, table, patches, encoder, Half(), folds, weights, {**SETTINGS, **changes})
    return target


def test_every_patch_has_its_pictures_and_the_same_bytes_twice(tmp_path, sample):
    first, second = made(tmp_path / "a", sample), made(tmp_path / "b", sample)
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len([name for name in files if name.suffix == ".jpeg"]) == COUNT * 6
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in files)
    maps = np.load(first / "maps.npz")
    assert sorted(maps) == ["gradcam_attention", "gradcam_attention_x_score", "gradcam_output", "patch_id"]
    assert maps["gradcam_output"].dtype == np.float32
    assert list(maps["patch_id"]) == list(sample[1]["patch_id"])
    table = load_table(first / "faithfulness.tsv")
    assert set(table["n"]) == {3}
    assert set(table["measure"]) == {"insertion", "deletion", "infidelity"}
    assert len(load_table(first / "faithfulness_patches.tsv")) == 3 * 9
    card = read_json(first / "attribution.json")
    assert (card["method"], card["patches"], card["undefined"]) == ("gradcam", COUNT, {})


def test_a_network_can_be_occluded_as_well(tmp_path, sample):
    folder = made(tmp_path / "a", sample, method="occlusion")
    assert (folder / "s0" / "0-0-0.5" / "occlusion_inverse_output.jpeg").is_file()
    assert np.load(folder / "maps.npz")["occlusion_output"].shape == (COUNT, 4, 4)


def test_a_reader_is_shown_what_it_asks_for(tmp_path, sample):
    folder, table = sample
    attributions = made(tmp_path / "a", sample)
    names = ["rgb", "normalised", "gradcam_output"]
    (patch, *_) = read_patches(folder, table, names[1:], attributions)
    rgb, normalised, heatmap = chosen_images(patch, names)
    assert rgb.shape == normalised.shape == heatmap.shape == (SIZE, SIZE, 3)
    assert abs(normalised.mean() - rgb.mean() / 2) < 2
    assert np.abs(heatmap.astype(float) - rgb).mean() > 5
    (bare, *_) = read_patches(folder, table)
    assert bare.normalised is None
    assert bare.heatmaps == {}


def test_images_that_came_with_patches_are_read_where_they_lie(tmp_path, sample):
    table = sample[1]
    blue = np.zeros((SIZE, SIZE, 3), np.uint8)
    blue[..., 0] = 200
    place = tmp_path / table["patch_id"][0]
    place.mkdir(parents=True)
    for name in ("rgb", "gradcam_output"):
        cv2.imwrite(str(place / f"{name}.jpeg"), blue)
    (patch,) = read_patches(tmp_path, table[:1], ["gradcam_output", "normalised"])
    assert patch.heatmaps["gradcam_output"][..., 2].mean() > 150 > patch.heatmaps["gradcam_output"][..., 0].mean()
    assert patch.normalised is None


def test_an_overlay_is_red_where_the_map_is_highest_and_blue_where_it_is_not_above_nothing():
    rgb, grid = np.full((SIZE, SIZE, 3), 128, np.uint8), np.full((SIZE, SIZE), -3.0, np.float32)
    grid[CORNER, CORNER] = 2
    picture = overlay(rgb, grid)
    red, blue = picture[16, 16], picture[50, 50]
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    assert overlay(rgb, np.zeros((SIZE, SIZE), np.float32)).std(axis=(0, 1)).max() == 0
