"""The feature store: what is written is read, exactly; what is damaged or of another recipe is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from slidestudy.errors import StudyError
from slidestudy.features.store import (
    FORMAT,
    OUTCOME,
    SHARD_TILES,
    StoreWriter,
    common_recipe,
    content_checksum,
    read_arrays,
    read_attributes,
    read_features,
    write_arrays,
    write_features,
)

ATTRIBUTES = {"slide_id": "s1", "recipe": "r1"}


def arrays(count: int, dim: int = 5, seed: int = 0) -> dict[str, npt.NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return {
        "features": rng.normal(0, 3, (count, dim)).astype(np.float32),
        "coords": rng.integers(0, 100_000, (count, 2), dtype=np.int32),
        "tissue_fraction": rng.random(count, dtype=np.float32),
        "readable": np.ones(count, bool),
    }


def write(path: Path, content: dict[str, npt.NDArray[Any]] | None = None, **attributes: Any) -> Path:
    content = arrays(20) if content is None else content
    write_features(
        path,
        content["features"],
        content["coords"],
        content["tissue_fraction"],
        content["readable"],
        {**ATTRIBUTES, **attributes},
    )
    return path


def digests(folder: Path) -> dict[str, str]:
    files = [p for p in folder.rglob("*") if p.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


# What is written is read


@pytest.mark.parametrize("count", [1, 20, 5000])
def test_rows_come_back_in_order_and_half_precision(tmp_path: Path, count: int) -> None:
    content = arrays(count)
    store = read_features(write(tmp_path / "s1.zarr", content))
    assert (store.features.dtype, store.coords.dtype) == (np.float16, np.int32)
    np.testing.assert_array_equal(store.features, content["features"].astype(np.float16))
    np.testing.assert_array_equal(store.coords, content["coords"])
    np.testing.assert_array_equal(store.tissue_fraction, content["tissue_fraction"])
    assert store.attributes["format"] == FORMAT
    assert store.attributes["slide_id"] == "s1"


def test_an_empty_store_keeps_the_features_length(tmp_path: Path) -> None:
    store = read_features(write(tmp_path / "s1.zarr", arrays(0), status="excluded"))
    assert store.features.shape == (0, 5)
    assert store.coords.shape == (0, 2)
    assert store.attributes["status"] == "excluded"


def test_unreadable_tiles_are_kept_in_the_file_and_left_out_of_the_bag(tmp_path: Path) -> None:
    content = arrays(6)
    content["readable"][[1, 4]] = False
    content["features"][[1, 4]] = np.nan
    path = write(tmp_path / "s1.zarr", content)
    store = read_features(path)
    for name in ("coords", "tissue_fraction"):
        np.testing.assert_array_equal(getattr(store, name), content[name][[0, 2, 3, 5]])
    assert np.isfinite(store.features).all()
    assert zarr.open_group(path, mode="r")["features"].shape == (6, 5)


def test_any_zarr_reader_opens_it(tmp_path: Path) -> None:
    content = arrays(20)
    group = zarr.open_group(write(tmp_path / "s1.zarr", content), mode="r")
    assert group.metadata.zarr_format == 3
    assert group["features"].chunks == (4096, 5)
    np.testing.assert_array_equal(group["coords"][...], content["coords"])


@pytest.mark.parametrize("count", [20, 9000])
def test_a_slide_is_a_handful_of_files(tmp_path: Path, count: int) -> None:
    assert len(digests(write(tmp_path / "s1.zarr", arrays(count)))) == 9, "one for the group, two for each array"


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a" / "s1.zarr"), write(tmp_path / "b" / "s1.zarr")
    assert digests(first) == digests(second)
    assert digests(write(tmp_path / "c" / "s1.zarr", arrays(20, seed=1))) != digests(first)


def test_writing_again_replaces_the_store_whole(tmp_path: Path) -> None:
    path = tmp_path / "s1.zarr"
    write(path, arrays(30))
    (path / "left-over").touch()
    write(path, arrays(4))
    assert len(read_features(path).features) == 4
    assert not (path / "left-over").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["s1.zarr"]


def test_a_small_slide_is_a_small_file(tmp_path: Path) -> None:
    path = write(tmp_path / "s1.zarr", arrays(20, 1536))
    assert sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) < 120_000, "20 x 1,536 x 2 bytes, not a chunk"


# Writing while tiles are encoded


def stream(
    path: Path, content: dict[str, npt.NDArray[Any]], parts: list[npt.NDArray[np.intp]], **attributes: Any
) -> StoreWriter:
    """Writes rows in parts, as extraction does."""
    writer = StoreWriter(path, content["coords"], content["tissue_fraction"], content["features"].shape[1], "s1")
    for rows in parts:
        good = content["readable"][rows]
        writer.put(rows[good], content["features"][rows[good]])
        writer.skip(rows[~good])
    writer.finish({**ATTRIBUTES, **attributes})
    return writer


@pytest.mark.parametrize("count", [0, 1, 50, SHARD_TILES, 2 * SHARD_TILES + 1000])
def test_rows_in_any_order_and_batches_give_the_bytes_of_a_store_written_whole(tmp_path: Path, count: int) -> None:
    content = arrays(count, 3)
    content["readable"][::7] = False
    content["features"][::7] = np.nan
    whole = digests(write(tmp_path / "whole.zarr", content))
    order = np.random.default_rng(0).permutation(count)
    for name, parts in {
        "forwards": np.split(np.arange(count), range(64, count, 64)),
        "backwards": np.split(np.arange(count)[::-1], range(1000, count, 1000)),
        "shuffled": np.split(order, range(999, count, 999)),
    }.items():
        stream(tmp_path / name, content, parts)
        assert digests(tmp_path / name) == whole
    if count > 1:
        assert len(whole) == 1 + 4 * (1 + -(-count // SHARD_TILES)), "for each array one, and one for each shard"


def test_a_shard_is_written_and_let_go_as_soon_as_it_is_complete(tmp_path: Path) -> None:
    content = arrays(2 * SHARD_TILES + 5, 2)
    writer = StoreWriter(tmp_path / "s", content["coords"], content["tissue_fraction"], 2, "s1")
    held, files = [], []
    for rows in np.split(np.arange(2 * SHARD_TILES + 5), range(1000, 2 * SHARD_TILES + 5, 1000)):
        writer.put(rows, content["features"][rows])
        held.append(sum(block.nbytes for block in writer._open.values()))
        files.append(len([p for p in (tmp_path / "s" / "features" / "c").rglob("*") if p.is_file()]))
    assert max(held) <= (SHARD_TILES + 5) * 2 * 2
    assert (files[0], files[20], files[-1], held[-1]) == (0, 1, 3, 0)


def test_a_store_with_rows_missing_is_not_finished(tmp_path: Path) -> None:
    content = arrays(10)
    writer = StoreWriter(tmp_path / "s", content["coords"], content["tissue_fraction"], 5, "s1")
    writer.put(np.arange(9), content["features"][:9])
    with pytest.raises(ValueError, match="1 rows are missing"):
        writer.finish(ATTRIBUTES)
    with pytest.raises(StudyError, match=FORMAT):
        read_features(tmp_path / "s")


def test_the_optional_array_is_part_of_the_checksum_and_does_not_disturb_reading(tmp_path: Path) -> None:
    content = arrays(10)
    writer = StoreWriter(tmp_path / "s.zarr", content["coords"], content["tissue_fraction"], 5, "s1", normalised=True)
    outcome = np.arange(10, dtype=np.uint8) % 3
    writer.put(np.arange(1, 10), content["features"][1:], outcome[1:])
    writer.skip(np.array([0]))
    writer.finish(ATTRIBUTES)
    store = read_features(tmp_path / "s.zarr")
    assert len(store.features) == 9
    names = ["coords", "features", OUTCOME, "readable", "tissue_fraction"]
    read = read_arrays(tmp_path / "s.zarr", names)
    np.testing.assert_array_equal(read[OUTCOME], outcome)
    assert store.attributes["checksum"] == content_checksum(read)
    group = zarr.open_group(tmp_path / "s.zarr", mode="r+")
    group[OUTCOME][3] = 2
    with pytest.raises(StudyError, match="checksum"):
        read_features(tmp_path / "s.zarr")


def test_stores_with_one_shard_for_all_chunks_and_another_compressor_are_read(tmp_path: Path) -> None:
    """As the format's first writers made them."""
    content = arrays(20_000, 3)
    content["features"] = content["features"].astype(np.float16)
    attributes = {"format": FORMAT, **ATTRIBUTES, "checksum": content_checksum(content)}
    group = zarr.create_group(tmp_path / "old.zarr", zarr_format=3, attributes=attributes)
    for name, array in content.items():
        chunk, shard = (4096, *array.shape[1:]), (5 * 4096, *array.shape[1:])
        group.create_array(name, shape=array.shape, dtype=array.dtype, chunks=chunk, shards=shard)[...] = array
    np.testing.assert_array_equal(read_features(tmp_path / "old.zarr").features, content["features"])


