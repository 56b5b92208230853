"""All tiers as one, with real folders and a real Redis; two `TieredCache` are two replicas."""

import asyncio
import shutil
import threading
import timeit
from contextlib import AsyncExitStack

import pytest

from imgserver.cache.cache_tags import ALL, groups_of, key_group, prefix_group, source_group, tag_group
from imgserver.cache.disk import DiskSettings
from imgserver.cache.memory import MemorySettings
from imgserver.cache.redis.client import RedisSettings
from imgserver.cache.tiered import TieredSettings, assemble
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
    """Opens and closes replicas: `await opened(disk=..., redis=...)`."""
    async with AsyncExitStack() as held:

        async def open_one(*, disk=None, redis=None, first="disk", memory_bytes=1 << 20, **settings):
            tiered = assemble(
                MemorySettings(memory_bytes=memory_bytes),
                disk=DiskSettings(path=disk) if disk else None,
                redis=RedisSettings(url=redis) if redis else None,
                settings=TieredSettings(first=first, **settings),
            )
            await tiered.start()
            held.push_async_callback(tiered.close)
            if tiered.disk is not None:
                await tiered.disk.scanned()
            if tiered.redis is not None:
                await eventually(lambda: tiered.statistics().listening)
            return tiered

        yield open_one


async def rendered(tiered, ref=REF, *, key=None, body=BODY, tags=(), **changes):
    """What a flight does: notes generations, opens, renders, puts."""
    key = key or canonical.key(ref, Plan((), Output(format="webp")))
    noted = await tiered.generations.fetch(groups_of(ref, key=key, tags=tags))
    kept = tiered.put(key, make_rendition(body, generations=noted, **changes))
    await tiered.written(key, seconds=5)
    return kept


@pytest.fixture(params=["disk", "redis", "both", "both-redis-first"])
def tiers(request, tmp_path, redis_server):
    """The combinations behind memory, as arguments of `opened`."""
    disk, redis = tmp_path / "cache", redis_server.url
    return {
        "disk": {"disk": disk},
        "redis": {"redis": redis},
        "both": {"disk": disk, "redis": redis},
        "both-redis-first": {"disk": disk, "redis": redis, "first": "redis"},
    }[request.param]


async def test_a_put_is_at_hand_at_once(opened):
    tiered = await opened()
    tiered.put(KEY, make_rendition(BODY))

    assert tiered.get_fresh(KEY) == make_rendition(BODY)
    assert tiered.get_fresh("other") is None


async def test_a_crowd_looks_behind_memory_once(opened, tiers):
    tiered = await opened(**tiers)
    await rendered(tiered)
    tiered.memory.drop(KEY)
    found = await asyncio.gather(*(tiered.get(KEY) for _ in range(500)))
    told = tiered.statistics()

    assert {rendition.body for rendition in found} == {BODY}
    assert sum(tier.hits + tier.misses for tier in (told.disk, told.redis) if tier is not None) == 1


async def test_a_purge_at_the_end_of_a_look_up_holds_for_those_who_wait_for_it(opened, tmp_path, monkeypatch):
    tiered = await opened(disk=tmp_path)
    await rendered(tiered)
    tiered.memory.drop(KEY)
    confirm = tiered.generations.confirm

    async def confirm_before_a_purge(generations):
        confirmed = await confirm(generations)
        await tiered.generations.bump([ALL])
        return confirmed

    monkeypatch.setattr(tiered.generations, "confirm", confirm_before_a_purge)

    assert await asyncio.gather(tiered.get(KEY), tiered.get(KEY)) == [None, None]


async def test_another_tier_answers_after_memory_was_lost_and_fills_it(opened, tiers):
    tiered = await opened(**tiers)
    await rendered(tiered)
    tiered.memory.drop(KEY)
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
    await tiered.written(KEY, seconds=5)
    assert await tiered.get(KEY) is None


