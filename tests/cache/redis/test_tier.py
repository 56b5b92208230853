"""The Redis tier with a real server that is killed, stalled, slowed, filled and corrupted. Faults 1-8 of the guide."""

import asyncio
import dataclasses
import random
import statistics
import time
from collections import Counter
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from imgserver.cache.cache_tags import source_group
from imgserver.cache.record import encode
from imgserver.cache.redis.client import RedisClient, RedisSettings
from imgserver.cache.redis.tier import RedisTier
from imgserver.plan import canonical
from imgserver.plan.plan import Output, Plan, SourceRef
from imgserver.testing import TierContract, make_rendition
from tests.fault_proxy import proxied
from tests.polling import eventually
from tests.redis_server import RedisServer, in_thread, running

KEY = "1/" + "a" * 32 + "/" + "b" * 32
NAME = "imgserver:" + KEY
BODY = b"\xffpicture\x00" * 7_000  # 63 kB
TIMEOUT_SECONDS = 0.05


@asynccontextmanager
async def opened(url, **settings):
    client = RedisClient(RedisSettings(url=url, **settings))
    await client.start()
    try:
        yield RedisTier(client)
    finally:
        await client.close()


@pytest.fixture
async def cache(redis_server):
    async with opened(redis_server.url) as cache:
        yield cache


def client_of(cache: RedisTier) -> RedisClient:
    return cache._client


def connected(cache: RedisTier) -> bool:
    client = client_of(cache).statistics()
    return client.read_breaker == client.write_breaker == "closed"


async def seconds_of(call) -> float:
    begun = time.monotonic()
    await call
    return time.monotonic() - begun


class TestContract(TierContract):
    @pytest.fixture
    async def tier(self, cache):
        return cache


# URLs and settings.


async def test_a_unix_socket_works_as_well(redis_server):
    async with opened(f"unix://{redis_server.socket}?db=1") as cache:
        assert await cache.put(KEY, make_rendition(BODY))
        assert await cache.get(KEY) == make_rendition(BODY)
    assert redis_server.admin.exists(NAME) == 0


@pytest.mark.parametrize(
    "url", ["redis+sentinel://h/mymaster", "redis+cluster://h", "http://h", "localhost:6379", "rediss:/h"]
)
def test_other_urls_are_refused_with_the_possible_schemes(url):
    with pytest.raises(ValueError, match="redis://, rediss:// or unix://"):
        RedisClient(RedisSettings(url=url))


def test_a_url_cannot_set_reserved_options():
    client = RedisClient(
        RedisSettings(url="redis://h?socket_timeout=9&decode_responses=True&protocol=2&max_connections=9999")
    )
    options = client._writer.connection_pool.connection_kwargs

    assert (options["socket_timeout"], options["protocol"], options.get("decode_responses", False)) == (1.0, 3, False)
    assert client._writer.connection_pool.max_connections == 16


def test_a_namespace_cannot_be_a_pattern():
    with pytest.raises(ValueError, match="namespace"):
        RedisClient(RedisSettings(url="redis://h", namespace="*"))


async def test_every_key_is_in_the_namespace_and_expires(redis_server, cache):
    for number in range(50):
        await cache.put(f"1/a/{number}", make_rendition(BODY, expires=time.time() + 1000))
    await cache.put("1/a/endless", make_rendition(BODY))

    names = redis_server.admin.keys()
    left = [redis_server.admin.ttl(f"imgserver:1/a/{number}") for number in range(50)]
    assert all(name.startswith(b"imgserver:") and redis_server.admin.ttl(name) > 0 for name in names)
    assert 899 <= min(left) <= max(left) <= 1100
    assert len(set(left)) > 10
    assert redis_server.admin.ttl("imgserver:1/a/endless") <= 7 * 86_400 * 1.1


async def test_too_large_and_expired_renditions_are_not_written(redis_server):
    async with opened(redis_server.url, item_bytes=100) as cache:
        assert not await cache.put(KEY, make_rendition(b"x" * 101))
        assert not await cache.put(KEY, make_rendition(b"x", expires=time.time() - 1))
        assert +Counter(cache.statistics().dropped_writes) == {"size": 1, "expired": 1}


