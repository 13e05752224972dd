"""Outputs appear whole or not at all, and unchanged text keeps its time stamp."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from slidestudy.files import atomic_path, digest, file_digest, read_json, versions, write_json, write_text
from slidestudy.files import write_text_if_changed as write_if_changed


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_under_its_name_and_nothing_else_is_left(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "new" / "table.tsv") as partial:
        assert partial.suffix == ".tsv"
        assert partial.parent == tmp_path / "new"
        partial.write_text("a")
        assert not (tmp_path / "new" / "table.tsv").exists()
    assert names(tmp_path / "new") == ["table.tsv"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "table.tsv") as partial:  # noqa: PT012
        partial.write_text("half")
        raise RuntimeError
    assert names(tmp_path) == []


def test_a_failure_keeps_the_earlier_file(tmp_path: Path) -> None:
    (tmp_path / "table.tsv").write_text("earlier")
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "table.tsv") as partial:  # noqa: PT012
        partial.write_text("half")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["table.tsv"]
    assert (tmp_path / "table.tsv").read_text() == "earlier"


def test_a_folder_replaces_the_earlier_folder_whole(tmp_path: Path) -> None:
    store = tmp_path / "slide.zarr"
    for name in ("old", "new"):
        with atomic_path(store) as partial:
            partial.mkdir()
            (partial / name).write_text(name)
    assert names(tmp_path) == ["slide.zarr"]
    assert names(store) == ["new"]


def test_a_failed_folder_keeps_the_earlier_folder(tmp_path: Path) -> None:
    store = tmp_path / "slide.zarr"
    store.mkdir()
    (store / "old").write_text("old")
    with pytest.raises(RuntimeError), atomic_path(store) as partial:  # noqa: PT012
        partial.mkdir()
        (partial / "new").write_text("half")
        raise RuntimeError
    assert names(tmp_path) == ["slide.zarr"]
    assert names(store) == ["old"]


def test_a_block_that_writes_nothing_is_an_error_and_keeps_the_earlier_folder(tmp_path: Path) -> None:
    store = tmp_path / "slide.zarr"
    store.mkdir()
    with pytest.raises(FileNotFoundError), atomic_path(store):
        pass
    assert store.is_dir()


def test_what_a_killed_job_left_is_not_taken_over(tmp_path: Path) -> None:
    store = tmp_path / "slide.zarr"
    with atomic_path(store) as partial:
        left = partial
        partial.mkdir()
    left.mkdir()
    (left / "half").write_text("of a killed job")
    with atomic_path(store) as partial:
        assert not partial.exists()
        partial.mkdir()
    assert names(tmp_path) == ["slide.zarr"]
    assert names(store) == []


def test_a_leftover_is_hidden_and_not_the_final_name(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "scores.tsv") as partial:
        assert partial.name.startswith(".")
        partial.write_text("")


def test_text_is_rewritten_only_if_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "stage.yaml"
    assert write_if_changed(path, "a: 1\n")
    os.utime(path, (1, 1))
    assert not write_if_changed(path, "a: 1\n")
    assert path.stat().st_mtime == 1
    assert write_if_changed(path, "a: 2\n")
    assert path.stat().st_mtime > 1
    assert path.read_text() == "a: 2\n"


def test_text_has_unix_line_ends_and_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "µm\n")
    assert (tmp_path / "a.txt").read_bytes() == "µm\n".encode()


def test_json_keeps_its_key_order_and_is_read_back(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None], "a": "µm"}
    write_json(tmp_path / "a.json", value)
    assert list(read_json(tmp_path / "a.json")) == ["b", "a"]
    assert read_json(tmp_path / "a.json") == value


def test_json_refuses_nan_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"auroc": float("nan")})
    assert names(tmp_path) == []


def test_a_digest_depends_on_content_and_not_on_key_order() -> None:
    assert digest({"a": 1, "b": [2]}) == digest(json.loads('{"b": [2], "a": 1}'))
    assert digest({"a": 1}) != digest({"a": 2})
    assert len(digest({})) == 16


def test_a_file_digest_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_versions_name_installed_packages_only() -> None:
    found = versions("numpy", "no-such-package")
    assert set(found) == {"slidestudy", "numpy"}


def test_what_a_library_made_private_can_be_read_by_others_once_it_is_published(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "folder") as partial:
        partial.mkdir()
        (partial / "weights").touch(mode=0o600)
        (partial / "script").touch(mode=0o700)
    (tmp_path / "plain").touch()
    modes = {p.name: p.stat().st_mode for p in (tmp_path / "folder").iterdir()}
    assert modes["weights"] == (tmp_path / "plain").stat().st_mode
    assert modes["script"] & 0o777 == 0o700
