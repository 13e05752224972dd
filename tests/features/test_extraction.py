"""The feature stage of one slide: which tiles, what the store says, and slides that cannot be used."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from shapely.geometry import box
from tests.damage import spoil_tile
from tests.features.extracting import MPP, SIZE, SVS, TIFF, TILES, Mean, extract, inspected

from slidestudy.demo.study import generate_study
from slidestudy.features import stain_texture
from slidestudy.features.encoders import StainTextureEncoder, build_encoder
from slidestudy.features.extraction import recipe_of
from slidestudy.features.identity import Encoder
from slidestudy.features.store import FeatureStore
from slidestudy.files import digest
from slidestudy.geometry import TileGrid
from slidestudy.slides.reader import Slide


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    generate_study(folder, seed=11, scale=0.45, patients={"north": 2, "south": 1, "west": 1}, workers=1)
    return folder / "slides"


# The tiles of a slide


@pytest.mark.parametrize(("name", "mpp"), [(SVS, 0.5), (TIFF, 0.4)])
def test_a_slide_full_of_tissue_gives_every_tile_of_its_grid(
    slides: Path, tmp_path: Path, name: str, mpp: float
) -> None:
    store = extract(slides / name, tmp_path / "s1.zarr")
    grid = TileGrid(round(640 / mpp), round(512 / mpp), mpp, SIZE, MPP)
    assert store.features.shape == (10 * 8, 3)
    np.testing.assert_array_equal(store.coords, grid.coords())
    np.testing.assert_allclose(store.tissue_fraction, 1, atol=0.01)
    assert store.attributes["tile_size_level0"] == pytest.approx(64 / mpp)
    assert (store.attributes["n_tiles"], store.attributes["n_unreadable"]) == (80, 0)


@pytest.mark.parametrize(("name", "mpp"), [(SVS, 0.5), (TIFF, 0.4)])
def test_every_row_is_of_the_tile_at_its_coordinates(slides: Path, tmp_path: Path, name: str, mpp: float) -> None:
    store = extract(slides / name, tmp_path / "s1.zarr")
    extent = 64 / mpp
    with Slide(slides / name) as slide:
        whole = slide.read(0, 0, 0, *slide.size).astype(float)
    for (x, y), features in zip(store.coords, store.features, strict=True):
        area = whole[y : y + round(extent), x : x + round(extent)].mean((0, 1))
        assert features == pytest.approx(area, abs=2.5)
    assert store.features.astype(float).std(0).min() > 5, "the tiles differ"


def test_only_tiles_on_tissue_are_encoded(slides: Path, tmp_path: Path) -> None:
    encoder = Mean()
    store = extract(slides / SVS, tmp_path / "s1.zarr", box(130, 130, 510, 382), encoder)
    assert sum(encoder.batches) == len(store.coords) == 6
    assert sorted(map(tuple, store.coords.tolist())) == [(x, y) for x in (128, 256, 384) for y in (128, 256)]


def test_tiles_are_encoded_in_batches_of_the_size_asked_for(slides: Path, tmp_path: Path) -> None:
    encoder = Mean()
    first = extract(slides / SVS, tmp_path / "a.zarr", encoder=encoder, batch_size=32)
    assert encoder.batches == [32, 32, 16]
    second = extract(slides / SVS, tmp_path / "b.zarr", batch_size=1000)
    np.testing.assert_array_equal(first.features, second.features)


def test_batches_are_full_though_tiles_cannot_be_read(
    spoilt: Path, tmp_path: Path, sound_inspection: dict[str, Any]
) -> None:
    encoder = Mean()
    extract(spoilt, tmp_path / "s1.zarr", encoder=encoder, inspection=sound_inspection, batch_size=10)
    assert encoder.batches == [10, 10, 10, 10, 7]


def build(name: str, mpp: float = MPP) -> Encoder:
    """A small real network, untrained, or the hand-crafted encoder."""
    if name == "stain-texture":
        return StainTextureEncoder("hand", mpp)
    spec = {"name": "net", "backend": "timm", "architecture": name, "weights": "none", "precision": "fp32"}
    return build_encoder(spec, SIZE, mpp, seed=1)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "stain-texture"])
def test_features_hang_neither_on_batch_size_nor_on_threads(slides: Path, tmp_path: Path, name: str) -> None:
    encoder = build(name)
    first, again, *others = [
        extract(slides / SVS, tmp_path / f"{i}.zarr", encoder=encoder, batch_size=batch_size, threads=threads)
        for i, (batch_size, threads) in enumerate([(16, 1), (16, 2), (1, 1), (7, 2), (64, 1), (500, 3)])
    ]
    assert again.features.tobytes() == first.features.tobytes()
    scale = np.abs(first.features).max()
    assert scale > 0.01
    for other in others:
        np.testing.assert_allclose(
            other.features.astype(float) / scale, first.features.astype(float) / scale, atol=1e-3, rtol=1e-3
        )


def test_how_fast_it_went_is_printed_and_not_stored(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = extract(slides / SVS, tmp_path / "s1.zarr", batch_size=32)
    (line,) = capsys.readouterr().out.splitlines()
    pattern = r"s1: 80 tiles in [\d.]+ s, ([\d.]+)% of the time waiting for pixels, batches of 32"
    found = re.fullmatch(pattern, line)
    assert found, line
    assert 0 <= float(found[1]) <= 100
    assert "waiting" not in json.dumps(store.attributes)


def test_the_hand_crafted_encoder_fills_a_store(slides: Path, tmp_path: Path) -> None:
    store = extract(slides / SVS, tmp_path / "s1.zarr", box(0, 0, 512, 256), StainTextureEncoder("hand", MPP))
    assert store.features.shape == (8, stain_texture.DIM)
    assert store.attributes["encoder"]["name"] == "hand"


def contents(folder: Path) -> dict[str, str]:
    files = [p for p in folder.rglob("*") if p.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_two_runs_and_any_number_of_threads_give_the_same_bytes(slides: Path, tmp_path: Path) -> None:
    stores = [tmp_path / f"{i}" / "s1.zarr" for i in range(3)]
    for store, threads in zip(stores, (1, 1, 2), strict=True):
        store.parent.mkdir()
        extract(slides / TIFF, store, encoder=StainTextureEncoder("hand", MPP), threads=threads)
    assert contents(stores[0]) == contents(stores[1]) == contents(stores[2])


# What the store says


def test_the_store_says_where_its_features_come_from(slides: Path, tmp_path: Path) -> None:
    entry, inspection = inspected(slides / TIFF)
    attributes = extract(slides / TIFF, tmp_path / "s1.zarr").attributes
    assert [attributes[key] for key in ("slide_id", "patient_id", "cohort")] == ["s1", "p1", "c1"]
    assert (attributes["status"], attributes["reason"]) == ("admitted", None)
    assert attributes["fingerprint"] == inspection["fingerprint"]
    assert attributes["slide_mpp"] == inspection["mpp"]
    assert (attributes["tile_size_px"], attributes["target_mpp"]) == (SIZE, MPP)
    assert attributes["normaliser"] == "none"
    assert attributes["recipe"] == digest(recipe_of(Mean.identity, TILES))
    assert {"slidestudy", "zarr", "openslide-bin"} <= attributes["software"].keys()
    assert entry["path"] not in json.dumps(attributes), "no path of this machine"


def test_slides_of_different_resolution_share_one_recipe(slides: Path, tmp_path: Path) -> None:
    recipes = {
        extract(slides / name, tmp_path / f"{i}.zarr").attributes["recipe"] for i, name in enumerate([SVS, TIFF])
    }
    assert len(recipes) == 1


@pytest.mark.parametrize("change", [{"size": 32}, {"mpp": 0.5}, {"min_tissue": 0.5}])
def test_whatever_changes_the_features_changes_the_recipe(change: dict[str, float]) -> None:
    assert recipe_of(Mean.identity, {**TILES, **change}) != recipe_of(Mean.identity, TILES)


def test_what_leaves_the_features_alone_leaves_the_recipe_alone() -> None:
    other = {**TILES, "min_tiles": 99, "max_unreadable": 0.5}
    assert recipe_of(Mean.identity, other) == recipe_of(Mean.identity, TILES)


# Slides that cannot be used


def assert_empty(store: FeatureStore, code: str) -> None:
    assert store.attributes["status"] == "excluded"
    assert store.attributes["reason"]["code"] == code
    assert store.attributes["reason"]["message"]
    assert store.features.shape == (0, 3)
    assert (len(store.coords), store.attributes["n_tiles"]) == (0, 0)


def test_a_slide_without_tissue_passes_on_its_reason_and_is_not_opened(slides: Path, tmp_path: Path) -> None:
    reason = {"code": "no_tissue", "message": "no tissue was found"}
    _, inspection = inspected(slides / SVS)
    record = {"status": "excluded", "reason": reason}
    store = extract(tmp_path / "absent.svs", tmp_path / "s1.zarr", record=record, inspection=inspection)
    assert_empty(store, "no_tissue")
    assert store.attributes["reason"] == reason


@pytest.mark.parametrize(("columns", "code"), [(3, "too_few_tiles"), (4, None)])
def test_a_slide_with_too_few_tiles_is_excluded(slides: Path, tmp_path: Path, columns: int, code: str | None) -> None:
    encoder = Mean()
    store = extract(slides / SVS, tmp_path / "s1.zarr", box(0, 0, 128 * columns - 2, 126), encoder)
    if code is None:
        assert len(store.coords) == columns
        return
    assert_empty(store, code)
    assert f"{columns} tiles" in store.attributes["reason"]["message"]
    assert encoder.batches == [], "nothing is read of it"


COLOURS = np.random.default_rng(0).integers(100, 230, (6, 8, 3), dtype=np.uint8)
"""Colours of the tiles of `spoilt`."""


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide of 8 x 6 JPEG tiles of 128 px at 0.5 um/px, which are the grid's tiles; the tenth is damaged."""
    path = tmp_path_factory.mktemp("spoilt") / "slide.tif"
    image = COLOURS.repeat(128, 0).repeat(128, 1)
    tifffile.imwrite(
        path,
        image,
        tile=(128, 128),
        compression="jpeg",
        photometric="rgb",
        metadata=None,
        resolution=(20_000, 20_000),
        resolutionunit="CENTIMETER",
    )
    return spoil_tile(path, 9)