async def test_a_record_that_is_over_is_a_miss_in_every_tier(opened, tiers):
    tiered = await opened(**tiers)
    now = tiered._clock()
    await rendered(tiered, expires=now + 100)
    assert await tiered.get(KEY) is not None
    tiered._clock = lambda: now + 101

    assert tiered.get_fresh(KEY) is None
    assert await tiered.get(KEY) is None
    told = tiered.statistics()
    assert [told.memory.stale, *(tier.statistics().stale for tier in tiered._tiers)] == [1] * (1 + len(tiered._tiers))
    assert told.memory.hits == 1


@pytest.mark.parametrize(
    "group",
    [source_group(REF), prefix_group("folder", "a"), tag_group("red"), key_group(KEY), ALL],
    ids=["source", "prefix", "tag", "key", "all"],
)
async def test_a_purge_takes_its_group_from_every_tier_and_no_other(opened, tiers, redis_server, group):
    tiered = await opened(**tiers)
    await rendered(tiered, tags=("red",))
    await rendered(tiered, OTHER)
    redis_server.admin.set("somebody:else", "1")
    counts = await tiered.purge([group])
    other = canonical.key(OTHER, Plan((), Output(format="webp")))

    both = 2 if group == ALL else 1
    assert (counts.propagated, counts.complete, counts.memory) == (True, True, both)
    assert (counts.disk, counts.redis) == (both * ("disk" in tiers), both * ("redis" in tiers))
    assert await tiered.get(KEY) is None
    assert (await tiered.get(other) is None) == (group == ALL)
    assert redis_server.admin.get("somebody:else") == b"1"
    assert await rendered(tiered, tags=("red",))
    assert await tiered.get(KEY) is not None


async def test_a_purge_during_a_render_wins(opened, tiers):
    """Fault 36: the flight noted its generations, then came the purge, then its write."""
    tiered = await opened(**tiers)
    noted = await tiered.generations.fetch(groups_of(REF))
    await tiered.purge([source_group(REF)])

    assert not tiered.put(KEY, make_rendition(BODY, generations=noted))
    assert tiered.get_fresh(KEY) is None
    assert await tiered.get(KEY) is None
    assert tiered.statistics().dropped_writes["purged"] == 1


async def test_a_late_writer_does_no_harm(opened, tiers):
    """Even past both checks: it is written straight into the tiers."""
    tiered = await opened(**tiers)
    noted = await tiered.generations.fetch(groups_of(REF))
    await tiered.purge([source_group(REF)])
    for tier in tiered._tiers:
        assert await tier.put(KEY, make_rendition(BODY, generations=noted))
    tiered.memory.put(KEY, make_rendition(BODY, generations=noted))

    assert tiered.get_fresh(KEY) is None
    assert await tiered.get(KEY) is None
    await tiered.written(KEY, seconds=5)
    assert [await tier.get(KEY) for tier in tiered._tiers] == [None] * len(tiered._tiers)


async def test_a_purge_holds_over_a_restart_without_redis(opened, tmp_path):
    first = await opened(disk=tmp_path)
    noted = await first.generations.fetch(groups_of(REF))
    await first.purge([source_group(REF)])
    await first.disk.put(KEY, make_rendition(BODY, generations=noted))
    await first.close()
    second = await opened(disk=tmp_path)

    assert await second.get(KEY) is None


async def test_a_purge_empties_the_memory_of_other_replicas_within_a_second(opened, redis_server, tmp_path):
    here = await opened(redis=redis_server.url)
    there = await opened(redis=redis_server.url, disk=tmp_path)
    await rendered(there)
    await rendered(there, OTHER)
    assert there.get_fresh(KEY) is not None
    await here.purge([source_group(REF)])

    assert await eventually(lambda: there.memory.statistics().entries == 1) < 1
    assert there.get_fresh(KEY) is None
    assert await there.get(KEY) is None
    await eventually(lambda: there.disk.statistics().entries == 1)


def marks_asked_for(server) -> int:
    return server.admin.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"]


