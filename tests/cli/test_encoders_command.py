"""`slidestudy encoders`: what is listed as usable, and what `fetch` leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Command
from tests.hub_server import Hub, Repository, point_at, serve_hub

OWN = """
open-net: {backend: timm, architecture: "hf-hub:owner/open", weights: hub, dim: 64, licence: MIT}
gated-net:
  backend: timm
  architecture: hf-hub:owner/gated
  weights: hub
  gated: true
  page: https://hub/page
  token_env: MY_TOKEN
  tiles: [{size: 224, mpp: 0.5}]
file-net: {backend: timm, architecture: resnet18, page: "https://elsewhere"}
own-net: {backend: timm, architecture: resnet18, weights: own.safetensors}
"""
FILES = {"config.json": b"{}", "model.safetensors": b"weights"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serve_hub() as server:
        server.repositories = {
            "owner/open": Repository(dict(FILES)),
            "owner/gated": Repository(dict(FILES), token="secret"),
        }
        point_at(monkeypatch, server.url, tmp_path / "cache")
        monkeypatch.delenv("MY_TOKEN", raising=False)
        yield server


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(OWN)
    return path


def row(output: str, name: str) -> str:
    """An encoder's row of the table, its wrapped lines put together."""
    lines = output.splitlines()
    first = next(i for i, line in enumerate(lines) if line.split()[:1] == [name])
    rest = lines[first + 1 : first + 6]
    wrapped = [line for i, line in enumerate(rest) if all(part.startswith(" ") for part in rest[: i + 1])]
    return " ".join(" ".join([lines[first], *wrapped]).split())


def test_the_list_says_what_can_be_used_and_asks_no_network(run: Command, hub: Hub, registry: Path) -> None:
    ended = run("encoders", "--registry", registry)
    assert ended.code == 0
    assert hub.asked == []
    assert "yes no weights needed" in row(ended.out, "stain-texture")
    assert "yes untrained" in row(ended.out, "resnet18-untrained")
    assert "64 any MIT timm no absent: slidestudy encoders fetch open-net" in row(ended.out, "open-net")
    gated = row(ended.out, "gated-net")
    assert "224 @ 0.5" in gated
    assert "no token in MY_TOKEN" in gated
    assert "https://hub/page" in gated
    assert "give the file (from https://elsewhere) as `weights:`" in row(ended.out, "file-net")
    assert "no absent:" in row(ended.out, "own-net")
    assert "no gated" in row(ended.out, "uni")


def test_a_token_and_weights_that_are_there_are_seen(
    run: Command, hub: Hub, registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "secret")
    (tmp_path / "own.safetensors").touch()
    listed = run("encoders", "--registry", registry).out
    assert "a token was found" in row(listed, "gated-net")
    assert "yes weights present" in row(listed, "own-net")
    folder = tmp_path / "weights"
    fetched = run("encoders", "fetch", "open-net", "gated-net", "--registry", registry, "--weights-dir", folder)
    assert fetched.code == 0
    assert fetched.out.splitlines() == [
        f"{name}-net: owner/{name}@{'c' * 40} downloaded to {folder / f'{name}-net'}." for name in ("open", "gated")
    ]
    listed = run("encoders", "--registry", registry, "--weights-dir", folder).out
    for name in ("open", "gated"):
        assert f"yes weights present: owner/{name}@cccccccc" in row(listed, f"{name}-net")
    again = run("encoders", "fetch", "open-net", "--registry", registry, "--weights-dir", folder)
    assert "already complete in" in again.out


def test_what_cannot_be_fetched_is_told_together_and_the_rest_is_fetched(
    run: Command, hub: Hub, registry: Path, tmp_path: Path
) -> None:
    names = ["gated-net", "open-nett", "file-net", "stain-texture", "retccl", "open-net"]
    ended = run("encoders", "fetch", *names, "--registry", registry, "--weights-dir", tmp_path / "weights")
    assert ended.code == 1
    assert "5 problems" in ended.err
    assert "accept the terms at https://hub/page, set MY_TOKEN" in ended.err
    assert "did you mean 'open-net'?" in ended.err
    assert "Traceback" not in ended.err
    assert (tmp_path / "weights" / "open-net" / "manifest.json").is_file()


def test_a_registry_with_mistakes_is_a_message(run: Command, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("net: {backend: timm, wrong: 1}")
    ended = run("encoders", "--registry", path)
    assert ended.code == 1
    assert f"{path}, encoder net: unknown key 'wrong'" in ended.err
