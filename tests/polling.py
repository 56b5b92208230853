"""Waiting for a fact, with a deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable


async def eventually(fact: Callable[[], object], *, seconds: float = 5.0) -> float:
    """Looks every few milliseconds until `fact()` holds (an awaitable one is awaited); how long it took in seconds."""
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
