"""Waiting for a fact, with a deadline: the only place of the suite where time is passed."""

import asyncio
import time
from collections.abc import Awaitable, Callable


async def eventually(fact: Callable[[], object], *, seconds: float = 5.0) -> float:
    """Checks every few milliseconds until `fact()` holds (an awaitable one is awaited). Returns the seconds it took;
    raises AssertionError after `seconds`."""
    begun = time.monotonic()
    while True:
        found = fact()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return time.monotonic() - begun
        if time.monotonic() - begun > seconds:
            raise AssertionError(f"not within {seconds} s")
        await asyncio.sleep(0.005)


def wait_until(reached: Callable[[], bool], what: str, *, seconds: float = 10) -> None:
    """As `eventually`, without an event loop; `what` names the fact in the AssertionError."""
    limit = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > limit:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)
