"""Weights that cannot be had are named before any job starts, with the remedy, and without a download."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants, errors

from slidestudy.errors import StudyError
from slidestudy.features.availability import Weights, check_encoders, find_weights
from slidestudy.features.hub_sources import hub_source
from slidestudy.features.weight_folders import write_manifest

UNI = {"backend": "timm", "architecture": "hf-hub:MahmoodLab/UNI", "weights": "hub"}
RESNET = {"backend": "timm", "architecture": "resnet18", "weights": "hub"}


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache, and no way to the hub."""
    # The library reads HF_HOME and HF_HUB_OFFLINE once, when it is imported.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def put(cache: Path, repository: str, *names: str, revision: str = "main") -> None:
    """Puts files into the cache as a download would."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / revision).write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / "snapshots" / "abc" / name).touch()


def hub_answers(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[str]:
    """Replaces the hub: an exception to raise, or a function of the address; returns the addresses asked for."""
    asked: list[str] = []

    def metadata(url: str, timeout: float, token: str | None) -> None:
        asked.append(url)
        assert timeout <= 5
        if isinstance(answer, Exception):
            raise answer
        answer(url)

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
    return asked


def http_error(kind: type[Exception]) -> Exception:
    """An error of the hub's library, made without the response that its constructor wants."""
    error = kind.__new__(kind)
    error.args = ("403 Client Error\nmore",)
    return error


def message(encoder: dict[str, Any]) -> str:
    with pytest.raises(StudyError) as caught:
        find_weights("mine", encoder)
    return str(caught.value)


@pytest.mark.parametrize(
    ("encoder", "place"),
    [
        ({"backend": "stain-texture"}, Weights.NOT_NEEDED),
        ({"backend": "timm", "architecture": "resnet18", "weights": "none"}, Weights.NOT_NEEDED),
        ({"backend": "timm", "architecture": "resnet18", "weights": "some.pth"}, Weights.LOCAL),
    ],
)
def test_encoders_without_hub_weights_need_nothing(encoder: dict[str, Any], place: Weights) -> None:
    assert find_weights("mine", encoder) is place


def test_encoders_without_hub_weights_load_neither_torch_nor_the_hubs_library(repository: Path) -> None:
    code = (
        "import sys; from slidestudy.features.availability import check_encoders\n"
        "check_encoders({'a': {'backend': 'stain-texture'}, 'b': {'backend': 'timm', 'weights': 'none'}})\n"
        "print(sorted({'torch', 'timm', 'huggingface_hub'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(repository / "scripts")}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_environment_alone_keeps_the_check_from_the_hub(repository: Path, tmp_path: Path) -> None:
    code = f"from slidestudy.features.availability import find_weights; find_weights('uni', {UNI!r})"
    environment = {
        **os.environ,
        "PYTHONPATH": str(repository / "scripts"),
        "HF_HOME": str(tmp_path),
        "HF_HUB_OFFLINE": "1",
    }
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "encoder uni, architecture hf-hub:MahmoodLab/UNI: the weights are not in the local cache" in run.stderr
    assert "HF_HUB_OFFLINE" in run.stderr


@pytest.mark.parametrize("encoder", [UNI, RESNET])
def test_weights_that_are_nowhere_are_named_with_encoder_and_remedy(encoder: dict[str, Any]) -> None:
    text = message(encoder)
    assert text.startswith(
        f"encoder mine, architecture {encoder['architecture']}: the weights are not in the local cache"
    )
    assert "download them on a machine with internet" in text
    assert "give a file as `weights:`" in text


def test_all_encoders_without_weights_are_reported_together() -> None:
    with pytest.raises(StudyError, match="2 problems") as caught:
        check_encoders({"uni": UNI, "plain": {"backend": "stain-texture"}, "resnet": RESNET})
    assert [p.where.split(",")[0] for p in caught.value.problems] == ["encoder uni", "encoder resnet"]


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_cached_weights_are_found_without_asking_the_hub(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    asked = hub_answers(monkeypatch, AssertionError("the hub was asked"))
    put(empty_cache, "MahmoodLab/UNI", "config.json", name)
    put(empty_cache, "timm/resnet18.a1_in1k", name)
    check_encoders({"uni": UNI, "resnet": RESNET})
    assert find_weights("uni", UNI) is Weights.LOCAL
    assert asked == []


def test_cached_weights_of_another_revision_do_not_count(empty_cache: Path) -> None:
    put(empty_cache, "MahmoodLab/UNI", "config.json", "model.safetensors")
    pinned = {**UNI, "architecture": "hf-hub:MahmoodLab/UNI@v2"}
    assert "not in the local cache" in message(pinned)
    put(empty_cache, "MahmoodLab/UNI", "config.json", "model.safetensors", revision="v2")
    assert find_weights("mine", pinned) is Weights.LOCAL


def test_cached_weights_without_the_models_description_do_not_count(empty_cache: Path) -> None:
    put(empty_cache, "MahmoodLab/UNI", "model.safetensors")
    assert "not in the local cache" in message(UNI)


def test_weights_that_the_hub_has_are_left_there(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = hub_answers(monkeypatch, lambda url: None)
    assert find_weights("mine", UNI) is Weights.HUB
    assert [url.rsplit("/", 1)[-1] for url in asked] == ["config.json", "model.safetensors"]
    assert list(empty_cache.iterdir()) == []


def test_weights_under_their_older_name_are_found_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(url: str) -> None:
        if url.endswith(".safetensors"):
            raise http_error(errors.RemoteEntryNotFoundError)

    asked = hub_answers(monkeypatch, answer)
    assert find_weights("mine", RESNET) is Weights.HUB
    assert asked[-1].endswith("timm/resnet18.a1_in1k/resolve/main/pytorch_model.bin")


@pytest.mark.parametrize(
    ("error", "said", "remedy"),
    [
        (http_error(errors.GatedRepoError), "MahmoodLab/UNI wants its terms accepted", "HF_TOKEN"),
        (http_error(errors.RepositoryNotFoundError), "shows no repository MahmoodLab/UNI", "correct the name"),
        (http_error(errors.RevisionNotFoundError), "has no revision", "correct `revision`"),
        (http_error(errors.RemoteEntryNotFoundError), "the hub has no config.json", "correct `architecture`"),
        (TimeoutError("timed out\nmore"), "the hub cannot be reached (timed out)", "machine with internet"),
        (ConnectionError(), "the hub cannot be reached (ConnectionError)", "machine with internet"),
    ],
)
def test_what_the_hub_answers_is_told_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str, remedy: str
) -> None:
    hub_answers(monkeypatch, error)
    text = message(UNI)
    assert said in text
    assert remedy in text.split("remedy:")[1]


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ("resnett50", "did you mean 'resnet50'?"),
        ("resnet50.of_mine", "timm has no weights 'of_mine' for this model"),
        ("hf-hub:a/b/c", "'a/b/c' is no name of a hub repository"),
        ("local-dir:/nowhere", "the folder does not exist"),
    ],
)
def test_a_wrong_architecture_is_named(architecture: str, said: str) -> None:
    assert said in message({**UNI, "architecture": architecture})


