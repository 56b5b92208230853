"""The tiered cache with real folders and a real Redis. Two `TieredCache` are two servers."""

import asyncio
import shutil
import threading
import timeit
from contextlib import AsyncExitStack

import pytest

from imgserver.cache import build_cache
from imgserver.cache.cache_tags import ALL, groups_of, key_group, prefix_group, source_group, tag_group
from imgserver.cache.disk import DiskSettings
from imgserver.cache.memory import MemorySettings
from imgserver.cache.redis.client import RedisSettings
from imgserver.cache.tiered import TieredSettings
from imgserver.observability.metrics import BACKGROUND_TASKS
from imgserver.plan import canonical
from imgserver.plan.plan import Output, Plan, SourceRef
from imgserver.testing import make_rendition
from tests.fault_proxy import proxied
from tests.polling import eventually

REF = SourceRef("folder", "a/b/c.jpg")
OTHER = SourceRef("folder", "x/y.jpg")
KEY = canonical.key(REF, Plan((), Output(format="webp")))
BODY = b"picture" * 100


@pytest.fixture
async def opened():
    """Opens and closes caches: `await opened(disk=..., redis=...)`."""
    async with AsyncExitStack() as held:

        async def open_one(*, disk=None, redis=None, first="disk", memory_bytes=1 << 20, **settings):
            tiered = build_cache(
                MemorySettings(memory_bytes=memory_bytes),
                disk=DiskSettings(path=disk) if disk else None,
                redis=RedisSettings(url=redis) if redis else None,
                settings=TieredSettings(first=first, **settings),
            )
            await tiered.start()
            held.push_async_callback(tiered.close)
            if "disk" in tiered.tiers:
                await tiered.tiers["disk"].wait_scanned()
            if "redis" in tiered.tiers:
                await eventually(lambda: tiered.statistics().subscribed)
            return tiered

        yield open_one


async def rendered(tiered, ref=REF, *, key=None, body=BODY, tags=(), **changes):
    """What a render does: fetches generations, opens, renders, puts."""
    key = key or canonical.key(ref, Plan((), Output(format="webp")))
    noted = await tiered.generations.fetch(groups_of(ref, key=key, tags=tags))
    kept = tiered.put(key, make_rendition(body, generations=noted, **changes))
    await tiered.wait_written(key, seconds=5)
    return kept


@pytest.fixture(params=["disk", "redis", "both", "both-redis-first"])
def tiers(request, tmp_path, redis_server):
    """The combinations below memory, as arguments of `opened`."""
    disk, redis = tmp_path / "cache", redis_server.url
    return {
        "disk": {"disk": disk},
        "redis": {"redis": redis},
        "both": {"disk": disk, "redis": redis},
        "both-redis-first": {"disk": disk, "redis": redis, "first": "redis"},
    }[request.param]


async def test_a_put_is_in_memory_immediately(opened):
    tiered = await opened()
    tiered.put(KEY, make_rendition(BODY))

    assert tiered.get_fresh(KEY) == make_rendition(BODY)
    assert tiered.get_fresh("other") is None


async def test_concurrent_requests_share_one_lookup_below_memory(opened, tiers):
    tiered = await opened(**tiers)
    await rendered(tiered)
    tiered.memory.drop_nowait(KEY)
    found = await asyncio.gather(*(tiered.get(KEY) for _ in range(500)))
    statistics = tiered.statistics()

    assert {rendition.body for rendition in found} == {BODY}
    assert sum(tier.hits + tier.misses for name, tier in statistics.tiers.items() if name != "memory") == 1


async def test_a_purge_at_the_end_of_a_shared_lookup_holds_for_all_that_wait_for_it(opened, tmp_path, monkeypatch):
    tiered = await opened(disk=tmp_path)
    await rendered(tiered)
    tiered.memory.drop_nowait(KEY)
    confirm = tiered.generations.confirm

    async def confirm_before_a_purge(generations):
        confirmed = await confirm(generations)
        await tiered.generations.bump([ALL])
        return confirmed

    monkeypatch.setattr(tiered.generations, "confirm", confirm_before_a_purge)

    assert await asyncio.gather(tiered.get(KEY), tiered.get(KEY)) == [None, None]


