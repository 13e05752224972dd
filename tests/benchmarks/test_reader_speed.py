"""Asking an endpoint many questions at a time, against the time that its own delay allows."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from openai import AsyncOpenAI

from slidestudy.explanations.documents import Explanation
from slidestudy.explanations.ledger import Job
from slidestudy.explanations.protocol import Question
from slidestudy.explanations.readers.building import build_reader
from slidestudy.explanations.readers.structured import RESPONSE_FORMAT
from tests.benchmarks.timing import seconds

pytestmark = pytest.mark.bench
PROMPTS = Path(__file__).resolve().parents[2] / "config" / "prompts"
DELAY, CONCURRENCY, CALLS = 0.2, 32, 320
ANSWER = {"reasoning": "Many small round dark nuclei.", "conclusion": "VERY HIGH", "probability_high": 0.9}
COMPLETION = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": json.dumps(ANSWER)}},
    ],
    "usage": {"prompt_tokens": 400, "completion_tokens": 5, "total_tokens": 405},
}


def _endpoint(connection: Connection) -> None:
    """A server in a process of its own, which answers every request after the delay; ends with its process."""
    body = json.dumps(COMPLETION).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    async def answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return writer.close()
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
            await asyncio.sleep(DELAY)
            writer.write(answer)

    async def main() -> None:
        server = await asyncio.start_server(answer_all, "127.0.0.1", 0, backlog=256)
        connection.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def test_many_questions_at_a_time(table):
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_endpoint, args=(theirs,), daemon=True)
    process.start()
    settings = {
        "kind": "openai",
        "model": "m",
        "base_url": f"http://127.0.0.1:{ours.recv()}/v1",
        "api_key_env": None,
        "concurrency": CONCURRENCY,
        **{f"{name}_prompt": str(PROMPTS / f"{name}.j2") for name in ("describe", "answer", "image_only")},
    }
    explanation = Explanation("a", "a", "", "", (), (), "Lymphocytes raise the score.")
    asked = [Question(f"p{i}", f"Description {i}. " * 40, None) for i in range(CALLS)]

    def ask() -> None:
        # A new ledger each time: from an old one nothing would be asked.
        with tempfile.TemporaryDirectory() as folder:
            answers = build_reader(settings, Job(Path(folder), "m", "rule")).answer_all(asked, explanation)
            assert len(answers) == CALLS

    async def client_alone() -> None:
        places = asyncio.Semaphore(CONCURRENCY)

        async def one(client: AsyncOpenAI, text: str) -> None:
            async with places:
                message = {"role": "user", "content": text}
                await client.chat.completions.create(model="m", messages=[message], response_format=RESPONSE_FORMAT)

        async with AsyncOpenAI(api_key="none", base_url=settings["base_url"], max_retries=0) as client:
            await asyncio.gather(*(one(client, question.description) for question in asked))

    try:
        what, taken = f"{CALLS} questions, {CONCURRENCY} at a time, {DELAY * 1000:g} ms each, with ledger", seconds(ask)
        table.add(what, taken, CALLS / CONCURRENCY * DELAY, "the delay alone")
        table.add(what, taken, seconds(lambda: asyncio.run(client_alone())), "the openai client alone")
    finally:
        process.terminate()
