"""A server on loopback that speaks the OpenAI chat protocol: it stands in for a vision-language model in tests."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What a request is answered with.

    Attributes:
        status: HTTP status.
        body: The body.
        headers: Further headers.
        wait: Seconds before anything is sent.
        trickle: Seconds between the bytes of the body, which are sent one by one; None sends all at once.
        cut: Bytes of the body after which the connection is closed, though more were promised.
        reset: Whether the connection is reset in place of any answer.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    wait: float = 0.0
    trickle: float | None = None
    cut: int | None = None
    reset: bool = False


def completion(text: str | None, tokens: tuple[int, int] | None = None, **how: Any) -> Reply:
    """A chat completion as an OpenAI-compatible server sends it.

    Args:
        text: The model's text.
        tokens: Tokens of question and answer; None says nothing of them.
        how: Further fields of the reply.
    """
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    body: dict[str, Any] = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    if tokens is not None:
        body["usage"] = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    return Reply(200, json.dumps(body).encode(), **how)


def refusal(status: int, message: str | None = None, **how: Any) -> Reply:
    """An error as an OpenAI-compatible server sends it."""
    error = {"error": {"message": message or f"refused with {status}"}}
    return Reply(status, json.dumps(error).encode(), **how)


@dataclass
class Endpoint:
    """What the server answers and was asked.

    Attributes:
        url: Its address.
        replies: Queued replies, the last one again and again.
        respond: Answers a request in place of the queue.
        requests: The requests' bodies, with their path.
        headers: The requests' headers, names in lower case.
        times: When the requests came, by the monotonic clock.
        most: Most requests that were under way at a time.
    """

    url: str = ""
    replies: list[Reply] = field(default_factory=list)
    respond: Callable[[dict[str, Any]], Reply] | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    most: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def keys(self) -> list[str | None]:
        """The requests' Authorization headers."""
        return [headers.get("authorization") for headers in self.headers]

    @contextmanager
    def take(self, request: dict[str, Any], headers: dict[str, str]) -> Iterator[Reply]:
        """Counts a request while it is under way, and gives the reply to it."""
        with self._lock:
            self.requests.append(request)
            self.headers.append(headers)
            self.times.append(time.monotonic())
            self._now += 1
            self.most = max(self.most, self._now)
            queued = self.replies.pop(0) if len(self.replies) > 1 else (self.replies or [None])[0]
        try:
            reply = self.respond(request) if self.respond is not None else queued
            assert reply is not None, "the test gave no reply"
            yield reply
        finally:
            with self._lock:
                self._now -= 1


class _Server(ThreadingHTTPServer):
    # The usual 5 would leave some of many connections that come at once without an answer for a second.
    request_queue_size = 256
    daemon_threads = True


@contextmanager
def running(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serves on a free port of this machine while the block lasts; yields the address."""
    server = _Server(("127.0.0.1", 0), handler)
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
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with state.take({"path": self.path, **request}, {k.lower(): v for k, v in self.headers.items()}) as reply:
                time.sleep(reply.wait)
                with suppress(ConnectionError):
                    self.send(reply)

        def send(self, reply: Reply) -> None:
            if reply.reset:
                # Closed with data unread or unsent, and no time to linger: the other side gets a reset.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
                return
            self.send_response(reply.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply.body)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            body = reply.body[: reply.cut]
            for piece in [body] if reply.trickle is None else [body[i : i + 1] for i in range(len(body))]:
                self.wfile.write(piece)
                self.wfile.flush()
                time.sleep(reply.trickle or 0)
            self.close_connection |= reply.cut is not None

        def log_message(self, *_: object) -> None:
            pass

    with running(Handler) as url:
        state.url = f"{url}/v1"
        yield state
