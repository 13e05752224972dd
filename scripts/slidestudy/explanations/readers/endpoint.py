"""A vision-language model behind any OpenAI-compatible endpoint, hosted or local (vLLM, Ollama, llama.cpp)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from slidestudy.errors import StudyError
from slidestudy.explanations.readers.calls import Call, CallFailed, Meter, Reply, Sampling, Verdict
from slidestudy.explanations.readers.images import data_url
from slidestudy.explanations.readers.pacing import Backoff, Pace, retry_after, sleep
from slidestudy.explanations.readers.secrets import Key, read_key
from slidestudy.explanations.readers.structured import RESPONSE_FORMAT

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["Endpoint", "EndpointSettings"]

MILLION = 1e6
OLD_LIMIT, NEW_LIMIT = "max_tokens", "max_completion_tokens"
"""What the protocol calls the longest reply; some hosted models take the second name only."""
LONGEST_REASON = 500
"""Characters of an endpoint's message that are kept."""


@dataclass(frozen=True)
class EndpointSettings:
    """How an endpoint is reached; nothing here changes an answer.

    Attributes:
        base_url: Its address, e.g. http://localhost:8000/v1.
        api_key_env: The environment variable with the key; None where none is needed.
        timeout: Seconds that one attempt may take, to its last byte.
        retries: Further attempts after a failed one.
        concurrency: Requests under way at a time.
        requests_per_minute: Most requests per minute; None: any number.
        price_per_million_input: Price of a million tokens of questions.
        price_per_million_output: Price of a million tokens of answers.
    """

    base_url: str
    api_key_env: str | None
    timeout: float = 120.0
    retries: int = 4
    concurrency: int = 8
    requests_per_minute: float | None = None
    price_per_million_input: float = 0.0
    price_per_million_output: float = 0.0


@dataclass(frozen=True)
class _Fault:
    """What went wrong with one attempt."""

    reason: str
    retry: bool
    wait: float | None = None
    verdict: Verdict = Verdict.THIS_ONE
    error: StudyError | None = None