async def test_a_hit_below_memory_is_stored_in_memory(opened, tiers):
    tiered = await opened(**tiers)
    await rendered(tiered)
    tiered.memory.drop_nowait(KEY)
    found = await tiered.get(KEY)

    assert found is not None
    assert found.body == BODY
    assert tiered.get_fresh(KEY) == found


async def test_records_outlive_the_process(opened, tiers):
    first = await opened(**tiers)
    await rendered(first)
    await first.close()
    second = await opened(**tiers)

    assert (await second.get(KEY, groups_of(REF))).body == BODY


async def test_a_drop_reaches_every_tier(opened, tiers):
    tiered = await opened(**tiers)
    await rendered(tiered)
    tiered.drop(KEY)

    assert await tiered.get(KEY) is None
    await tiered.wait_written(KEY, seconds=5)
    assert await tiered.get(KEY) is None


async def test_an_expired_record_is_a_miss_in_every_tier(opened, tiers):
    tiered = await opened(**tiers)
    now = tiered._clock()
    await rendered(tiered, expires=now + 100)
    assert await tiered.get(KEY) is not None
    tiered._clock = lambda: now + 101

    assert tiered.get_fresh(KEY) is None
    assert await tiered.get(KEY) is None
    statistics = tiered.statistics()
    assert [tier.stale for tier in statistics.tiers.values()] == [1] * (1 + len(tiered.tiers))
    assert statistics.tiers["memory"].hits == 1


@pytest.mark.parametrize(
    "group",
    [source_group(REF), prefix_group("folder", "a"), tag_group("red"), key_group(KEY), ALL],
    ids=["source", "prefix", "tag", "key", "all"],
)
async def test_a_purge_removes_its_group_from_every_tier_and_no_other(opened, tiers, redis_server, group):
    tiered = await opened(**tiers)
    await rendered(tiered, tags=("red",))
    await rendered(tiered, OTHER)
    redis_server.admin.set("somebody:else", "1")
    result = await tiered.purge([group])
    other = canonical.key(OTHER, Plan((), Output(format="webp")))

    both = 2 if group == ALL else 1
    assert (result.propagated, result.complete, result.removed["memory"]) == (True, True, both)
    assert (result.removed.get("disk", 0), result.removed.get("redis", 0)) == (
        both * ("disk" in tiers),
        both * ("redis" in tiers),
    )
    assert await tiered.get(KEY) is None
    assert (await tiered.get(other) is None) == (group == ALL)
    assert redis_server.admin.get("somebody:else") == b"1"
    assert await rendered(tiered, tags=("red",))
    assert await tiered.get(KEY) is not None


async def test_a_purge_during_a_render_wins(opened, tiers):
    """Fault 36: the render fetched its generations, then came the purge, then its write."""
    tiered = await opened(**tiers)
    noted = await tiered.generations.fetch(groups_of(REF))
    await tiered.purge([source_group(REF)])

    assert not tiered.put(KEY, make_rendition(BODY, generations=noted))
    assert tiered.get_fresh(KEY) is None
    assert await tiered.get(KEY) is None
    assert tiered.statistics().dropped_writes["purged"] == 1


async def test_a_write_after_a_purge_is_never_returned(opened, tiers):
    """Even past both checks: the record is written straight into the tiers."""
    tiered = await opened(**tiers)
    noted = await tiered.generations.fetch(groups_of(REF))
    await tiered.purge([source_group(REF)])
    for tier in tiered.tiers.values():
        assert await tier.put(KEY, make_rendition(BODY, generations=noted))
    tiered.memory.put_nowait(KEY, make_rendition(BODY, generations=noted))

    assert tiered.get_fresh(KEY) is None
    assert await tiered.get(KEY) is None
    await tiered.wait_written(KEY, seconds=5)
    assert [await tier.get(KEY) for tier in tiered.tiers.values()] == [None] * len(tiered.tiers)