async def test_generations_are_read_with_the_record_in_one_round_trip(redis_server):
    learned = []
    reader = SimpleNamespace(changes=7, learn=lambda tokens, *, since: learned.append((tokens, since)))
    client = RedisClient(RedisSettings(url=redis_server.url))
    await client.start()
    cache = RedisTier(client, reader)
    await cache.put(KEY, make_rendition(BODY))
    redis_server.admin.set("imgserver:generation:s1", "token")
    redis_server.admin.lpush("imgserver:generation:d2", "a list")
    found = await cache.get(KEY, ("a", "s1", "d2"))
    await client.close()

    assert found is not None
    assert learned == [({"a": "", "s1": "token", "d2": ""}, 7)]


# Fault 1: absent at start.


async def test_an_absent_redis_delays_neither_the_start_nor_a_lookup(redis_server):
    redis_server.kill()
    begun = time.monotonic()
    async with opened(redis_server.url) as cache:
        started = time.monotonic() - begun
        found = [await cache.get(KEY) for _ in range(20)]
        looked_up = time.monotonic() - begun - started

        assert (found, connected(cache)) == ([None] * 20, False)
        assert client_of(cache).statistics().read_breaker == "open"
        assert started < 0.5
        assert looked_up < 0.1
        await in_thread(redis_server.start)
        assert await eventually(lambda: connected(cache), seconds=10) < 5
        assert await cache.put(KEY, make_rendition(BODY))
        assert await cache.get(KEY) is not None


# Fault 2: killed with requests in flight.


async def test_killing_redis_with_a_hundred_lookups_in_flight_costs_misses_only(redis_server, cache):
    await cache.put(KEY, make_rendition(BODY))
    stop = asyncio.Event()
    slowest = []

    async def look_up():
        while not stop.is_set():
            slowest.append(await seconds_of(cache.get(KEY)))
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(look_up()) for _ in range(100)]
    await eventually(lambda: cache.statistics().hits > 500)
    redis_server.kill()
    await eventually(lambda: client_of(cache).statistics().read_breaker == "open")
    await eventually(lambda: client_of(cache).statistics().bypassed > 1000)
    stop.set()
    await asyncio.gather(*tasks)
    await in_thread(redis_server.start)

    assert max(slowest) < TIMEOUT_SECONDS + 0.25
    assert await eventually(lambda: connected(cache), seconds=10) < 8
    assert await cache.put(KEY, make_rendition(BODY))
    assert await cache.get(KEY) is not None


# Faults 3 and 4: stopped, slow, trickling, broken connections.


async def test_a_stalled_redis_costs_five_time_outs_and_then_nothing(redis_server, cache):
    await cache.put(KEY, make_rendition(BODY))
    redis_server.freeze()
    try:
        seconds = [await seconds_of(cache.get(KEY)) for _ in range(20)]
    finally:
        redis_server.thaw()

    assert max(seconds) < TIMEOUT_SECONDS + 0.05
    assert sum(one > 0.01 for one in seconds) <= 20 * 0.3
    assert max(seconds[-10:]) < 0.005
    await eventually(lambda: connected(cache), seconds=10)
    assert await cache.get(KEY) == make_rendition(BODY)


async def test_a_late_reply_never_reaches_another_lookup(redis_server):
    async with opened(redis_server.url, max_connections=4) as cache:
        for number in range(40):
            await cache.put(f"1/k/{number}", make_rendition(str(number).encode()))
        for _ in range(3):
            redis_server.freeze()
            await asyncio.gather(*(cache.get(f"1/k/{number}") for number in range(4)))
            redis_server.thaw()
            await eventually(lambda: connected(cache), seconds=15)
            found = await asyncio.gather(*(cache.get(f"1/k/{number}") for number in range(40)))

            assert all(rendition is None or rendition.body == str(n).encode() for n, rendition in enumerate(found))
            assert sum(rendition is not None for rendition in found) >= 30
        assert +Counter(cache.statistics().corrupt) == {}


@pytest.mark.parametrize(
    "fault",
    [{"delay_seconds": 0.2}, {"bytes_per_second": 10_000}, {"stalled": True}],
    ids=["slow", "trickle", "stalled"],
)
async def test_a_slow_connection_opens_the_breaker_until_it_is_fast_again(redis_server, fault):
    async with proxied(redis_server.port) as proxy, opened(f"redis://127.0.0.1:{proxy.port}") as cache:
        await cache.put(KEY, make_rendition(BODY))
        for name, value in fault.items():
            setattr(proxy.faults, name, value)
        seconds = [await seconds_of(cache.get(KEY)) for _ in range(20)]
        client = client_of(cache).statistics()

        assert max(seconds) < TIMEOUT_SECONDS + 0.05
        assert max(seconds[-10:]) < 0.005
        assert (cache.statistics().hits, client.read_breaker) == (0, "open")
        for name in fault:
            setattr(proxy.faults, name, type(fault[name])())
        await eventually(lambda: connected(cache), seconds=15)
        assert await cache.get(KEY) == make_rendition(BODY)


