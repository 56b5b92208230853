"""Token buckets in a real Redis: shared by all servers, without races, and without exceptions."""

import asyncio
import time

import pytest

from imgserver.cache.redis.client import RedisClient, RedisSettings
from imgserver.cache.redis.rate_limit import SharedTokenBuckets
from tests.polling import eventually
from tests.redis_server import RedisServer


@pytest.fixture
async def buckets(redis_server: RedisServer):
    client = RedisClient(RedisSettings(url=redis_server.url, timeout_seconds=1))
    await client.start()
    yield SharedTokenBuckets(client)
    await client.close()


async def test_a_burst_passes_and_the_next_take_returns_the_seconds_to_wait(buckets) -> None:
    waits = [await buckets.take("a", per_second=0.5, burst=3) for _ in range(4)]

    assert waits[:3] == [0, 0, 0]
    assert 1.5 < waits[3] <= 2


async def test_two_servers_share_a_bucket_without_races(buckets, redis_server) -> None:
    client = RedisClient(RedisSettings(url=redis_server.url, timeout_seconds=1))
    await client.start()
    other = SharedTokenBuckets(client)
    takes = [one.take("a", per_second=0.01, burst=25) for _ in range(40) for one in (buckets, other)]
    waits = await asyncio.gather(*takes)
    await client.close()

    assert waits.count(0) == 25
    assert None not in waits


async def test_the_bucket_refills(buckets) -> None:
    for _ in range(2):
        await buckets.take("a", per_second=20, burst=2)
    begun = time.monotonic()

    async def has_one() -> bool:
        return await buckets.take("a", per_second=20, burst=2) == 0

    await eventually(has_one)
    assert 0.02 < time.monotonic() - begun < 1


async def test_the_key_of_a_full_bucket_expires(buckets, redis_server) -> None:
    await buckets.take("a", per_second=100, burst=5)

    assert 0 < redis_server.admin.pttl("imgserver:bucket:a") <= 10 or not redis_server.admin.exists(
        "imgserver:bucket:a"
    )
    await eventually(lambda: not redis_server.admin.exists("imgserver:bucket:a"))


@pytest.mark.parametrize("value", ["garbage", "9e99", "-5", ""])
async def test_an_invalid_value_of_a_bucket_locks_nobody_out(buckets, redis_server, value) -> None:
    redis_server.admin.set("imgserver:bucket:a", value)

    assert await buckets.take("a", per_second=10, burst=2) <= 0.11


async def test_take_returns_none_for_a_key_of_another_type(buckets, redis_server) -> None:
    redis_server.admin.lpush("imgserver:bucket:a", 1)

    assert await buckets.take("a", per_second=1, burst=1) is None


async def test_take_returns_none_soon_while_redis_is_away(buckets, redis_server) -> None:
    redis_server.kill()
    begun = time.monotonic()

    assert await buckets.take("a", per_second=1, burst=1) is None
    assert time.monotonic() - begun < 1.5