async def test_a_purge_holds_over_a_restart_without_redis(opened, tmp_path):
    first = await opened(disk=tmp_path)
    noted = await first.generations.fetch(groups_of(REF))
    await first.purge([source_group(REF)])
    await first.tiers["disk"].put(KEY, make_rendition(BODY, generations=noted))
    await first.close()
    second = await opened(disk=tmp_path)

    assert await second.get(KEY) is None


async def test_a_purge_removes_records_from_the_memory_of_other_servers_within_a_second(opened, redis_server, tmp_path):
    here = await opened(redis=redis_server.url)
    there = await opened(redis=redis_server.url, disk=tmp_path)
    await rendered(there)
    await rendered(there, OTHER)
    assert there.get_fresh(KEY) is not None
    await here.purge([source_group(REF)])

    assert await eventually(lambda: there.memory.statistics().entries == 1) < 1
    assert there.get_fresh(KEY) is None
    assert await there.get(KEY) is None
    await eventually(lambda: there.tiers["disk"].statistics().entries == 1)


def generation_reads(server) -> int:
    return server.admin.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"]


async def test_generations_are_not_read_with_records_while_the_subscription_is_alive(opened, redis_server):
    tiered = await opened(redis=redis_server.url, memory_bytes=0)
    await rendered(tiered)
    groups = groups_of(REF, key=KEY)
    before = generation_reads(redis_server)
    found = [await tiered.get(KEY, groups) for _ in range(20)]

    assert all(found)
    assert generation_reads(redis_server) == before


async def test_generations_are_read_with_each_record_while_the_subscription_is_silent(
    opened, redis_server, monkeypatch
):
    tiered = await opened(redis=redis_server.url, memory_bytes=0)
    await rendered(tiered)
    groups = groups_of(REF, key=KEY)
    monkeypatch.setattr(tiered._shared, "_heard_at", float("-inf"))
    redis_server.admin.set(f"imgserver:generation:{source_group(REF)}", "purged elsewhere, unheard")

    assert await tiered.get(KEY, groups) is None


async def test_the_valid_record_of_a_later_tier_replaces_an_invalid_one(opened, redis_server, tmp_path):
    """Such as the new rendition of another server, while the disk here still has the purged one."""
    here = await opened(redis=redis_server.url, disk=tmp_path / "here")
    await rendered(here)
    old = await here.tiers["disk"].get(KEY)
    await here.purge([source_group(REF)])
    await rendered(here, body=b"new")
    await here.tiers["disk"].put(KEY, old)
    here.memory.drop_nowait(KEY)

    found = await here.find(KEY, groups_of(REF, key=KEY))
    assert found is not None
    assert (found[0].body, found[1]) == (b"new", "redis")
    await here.wait_written(KEY, seconds=5)
    assert [(await tier.get(KEY)).body for tier in here.tiers.values()] == [b"new", b"new"]


async def test_a_server_drops_what_was_purged_while_it_was_not_subscribed(opened, redis_server):
    async with proxied(redis_server.port) as proxy:
        here = await opened(redis=redis_server.url)
        there = await opened(redis=f"redis://127.0.0.1:{proxy.port}")
        await rendered(there)
        proxy.faults.stalled = True
        await here.purge([source_group(REF)])
        assert there.get_fresh(KEY) is not None
        proxy.reset()
        proxy.faults.stalled = False
        await eventually(lambda: there.get_fresh(KEY) is None, seconds=10)

        assert await there.get(KEY) is None


async def test_a_purge_while_redis_is_away_holds_here_and_is_published_later(opened, redis_server):
    here, there = await opened(redis=redis_server.url), await opened(redis=redis_server.url)
    noted = await here.generations.fetch(groups_of(REF))
    await rendered(here)
    redis_server.kill()
    result = await here.purge([source_group(REF)])

    assert (result.propagated, result.complete) == (False, False)
    assert here.get_fresh(KEY) is None
    assert await here.get(KEY) is None
    await asyncio.to_thread(redis_server.start)
    await eventually(lambda: redis_server.admin.keys("imgserver:generation:*"), seconds=15)
    await eventually(lambda: there.statistics().redis_client.connected, seconds=15)
    await there.tiers["redis"].put(KEY, make_rendition(BODY, generations=noted))
    assert await there.get(KEY, groups_of(REF)) is None