def test_a_model_in_a_local_folder_needs_no_hub(tmp_path: Path) -> None:
    assert find_weights("mine", {**UNI, "architecture": f"local-dir:{tmp_path}"}) is Weights.LOCAL


# Other backends, and a folder of downloaded weights


@pytest.mark.parametrize(
    ("encoder", "place"),
    [
        ({"backend": "imported"}, Weights.IMPORTED),
        ({"backend": "timm", "architecture": "resnet18", "weights": "study"}, Weights.STUDY),
        ({"backend": "torchvision", "architecture": "resnet18", "weights": "none"}, Weights.NOT_NEEDED),
        ({"backend": "transformers", "architecture": "a/b", "weights": "/a/folder"}, Weights.LOCAL),
    ],
)
def test_what_comes_from_the_study_or_from_files_needs_no_hub(encoder: dict[str, Any], place: Weights) -> None:
    assert find_weights("mine", encoder) is place


def test_weights_that_are_a_file_are_asked_for() -> None:
    entry = {"backend": "torchvision", "architecture": "resnet50", "page": "https://elsewhere"}
    with pytest.raises(StudyError) as caught:
        find_weights("retccl", entry)
    assert caught.value.problems[0].remedy == "give the file (from https://elsewhere) as `weights:`"


@pytest.mark.parametrize(
    ("backend", "names"),
    [
        ("transformers", ("config.json", "model.safetensors")),
        ("transformers", ("config.json", "pytorch_model.bin")),
        ("open_clip", ("open_clip_config.json", "open_clip_pytorch_model.bin")),
    ],
)
def test_every_backend_knows_its_own_files(empty_cache: Path, backend: str, names: tuple[str, ...]) -> None:
    encoder = {"backend": backend, "architecture": "hf-hub:owner/net", "weights": "hub"}
    put(empty_cache, "owner/net", names[0])
    assert "not in the local cache" in message(encoder)
    put(empty_cache, "owner/net", names[1])
    assert find_weights("mine", encoder) is Weights.LOCAL


def test_a_gated_model_without_token_is_refused_before_the_hub_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = hub_answers(monkeypatch, AssertionError("the hub was asked"))
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    monkeypatch.delenv("MY_TOKEN", raising=False)
    gated = {**UNI, "gated": True, "page": "https://hub/page", "token_env": "MY_TOKEN"}
    text = message(gated)
    assert "MY_TOKEN holds no access token" in text
    assert "https://hub/page" in text
    assert asked == []
    monkeypatch.setenv("MY_TOKEN", "secret")
    hub_answers(monkeypatch, lambda url: None)
    assert find_weights("mine", gated) is Weights.HUB


def test_a_pinned_revision_counts_alone(empty_cache: Path) -> None:
    pinned = {**UNI, "revision": "v2"}
    put(empty_cache, "MahmoodLab/UNI", "config.json", "model.safetensors")
    assert "not in the local cache" in message(pinned)
    put(empty_cache, "MahmoodLab/UNI", "config.json", "model.safetensors", revision="v2")
    assert find_weights("mine", pinned) is Weights.LOCAL


def test_a_folder_of_downloaded_weights_is_looked_at_first(tmp_path: Path) -> None:
    folder = tmp_path / "weights" / "mine"
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text(name)
    source = hub_source(UNI)
    assert source is not None
    write_manifest(folder, source, "a" * 40, ["config.json", "model.safetensors"])
    assert find_weights("mine", UNI, str(tmp_path / "weights")) is Weights.LOCAL
    check_encoders({"mine": UNI, "other": UNI}, str(tmp_path / "weights"))
    assert "not in the local cache" in message(UNI)


def test_weights_of_a_plain_address_are_looked_for_in_torchs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = {"backend": "torchvision", "architecture": "resnet18", "weights": "hub"}
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no way")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    assert "gives nothing (no way)" in message(encoder)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "resnet18-f37072fd.pth").touch()
    assert find_weights("mine", encoder) is Weights.LOCAL
    assert "torchvision has no weights" in message({**encoder, "architecture": "resnet9000"})
