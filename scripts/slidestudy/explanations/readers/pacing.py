"""When the next request may be sent: a rate limit, pauses that an endpoint asks for, and waits before another try."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["Backoff", "Pace", "retry_after"]

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
"""Seconds before the second try, and the most before any (our choice)."""


class Pace:
    """Spaces requests evenly, and holds all of them back while an endpoint wants to be left alone.

    A token bucket that holds one token: bursts, which some endpoints count against a limit per minute, cannot happen.

    Args:
        per_minute: Most requests per minute; None: any number.
    """

    def __init__(self, per_minute: float | None) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0

    async def turn(self, stopped: asyncio.Event) -> None:
        """Waits for the turn of one request, or until the run is stopped."""
        while not stopped.is_set():
            now = time.monotonic()
            if now >= self._next:
                self._next = now + self._interval
                return
            await sleep(self._next - now, stopped)

    def pause(self, seconds: float) -> None:
        """Sends nothing for a while."""
        self._next = max(self._next, time.monotonic() + seconds)


class Backoff:
    """Waits that double, each shortened at random by up to half, so that questions do not return all at once.

    "Equal jitter", M. Brooker, Exponential backoff and jitter, AWS Architecture Blog, 2015.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def seconds(self, tried: int) -> float:
        """The wait after a number of tries, at least 1."""
        longest = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (tried - 1))
        return longest * (0.5 + 0.5 * self._random.random())


async def sleep(seconds: float, stopped: asyncio.Event) -> None:
    """Sleeps, but not beyond the end of the run."""
    try:
        await asyncio.wait_for(stopped.wait(), seconds)
    except TimeoutError:
        return


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that an endpoint asks to wait (RFC 9110, 10.2.3: a number, or a date); None where it does not."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            return max(0.0, float(value) / unit)
        except ValueError:
            pass
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            continue
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(0.0, (date - datetime.now(UTC)).total_seconds())
    return None
