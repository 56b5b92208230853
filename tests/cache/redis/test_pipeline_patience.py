"""Time-outs that do not count the event loop's own lateness."""

import asyncio
import time

import pytest

from imgserver.cache.redis.pipeline import FORGIVEN_TIMEOUTS, LagTolerantTimeout


async def test_what_takes_longer_is_given_up():
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        async with LagTolerantTimeout(0.02):
            await asyncio.Event().wait()

    assert 0.02 <= time.monotonic() - begun < 1


async def test_an_answer_that_came_while_the_loop_was_held_up_is_taken():
    """And is no slow one."""
    loop, answer = asyncio.get_running_loop(), asyncio.Event()
    async with LagTolerantTimeout(0.04) as patience:
        loop.call_soon(time.sleep, 0.1)
        # In the second turn after that: as everything that takes some turns to be read.
        loop.call_soon(loop.call_soon, loop.call_soon, answer.set)
        await answer.wait()

        assert patience.listened() < 0.04


async def test_a_loop_that_is_always_late_does_not_wait_for_ever():
    loop = asyncio.get_running_loop()

    def hold_up() -> None:
        time.sleep(0.02)
        holding[0] = loop.call_soon(hold_up)

    holding = [loop.call_soon(hold_up)]
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        async with LagTolerantTimeout(0.04):
            await asyncio.Event().wait()
    holding[0].cancel()

    assert time.monotonic() - begun > 0.04
    assert time.monotonic() - begun < 1 + 0.04 * (FORGIVEN_TIMEOUTS + 1)


async def test_after_an_answer_in_time_nothing_rings():
    async with LagTolerantTimeout(0.001):
        pass

    async with asyncio.timeout(1):
        await asyncio.to_thread(time.sleep, 0.01)


async def test_what_others_have_cancelled_stays_cancelled():
    async def patiently() -> None:
        async with LagTolerantTimeout(10):
            await asyncio.Event().wait()

    task = asyncio.ensure_future(patiently())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