@pytest.mark.parametrize("fault", ["corrupt_fraction", "truncated"])
async def test_corrupted_replies_are_never_returned(redis_server, fault):
    async with proxied(redis_server.port) as proxy, opened(f"redis://127.0.0.1:{proxy.port}") as cache:
        await cache.put(KEY, make_rendition(BODY))
        setattr(proxy.faults, fault, True)
        found = [await cache.get(KEY) for _ in range(50)]
        setattr(proxy.faults, fault, False)

        assert found == [None] * 50
        await eventually(lambda: connected(cache), seconds=15)
        await cache.put(KEY, make_rendition(BODY))
        assert await cache.get(KEY) == make_rendition(BODY)


async def test_a_lost_connection_is_one_fault_for_all_its_requests(redis_server):
    async with proxied(redis_server.port) as proxy, opened(f"redis://127.0.0.1:{proxy.port}") as cache:
        await cache.put(KEY, make_rendition(BODY))
        proxy.faults.stalled = True
        lookups = asyncio.gather(*(cache.get(KEY) for _ in range(8)))
        await eventually(lambda: sum(one.pending for one in client_of(cache)._pipelines._all) >= 8)
        proxy.reset()
        proxy.faults.stalled = False

        assert await lookups == [None] * 8
        assert client_of(cache).statistics().faults == {"connection": 1}
        assert connected(cache)
        assert await cache.get(KEY) == make_rendition(BODY)


async def test_reset_connections_are_replaced(redis_server):
    async with proxied(redis_server.port) as proxy, opened(f"redis://127.0.0.1:{proxy.port}") as cache:
        await cache.put(KEY, make_rendition(BODY))
        for _ in range(3):
            proxy.reset()
            await asyncio.gather(*(cache.get(KEY) for _ in range(4)))
            # A breaker that opens again within ten seconds takes longer each time to close.
            await eventually(lambda: cache.get(KEY), seconds=15)


async def test_connecting_and_the_reply_share_one_time_out(redis_server):
    """Each single reply is within the time-out; the handshake and the record together are not."""
    async with proxied(redis_server.port) as proxy, opened(f"redis://127.0.0.1:{proxy.port}") as cache:
        await cache.put(KEY, make_rendition())
        proxy.faults.delay_seconds = 0.035
        await client_of(cache)._pipelines.close()

        assert await cache.get(KEY) is None
        assert client_of(cache).statistics().timeouts == 1


# Fault 5: full, cannot save, read-only.


def fill_up(server: RedisServer) -> None:
    server.admin.config_set("maxmemory-policy", "noeviction")
    server.admin.config_set("maxmemory", 1)


def refuse_snapshots(server: RedisServer) -> None:
    (server.folder / "dump.rdb").mkdir()
    server.admin.config_set("save", "1 1")
    server.admin.set("dirty", "1")
    server.admin.bgsave()
    deadline = time.monotonic() + 5
    while server.admin.info("persistence")["rdb_last_bgsave_status"] != "err":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def be_a_replica(server: RedisServer) -> None:
    server.admin.replicaof("127.0.0.1", 1)


@pytest.mark.parametrize(
    ("break_writes", "fault"), [(fill_up, "oom"), (refuse_snapshots, "misconf"), (be_a_replica, "readonly")]
)
async def test_a_redis_that_refuses_writes_is_still_read(redis_server, cache, break_writes, fault):
    await cache.put(KEY, make_rendition(BODY))
    await in_thread(break_writes, redis_server)
    written = [await cache.put(f"1/a/{number}", make_rendition(BODY)) for number in range(10)]
    found = [await cache.get(KEY) for _ in range(10)]
    client = client_of(cache).statistics()

    assert (any(written), None in found) == (False, False)
    assert (client.read_breaker, client.write_breaker) == ("closed", "open")
    assert client.faults[fault] >= 1
    assert client.bypassed == 9
    assert +Counter(cache.statistics().dropped_writes) == {"error": 10}


