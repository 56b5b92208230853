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
async def connected_lock(url):
    client = RedisClient(RedisSettings(url=url))
    await client.start()
    yield RenderLock(client)
    await client.close()


@pytest.fixture
async def lock(redis_server):
    async with connected_lock(redis_server.url) as lock:
        yield lock


async def test_of_many_attempts_one_acquires_the_lock(redis_server, lock):
    async with connected_lock(redis_server.url) as other:
        attempts = await asyncio.gather(*(owner.acquire(KEY, seconds=5) for owner in (lock, other) * 10))

    assert sum(attempt.acquired for attempt in attempts) == 1
    assert 0 < redis_server.admin.pttl(NAME) <= 5000


async def test_releasing_the_lock_ends_the_wait(redis_server, lock):
    attempt = await lock.acquire(KEY, seconds=30)
    waiters = [asyncio.create_task(lock.wait_released(KEY, seconds=5)) for _ in range(20)]
    await eventually(lambda: lock.statistics().waiting == 20)
    begun = time.monotonic()
    await lock.release(KEY, attempt)

    assert await asyncio.gather(*waiters) == [True] * 20
    assert time.monotonic() - begun < 0.5
    assert redis_server.admin.exists(NAME) == 0
    assert (await lock.acquire(KEY, seconds=1)).acquired


async def test_a_lock_expires_when_its_owner_is_gone(lock):
    await lock.acquire(KEY, seconds=0.2)

    assert await lock.wait_released(KEY, seconds=5)


async def test_waiting_for_a_lock_times_out(lock):
    await lock.acquire(KEY, seconds=30)

    assert not await lock.wait_released(KEY, seconds=0.1)


async def test_a_lock_is_released_by_its_owner_only(redis_server, lock):
    await lock.acquire(KEY, seconds=30)
    await lock.release(KEY, LockAttempt(True, "another's"))
    await lock.release(KEY, LockAttempt(False, ""))

    assert redis_server.admin.exists(NAME) == 1


async def test_without_redis_every_attempt_acquires_the_lock_and_nobody_waits(redis_server, lock):
    redis_server.kill()
    attempts = [await lock.acquire(KEY, seconds=5) for _ in range(10)]
    async with asyncio.timeout(0.5):
        waited = [await lock.wait_released(KEY, seconds=5) for _ in range(10)]
        await lock.release(KEY, attempts[0])

    assert all(attempt.acquired for attempt in attempts)
    assert waited == [False] * 10
    assert lock.statistics().lost == 10


async def test_waiters_are_bounded(lock, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITERS", 3)
    attempt = await lock.acquire(KEY, seconds=30)
    waiters = [asyncio.create_task(lock.wait_released(KEY, seconds=5)) for _ in range(10)]
    await eventually(lambda: sum(waiter.done() for waiter in waiters) == 7)
    await lock.release(KEY, attempt)

    assert sorted(await asyncio.gather(*waiters)) == [False] * 7 + [True] * 3