@pytest.fixture
def sound_inspection() -> dict[str, Any]:
    mpp = {"value": 0.5, "x": 0.5, "y": 0.5, "source": "tiff-tags", "candidates": []}
    reader = {"kind": "chunks", "why": ""}
    return {"width": 1024, "height": 768, "mpp": mpp, "reader": reader, "fingerprint": "f" * 64}


@pytest.mark.parametrize("threads", [1, 2])
def test_a_damaged_tile_is_marked_and_the_others_are_kept(
    spoilt: Path, tmp_path: Path, sound_inspection: dict[str, Any], threads: int
) -> None:
    store = extract(spoilt, tmp_path / "s1.zarr", inspection=sound_inspection, threads=threads)
    assert store.attributes["status"] == "admitted"
    assert (store.attributes["n_tiles"], store.attributes["n_unreadable"]) == (48, 1)
    assert len(store.features) == 47
    assert [128, 128] not in store.coords.tolist()
    assert [256, 128] in store.coords.tolist()
    x, y = (store.coords // 128).T
    np.testing.assert_allclose(store.features.astype(float), COLOURS[y, x], atol=3)


def test_too_many_damaged_tiles_exclude_the_slide(
    spoilt: Path, tmp_path: Path, sound_inspection: dict[str, Any]
) -> None:
    store = extract(spoilt, tmp_path / "s1.zarr", inspection=sound_inspection, tiles={"max_unreadable": 0.02})
    assert_empty(store, "unreadable_tiles")
    assert "1 of 48 tiles" in store.attributes["reason"]["message"]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_slide_that_opens_no_longer_is_excluded_with_that_reason(
    tmp_path: Path, sound_inspection: dict[str, Any], threads: int
) -> None:
    path = tmp_path / "slide.tif"
    path.write_bytes(b"")
    store = extract(path, tmp_path / "s1.zarr", inspection=sound_inspection, threads=threads)
    assert_empty(store, "truncated")