async def test_writes_resume_when_there_is_space_again(redis_server, cache):
    fill_up(redis_server)
    await cache.put(KEY, make_rendition(BODY))
    redis_server.admin.config_set("maxmemory", 0)

    await eventually(lambda: connected(cache), seconds=10)
    assert await cache.put(KEY, make_rendition(BODY))


# Fault 6: wrong type, password, loading, too many clients.


async def test_a_value_of_another_type_is_a_miss_and_is_removed(redis_server, cache):
    redis_server.admin.lpush(NAME, "a list")

    assert await cache.get(KEY) is None
    assert +Counter(cache.statistics().corrupt) == {"type": 1}
    await eventually(lambda: redis_server.admin.exists(NAME) == 0)
    assert connected(cache)


async def test_a_wrong_password_opens_both_breakers(tmp_path):
    with running(tmp_path, "--requirepass", "secret") as server:
        async with opened(server.url) as cache:
            assert await cache.get(KEY) is None
            assert not await cache.put(KEY, make_rendition())
            client = client_of(cache).statistics()
            assert (client.read_breaker, client.write_breaker, client.connected) == ("open", "open", False)
            assert client.faults["auth"] >= 2
        async with opened(f"redis://:secret@127.0.0.1:{server.port}") as cache:
            assert await cache.put(KEY, make_rendition())
            assert "secret" not in repr(client_of(cache).statistics())


async def test_a_password_set_while_connected_opens_both_breakers(redis_server, cache):
    await cache.put(KEY, make_rendition())
    redis_server.admin.config_set("requirepass", "new")
    redis_server.admin.execute_command("AUTH", "new")
    redis_server.admin.client_kill_filter(_type="normal", skipme=True)
    found = [await cache.get(KEY) for _ in range(3)]

    assert found == [None] * 3
    assert client_of(cache).statistics().write_breaker == "open"


async def test_too_many_clients_are_a_miss(redis_server, cache):
    redis_server.admin.config_set("maxclients", 1)
    redis_server.admin.client_kill_filter(_type="normal", skipme=True)
    found = [await cache.get(KEY) for _ in range(10)]
    redis_server.admin.config_set("maxclients", 1000)

    assert found == [None] * 10
    await eventually(lambda: connected(cache), seconds=10)


# Fault 7: corrupt records.


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (encode(KEY, make_rendition(BODY))[:-100], "length"),
        (encode(KEY, make_rendition(BODY))[:-100] + b"?" * 100, "checksum"),
        (encode(KEY + "x", make_rendition(BODY)), "key"),
        (b"imr\x00" + encode(KEY, make_rendition(BODY))[4:], "schema"),
        (b"", "empty"),
        (b"?", "length"),
        (b"\x80\x04pickle" * 10, "magic"),
    ],
    ids=["truncated", "flipped", "another-key", "old-schema", "empty", "short", "foreign"],
)
async def test_a_corrupt_record_is_a_miss_is_removed_and_is_counted(redis_server, cache, value, reason):
    redis_server.admin.set(NAME, value)

    assert await cache.get(KEY) is None
    assert +Counter(cache.statistics().corrupt) == {reason: 1}
    await eventually(lambda: redis_server.admin.exists(NAME) == 0)
    assert connected(cache)
    assert await cache.put(KEY, make_rendition(BODY))
    assert await cache.get(KEY) == make_rendition(BODY)


async def test_a_value_of_a_hundred_megabytes_is_not_transferred(redis_server, cache):
    redis_server.admin.setrange(NAME, 100 << 20, b"x")
    before = redis_server.admin.info("stats")["total_net_output_bytes"]

    assert await cache.get(KEY) is None
    assert redis_server.admin.info("stats")["total_net_output_bytes"] - before < 3 << 20
    await eventually(lambda: redis_server.admin.exists(NAME) == 0)
    assert sum(cache.statistics().corrupt.values()) == 1


# Fault 8: cancelled requests.