# What float16 cannot hold


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 65_536.0, -70_000.0])
def test_a_value_that_cannot_be_kept_is_refused_and_nothing_is_left(tmp_path: Path, value: float) -> None:
    content = arrays(5)
    content["features"][3, 2] = value
    with pytest.raises(StudyError, match=r"s1.*not finite or too large"):
        write(tmp_path / "s1.zarr", content)
    assert list(tmp_path.iterdir()) == []


@settings(deadline=None)
@given(stn.arrays(np.float32, (3, 2), elements=st.floats(width=32)))
def test_whatever_the_encoder_gives_is_kept_finite_or_refused(
    tmp_path_factory: pytest.TempPathFactory, values: npt.NDArray[np.float32]
) -> None:
    content = {**arrays(3, 2), "features": values}
    path = tmp_path_factory.getbasetemp() / "any.zarr"
    try:
        write(path, content)
    except StudyError:
        assert not np.isfinite(values).all() or np.abs(values).max() > 65_504
        return
    store = read_features(path)
    assert np.isfinite(store.features).all()
    np.testing.assert_allclose(store.features, values, rtol=1e-3, atol=1e-7)


# Damage


def test_a_flipped_byte_in_any_array_is_detected(tmp_path: Path) -> None:
    path = write(tmp_path / "s1.zarr", arrays(50))
    shards = [p for p in sorted(path.rglob("*")) if p.is_file() and p.name != "zarr.json"]
    assert len(shards) == 4
    for shard in shards:
        sound = shard.read_bytes()
        for at in sorted({0, 7, len(sound) // 3, len(sound) // 2, len(sound) - 20, len(sound) - 1}):
            spoilt = bytearray(sound)
            spoilt[at] ^= 0x10
            shard.write_bytes(spoilt)
            with pytest.raises(StudyError, match="is damaged") as caught:
                read_features(path)
            assert caught.value.problems[0].where == str(path)
        shard.write_bytes(sound)
    assert len(read_features(path).features) == 50


@pytest.mark.parametrize("name", ["features", "coords", "tissue_fraction", "readable"])
@pytest.mark.parametrize("what", ["array", "shard", "metadata", "end of the shard"])
def test_missing_parts_are_detected(tmp_path: Path, name: str, what: str) -> None:
    path = write(tmp_path / "s1.zarr")
    shard = next(p for p in (path / name).rglob("*") if p.is_file() and p.name != "zarr.json")
    if what == "end of the shard":
        shard.write_bytes(shard.read_bytes()[:10])
    if what in ("array", "shard"):
        shard.unlink()
    if what in ("array", "metadata"):
        (path / name / "zarr.json").unlink()
    with pytest.raises(StudyError, match="is damaged"):
        read_features(path)


def test_rows_swapped_by_hand_are_detected(tmp_path: Path) -> None:
    path = write(tmp_path / "s1.zarr")
    group = zarr.open_group(path, mode="r+")
    group["coords"][...] = group["coords"][...][::-1]
    with pytest.raises(StudyError, match="checksum"):
        read_features(path)


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "{}", '{"attributes": null}', '{"attributes": []}', '{"attributes": {"format": "x/1"}}']
)
def test_another_folder_is_no_feature_store(tmp_path: Path, text: str) -> None:
    (tmp_path / "zarr.json").write_text(text)
    with pytest.raises(StudyError, match=FORMAT):
        read_attributes(tmp_path)