async def test_marks_are_not_asked_for_with_each_record_while_news_of_purges_come_in(opened, redis_server):
    tiered = await opened(redis=redis_server.url, memory_bytes=0)
    await rendered(tiered)
    groups = groups_of(REF, key=KEY)
    before = marks_asked_for(redis_server)
    found = [await tiered.get(KEY, groups) for _ in range(20)]

    assert all(found)
    assert marks_asked_for(redis_server) == before


async def test_marks_come_with_each_record_while_no_news_can_come(opened, redis_server, monkeypatch):
    tiered = await opened(redis=redis_server.url, memory_bytes=0)
    await rendered(tiered)
    groups = groups_of(REF, key=KEY)
    monkeypatch.setattr(tiered._board, "_heard_at", float("-inf"))
    redis_server.admin.set(f"imgserver:generation:{source_group(REF)}", "purged elsewhere, unheard")

    assert await tiered.get(KEY, groups) is None


async def test_a_replica_that_could_not_hear_forgets_its_memory_when_it_hears_again(opened, redis_server):
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


async def test_a_purge_while_redis_is_away_holds_here_and_is_told_when_it_is_back(opened, redis_server):
    here, there = await opened(redis=redis_server.url), await opened(redis=redis_server.url)
    noted = await here.generations.fetch(groups_of(REF))
    await rendered(here)
    redis_server.kill()
    counts = await here.purge([source_group(REF)])

    assert (counts.propagated, counts.complete) == (False, False)
    assert here.get_fresh(KEY) is None
    assert await here.get(KEY) is None
    await asyncio.to_thread(redis_server.start)
    await eventually(lambda: redis_server.admin.keys("imgserver:generation:*"), seconds=15)
    await eventually(lambda: there.statistics().link.connected, seconds=15)
    await there.redis.put(KEY, make_rendition(BODY, generations=noted))
    assert await there.get(KEY, groups_of(REF)) is None


async def test_news_that_cannot_be_read_empties_the_memory(opened, redis_server):
    tiered = await opened(redis=redis_server.url)
    await rendered(tiered)
    redis_server.admin.publish("imgserver:purges", b"\xff{")

    await eventually(lambda: tiered.memory.statistics().entries == 0)
    assert await tiered.get(KEY) is not None


async def test_redis_faults_leave_memory_and_disk_as_they_are(opened, redis_server, tmp_path):
    tiered = await opened(redis=redis_server.url, disk=tmp_path)
    await rendered(tiered)
    redis_server.freeze()
    try:
        tiered.memory.drop(KEY)
        assert (await tiered.get(KEY)).body == BODY
        assert await rendered(tiered, OTHER)
        tiered.memory.drop(KEY)
        assert (await tiered.get(KEY)).body == BODY
    finally:
        redis_server.thaw()


async def test_writes_over_the_budget_are_dropped_and_nobody_waits(opened, redis_server):
    tiered = await opened(redis=redis_server.url, write_queue_bytes=100_000, memory_bytes=0)
    redis_server.freeze()
    try:
        for number in range(50):
            tiered.put(f"1/a/{number}", make_rendition(b"x" * 20_000))
        told = tiered.statistics()
    finally:
        redis_server.thaw()

    assert told.write_bytes <= 100_000
    assert told.dropped_writes["budget"] >= 45


async def test_closing_writes_what_waits(opened, tmp_path):
    first = await opened(disk=tmp_path)
    for number in range(20):
        first.put(f"1/a/{number}", make_rendition(BODY))
    await first.close()
    second = await opened(disk=tmp_path)

    assert None not in [await second.get(f"1/a/{number}") for number in range(20)]


async def test_a_sweep_gives_back_the_room_of_what_is_over(opened, tiers):
    tiered = await opened(**tiers)
    now = tiered._clock()
    await rendered(tiered, expires=now + 100)
    await rendered(tiered, OTHER, expires=now + 300)
    tiered._clock = lambda: now + 200
    counts = await tiered.sweep(seconds=10)

    assert (counts.memory, counts.disk, counts.redis) == (1, int("disk" in tiers), int("redis" in tiers))