@pytest.mark.parametrize("message", [b"\xff{", b"[]", b'{"a b": "token"}', b'{"a": ' + b'"0"' * 40_000 + b"}"])
async def test_memory_is_compared_with_redis_after_a_message_that_cannot_be_read(opened, redis_server, message):
    tiered = await opened(redis=redis_server.url)
    other = canonical.key(OTHER, Plan((), Output(format="webp")))
    await rendered(tiered)
    await rendered(tiered, OTHER)
    redis_server.admin.set(f"imgserver:generation:{source_group(REF)}", "purged elsewhere, unheard")
    redis_server.admin.publish("imgserver:purges", message)

    await eventually(lambda: tiered.memory.statistics().entries == 1)
    assert tiered.get_fresh(KEY) is None
    assert tiered.get_fresh(other) is not None


async def test_memory_is_cleared_after_an_unreadable_message_if_redis_does_not_answer(
    opened, redis_server, monkeypatch
):
    tiered = await opened(redis=redis_server.url)
    await rendered(tiered)
    monkeypatch.setattr(tiered._shared, "fetch", _no_reply)
    redis_server.admin.publish("imgserver:purges", b"unreadable")

    await eventually(lambda: tiered.memory.statistics().entries == 0)


async def _no_reply(_):
    return None


async def test_redis_faults_do_not_affect_memory_and_disk(opened, redis_server, tmp_path):
    tiered = await opened(redis=redis_server.url, disk=tmp_path)
    await rendered(tiered)
    redis_server.freeze()
    try:
        tiered.memory.drop_nowait(KEY)
        assert (await tiered.get(KEY)).body == BODY
        assert await rendered(tiered, OTHER)
        tiered.memory.drop_nowait(KEY)
        assert (await tiered.get(KEY)).body == BODY
    finally:
        redis_server.thaw()


async def test_writes_beyond_the_limit_are_dropped_without_waiting(opened, redis_server):
    tiered = await opened(redis=redis_server.url, write_queue_bytes=100_000, memory_bytes=0)
    redis_server.freeze()
    try:
        for number in range(50):
            tiered.put(f"1/a/{number}", make_rendition(b"x" * 20_000))
        statistics = tiered.statistics()
    finally:
        redis_server.thaw()

    assert statistics.pending_write_bytes <= 100_000
    assert statistics.dropped_writes["budget"] >= 45


async def test_close_finishes_pending_writes(opened, tmp_path):
    first = await opened(disk=tmp_path)
    for number in range(20):
        first.put(f"1/a/{number}", make_rendition(BODY))
    await first.close()
    second = await opened(disk=tmp_path)

    assert None not in [await second.get(f"1/a/{number}") for number in range(20)]


async def test_a_sweep_removes_expired_records(opened, tiers):
    tiered = await opened(**tiers)
    now = tiered._clock()
    await rendered(tiered, expires=now + 100)
    await rendered(tiered, OTHER, expires=now + 300)
    tiered._clock = lambda: now + 200
    result = await tiered.sweep(seconds=10)

    assert tuple(result.removed.get(name, 0) for name in ("memory", "disk", "redis")) == (
        1,
        int("disk" in tiers),
        int("redis" in tiers),
    )


async def test_a_sweep_removes_expired_records_of_originals_that_were_not_purged(opened, redis_server):
    tiered = await opened(redis=redis_server.url)
    await tiered.purge([source_group(REF)])
    now = tiered._clock()
    await rendered(tiered, OTHER, expires=now + 100)
    tiered._clock = lambda: now + 200

    assert (await tiered.sweep(seconds=10)).removed["redis"] == 1