def test_a_missing_folder_is_no_feature_store(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=FORMAT):
        read_features(tmp_path / "absent.zarr")


def test_another_kind_of_store_is_no_feature_store(tmp_path: Path) -> None:
    write_arrays(tmp_path / "scores.zarr", {"score": np.zeros(3)}, {"format": "slidestudy-scores/1"})
    with pytest.raises(StudyError, match=FORMAT):
        read_features(tmp_path / "scores.zarr")


# Recipes


def test_features_of_another_recipe_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "s1.zarr", recipe="old")
    assert len(read_features(path, "old").features) == 20
    with pytest.raises(StudyError, match=r"recipe old.*needs new"):
        read_features(path, "new")


def test_the_common_recipe_is_the_one_that_all_stores_have(tmp_path: Path) -> None:
    stores = [write(tmp_path / f"s{i}.zarr", recipe="r") for i in range(3)]
    assert common_recipe(stores) == "r"
    with pytest.raises(StudyError, match=r"s0.zarr has r; .*other.zarr has q|other.zarr has q; .*s0.zarr has r"):
        common_recipe([*stores, write(tmp_path / "other.zarr", recipe="q")])


def test_no_store_has_no_common_recipe() -> None:
    with pytest.raises(StudyError, match="no store"):
        common_recipe([])


