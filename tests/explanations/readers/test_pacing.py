"""Waits: those that an endpoint asks for, and our own."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from slidestudy.explanations.readers.pacing import LONGEST_WAIT, Backoff, Pace, retry_after, sleep


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_the_wait_that_an_endpoint_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_wait_may_be_given_as_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    found = retry_after({"retry-after": date})
    assert found is not None
    assert 80 < found <= 90


@pytest.mark.parametrize(("tried", "longest"), [(1, 0.5), (2, 1.0), (5, 8.0), (50, LONGEST_WAIT)])
def test_waits_double_up_to_the_longest_and_differ_by_chance(tried: int, longest: float) -> None:
    waits = [Backoff(seed).seconds(tried) for seed in range(20)]
    assert all(longest / 2 <= wait <= longest for wait in waits)
    assert len(set(waits)) == 20
    assert Backoff(3).seconds(tried) == waits[3]


def test_the_end_of_the_run_ends_every_wait() -> None:
    async def stopped_while_waiting() -> float:
        stopped, pace = asyncio.Event(), Pace(None)
        pace.pause(30)
        started = time.monotonic()
        asyncio.get_running_loop().call_later(0.05, stopped.set)
        await asyncio.gather(pace.turn(stopped), sleep(30, stopped))
        return time.monotonic() - started

    assert asyncio.run(stopped_while_waiting()) < 10
