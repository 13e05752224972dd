"""Verification: a sound store has no problem; whatever is damaged is found, all of it at once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn
from tests.features.stores import attributes, grid, make_store

from slidestudy.errors import StudyError
from slidestudy.features.store import FORMAT, read_arrays, write_arrays
from slidestudy.features.verification import find_stores, row_keys, verify_store, verify_stores

NAMES = ("features", "coords", "tissue_fraction", "readable")
Arrays = dict[str, npt.NDArray[Any]]


def rewrite(path: Path, change: Callable[[Arrays], Arrays | None], **changed: Any) -> None:
    """Writes a store again with other arrays and a checksum that fits them."""
    arrays = read_arrays(path, NAMES)
    arrays = change(arrays) or arrays
    stated = json.loads((path / "zarr.json").read_text())["attributes"]
    write_arrays(path, arrays, {**stated, **changed})


def restate(path: Path, **changed: Any) -> None:
    """Changes attributes; None removes one."""
    file = path / "zarr.json"
    content = json.loads(file.read_text())
    content["attributes"] = {k: v for k, v in {**content["attributes"], **changed}.items() if v is not None}
    file.write_text(json.dumps(content))


def found(path: Path) -> str:
    return "; ".join(verify_store(path).problems)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path / "s1.zarr", unreadable=(2, 7))


# Sound stores


def test_a_sound_store_has_no_problem(store: Path) -> None:
    verdict = verify_store(store)
    assert (verdict.problems, verdict.n_tiles, verdict.attributes["slide_id"]) == ((), 12, "s1")


def test_the_empty_store_of_an_excluded_slide_is_sound(tmp_path: Path) -> None:
    path = make_store(tmp_path / "s1.zarr", grid()[:0], status="excluded", reason={"code": "no_tissue", "message": ""})
    assert verify_store(path).problems == ()


def test_files_of_the_workflow_engine_are_no_problem(store: Path) -> None:
    (store / ".snakemake_timestamp").touch()
    assert verify_store(store).problems == ()


@settings(deadline=None, max_examples=30)
@given(
    stn.arrays(np.int32, st.tuples(st.integers(0, 12), st.just(2)), elements=st.integers(-3, 3)),
)
def test_order_and_repeats_are_judged_as_by_sorting(
    tmp_path_factory: pytest.TempPathFactory, coords: npt.NDArray[np.int32]
) -> None:
    text = found(make_store(tmp_path_factory.getbasetemp() / "any.zarr", coords))
    rows = [(y, x) for x, y in coords.tolist()]
    assert ("row-major" in text) == (rows != sorted(rows))
    assert ("there twice" in text) == (len(set(rows)) < len(rows))


@given(stn.arrays(np.int32, st.tuples(st.integers(0, 20), st.just(2))))
def test_keys_sort_as_rows_then_columns(coords: npt.NDArray[np.int32]) -> None:
    keys = row_keys(coords).tolist()
    rows = [(y, x) for x, y in coords.tolist()]
    assert sorted(range(len(rows)), key=keys.__getitem__) == sorted(range(len(rows)), key=rows.__getitem__)


# Damage


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"attributes": []}'])
def test_attributes_that_cannot_be_read_are_the_only_problem(store: Path, text: str) -> None:
    (store / "zarr.json").write_text(text)
    assert found(store) == "its attributes cannot be read (zarr.json)"


def test_another_format_is_found(store: Path) -> None:
    restate(store, format="slidestudy-features/0")
    assert found(store) == f"its format is 'slidestudy-features/0', not {FORMAT!r}"


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_array_is_found(store: Path, name: str) -> None:
    shutil.rmtree(store / name)
    assert found(store) == f"array {name} is missing"


@pytest.mark.parametrize("name", NAMES)
def test_a_lost_or_cut_shard_is_found(store: Path, name: str) -> None:
    shard = next(p for p in (store / name).rglob("*") if p.is_file() and p.name != "zarr.json")
    shard.write_bytes(shard.read_bytes()[:10])
    assert f"array {name} cannot be decoded" in found(store)
    shard.unlink()
    assert "checksum differs" in found(store)


def test_a_flipped_byte_is_found(store: Path) -> None:
    for shard in [p for p in store.rglob("*") if p.is_file() and p.name != "zarr.json"]:
        sound = shard.read_bytes()
        spoilt = bytearray(sound)
        spoilt[len(sound) // 3] ^= 0x10
        shard.write_bytes(spoilt)
        assert "checksum differs" in found(store) or "cannot be decoded" in found(store)
        shard.write_bytes(sound)
    assert found(store) == ""


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("features", lambda a: a.astype(np.float32), "array features is float32, not float16"),
        ("coords", lambda a: a.astype(np.int64), "array coords is int64, not int32"),
        ("coords", lambda a: np.c_[a, a].astype(np.int32), "array coords has shape (12, 4), not (n_tiles, 2)"),
        ("features", lambda a: a[:, 0], "array features has shape (12,), not (n_tiles, dim)"),
        ("readable", lambda a: a.astype(np.uint8), "array readable is uint8, not bool"),
        ("tissue_fraction", lambda a: a[:-1], "differ in length: features 12, coords 12, tissue_fraction 11"),
    ],
)
def test_wrong_types_and_shapes_are_found(
    store: Path, name: str, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]], expected: str
) -> None:
    rewrite(store, lambda arrays: {**arrays, name: change(arrays[name])})
    assert expected in found(store)
    assert "checksum" not in found(store)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_found_in_readable_rows_only(store: Path, value: float) -> None:
    def spoil(arrays: Arrays) -> None:
        arrays["features"][[2, 4], 1] = value

    rewrite(store, spoil)
    assert found(store) == "1 readable tile has features that are NaN or infinite"


def test_coordinates_given_twice_are_found(tmp_path: Path) -> None:
    coords = np.repeat(grid(), 2, axis=0)
    assert found(make_store(tmp_path / "s1.zarr", coords)) == "12 coordinates are there twice"


def test_column_major_order_is_found(tmp_path: Path) -> None:
    path = make_store(tmp_path / "s1.zarr", np.ascontiguousarray(grid()[:, ::-1]))
    assert found(path) == "its tiles are not in row-major order: row 4 belongs before row 3"


@pytest.mark.parametrize("name", ["n_tiles", "n_unreadable"])
def test_wrong_counts_are_found(store: Path, name: str) -> None:
    restate(store, **{name: 99})
    assert found(store).startswith(f"{name} is 99, but the arrays have")


@pytest.mark.parametrize("name", ["slide_id", "checksum", "recipe", "encoder", "tiles", "normaliser", "n_tiles"])
def test_missing_attributes_are_found(store: Path, name: str) -> None:
    restate(store, **{name: None})
    assert f"attribute {name} is missing" in found(store)


@pytest.mark.parametrize(
    "changed",
    [
        {"recipe": "0" * 16},
        {"normaliser": "macenko"},
        {"tiles": {"size": 256, "mpp": 0.5, "min_tissue": 0.4}},
        {"encoder": {**attributes()["encoder"], "weights_digest": "1" * 16}},
    ],
)
def test_a_recipe_that_is_not_its_parts_digest_is_found(store: Path, changed: dict[str, Any]) -> None:
    restate(store, **changed)
    assert "but its encoder, tiles and normaliser give" in found(store)


def test_attributes_that_contradict_each_other_are_found(store: Path) -> None:
    encoder = {k: v for k, v in attributes()["encoder"].items() if k != "precision"}
    restate(store, tile_size_px=512, target_mpp=1.0, encoder={**encoder, "dim": 6})
    text = found(store)
    assert "tile_size_px is 512, but its tiles have size 256" in text
    assert "target_mpp is 1.0, but its tiles have mpp 0.5" in text
    assert "identity lacks precision" in text
    assert "features have 5 values, but its encoder gives 6" in text


def test_all_problems_of_a_store_are_reported_together(tmp_path: Path) -> None:
    path = make_store(tmp_path / "s1.zarr", np.repeat(grid(), 2, axis=0)[::-1])
    restate(path, n_tiles=3, recipe="x", checksum="y", cohort=None)
    problems = verify_store(path).problems
    assert len(problems) == 6
    for word in ("cohort", "recipe", "checksum", "twice", "row-major", "n_tiles"):
        assert any(word in problem for problem in problems), word


# Several stores


def test_stores_of_one_encoder_must_share_a_recipe_across_cohorts(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    for slide in ("s1", "s2"):
        make_store(folder / "north" / f"{slide}.zarr")
    odd = make_store(folder / "south" / "s3.zarr", **attributes("s3", "south", size=512))
    make_store(tmp_path / "other" / "south" / "s3.zarr", **attributes("s3", "south", size=512))
    verdicts = {v.path: v.problems for v in verify_stores(find_stores([tmp_path]))}
    (problem,) = verdicts.pop(odd)
    assert problem.endswith(f"but 2 of 3 stores in {folder} have {attributes()['recipe']}")
    assert set(verdicts.values()) == {()}


def test_a_folder_is_searched_and_other_stores_and_half_written_ones_are_passed_over(tmp_path: Path) -> None:
    sound = make_store(tmp_path / "features" / "north" / "s1.zarr")
    broken = make_store(tmp_path / "features" / "north" / "s2.zarr")
    (broken / "zarr.json").unlink()
    make_store(tmp_path / "features" / "north" / ".s3.zarr.partial.zarr")
    write_arrays(tmp_path / "predictions" / "s1.zarr", {"score": np.zeros(3)}, {"format": "slidestudy-tile-scores/1"})
    assert find_stores([tmp_path, sound]) == [sound, broken]


def test_paths_without_a_store_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyError) as caught:
        find_stores([tmp_path / "empty", tmp_path / "absent"])
    assert [p.what for p in caught.value.problems] == ["holds no feature store", "there is no such folder"]