# Checksums


def test_the_checksum_covers_names_types_shapes_and_values() -> None:
    base = {"a": np.zeros((2, 3), np.float32)}
    others = [
        {"b": np.zeros((2, 3), np.float32)},
        {"a": np.zeros((3, 2), np.float32)},
        {"a": np.zeros((2, 3), np.int32)},
        {"a": np.full((2, 3), -0.0, np.float32)},
        {**base, "b": np.zeros(0)},
    ]
    assert len({content_checksum(content) for content in [base, *others]}) == 6


def test_the_checksum_does_not_depend_on_order_or_memory_layout() -> None:
    values = np.arange(6.0).reshape(2, 3)
    first = content_checksum({"a": values, "b": values})
    assert first == content_checksum({"b": np.asfortranarray(values), "a": values.copy()})


def test_arrays_of_any_name_are_written_with_their_checksum(tmp_path: Path) -> None:
    content = {"score": np.linspace(0, 1, 7, dtype=np.float32), "attention": np.ones((7, 2), np.float32)}
    write_arrays(tmp_path / "p.zarr", content, {"model": "til"})
    attributes = json.loads((tmp_path / "p.zarr" / "zarr.json").read_text())["attributes"]
    assert attributes == {"model": "til", "checksum": content_checksum(content)}
    # The workflow engine leaves files of its own in a folder that a rule makes.
    (tmp_path / "p.zarr" / ".snakemake_timestamp").touch()
    read = read_arrays(tmp_path / "p.zarr", ["attention", "score"])
    assert list(read) == ["attention", "score"]
    for name, values in content.items():
        np.testing.assert_array_equal(read[name], values)
