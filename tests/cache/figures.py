"""Prints what the tiers cost: `python -m tests.cache.figures`. Needs a redis-server, takes a few seconds."""

import asyncio
import statistics
import sys
import tempfile
import time
import timeit
from pathlib import Path

from imgserver.cache import build_cache
from imgserver.cache.cache_tags import groups_of
from imgserver.cache.disk import DiskSettings
from imgserver.cache.memory import MemorySettings
from imgserver.cache.redis.client import RedisSettings
from imgserver.cache.tiered import TieredCache
from imgserver.plan.plan import SourceRef
from imgserver.testing import make_rendition
from tests.redis_server import RedisServer, running

KEY = "1/" + "a" * 32 + "/" + "b" * 32
GROUPS = groups_of(SourceRef("folder", "a/b/c.jpg"), key=KEY)
TIMES = 1000


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


async def costs_of(call, times: int) -> list[float]:
    costs = []
    for _ in range(times):
        begun = time.perf_counter()
        await call()
        costs.append(1000 * (time.perf_counter() - begun))
    return costs


def summary(costs: list[float]) -> str:
    return f"median {statistics.median(costs):.2f} ms, p99 {sorted(costs)[int(0.99 * len(costs))]:.2f}"


async def hits(tiered: TieredCache) -> None:
    for size in (10_000, 60_000, 200_000, 1_000_000):
        for name, tier in (("redis", tiered.tiers["redis"]), ("disk", tiered.tiers["disk"])):
            await tier.put(KEY, make_rendition(b"x" * size, generations=await tiered.generations.fetch(GROUPS)))
            say(f"{name} hit of {size // 1000} kB: {summary(await costs_of(lambda tier=tier: tier.get(KEY), TIMES))}")
    costs = await costs_of(lambda: tiered.tiers["redis"].get(KEY, GROUPS), TIMES)
    say(f"redis hit of 1000 kB with {len(GROUPS)} generations: {summary(costs)}")


def get_fresh(tiered: TieredCache) -> None:
    tiered.memory.put_nowait(
        KEY, make_rendition(b"x", generations=tiered.generations.known(GROUPS), expires=time.time() + 1000)
    )
    plain, checked = (
        min(timeit.repeat(lambda get=get: get(KEY), number=10_000, repeat=10)) * 100
        for get in (tiered.memory.get_nowait, tiered.get_fresh)
    )
    say(f"memory get {plain:.2f} us, get_fresh with {len(GROUPS)} generations {checked:.2f} us")


async def stall(tiered: TieredCache, server: RedisServer) -> None:
    server.freeze()
    costs = await costs_of(lambda: tiered.tiers["redis"].get("1/x/y"), 100)
    server.thaw()
    slow = [cost for cost in costs if cost > 5]
    rest = statistics.median(costs[len(slow) :])
    say(f"redis stopped: {len(slow)} of 100 lookups cost {max(slow):.1f} ms at most, then {rest:.4f} ms")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as server:
        tiered = build_cache(
            MemorySettings(), disk=DiskSettings(path=Path(folder) / "cache"), redis=RedisSettings(url=server.url)
        )
        await tiered.start()
        await tiered.tiers["disk"].wait_scanned()
        await hits(tiered)
        get_fresh(tiered)
        await stall(tiered, server)
        await tiered.close()


if __name__ == "__main__":
    asyncio.run(main())