async def test_a_sweep_finds_what_is_over_also_when_only_single_originals_were_purged(opened, redis_server):
    tiered = await opened(redis=redis_server.url)
    await tiered.purge([source_group(REF)])
    now = tiered._clock()
    await rendered(tiered, OTHER, expires=now + 100)
    tiered._clock = lambda: now + 200

    assert (await tiered.sweep(seconds=10)).redis == 1


async def test_a_purge_does_not_wait_for_the_sweep_of_a_large_disk(opened, tmp_path, monkeypatch):
    monkeypatch.setattr("imgserver.cache.tiered.PURGE_SECONDS", 0.05)
    tiered = await opened(disk=tmp_path)
    await rendered(tiered)
    gate, sweep = threading.Event(), tiered.disk._shelf.sweep
    monkeypatch.setattr(tiered.disk._shelf, "sweep", lambda keeps: gate.wait(10) and sweep(keeps))
    counts = await tiered.purge([source_group(REF)])

    assert (counts.propagated, counts.complete, counts.incomplete) == (True, False, {"disk": "running"})
    assert await tiered.get(KEY) is None
    assert await rendered(tiered)
    gate.set()
    assert (await tiered.sweep(seconds=10)).complete
    assert (await tiered.get(KEY)).body == BODY


async def test_a_tier_that_cannot_be_searched_is_named(opened, redis_server, tmp_path):
    (tmp_path / "no-folder").write_text("")
    tiered = assemble(
        MemorySettings(), disk=DiskSettings(path=tmp_path / "no-folder"), redis=RedisSettings(url=redis_server.url)
    )
    await tiered.start()
    redis_server.kill()
    counts = await tiered.sweep(seconds=10)
    await tiered.close()

    assert counts.incomplete == {"disk": "failed", "redis": "failed"}


async def test_every_look_up_has_one_result_in_each_tier_it_reaches(opened, redis_server, tmp_path):
    tiered = await opened(redis=redis_server.url, disk=tmp_path)
    for ref in (REF, OTHER):
        await rendered(tiered, ref)
    asked = 0
    for spoil in (lambda: None, redis_server.freeze, lambda: shutil.rmtree(tmp_path), lambda: None):
        spoil()
        for number in range(20):
            key = (KEY, "1/a/b", KEY, "1/c/d")[number % 4]
            tiered.memory.drop(key)
            await tiered.get(key, groups_of(REF))
            asked += 1
            if tiered.get_fresh(key) is not None:
                asked += 1
    redis_server.thaw()
    told = tiered.statistics()

    memory = told.memory.hits + told.memory.misses + told.memory.stale
    disk, redis = (
        tier.hits + tier.misses + tier.stale + tier.errors + tier.bypassed for tier in (told.disk, told.redis)
    )
    assert memory == asked
    assert disk == memory - told.memory.hits
    assert redis == disk - told.disk.hits
    assert told.redis.errors == 5
    assert told.redis.bypassed > 10


async def test_what_is_kept_is_told_with_its_size(opened):
    seen = []
    tiered = await opened()
    tiered._observe_value = seen.append
    await rendered(tiered)

    assert seen == [len(BODY)]


async def test_the_room_of_the_disks_file_system_is_told(opened, tmp_path):
    tiered = await opened(disk=tmp_path / "cache")
    await eventually(lambda: tiered.disk.statistics().size_bytes)
    told, real = tiered.disk.statistics(), shutil.disk_usage(tmp_path)

    assert told.size_bytes == real.total
    assert abs(told.free_bytes - real.free) < real.total / 10


async def test_a_hit_at_hand_costs_a_microsecond_or_two_more_than_memory(opened):
    tiered = await opened()
    await tiered.purge([tag_group("some other")])
    await rendered(tiered, expires=tiered._clock() + 1000)

    def cost(get):
        return min(timeit.repeat(lambda: get(KEY), number=2000, repeat=20)) / 2000

    assert cost(tiered.get_fresh) - cost(tiered.memory.get) < 3e-6