async def test_a_purge_does_not_wait_for_the_sweep_of_a_large_disk(opened, tmp_path, monkeypatch):
    monkeypatch.setattr("imgserver.cache.tiered.PURGE_SECONDS", 0.05)
    tiered = await opened(disk=tmp_path)
    await rendered(tiered)
    permit, sweep = threading.Event(), tiered.tiers["disk"]._store.sweep
    monkeypatch.setattr(tiered.tiers["disk"]._store, "sweep", lambda is_kept: permit.wait(10) and sweep(is_kept))
    result = await tiered.purge([source_group(REF)])

    assert (result.propagated, result.complete, result.incomplete) == (True, False, {"disk": "running"})
    assert await tiered.get(KEY) is None
    assert await rendered(tiered)
    permit.set()
    assert (await tiered.sweep(seconds=10)).complete
    assert (await tiered.get(KEY)).body == BODY


async def test_a_sweep_names_the_tiers_that_cannot_be_searched(opened, redis_server, tmp_path):
    (tmp_path / "no-folder").write_text("")
    tiered = build_cache(
        MemorySettings(), disk=DiskSettings(path=tmp_path / "no-folder"), redis=RedisSettings(url=redis_server.url)
    )
    await tiered.start()
    redis_server.kill()
    result = await tiered.sweep(seconds=10)
    await tiered.close()

    assert result.incomplete == {"disk": "failed", "redis": "failed"}


async def test_every_lookup_has_one_result_in_each_tier_that_it_reaches(opened, redis_server, tmp_path):
    tiered = await opened(redis=redis_server.url, disk=tmp_path)
    for ref in (REF, OTHER):
        await rendered(tiered, ref)
    lookups = 0
    for damage in (lambda: None, redis_server.freeze, lambda: shutil.rmtree(tmp_path), lambda: None):
        damage()
        for number in range(20):
            key = (KEY, "1/a/b", KEY, "1/c/d")[number % 4]
            tiered.memory.drop_nowait(key)
            await tiered.get(key, groups_of(REF))
            lookups += 1
            if tiered.get_fresh(key) is not None:
                lookups += 1
    redis_server.thaw()
    statistics = tiered.statistics()

    memory = statistics.tiers["memory"].hits + statistics.tiers["memory"].misses + statistics.tiers["memory"].stale
    disk, redis = (
        tier.hits + tier.misses + tier.stale + tier.errors + tier.bypassed
        for tier in (statistics.tiers["disk"], statistics.tiers["redis"])
    )
    assert memory == lookups
    assert disk == memory - statistics.tiers["memory"].hits
    assert redis == disk - statistics.tiers["disk"].hits
    assert statistics.tiers["redis"].errors == 5
    assert statistics.tiers["redis"].bypassed > 10


async def test_put_observes_the_size_of_the_body(opened):
    seen = []
    tiered = await opened()
    tiered._observe_value = seen.append
    await rendered(tiered)

    assert seen == [len(BODY)]


async def test_statistics_have_the_free_space_of_the_file_system(opened, tmp_path):
    tiered = await opened(disk=tmp_path / "cache")
    await eventually(lambda: tiered.tiers["disk"].statistics().size_bytes)
    statistics, real = tiered.tiers["disk"].statistics(), shutil.disk_usage(tmp_path)

    assert statistics.size_bytes == real.total
    assert abs(statistics.free_bytes - real.free) < real.total / 10


async def test_validity_costs_a_memory_hit_a_few_microseconds_at_most(opened):
    tiered = await opened()
    await tiered.purge([tag_group("some other")])
    await rendered(tiered, expires=tiered._clock() + 1000)

    def cost(get):
        return min(timeit.repeat(lambda: get(KEY), number=2000, repeat=20)) / 2000

    assert cost(tiered.get_fresh) - cost(tiered.memory.get_nowait) < 3e-6


async def test_every_background_task_has_a_series_in_the_metrics(opened, redis_server, tmp_path):
    await opened(redis=redis_server.url, disk=tmp_path)
    names = {task.get_name() for task in asyncio.all_tasks()}

    assert {"cache_maintenance", "disk_sweep", "redis_sweep", "write_behind"} <= names
    assert {name for name in names if name.startswith(("cache_", "disk_", "redis_", "purge_", "write_"))} <= {
        *BACKGROUND_TASKS
    }
