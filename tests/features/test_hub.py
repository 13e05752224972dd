"""Weights of the hub: which files are taken, their commit, and what is said where they cannot be had."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.hub_server import Hub, Repository, point_at, serve_hub

from slidestudy.errors import StudyError
from slidestudy.features.hub import fetch, find_local, obtain
from slidestudy.features.hub_sources import HubSource, hub_source
from slidestudy.features.weight_folders import MANIFEST, read_manifest

NAME = "owner/net"
ENTRY: dict[str, Any] = {"backend": "timm", "architecture": f"hf-hub:{NAME}", "weights": "hub"}
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"older weights",
    "README.md": b"card",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serve_hub() as server:
        server.repositories[NAME] = Repository(dict(FILES))
        point_at(monkeypatch, server.url, tmp_path / "cache")
        yield server


def source(**more: Any) -> HubSource:
    found = hub_source({**ENTRY, **more})
    assert found is not None
    return found


# Which files


@pytest.mark.parametrize(
    ("entry", "repository", "revision"),
    [
        ({"backend": "timm", "architecture": "hf-hub:a/b"}, "a/b", None),
        ({"backend": "timm", "architecture": "hf_hub:a/b@v2"}, "a/b", "v2"),
        ({"backend": "timm", "architecture": "hf-hub:a/b", "revision": "v3"}, "a/b", "v3"),
        ({"backend": "transformers", "architecture": "a/b"}, "a/b", None),
        ({"backend": "open_clip", "architecture": "hf-hub:a/b"}, "a/b", None),
        ({"backend": "timm", "architecture": "resnet18.a1_in1k"}, "timm/resnet18.a1_in1k", None),
        ({"backend": "timm", "architecture": "resnet18", "arguments": {"hub_file": "a/b/c/d.pth"}}, "a/b", None),
    ],
)
def test_an_entry_names_its_repository(entry: dict[str, Any], repository: str, revision: str | None) -> None:
    found = hub_source(entry)
    assert found is not None
    assert (found.repository, found.revision) == (repository, revision)


def test_a_file_of_a_repository_may_be_named() -> None:
    found = hub_source({"backend": "timm", "architecture": "resnet18", "arguments": {"hub_file": "a/b/c/d.pth"}})
    assert found == HubSource("a/b", None, (), ("c/d.pth",))


def test_what_the_hub_does_not_hold_has_no_source() -> None:
    assert hub_source({"backend": "torchvision", "architecture": "resnet50"}) is None
    assert hub_source({"backend": "timm", "architecture": "local-dir:/somewhere"}) is None
    with pytest.raises(StudyError, match="no weights on the hub"):
        hub_source({"backend": "open_clip", "architecture": "ViT-B-32"})


def test_only_what_is_needed_is_taken() -> None:
    assert source().choose(FILES) == ["config.json", "model.safetensors"]
    assert source().choose(["config.json", "pytorch_model.bin"]) == ["config.json", "pytorch_model.bin"]
    sharded = ["config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors", "code.py", "a.bin"]
    plain = hub_source({"backend": "transformers", "architecture": "a/b"})
    trusted = hub_source({"backend": "transformers", "architecture": "a/b", "arguments": {"trust_remote_code": True}})
    assert plain is not None
    assert trusted is not None
    assert plain.choose(sharded) == sorted(sharded[:3])
    assert trusted.choose(sharded) == sorted(sharded[:4])


@pytest.mark.parametrize("names", [["config.json"], ["model.safetensors"], []])
def test_a_repository_that_lacks_a_file_is_named(names: list[str]) -> None:
    with pytest.raises(StudyError, match=f"the hub has no .* in {NAME}"):
        source().choose(names)


# Download at first use


def test_a_download_is_known_by_its_commit_and_then_found_without_asking(hub: Hub) -> None:
    first = obtain("net", ENTRY, source(), None)
    assert (first.commit, first.weights) == ("c" * 40, "model.safetensors")
    assert (first.folder / "model.safetensors").read_bytes() == b"weights"
    assert sorted(set(hub.downloads)) == ["config.json", "model.safetensors"]
    hub.asked.clear()
    assert obtain("net", ENTRY, source(), None) == first
    assert find_local("net", source(), None) == first
    assert hub.asked == []


def test_a_pinned_commit_is_what_is_downloaded(hub: Hub) -> None:
    pinned = {**ENTRY, "revision": "c" * 40}
    assert obtain("net", pinned, source(revision="c" * 40), None).commit == "c" * 40
    with pytest.raises(StudyError, match=r"has no revision 'd+'"):
        obtain("net", pinned, source(revision="d" * 40), None)


def test_shards_count_only_where_all_are_there(tmp_path: Path, hub: Hub) -> None:
    shards = {f"model-0000{i}-of-00002.safetensors": b"part" for i in (1, 2)}
    index = json.dumps({"weight_map": dict(zip("ab", shards, strict=True))})
    described = {"config.json": b"{}", "model.safetensors.index.json": index.encode(), **shards}
    hub.repositories[NAME] = Repository(described)
    entry = {"backend": "transformers", "architecture": NAME, "weights": "hub"}
    wanted = hub_source(entry)
    assert wanted is not None
    found = obtain("net", entry, wanted, None)
    assert sorted(p.name for p in found.folder.iterdir()) == sorted(described)
    (found.folder / "model-00002-of-00002.safetensors").unlink()
    assert find_local("net", wanted, None) is None


# A folder for machines without internet


def test_a_fetched_folder_holds_the_files_and_says_what_they_are(hub: Hub, tmp_path: Path) -> None:
    folder, manifest, downloaded = fetch("mine", ENTRY, source(), tmp_path / "weights")
    assert (folder, downloaded) == (tmp_path / "weights" / "mine", True)
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", MANIFEST, "model.safetensors"]
    assert read_manifest(folder) == manifest
    assert (manifest.repository, manifest.commit) == (NAME, "c" * 40)
    assert set(manifest.files) == {"config.json", "model.safetensors"}
    assert [p.name for p in folder.parent.iterdir() if p.is_dir()] == ["mine"]


def test_a_fetched_folder_is_used_before_the_hub_and_its_cache(hub: Hub, tmp_path: Path) -> None:
    obtain("mine", ENTRY, source(), None)
    folder, _, _ = fetch("mine", ENTRY, source(), tmp_path / "weights")
    hub.asked.clear()
    assert obtain("mine", ENTRY, source(), str(tmp_path / "weights")).folder == folder
    # Another name of the same encoder finds it as well.
    assert obtain("other", ENTRY, source(), str(tmp_path / "weights")).folder == folder
    assert hub.asked == []


def test_what_is_complete_is_not_downloaded_again_and_what_is_corrupt_is(hub: Hub, tmp_path: Path) -> None:
    folder, manifest, _ = fetch("mine", ENTRY, source(), tmp_path)
    hub.asked.clear()
    assert fetch("mine", ENTRY, source(), tmp_path) == (folder, manifest, False)
    assert hub.downloads == []
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(StudyError, match=r"model\.safetensors differs from its manifest") as caught:
        obtain("mine", ENTRY, source(), str(tmp_path))
    assert caught.value.problems[0].where == str(folder)
    assert fetch("mine", ENTRY, source(), tmp_path) == (folder, manifest, True)
    assert (folder / "model.safetensors").read_bytes() == b"weights"


def test_a_newer_commit_replaces_the_folder(hub: Hub, tmp_path: Path) -> None:
    fetch("mine", ENTRY, source(), tmp_path)
    hub.repositories[NAME] = Repository({**FILES, "model.safetensors": b"newer"}, commit="e" * 40)
    folder, manifest, downloaded = fetch("mine", ENTRY, source(), tmp_path)
    assert (manifest.commit, downloaded) == ("e" * 40, True)
    assert (folder / "model.safetensors").read_bytes() == b"newer"


def test_fetches_beside_each_other_leave_one_whole_folder(hub: Hub, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda name: fetch(name, ENTRY, source(), tmp_path), ["a", "a", "b", "a"]))
    assert sum(downloaded for _, _, downloaded in done) == 2
    assert {p.name for p in tmp_path.iterdir() if p.is_dir() and p.name != "cache"} == {"a", "b"}


def test_a_killed_fetch_leaves_nothing_that_is_taken_for_done(hub: Hub, tmp_path: Path) -> None:
    partial = tmp_path / ".mine.partial"
    partial.mkdir()
    (partial / "config.json").write_bytes(b"half")
    assert find_local("mine", source(), str(tmp_path)) is None
    folder, _, _ = fetch("mine", ENTRY, source(), tmp_path)
    assert (folder / "config.json").read_bytes() == b"{}"
    assert not partial.exists()


def test_a_folder_of_something_else_is_refused(hub: Hub, tmp_path: Path) -> None:
    fetch("mine", ENTRY, source(), tmp_path)
    with pytest.raises(StudyError, match=r"holds owner/net@c+, the entry wants a/b@default"):
        find_local("mine", source(architecture="hf-hub:a/b"), str(tmp_path))
    with pytest.raises(StudyError, match=r"the entry wants owner/net@d+"):
        find_local("mine", source(revision="d" * 40), str(tmp_path))
    assert find_local("mine", source(revision="c" * 40), str(tmp_path)) is not None


@pytest.mark.parametrize("content", ["", "{}", '{"format": "other"}', "[]", '{"format": "slidestudy-weights/1"}'])
def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / MANIFEST).write_text(content)
    with pytest.raises(StudyError, match="the manifest cannot be read"):
        find_local("mine", source(), str(tmp_path))


def test_a_folder_that_lacks_a_file_is_named(hub: Hub, tmp_path: Path) -> None:
    folder, _, _ = fetch("mine", ENTRY, source(), tmp_path)
    (folder / "config.json").unlink()
    with pytest.raises(StudyError, match=r"config\.json is missing"):
        find_local("mine", source(), str(tmp_path))


# Gates


def test_a_gated_model_without_token_names_page_and_variable(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[NAME].token = "secret"
    gated = {**ENTRY, "gated": True, "page": "https://hub/page", "token_env": "MY_TOKEN"}
    for attempt in (lambda: fetch("mine", gated, source(), tmp_path), lambda: obtain("mine", gated, source(), None)):
        with pytest.raises(StudyError, match="gated") as caught:
            attempt()
        assert "https://hub/page" in caught.value.problems[0].remedy
        assert "MY_TOKEN" in caught.value.problems[0].remedy


def test_the_token_of_the_entrys_variable_opens_the_gate(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories[NAME].token = "secret"
    monkeypatch.setenv("MY_TOKEN", "secret")
    gated = {**ENTRY, "gated": True, "token_env": "MY_TOKEN"}
    assert fetch("mine", gated, source(), tmp_path)[2]
    assert obtain("mine", gated, source(), None).commit == "c" * 40


def test_a_repository_that_is_not_there_is_named(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="the hub shows no repository a/b") as caught:
        fetch("mine", ENTRY, source(architecture="hf-hub:a/b"), tmp_path)
    assert caught.value.problems[0].where == "encoder mine"
