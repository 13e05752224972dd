"""A server on loopback that answers like the Hugging Face hub: repositories, gates and damaged downloads for tests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

import huggingface_hub.file_download
import pytest
from huggingface_hub import constants

from tests.loopback import running


@dataclass
class Repository:
    """A repository of the hub.

    Attributes:
        files: Content by name.
        commit: The commit of its only branch.
        token: Access token that it wants; None where it is open.
    """

    files: dict[str, bytes]
    commit: str = "c" * 40
    token: str | None = None


@dataclass
class Hub:
    """What the server offers and was asked.

    Attributes:
        url: Its address.
        repositories: By `owner/name`.
        asked: Methods and paths of the requests.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def downloads(self) -> list[str]:
        """Names of the files whose content was sent."""
        return [a.rsplit("/", 1)[-1] for a in self.asked if a.startswith("GET") and "/resolve/" in a]


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Runs the server on a free port while the block lasts."""
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _end(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def _answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            state.asked.append(f"{self.command} {path}")
            parts = path.removeprefix("/api/models").strip("/").split("/")
            repository = state.repositories.get("/".join(parts[:2]))
            if repository is None:
                return self._end(404, headers={"X-Error-Code": "RepoNotFound"})
            if repository.token and self.headers.get("Authorization") != f"Bearer {repository.token}":
                return self._end(403, headers={"X-Error-Code": "GatedRepo"})
            revision = parts[3] if len(parts) > 3 else "main"
            if revision not in ("main", repository.commit):
                return self._end(404, headers={"X-Error-Code": "RevisionNotFound"})
            if path.startswith("/api/"):
                if "tree" in parts[2:3]:
                    tree = [
                        {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                        for name, content in repository.files.items()
                    ]
                    return self._end(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
                siblings = [{"rfilename": name} for name in repository.files]
                body = {"id": "/".join(parts[:2]), "sha": repository.commit, "siblings": siblings}
                return self._end(200, json.dumps(body).encode(), {"Content-Type": "application/json"})
            content = repository.files.get("/".join(parts[4:]))
            if content is None:
                return self._end(404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": repository.commit})
            etag = hashlib.sha256(content).hexdigest()
            return self._end(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": repository.commit})

        do_GET = do_HEAD = _answer

        def log_message(self, *_: object) -> None:
            pass

    with running(Handler) as state.url:
        yield state


def point_at(monkeypatch: pytest.MonkeyPatch, url: str, cache: Path) -> None:
    """Makes the hub's library ask another server, and use an empty cache; it reads both once, when it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no-token"))
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
