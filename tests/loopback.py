"""A server on loopback that speaks the OpenAI chat protocol: it stands in for a vision-language model in tests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, bytes]


def completion(text: str | None) -> Reply:
    """A chat completion as an OpenAI-compatible server sends it."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return 200, json.dumps(body).encode()


def refusal(status: int) -> Reply:
    """An error as an OpenAI-compatible server sends it."""
    return status, json.dumps({"error": {"message": f"refused with {status}"}}).encode()


@dataclass
class Endpoint:
    """What the server answers and was asked.

    Attributes:
        url: Its address.
        replies: Queued replies, the last one again and again.
        respond: Answers a request in place of the queue.
        requests: The requests' bodies, with their path.
        keys: The requests' Authorization headers.
    """

    url: str = ""
    replies: list[Reply] = field(default_factory=list)
    respond: Callable[[dict[str, Any]], Reply] | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    def take(self, request: dict[str, Any]) -> Reply:
        """The reply to a request."""
        if self.respond is not None:
            return self.respond(request)
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


@contextmanager
def running(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serves on a free port of this machine while the block lasts; yields the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serve() -> Iterator[Endpoint]:
    """Runs the server on a free port while the block lasts."""
    state = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.requests.append({"path": self.path, **request})
            state.keys.append(self.headers.get("Authorization"))
            status, reply = state.take(request)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None:
            pass

    with running(Handler) as url:
        state.url = f"{url}/v1"
        yield state
