"""Weights of any backend come from where the entry says, whole, or are refused."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from tests.features.networks import (
    SIZE,
    encoder,
    make_tiles,
    refusal,
    save_open_clip,
    save_timm,
    save_transformers,
)
from tests.hub_server import Repository, point_at, serve_hub

from slidestudy.features.state_dicts import weights_digest

TILES = make_tiles()


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("backend", ["timm", "transformers", "open_clip"])
def test_a_model_of_the_hub_is_loaded_and_its_commit_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    folder = tmp_path / "made"
    {"timm": save_timm, "transformers": save_transformers, "open_clip": save_open_clip}[backend](folder)
    entry = {"pooling": "cls"} if backend == "transformers" else {}
    entry |= {"arguments": {"img_size": SIZE}} if backend == "timm" else {}
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with serve_hub() as hub:
        hub.repositories["owner/net"] = Repository(files, commit="a1" * 20)
        point_at(monkeypatch, hub.url, tmp_path / "cache")
        loaded = encoder(backend, "hf-hub:owner/net", weights="hub", **entry)
        hub.repositories.clear()
        again = encoder(backend, "hf-hub:owner/net", weights="hub", **entry)
    assert loaded.identity.weights == f"hub: owner/net@{'a1' * 20}"
    assert again.identity == loaded.identity
    local = encoder(backend, "hf-hub:owner/net", weights=str(folder), **entry)
    np.testing.assert_array_equal(loaded.encode(TILES), local.encode(TILES))
    assert loaded.identity.weights_digest == local.identity.weights_digest


def test_a_plain_file_of_the_hub_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    model = timm.create_model("test_resnet", num_classes=0).eval()
    content = io.BytesIO()
    torch.save({"teacher": model.state_dict()}, content)
    with serve_hub() as hub:
        hub.repositories["owner/net"] = Repository({"some/net.pth": content.getvalue()})
        point_at(monkeypatch, hub.url, tmp_path / "cache")
        arguments = {"hub_file": "owner/net/some/net.pth"}
        loaded = encoder("timm", "test_resnet", weights="hub", arguments=arguments)
    assert loaded.identity.weights == f"hub: owner/net@{'c' * 40}"
    assert loaded.identity.weights_digest == weights_digest(model)


def test_a_copy_of_a_repository_gives_the_file_that_is_meant(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = timm.create_model("test_resnet", num_classes=0).eval()
    (tmp_path / "copy" / "some").mkdir(parents=True)
    torch.save(model.state_dict(), tmp_path / "copy" / "some" / "net.pth")
    entry = {"weights": str(tmp_path / "copy"), "arguments": {"hub_file": "owner/net/some/net.pth"}}
    assert encoder("timm", "test_resnet", **entry).identity.weights_digest == weights_digest(model)
    assert "names no file of the hub" in str(
        refusal("timm", "test_resnet", weights="hub", arguments={"hub_file": "a/b"})
    )


@pytest.mark.parametrize("backend", ["timm", "transformers"])
def test_a_folder_may_be_the_architecture(tmp_path: Path, backend: str) -> None:
    folder = tmp_path / "net"
    model = save_timm(folder, img_size=SIZE) if backend == "timm" else save_transformers(folder)
    loaded = encoder(backend, f"local-dir:{folder}", weights="hub", pooling="cls")
    assert loaded.identity.weights_digest == weights_digest(model)


def test_weights_that_would_stay_untrained_in_part_are_refused(tmp_path: Path) -> None:
    save_timm(tmp_path / "net")
    entry = {"weights": str(tmp_path / "net")}
    head = {"head": {"kind": "projection", "dim": 4}}
    assert "`head` needs weights that are one file" in str(refusal("timm", "hf-hub:a/b", arguments=head, **entry))
    assert "`rename` needs weights that" in str(refusal("timm", "hf-hub:a/b", rename={"a": "b"}, **entry))
    assert "torchvision reads no folders" in str(refusal("torchvision", "resnet18", **entry))


@pytest.mark.parametrize(
    "head", [{"kind": "other"}, {"kind": "attention"}, {"kind": "projection", "dim": 4, "more": 1}]
)
def test_a_head_that_cannot_be_made_is_named(head: dict[str, Any]) -> None:
    arguments = {"img_size": SIZE, "head": head}
    assert "head" in str(refusal("timm", "test_vit", rename={}, arguments=arguments))
    whole = {"img_size": SIZE, "head": {"kind": "projection", "dim": 4}}
    assert encoder("timm", "test_vit", arguments=whole).identity.dim == 4
    assert "behind a head" in str(refusal("timm", "test_vit", pooling="cls", arguments=whole))


def test_a_corrupt_download_is_named(tmp_path: Path) -> None:
    save_timm(tmp_path / "net")
    (tmp_path / "net" / "model.safetensors").write_bytes(b"text")
    message = str(refusal("timm", "hf-hub:a/b", weights=str(tmp_path / "net")))
    assert "cannot be read" in message
    assert "download it again" in message
    save_transformers(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").write_bytes(b"text")
    message = str(refusal("transformers", "a/b", weights=str(tmp_path / "other"), pooling="cls"))
    assert "download damaged weights again" in message


def test_weights_that_the_study_has_yet_to_train_are_named() -> None:
    assert "trained by the study" in str(refusal("timm", "test_resnet", weights="study"))
    assert "names no weights" in str(refusal("timm", "test_resnet", weights=None))
    assert "builds no network" in str(refusal("imported", "anything"))


def test_an_absent_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    monkeypatch.delitem(sys.modules, "slidestudy.features.backends.open_clip_models", raising=False)
    assert "the package open_clip is not installed" in str(refusal("open_clip", "ViT-B-32"))
