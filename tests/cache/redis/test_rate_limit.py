"""Token buckets in a real Redis: one count for all, right under races, and silent in every trouble."""

import asyncio
import time

import pytest

from imgserver.cache.redis.client import RedisClient, RedisSettings
from imgserver.cache.redis.rate_limit import SharedTokenBuckets
from tests.polling import eventually
from tests.redis_server import RedisServer


@pytest.fixture
async def buckets(redis_server: RedisServer):
    link = RedisClient(RedisSettings(url=redis_server.url, timeout_seconds=1))
    await link.start()
    yield SharedTokenBuckets(link)
    await link.close()


async def test_a_burst_is_had_and_then_told_how_long_to_wait(buckets) -> None:
    waits = [await buckets.take("a", per_second=0.5, burst=3) for _ in range(4)]

    assert waits[:3] == [0, 0, 0]
    assert 1.5 < waits[3] <= 2


async def test_two_servers_count_together_and_nothing_is_lost_in_a_race(buckets, redis_server) -> None:
    link = RedisClient(RedisSettings(url=redis_server.url, timeout_seconds=1))
    await link.start()
    other = SharedTokenBuckets(link)
    asked = [one.take("a", per_second=0.01, burst=25) for _ in range(40) for one in (buckets, other)]
    waits = await asyncio.gather(*asked)
    await link.close()

    assert waits.count(0) == 25
    assert None not in waits


async def test_tokens_come_back_with_time(buckets) -> None:
    for _ in range(2):
        await buckets.take("a", per_second=20, burst=2)
    begun = time.monotonic()

    async def has_one() -> bool:
        return await buckets.take("a", per_second=20, burst=2) == 0

    await eventually(has_one)
    assert 0.02 < time.monotonic() - begun < 1


async def test_a_bucket_that_is_full_again_is_gone(buckets, redis_server) -> None:
    await buckets.take("a", per_second=100, burst=5)

    assert 0 < redis_server.admin.pttl("imgserver:bucket:a") <= 10 or not redis_server.admin.exists(
        "imgserver:bucket:a"
    )
    await eventually(lambda: not redis_server.admin.exists("imgserver:bucket:a"))


@pytest.mark.parametrize("value", ["garbage", "9e99", "-5", ""])
async def test_what_stands_there_instead_locks_nobody_out(buckets, redis_server, value) -> None:
    redis_server.admin.set("imgserver:bucket:a", value)

    assert await buckets.take("a", per_second=10, burst=2) <= 0.11


async def test_another_kind_of_key_is_no_answer(buckets, redis_server) -> None:
    redis_server.admin.lpush("imgserver:bucket:a", 1)

    assert await buckets.take("a", per_second=1, burst=1) is None


async def test_a_redis_that_is_gone_is_no_answer_and_costs_little(buckets, redis_server) -> None:
    redis_server.kill()
    begun = time.monotonic()

    assert await buckets.take("a", per_second=1, burst=1) is None
    assert time.monotonic() - begun < 1.5
