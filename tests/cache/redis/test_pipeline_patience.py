"""Time-outs that do not count the event loop's own delay."""

import asyncio
import time

import pytest

from imgserver.cache.redis.pipeline import TOLERATED_TIMEOUTS, LagTolerantTimeout


async def test_a_block_that_takes_longer_times_out():
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        async with LagTolerantTimeout(0.02):
            await asyncio.Event().wait()

    assert 0.02 <= time.monotonic() - begun < 1


async def test_a_reply_that_arrived_while_the_loop_was_blocked_is_in_time():
    """And counts as a fast one."""
    loop, reply = asyncio.get_running_loop(), asyncio.Event()
    async with LagTolerantTimeout(0.04) as timeout:
        loop.call_soon(time.sleep, 0.1)
        # Two iterations later, like a reply that takes several iterations to be read.
        loop.call_soon(loop.call_soon, loop.call_soon, reply.set)
        await reply.wait()

        assert timeout.elapsed() < 0.04


async def test_a_loop_that_is_always_late_still_times_out():
    loop = asyncio.get_running_loop()

    def block() -> None:
        time.sleep(0.02)
        handle[0] = loop.call_soon(block)

    handle = [loop.call_soon(block)]
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        async with LagTolerantTimeout(0.04):
            await asyncio.Event().wait()
    handle[0].cancel()

    assert time.monotonic() - begun > 0.04
    assert time.monotonic() - begun < 1 + 0.04 * (TOLERATED_TIMEOUTS + 1)


async def test_the_timer_ends_with_the_block():
    async with LagTolerantTimeout(0.001):
        pass

    async with asyncio.timeout(1):
        await asyncio.to_thread(time.sleep, 0.01)


async def test_a_cancelled_block_stays_cancelled():
    async def wait_for_long() -> None:
        async with LagTolerantTimeout(10):
            await asyncio.Event().wait()

    task = asyncio.ensure_future(wait_for_long())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
