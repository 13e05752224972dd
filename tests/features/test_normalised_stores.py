"""Stores of normalised tiles: what they say of each tile, and whether that is checked."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from tests.features.simulated_slides import (
    BLANK,
    COLUMNS,
    DARK,
    ROWS,
    SIDE,
    TILES,
    UNREADABLE,
    Mean,
    extract,
    normaliser,
    write_simulated_slide,
)

from slidestudy.features.extraction import recipe_of
from slidestudy.features.normalisation import Outcome
from slidestudy.features.store import OUTCOME, content_checksum, read_arrays, read_attributes, read_features
from slidestudy.features.verification import verify_store, verify_stores
from slidestudy.files import digest
from slidestudy.slides.reader import Slide


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_simulated_slide(tmp_path_factory.mktemp("slide") / "slide.tif")


def test_the_store_says_what_became_of_every_tile(slide: Path, tmp_path: Path) -> None:
    attributes = extract(slide, tmp_path / "s1.zarr", normaliser(25))
    outcome = read_arrays(tmp_path / "s1.zarr", [OUTCOME])[OUTCOME]
    expected = np.full(COLUMNS * ROWS, Outcome.NORMALISED)
    expected[[*BLANK, UNREADABLE]] = Outcome.PASSED_THROUGH
    expected[list(DARK)] = Outcome.FLAGGED
    np.testing.assert_array_equal(outcome, expected)
    assert (attributes["n_unnormalised"], attributes["n_flagged"]) == (3, 2), "the unreadable one is counted as such"
    assert attributes["n_unreadable"] == 1
    assert attributes["max_shift"] == 25


def test_features_are_of_the_normalised_tiles_and_blank_ones_as_they_were(slide: Path, tmp_path: Path) -> None:
    extract(slide, tmp_path / "plain.zarr", None)
    extract(slide, tmp_path / "macenko.zarr", normaliser())
    plain, changed = (read_features(tmp_path / f"{name}.zarr").features for name in ("plain", "macenko"))
    numbers = [i for i in range(COLUMNS * ROWS) if i != UNREADABLE]
    same = (plain == changed).all(axis=1)
    assert [number for number, is_same in zip(numbers, same, strict=True) if is_same] == list(BLANK)
    # A tile's features are those of the tile normalised by itself.
    with Slide(slide) as opened:
        tile = opened.read_square(SIDE * (9 % COLUMNS), SIDE * (9 // COLUMNS), SIDE, SIDE)
    (tile,), _ = normaliser().apply(tile[None])
    np.testing.assert_allclose(changed[9].astype(float), tile.mean((0, 1)), rtol=1e-3)


def test_threads_and_batches_change_nothing(slide: Path, tmp_path: Path) -> None:
    stores = []
    for i, (threads, batch_size) in enumerate([(1, 64), (3, 64), (2, 5)]):
        extract(slide, tmp_path / str(i) / "s1.zarr", normaliser(), threads=threads, batch_size=batch_size)
        files = sorted(p for p in (tmp_path / str(i) / "s1.zarr").rglob("*") if p.is_file())
        stores.append([p.read_bytes() for p in files])
    assert stores[0] == stores[1] == stores[2]


def test_the_recipe_names_the_normaliser_and_its_template(slide: Path, tmp_path: Path) -> None:
    used = normaliser()
    attributes = extract(slide, tmp_path / "s1.zarr", used)
    assert attributes["normaliser"] == used.recipe
    assert attributes["normaliser"]["template"] == "generated-he"
    assert attributes["recipe"] == digest(recipe_of(Mean.identity, TILES, used.recipe))
    assert attributes["recipe"] != digest(recipe_of(Mean.identity, TILES))
    assert "torchstain" in attributes["software"]


def test_without_a_normaliser_there_is_nothing_of_it(slide: Path, tmp_path: Path) -> None:
    attributes = extract(slide, tmp_path / "s1.zarr", None)
    assert attributes["normaliser"] == "none"
    assert not {"n_unnormalised", "n_flagged", "max_shift"} & attributes.keys()
    assert not (tmp_path / "s1.zarr" / OUTCOME).exists()
    assert "torchstain" not in attributes["software"]


def test_an_excluded_slide_keeps_the_recipe_and_counts_nothing(slide: Path, tmp_path: Path) -> None:
    used = normaliser()
    for name, tiles in (("few", {"min_tiles": 99}), ("damaged", {"max_unreadable": 0.0})):
        attributes = extract(slide, tmp_path / f"{name}.zarr", used, tiles=tiles)
        assert attributes["status"] == "excluded"
        assert attributes["normaliser"] == used.recipe
        counts = [attributes[n] for n in ("n_tiles", "n_unreadable", "n_unnormalised", "n_flagged")]
        assert counts == [0, 0, 0, 0]
        assert verify_store(tmp_path / f"{name}.zarr").problems == ()


# Verification


def test_a_sound_store_has_no_problems_and_may_lie_beside_one_of_another_recipe(slide: Path, tmp_path: Path) -> None:
    extract(slide, tmp_path / "a" / "north" / "s1.zarr", normaliser())
    extract(slide, tmp_path / "a" / "north" / "s2.zarr", normaliser())
    assert [v.problems for v in verify_stores(sorted((tmp_path / "a" / "north").glob("*.zarr")))] == [(), ()]
    extract(slide, tmp_path / "a" / "north" / "s3.zarr", None)
    *_, last = verify_stores(sorted((tmp_path / "a" / "north").glob("*.zarr")))
    assert "its recipe is" in last.problems[0]


def rewrite(path: Path, outcome: npt.NDArray[Any] | None, **attributes: Any) -> None:
    """Changes the optional array and attributes (those that are None are removed), and mends the checksum."""
    group = zarr.open_group(path, mode="r+")
    names = ["features", "coords", "tissue_fraction", "readable"]
    del group[OUTCOME]
    if outcome is not None:
        group.create_array(OUTCOME, data=outcome)
        names.append(OUTCOME)
    stated = {**read_attributes(path), "checksum": content_checksum(read_arrays(path, names)), **attributes}
    group.attrs.put({key: value for key, value in stated.items() if value is not None})


GOOD = np.array([0, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0] + [1] * 12, np.uint8)
GOOD[UNREADABLE] = 0


def changed(**at: int) -> npt.NDArray[np.uint8]:
    outcome = GOOD.copy()
    for key, value in at.items():
        outcome[int(key.removeprefix("row"))] = value
    return outcome


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda path: rewrite(path, GOOD), None),
        (lambda path: rewrite(path, GOOD.astype(np.int32)), "normalisation is int32, not uint8"),
        (lambda path: rewrite(path, GOOD[:, None]), r"normalisation has shape \(24, 1\)"),
        (lambda path: rewrite(path, GOOD[:20]), "arrays differ in length: .*normalisation 20"),
        (lambda path: rewrite(path, changed(row3=7)), "has 1 value above 2"),
        (lambda path: rewrite(path, changed(row14=1)), "normalised that cannot be read"),
        (lambda path: rewrite(path, changed(row3=2)), "n_flagged is 0, but the arrays have 1"),
        (lambda path: rewrite(path, changed(row3=0)), "n_unnormalised is 3, but the arrays have 4"),
        (lambda path: rewrite(path, GOOD, n_flagged=None), "attribute n_flagged is missing"),
        (lambda path: rewrite(path, None), "has n_unnormalised and n_flagged, but no array normalisation"),
        (lambda path: rewrite(path, GOOD, normaliser="none"), "though its normaliser is none"),
        (lambda path: (path / OUTCOME / "zarr.json").unlink(), "array normalisation is missing"),
        (lambda path: (path / OUTCOME / "c" / "0").write_bytes(b"x" * 80), "array normalisation cannot be decoded"),
    ],
)
def test_whatever_does_not_hold_is_found(
    slide: Path, tmp_path: Path, change: Callable[[Path], None], problem: str | None
) -> None:
    path = tmp_path / "s1.zarr"
    extract(slide, path, normaliser())
    change(path)
    found = verify_store(path).problems
    if problem is None:
        assert found == ()
    else:
        assert re.search(problem, "\n".join(found))
