"""What is sent to a vision-language model, and what comes back."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Protocol

from slidestudy.errors import StudyError
from slidestudy.explanations.readers.images import Picture, image_digest

__all__ = ["Call", "CallFailed", "Channel", "Meter", "Reply", "Sampling", "Verdict"]

AGAIN = 1_000_000
"""What is added to the seed where a question is put a second time."""


@dataclass(frozen=True)
class Sampling:
    """How a model chooses its words.

    Attributes:
        temperature: 0 takes the likeliest; None leaves it to the endpoint.
        seed: None sends none.
        max_tokens: Longest reply.
    """

    temperature: float | None = 0.0
    seed: int | None = 0
    max_tokens: int = 1024


@dataclass(frozen=True)
class Call:
    """One question to a model.

    Attributes:
        patch_id: The patch it is about.
        prompt: The text.
        images: Images that follow it, as many as `names`.
        names: What the images are.
        repeat: Which asking of the same question, from 0.
        again: Whether it is put a second time, as the first reply could not be read.
        schema: Whether JSON of the answer's schema is asked for.
        template: Digest of the prompt's file.
    """

    patch_id: str
    prompt: str
    images: tuple[Picture, ...] = ()
    names: tuple[str, ...] = ()
    repeat: int = 0
    again: bool = False
    schema: bool = False
    template: str = ""

    @cached_property
    def messages(self) -> list[dict[str, Any]]:
        """The messages as the ledger keeps them: a digest for each image."""
        images = [
            {"type": "image", "name": name, "digest": image_digest(image)}
            for name, image in zip(self.names, self.images, strict=True)
        ]
        return [{"role": "user", "content": [{"type": "text", "text": self.prompt}, *images]}]

    def request(self, kind: str, model: str, sampling: Sampling) -> dict[str, Any]:
        """All that the answer depends on; not how or where the model is reached."""
        seed = sampling.seed
        if seed is not None:
            # Another seed each time: with the same one a repeat would only repeat.
            seed += self.repeat + AGAIN * self.again
        return {
            "kind": kind,
            "model": model,
            "messages": self.messages,
            "temperature": sampling.temperature,
            "seed": seed,
            "max_tokens": sampling.max_tokens,
            "schema": self.schema,
            "repeat": self.repeat,
            "again": self.again,
        }


@dataclass(frozen=True)
class Reply:
    """What a model answered.

    Attributes:
        text: Its text; may be blank.
        attempts: Requests sent for it.
        input_tokens: Tokens of the question; None where the endpoint does not say.
        output_tokens: Tokens of the answer; None likewise.
        cost: In the unit of the prices; None where the tokens are unknown.
        schema: Whether it was asked for as JSON.
    """

    text: str
    attempts: int = 1
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None
    schema: bool = False


class Verdict(StrEnum):
    """What a failed question says of the others."""

    THIS_ONE = "this one"
    """Nothing: it failed by itself, after all retries."""
    REFUSED = "refused"
    """The request as such was refused; another form of it may be taken, and if none ever is, none will be."""
    HOPELESS = "hopeless"
    """None will be answered, unless one was before."""
    END = "end"
    """None is to be sent any more."""


class CallFailed(Exception):
    """One question stayed without an answer.

    Args:
        reason: Why, for the user.
        attempts: Requests sent for it.
        verdict: What that says of the others.
        error: What to tell the user where it ends the run.
    """

    def __init__(
        self, reason: str, attempts: int, verdict: Verdict = Verdict.THIS_ONE, error: StudyError | None = None
    ) -> None:
        super().__init__(reason)
        self.reason, self.attempts, self.verdict = reason, attempts, verdict
        self.error = error or StudyError(reason, "explanations.reader")


class Channel(Protocol):
    """The way to a vision-language model."""

    kind: str
    model: str
    """The model's identity: its name, and where its weights are at hand, their digest."""
    concurrency: int
    """How many questions it takes at a time."""
    address: str
    """Digest of where it is; what an endpoint refuses holds for this one."""
    sampling: Sampling
    structured: str
    """`schema`: JSON; `text`: a CONCLUSION line; `auto`: JSON until it is refused."""
    repeatable: bool
    """Whether the same question always gets the same reply, so that there is no use in putting it again."""

    def connected(self) -> AbstractAsyncContextManager[None]:
        """Holds the connection while the block lasts."""
        ...

    async def send(self, call: Call, request: dict[str, Any], meter: Meter) -> Reply:
        """Sends a question, until it is answered or there is no use in trying again.

        Raises:
            CallFailed: There is no answer.
        """
        ...

    def stop(self) -> None:
        """Sends nothing any more; what is under way may come back."""
        ...


class Meter(Protocol):
    """Whoever must allow every request that is sent."""

    def reserve(self) -> None:
        """Counts one, or raises a StudyError where a cap is reached."""
        ...
