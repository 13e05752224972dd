"""Asking a vision-language model many questions at a time, each at most once over all runs of a study."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from slidestudy.errors import StudyError
from slidestudy.explanations.ledger import Ledger
from slidestudy.explanations.readers.calls import Call, CallFailed, Channel, Reply, Verdict
from slidestudy.files import digest

__all__ = ["Asker"]

STOP_AFTER = 10
"""Questions in a row without an answer after which a run stops (our choice; the concurrency, if that is more)."""
NO_SCHEMA = "the endpoint refuses JSON schemas"

T = TypeVar("T")


class _Stopped(Exception):
    """Another question has ended the run."""


class _Keyed:
    """A question, all that its answer depends on, and the key of that in the ledger."""

    def __init__(self, call: Call, channel: Channel) -> None:
        self.call = call
        self.request = call.request(channel.kind, channel.model, channel.sampling)
        self.key = digest(self.request)


class Asker:
    """Puts questions to a model by way of the ledger.

    Attributes:
        channel: The way to the model.
        ledger: Its open ledger.
        schema: Whether answers are asked for as JSON.
    """

    def __init__(self, channel: Channel, ledger: Ledger) -> None:
        self.channel, self.ledger = channel, ledger
        refused = ledger.has_note(NO_SCHEMA, endpoint=channel.address)
        self.schema = channel.structured == "schema" or (channel.structured == "auto" and not refused)
        self._schema_taken = self._reached = self._stopped = False
        self._in_a_row = self._refused = self._total = 0
        self._locks: dict[str, asyncio.Lock] = {}

    def run(self, questions: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
        """Runs coroutines that ask, as many at a time as the channel takes; gives the results in their order.

        Raises:
            StudyError: The run had to stop. What was answered until then is in the ledger.
        """
        self._total = len(questions)
        return asyncio.run(self._run(questions))

    async def _run(self, questions: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
        places = asyncio.Semaphore(self.channel.concurrency)

        async def one(question: Callable[[], Awaitable[T]]) -> T:
            async with places:
                if self._stopped:
                    raise _Stopped
                try:
                    return await question()
                except BaseException:
                    # Questions under way may still be answered, and are kept; no other is sent.
                    self._stopped = True
                    self.channel.stop()
                    raise

        async with self.channel.connected():
            results = await asyncio.gather(*map(one, questions), return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        if errors:
            raise next((error for error in errors if not isinstance(error, _Stopped)), errors[0])
        return [result for result in results if not isinstance(result, BaseException)]

    async def ask(self, form: Callable[[bool], Call], structured: bool = False) -> Reply:
        """The answer to a question: from the ledger, else from the model.

        Args:
            form: Makes the question, for an answer as JSON or as plain text.
            structured: Whether the answer has a schema at all.

        Raises:
            CallFailed: There is no answer to this question.
            StudyError: There will be none to any, or a cap is reached.
        """
        auto = structured and self.channel.structured == "auto"
        first = _Keyed(form(structured and self.schema), self.channel)
        known = self._known(first)
        if known is None and auto and not self.ledger.empty:
            known = self._known(_Keyed(form(not first.call.schema), self.channel))
        self.ledger.count(known is not None, first.call.again)
        if known is not None:
            return known
        try:
            reply = await self._in_some_form(first, form, auto)
        except CallFailed as failure:
            self._judge(failure)
            raise
        self._reached, self._in_a_row = True, 0
        return reply

    async def _in_some_form(self, first: _Keyed, form: Callable[[bool], Call], auto: bool) -> Reply:
        """Sends a question; in plain text where a schema is refused."""
        try:
            reply = await self._send(first)
        except CallFailed as failure:
            if not (auto and first.call.schema) or self._schema_taken or failure.verdict is not Verdict.REFUSED:
                raise
        else:
            self._schema_taken |= first.call.schema
            return reply
        # Refused was either the schema or the question as such; the same without a schema tells which.
        reply = await self._send(_Keyed(form(False), self.channel))
        if self.schema and not self._schema_taken:
            self.schema = False
            self.ledger.note(NO_SCHEMA, endpoint=self.channel.address)
            print(f"{NO_SCHEMA}: answers are read from their CONCLUSION line", flush=True)
        return reply

    def _known(self, question: _Keyed) -> Reply | None:
        """The ledger's answer to a question."""
        record = self.ledger.find(question.key)
        return None if record is None else Reply(record["reply"], schema=question.call.schema)

    async def _send(self, question: _Keyed) -> Reply:
        """Sends a question and keeps what comes back; one that is the same as another under way waits for that."""
        call, request, key = question.call, question.request, question.key
        async with self._locks.setdefault(key, asyncio.Lock()):
            known = self._known(question)
            if known is not None:
                return known
            started = time.monotonic()
            record: dict[str, Any] = {"key": key, "patch_id": call.patch_id, "prompt": call.template}
            record |= {"request": request, "reply": None, "error": None}
            try:
                reply = await self.channel.send(call, request, self.ledger)
            except CallFailed as failure:
                if failure.attempts:
                    spent = {"attempts": failure.attempts, "seconds": round(time.monotonic() - started, 3)}
                    self.ledger.add({**record, "error": failure.reason, **spent})
                raise
            tokens = {"input_tokens": reply.input_tokens, "output_tokens": reply.output_tokens, "cost": reply.cost}
            spent = {"attempts": reply.attempts, "seconds": round(time.monotonic() - started, 3)}
            self.ledger.add({**record, "reply": reply.text, **tokens, **spent})
            return reply

    def _judge(self, failure: CallFailed) -> None:
        """Ends the run where a failed question tells that the others will fail too.

        Raises:
            StudyError: That is so.
        """
        if failure.verdict is Verdict.END or (failure.verdict is Verdict.HOPELESS and not self._reached):
            raise failure.error from None
        if failure.verdict is Verdict.REFUSED:
            # One question may be refused for what it holds; where none was ever taken, all first ones must be.
            self._refused += 1
            if not self._reached and self._refused >= min(self.channel.concurrency, self._total):
                raise failure.error from None
            return
        self._in_a_row += 1
        if self._in_a_row >= max(STOP_AFTER, self.channel.concurrency):
            what = f"{self._in_a_row} questions in a row stayed without an answer, the last one: {failure.reason}"
            remedy = "look after the endpoint and run again: what was answered is kept, and not asked again"
            raise StudyError(what, "explanations.reader", remedy) from None
