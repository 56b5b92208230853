import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from imgserver.cache.redis import render_lock as module
from imgserver.cache.redis.client import RedisClient, RedisSettings
from imgserver.cache.redis.render_lock import LockAttempt, RenderLock
from tests.polling import eventually

KEY = "1/a/b"
NAME = "imgserver:lock:1/a/b"


@asynccontextmanager
async def linked(url):
    link = RedisClient(RedisSettings(url=url))
    await link.start()
    yield RenderLock(link)
    await link.close()


@pytest.fixture
async def lock(redis_server):
    async with linked(redis_server.url) as lock:
        yield lock


async def test_of_many_one_has_the_turn(redis_server, lock):
    async with linked(redis_server.url) as other:
        turns = await asyncio.gather(*(owner.take(KEY, seconds=5) for owner in (lock, other) * 10))

    assert sum(turn.ours for turn in turns) == 1
    assert 0 < redis_server.admin.pttl(NAME) <= 5000


async def test_who_waits_goes_on_when_it_is_released(redis_server, lock):
    turn = await lock.take(KEY, seconds=30)
    waiters = [asyncio.create_task(lock.wait(KEY, seconds=5)) for _ in range(20)]
    await eventually(lambda: lock.statistics().waiting == 20)
    begun = time.monotonic()
    await lock.release(KEY, turn)

    assert await asyncio.gather(*waiters) == [True] * 20
    assert time.monotonic() - begun < 0.5
    assert redis_server.admin.exists(NAME) == 0
    assert (await lock.take(KEY, seconds=1)).ours


async def test_a_lock_ends_with_its_time_when_its_owner_is_gone(lock):
    await lock.take(KEY, seconds=0.2)

    assert await lock.wait(KEY, seconds=5)


async def test_the_wait_ends_with_its_own_time(lock):
    await lock.take(KEY, seconds=30)

    assert not await lock.wait(KEY, seconds=0.1)


async def test_nobody_releases_anothers_lock(redis_server, lock):
    await lock.take(KEY, seconds=30)
    await lock.release(KEY, LockAttempt(True, "another's"))
    await lock.release(KEY, LockAttempt(False, ""))

    assert redis_server.admin.exists(NAME) == 1


async def test_without_redis_everybody_has_the_turn_and_nobody_waits(redis_server, lock):
    redis_server.kill()
    turns = [await lock.take(KEY, seconds=5) for _ in range(10)]
    async with asyncio.timeout(0.5):
        waited = [await lock.wait(KEY, seconds=5) for _ in range(10)]
        await lock.release(KEY, turns[0])

    assert all(turn.ours for turn in turns)
    assert waited == [False] * 10
    assert lock.statistics().lost == 10


async def test_waiters_are_bounded(lock, monkeypatch):
    monkeypatch.setattr(module, "WAITERS_LIMIT", 3)
    turn = await lock.take(KEY, seconds=30)
    waiters = [asyncio.create_task(lock.wait(KEY, seconds=5)) for _ in range(10)]
    await eventually(lambda: sum(waiter.done() for waiter in waiters) == 7)
    await lock.release(KEY, turn)

    assert sorted(await asyncio.gather(*waiters)) == [False] * 7 + [True] * 3