async def test_a_cancelled_lookup_never_shifts_replies(redis_server):
    """CVE-2023-28858 and similar: 2,000 lookups through a slow connection, half of them cancelled somewhere."""
    draw = random.Random(8)
    async with proxied(redis_server.port) as proxy, opened(f"redis://127.0.0.1:{proxy.port}") as cache:
        for number in range(50):
            await cache.put(f"1/k/{number}", make_rendition(f"body {number}".encode() * 200))
        proxy.faults.delay_seconds = 0.002
        outcomes = {"right": 0, "miss": 0, "cancelled": 0}

        async def look_up(number: int, cancel_after: float | None) -> None:
            task = asyncio.ensure_future(cache.get(f"1/k/{number}"))
            if cancel_after is not None:
                asyncio.get_running_loop().call_later(cancel_after, task.cancel)
            try:
                found = await task
            except asyncio.CancelledError:
                outcomes["cancelled"] += 1
                return
            assert found is None or found.body == f"body {number}".encode() * 200
            outcomes["right" if found else "miss"] += 1

        for _ in range(100):
            await asyncio.gather(
                *(
                    look_up(draw.randrange(50), draw.uniform(0, 0.008) if draw.random() < 0.5 else None)
                    for _ in range(20)
                )
            )
            await eventually(lambda: connected(cache), seconds=15)

        pool = client_of(cache)._writer.connection_pool
        assert +Counter(cache.statistics().corrupt) == {}
        assert outcomes["right"] > 500
        assert outcomes["cancelled"] > 300
        assert len(pool._in_use_connections) == 0
        assert len(pool._available_connections) <= 16


async def test_many_lookups_wait_for_a_connection_within_their_time_out(redis_server):
    async with (
        proxied(redis_server.port) as proxy,
        opened(f"redis://127.0.0.1:{proxy.port}", max_connections=2) as cache,
    ):
        await cache.put(KEY, make_rendition(BODY))
        proxy.faults.delay_seconds = 0.03
        seconds = await asyncio.gather(*(seconds_of(cache.get(KEY)) for _ in range(50)))

        assert max(seconds) < TIMEOUT_SECONDS + 0.1
        assert len(client_of(cache)._writer.connection_pool._in_use_connections) == 0


# Sweeps.


# Pipeline versions: some begin with a digit, some with a letter.
PIPELINES = ("00000000", "9f00ba44", "a1b2c3d4", "ffffffff")


def key_of(path: str, pipeline: str = PIPELINES[0]) -> str:
    return canonical.key(SourceRef("folder", path), Plan(), pipeline=pipeline)


async def test_a_sweep_removes_invalid_records_and_no_other_key(redis_server, cache):
    for pipeline in PIPELINES:
        await cache.put(key_of("keep", pipeline), make_rendition(generations=(("a", "new"),)))
        await cache.put(key_of("invalid", pipeline), make_rendition(generations=(("a", "old"),)))
    redis_server.admin.set(f"imgserver:{key_of('odd')}", "odd")
    others = (
        "imgserver:generation:a",
        f"imgserver:lock:{key_of('invalid')}",
        f"imgserver:lock:{key_of('invalid', 'ffffffff')}",
        f"imgserver2:{key_of('invalid')}",
        key_of("invalid"),
        "imgserver:queue/1/a/b",
        "session:1/a/b",
    )
    for name in others:
        redis_server.admin.set(name, "other")
    result = await cache.sweep(lambda expires, generations: generations == (("a", "new"),))

    assert result.removed == len(PIPELINES) + 1
    kept = {f"imgserver:{key_of('keep', pipeline)}" for pipeline in PIPELINES}
    assert set(redis_server.admin.keys()) == {name.encode() for name in {*kept, *others, "imgserver:probe"}}


async def test_a_sweep_of_an_original_searches_its_keys_of_every_pipeline_version_only(redis_server, cache):
    plans = [Plan(output=Output(quality=quality)) for quality in range(1, 91)]
    for path in ("cat.png", "dog.png"):
        for pipeline in PIPELINES:
            for plan in plans:
                key = canonical.key(SourceRef("folder", path), plan, pipeline=pipeline)
                await cache.put(key, make_rendition())
    result = await cache.sweep(lambda expires, generations: False, (source_group(SourceRef("folder", "cat.png")),))

    assert result.removed == len(PIPELINES) * len(plans)
    assert len(redis_server.admin.keys("imgserver:*/*")) == result.removed


# Figures.


async def test_a_hit_of_60_kb_takes_well_under_its_budget(redis_server, cache):
    await cache.put(KEY, make_rendition(BODY))
    seconds = [await seconds_of(cache.get(KEY, ("a", "d1", "d2", "s1"))) for _ in range(300)]

    assert statistics.median(seconds) < 0.0025


def test_settings_have_the_documented_defaults():
    defaults = dataclasses.asdict(RedisSettings())

    assert (defaults["timeout_seconds"], defaults["item_bytes"], defaults["url"]) == (0.05, 2 << 20, "")
