"""The patch folder: images are the tiles that features saw, and what is read is what was written."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from slidestudy.demo.scanner import SCANNER_A, SCANNER_B, write_slide
from slidestudy.errors import StudyError
from slidestudy.explanations.patches import (
    published_threshold,
    read_patch_folder,
    read_patches,
    tile_table,
    write_patches,
)
from slidestudy.explanations.sampling import SAMPLE, PatchSample, patch_name
from slidestudy.files import write_json
from slidestudy.geometry import TileGrid
from slidestudy.models.tile_scores import write_tile_scores
from slidestudy.slides.reader import Slide
from slidestudy.tables import write_table

SIZE, MPP = 96, 0.5
SIDE = 800
# Two slides of different resolution, so that 96 px at 0.5 um/px is 96 and 120 px of them.
SCANNERS = {"a-1": SCANNER_A, "b-1": SCANNER_B}


def painted(seed: int) -> np.ndarray:
    """A smooth coloured image in which every place looks different."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 240, (9, 9, 3)).astype(np.uint8)
    return cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Slides, a sample over them and its folder."""
    home = tmp_path_factory.mktemp("patches")
    rows, entries = [], {}
    for seed, (slide, scanner) in enumerate(SCANNERS.items()):
        path = home / f"{slide}{scanner.format.value}"
        write_slide(path, painted(seed), scanner)
        entries[slide] = {"slide_id": slide, "path": str(path)}
        corners = TileGrid(SIDE, SIDE, scanner.mpp, SIZE, MPP).coords()[[0, 9, 20]]
        for k, (x, y) in enumerate(corners.tolist()):
            name = patch_name(slide, x, y, MPP)
            stratum = ("very_low", "low_near", "very_high")[k]
            rows.append([name, slide, f"p-{slide}", "north", x, y, MPP, stratum, 0.1 * k, k - 1.0, 0.5 * k])
    sample = PatchSample(pd.DataFrame(rows, columns=SAMPLE), 0.25, 1.5, "0123456789abcdef")
    mpps = {slide: scanner.mpp for slide, scanner in SCANNERS.items()}
    write_patches(home / "patches", sample, entries, mpps, SIZE, ["north", "south"])
    return home / "patches", sample, entries


def test_the_sample_and_its_card_come_back(written):
    folder, sample, _ = written
    table, card = read_patch_folder(folder)
    pd.testing.assert_frame_equal(table, sample.table, check_dtype=False)
    assert card == {
        "threshold": 0.25,
        "threshold_from": "median of the tiles of north, south",
        "spread": 1.5,
        "spread_from": "SD of the tiles of north, south",
        "digest": "0123456789abcdef",
        "patches": 6,
    }


def test_the_card_says_that_a_threshold_was_published(written, tmp_path):
    _, sample, entries = written
    mpps = {slide: scanner.mpp for slide, scanner in SCANNERS.items()}
    published = dataclasses.replace(sample, threshold=-0.135, threshold_published=True)
    write_patches(tmp_path / "patches", published, entries, mpps, SIZE, ["south"])
    _, card = read_patch_folder(tmp_path / "patches")
    assert (card["threshold"], card["threshold_from"]) == (-0.135, "published weights")
    assert card["spread_from"] == "SD of the tiles of south"


def test_an_undefined_attention_is_null(written, tmp_path):
    _, sample, entries = written
    mpps = {slide: scanner.mpp for slide, scanner in SCANNERS.items()}
    undefined = dataclasses.replace(sample, table=sample.table.assign(attention_logit=np.nan))
    write_patches(tmp_path / "patches", undefined, entries, mpps, SIZE, ["north"])
    for row in undefined.table.itertuples():
        text = (tmp_path / "patches" / row.patch_id / "metadata.json").read_text(encoding="utf-8")
        assert json.loads(text)["attention_logits"] == {"label_0": None}
    assert read_patch_folder(tmp_path / "patches")[0]["attention_logit"].isna().all()


def test_only_published_weights_have_a_threshold_of_their_own(tmp_path):
    for number, thresholds in enumerate([{}, {"published": -0.135}]):
        (tmp_path / f"fold-{number}").mkdir()
        write_json(tmp_path / f"fold-{number}" / "model.json", {"thresholds": thresholds})
    assert published_threshold([]) is None
    assert published_threshold([tmp_path / "fold-0"]) is None
    assert published_threshold([tmp_path / "fold-0", tmp_path / "fold-1"]) == -0.135


def test_a_patch_is_the_tile_that_the_encoder_saw(written):
    """Up to JPEG, and nearer to it by far than to any other tile of its slide."""
    folder, sample, entries = written
    read = {patch.patch_id: patch for patch in read_patches(folder, sample.table)}
    for slide, scanner in SCANNERS.items():
        grid = TileGrid(SIDE, SIDE, scanner.mpp, SIZE, MPP)
        coords = grid.coords()
        tiles = np.empty((len(coords), SIZE, SIZE, 3))
        with Slide(entries[slide]["path"], slide) as handle:
            for batch in handle.tiles(coords, grid.extent, SIZE):
                tiles[batch.rows] = batch.tiles
        for row in sample.table[sample.table["slide_id"] == slide].itertuples():
            patch = read[row.patch_id]
            assert (patch.rgb.shape, patch.rgb.dtype, patch.mpp) == ((SIZE, SIZE, 3), np.uint8, MPP)
            error = np.abs(tiles - patch.rgb).mean((1, 2, 3))
            own = int(np.flatnonzero((coords == [row.x, row.y]).all(1)).item())
            assert error[own] < 1.5
            assert np.delete(error, own).min() > 5


def test_patches_are_read_in_the_tables_order(written):
    folder, sample, _ = written
    turned = sample.table[::-1]
    assert [patch.patch_id for patch in read_patches(folder, turned)] == turned["patch_id"].tolist()


def test_a_patch_folder_is_laid_out_as_in_x2x(written):
    folder, sample, _ = written
    for row in sample.table.itertuples():
        home = folder / row.slide_id / f"{row.x}-{row.y}-{row.mpp:.1f}"
        assert {p.name for p in home.iterdir()} == {"rgb.jpeg", "metadata.json"}
        metadata = json.loads((home / "metadata.json").read_text(encoding="utf-8"))
        # The three keys of the reference, each with the model's one output.
        assert metadata["raw_logits"] == {"label_0": row.logit}
        assert metadata["probabilities"] == {"label_0": pytest.approx(row.score)}
        assert metadata["attention_logits"] == {"label_0": row.attention_logit}
        assert metadata["stratum"] == row.stratum


def test_writing_twice_gives_the_same_bytes(written, tmp_path):
    folder, sample, entries = written
    mpps = {slide: scanner.mpp for slide, scanner in SCANNERS.items()}
    write_patches(tmp_path / "patches", sample, entries, mpps, SIZE, ["north", "south"])
    files = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    assert len(files) == 2 + 2 * 6
    assert all((folder / f).read_bytes() == (tmp_path / "patches" / f).read_bytes() for f in files)


def test_a_missing_image_is_refused_and_named(written, tmp_path):
    _, sample, _ = written
    with pytest.raises(StudyError, match=r"a-1.*the patch image is missing"):
        list(read_patches(tmp_path, sample.table))


def score_tiles(folder: Path, slide: str, n: int, start: float) -> None:
    values = {
        name: start + np.arange(n, dtype=np.float32)
        for name in ("score", "logit", "attention", "attention_logit", "tissue_fraction")
    }
    coords = np.stack([np.arange(n) * 10, np.arange(n) * 20], 1).astype(np.int32)
    write_tile_scores(folder / f"{slide}.zarr", {"coords": coords, **values}, {"slide_id": slide})


def test_the_candidates_are_all_tiles_of_the_predicted_slides(tmp_path):
    score_tiles(tmp_path, "s1", 3, 0.0)
    score_tiles(tmp_path, "s2", 2, 100.0)
    score_tiles(tmp_path, "not-predicted", 4, 0.0)
    predictions = pd.DataFrame({"slide_id": ["s1", "s2"], "patient_id": ["p1", "p2"]})
    table = tile_table(tmp_path, predictions, "north", 0.5)
    assert table["slide_id"].tolist() == ["s1"] * 3 + ["s2"] * 2
    assert table["patient_id"].tolist() == ["p1"] * 3 + ["p2"] * 2
    assert table[["x", "y"]].to_numpy().tolist() == [[0, 0], [10, 20], [20, 40], [0, 0], [10, 20]]
    assert table["logit"].tolist() == [0, 1, 2, 100, 101]
    assert set(table["cohort"]) == {"north"}
    assert set(table["mpp"]) == {0.5}


def test_a_logit_does_not_cross_the_threshold_on_its_way_through_the_sample_table(tmp_path):
    """The threshold can be the very logit of a sampled tile, of which the label must stay low."""
    score_tiles(tmp_path, "s1", 3, 0.7)
    predictions = pd.DataFrame({"slide_id": ["s1"], "patient_id": ["p1"]})
    candidates = tile_table(tmp_path, predictions, "north", 0.5).assign(patch_id="s1/0-0-0.5", stratum="low_near")
    threshold = float(candidates["logit"].iloc[0])
    sample = PatchSample(candidates[SAMPLE], threshold, 1.0, "d")
    write_table(tmp_path / "sample.tsv", sample.table)
    write_json(tmp_path / "sample.json", {"threshold": threshold})
    table, card = read_patch_folder(tmp_path)
    assert (table["logit"] > card["threshold"]).tolist() == [False, True, True]


def test_a_cohort_without_predicted_slides_gives_no_candidates(tmp_path):
    empty = pd.DataFrame({"slide_id": [], "patient_id": []})
    with pytest.raises(StudyError, match="cohort north has no predicted slide"):
        tile_table(tmp_path, empty, "north", 0.5)