class Endpoint:
    """The way to a model behind an endpoint (`calls.Channel`).

    Attributes:
        settings: How it is reached.
    """

    kind = "openai"
    repeatable = False

    def __init__(self, model: str, settings: EndpointSettings, sampling: Sampling, structured: str = "auto") -> None:
        """Reads the key; nothing is sent yet.

        Raises:
            StudyError: The key's variable is not set.
        """
        self.model, self.settings, self.sampling, self.structured = model, settings, sampling, structured
        self.concurrency = settings.concurrency
        self.address = hashlib.sha256(settings.base_url.rstrip("/").encode()).hexdigest()[:16]
        self._key: Key = read_key(settings.api_key_env)
        self._pace, self._backoff = Pace(settings.requests_per_minute), Backoff(sampling.seed or 0)
        self._limit_name = OLD_LIMIT
        self._client: AsyncOpenAI | None = None
        self._stopped = asyncio.Event()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Holds the connections while the block lasts."""
        from openai import AsyncOpenAI

        self._stopped = asyncio.Event()
        # Retries are ours: the client's own would neither be counted nor held back by a pause of the endpoint.
        async with AsyncOpenAI(
            api_key=self._key.value,
            base_url=self.settings.base_url,
            timeout=self.settings.timeout,
            max_retries=0,
        ) as self._client:
            try:
                yield
            finally:
                self._client = None

    def stop(self) -> None:
        """Sends nothing any more; requests under way may come back."""
        self._stopped.set()

    async def send(self, call: Call, request: dict[str, Any], meter: Meter) -> Reply:
        """Sends a question, again after a failure that may pass (see `calls.Channel`)."""
        body, tried = await self._body(call, request), 0
        while True:
            await self._pace.turn(self._stopped)
            if self._stopped.is_set():
                raise CallFailed("the run was stopped", tried)
            try:
                meter.reserve()
            except StudyError as cap:
                raise CallFailed(str(cap), tried, Verdict.END, cap) from None
            tried += 1
            outcome = await self._attempt(body)
            if isinstance(outcome, _Fault):
                if self._other_limit(outcome, body):
                    continue
                if not outcome.retry or tried > self.settings.retries:
                    raise CallFailed(outcome.reason, tried, outcome.verdict, outcome.error)
                if outcome.wait is not None:
                    self._pace.pause(outcome.wait)
                await sleep(max(self._backoff.seconds(tried), outcome.wait or 0.0), self._stopped)
                continue
            return self._reply(outcome, tried, call.schema)

    async def _body(self, call: Call, request: Mapping[str, Any]) -> dict[str, Any]:
        """The request in the protocol's words."""
        content: Any = call.prompt
        if call.images:
            # Encoding takes a few ms each, during which others can be sent.
            urls = [await asyncio.to_thread(data_url, image) for image in call.images]
            pictures = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
            content = [{"type": "text", "text": call.prompt}, *pictures]
        body: dict[str, Any] = {"model": self.model, "messages": [{"role": "user", "content": content}]}
        body |= {key: request[key] for key in ("temperature", "seed") if request[key] is not None}
        body[self._limit_name] = request["max_tokens"]
        if call.schema:
            body["response_format"] = RESPONSE_FORMAT
        return body

    async def _attempt(self, body: dict[str, Any]) -> Any:
        """One request; the completion, or what went wrong."""
        assert self._client is not None
        # As the client's extra body, which goes out as it is: its own check of a schema takes a ms of every request.
        asked = self._client.chat.completions.create(model=self.model, messages=[], extra_body=body)
        try:
            # The client's timeout starts anew with every byte, ours does not.
            async with asyncio.timeout(self.settings.timeout):
                reply = await asked
        except Exception as error:  # Whatever the client and the HTTP library below it raise.
            return self._fault(error)
        try:
            text = reply.choices[0].message.content
        except (AttributeError, IndexError, TypeError):
            text = NotImplemented
        if text is not None and not isinstance(text, str):
            return self._no_completion(f"is no chat completion: {str(reply)[:200]!r}")
        return reply

    def _reply(self, completion: Any, tried: int, schema: bool) -> Reply:
        """The completion's text, tokens and cost."""
        text = self._key.strike(completion.choices[0].message.content or "")
        usage = getattr(completion, "usage", None)
        taken, given = (getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens"))
        if not isinstance(taken, int) or not isinstance(given, int):
            return Reply(text, tried, schema=schema)
        prices = self.settings
        cost = (taken * prices.price_per_million_input + given * prices.price_per_million_output) / MILLION
        return Reply(text, tried, taken, given, cost, schema)

    def _other_limit(self, fault: _Fault, body: dict[str, Any]) -> bool:
        """Changes the name of the longest reply where the endpoint asks for the other one."""
        if fault.verdict is not Verdict.REFUSED or NEW_LIMIT not in fault.reason or OLD_LIMIT not in body:
            return False
        body[NEW_LIMIT] = body.pop(OLD_LIMIT)
        self._limit_name = NEW_LIMIT
        return True

    def _no_completion(self, what: str) -> _Fault:
        what = f"the endpoint's reply {self._key.redact(what)}"
        error = StudyError(what, self._where(), "check base_url: it usually ends in /v1")
        return _Fault(what, True, None, Verdict.HOPELESS, error)

    def _where(self) -> str:
        """The address, without a name and password that it may hold."""
        parts = urlsplit(self.settings.base_url)
        return self._key.redact(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())

    def _fault(self, error: Exception) -> _Fault:
        """What a failed attempt means; the key is struck out of all words."""
        import openai

        reason = self._key.redact(f"{type(error).__name__}: {error}")[:LONGEST_REASON]
        if isinstance(error, TimeoutError | openai.APITimeoutError):
            return _Fault(f"no reply within {self.settings.timeout:g} s", True)
        if isinstance(error, openai.APIStatusError):
            return self._refusal(error.status_code, reason, retry_after(error.response.headers))
        if isinstance(error, ValueError | openai.APIResponseValidationError):
            return self._no_completion(f"cannot be read: {reason}")
        if isinstance(error, openai.APIConnectionError) and _is_refused(error):
            remedy = "check base_url, and that the server runs"
            return _Fault(
                reason,
                True,
                None,
                Verdict.HOPELESS,
                StudyError("the endpoint cannot be reached", self._where(), remedy),
            )
        return _Fault(reason, True)

    def _refusal(self, status: int, reason: str, wait: float | None) -> _Fault:
        """What an HTTP status other than 200 means."""
        if status in (408, 409, 425, 429) or status >= 500:
            return _Fault(reason, True, wait)
        where, model = self._where(), self.model
        if status in (401, 403):
            remedy = f"check the key in the environment variable {self.settings.api_key_env}"
            error = StudyError(f"the endpoint refused the key: {reason}", where, remedy)
            return _Fault(reason, False, None, Verdict.HOPELESS, error)
        if status in (402, 404, 405):
            remedy = "check base_url, the model's name, and that the account may use it"
            what = f"the endpoint does not know the model {model}, or does not give it: {reason}"
            return _Fault(reason, False, None, Verdict.HOPELESS, StudyError(what, where, remedy))
        remedy = "check the settings of explanations.reader against what the endpoint takes"
        error = StudyError(f"the endpoint refused the request: {reason}", where, remedy)
        return _Fault(reason, False, None, Verdict.REFUSED, error)


def _is_refused(error: BaseException) -> bool:
    """Whether nobody listens at an address, or it does not exist; not that a connection broke."""
    seen: BaseException | None = error
    while seen is not None:
        if type(seen).__name__ in ("ConnectError", "UnsupportedProtocol", "gaierror", "ConnectionRefusedError"):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
