"""Faults of Redis, seen from outside: a real server, a real Redis, and between them a proxy that injects faults.

No request may fail. The disk tier comes after Redis here and has every picture, so the extra time of a request is the
cost of the fault.
"""

import asyncio
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from imgserver.cache.record import Corrupt, decode, encode
from imgserver.cache.redis.client import RedisSettings
from tests.fault_proxy import FaultProxy, proxied
from tests.polling import eventually
from tests.redis_server import RedisServer, running
from tests.running_server import Answer, ServerProcess, serving

pytestmark = pytest.mark.alone

TARGETS = [f"/img/w_{width}/cat.png" for width in range(100, 110)]  # 10 kB and more
TIMEOUT_SECONDS = RedisSettings().timeout_seconds
# The time that a busy machine may add to one request.
NOISE_SECONDS = 0.06
REQUESTS = 40


@dataclass
class Scene:
    server: ServerProcess
    redis: RedisServer
    proxy: FaultProxy
    disk: Path

    async def ask(self, target: str) -> Answer:
        return await asyncio.to_thread(self.server.ask, target)

    async def metric(self, name: str, **labels: str) -> float:
        return await asyncio.to_thread(lambda: self.server.metric(name, **labels))

    async def has_counted(self, kind: str) -> bool:
        health = await asyncio.to_thread(self.server.image_health)
        return kind in health["cache"]["redis_client"]["faults"]

    async def breaker(self, side: str) -> float:
        return await self.metric("imgserver_redis_breaker_state", side=side)

    async def is_well(self) -> bool:
        return await self.breaker("read") == await self.breaker("write") == 0

    async def hits(self) -> float:
        return await self.metric("imgserver_cache_requests_total", tier="redis", result="hit")


@asynccontextmanager
async def scene(folder, **settings):
    (folder / "redis").mkdir()
    chosen = {"workers_count": 1, "cache_memory_bytes": 0, "disk_path": folder / "disk", "tiers_first": "redis"}
    with running(folder / "redis") as redis:
        async with proxied(redis.port) as proxy:
            settings = {**chosen, "redis_url": f"redis://127.0.0.1:{proxy.port}", **settings}
            held = serving(**settings)
            server = await asyncio.to_thread(held.__enter__)
            try:
                found = Scene(server, redis, proxy, folder / "disk")
                await eventually(found.is_well)
                yield found
            finally:
                await asyncio.to_thread(held.__exit__, None, None, None)


async def warmed(scene: Scene) -> dict[str, bytes]:
    """The body of every target, once all are in Redis and on disk."""
    bodies = {target: (await scene.ask(target)).body for target in TARGETS}
    await eventually(lambda: len(list(scene.disk.glob("??/??/*"))) == len(TARGETS))
    before = await scene.hits()
    for target in TARGETS:
        await scene.ask(target)
    assert await scene.hits() == before + len(TARGETS)
    return bodies


def fill_up(scene: Scene) -> None:
    scene.redis.admin.config_set("maxmemory-policy", "noeviction")
    scene.redis.admin.config_set("maxmemory", 1)


def refuse_snapshots(scene: Scene) -> None:
    (scene.redis.folder / "dump.rdb").mkdir()
    scene.redis.admin.config_set("save", "1 1")
    scene.redis.admin.set("dirty", "1")
    scene.redis.admin.bgsave()
    deadline = time.monotonic() + 5
    while scene.redis.admin.info("persistence")["rdb_last_bgsave_status"] != "err":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def set_password(scene: Scene) -> None:
    scene.redis.admin.config_set("requirepass", "new")
    scene.redis.admin.execute_command("AUTH", "new")
    close_connections(scene)


def close_connections(scene: Scene) -> None:
    scene.redis.admin.client_kill_filter(_type="normal", skipme=True)
    scene.redis.admin.client_kill_filter(_type="pubsub", skipme=True)


def limit_clients(scene: Scene) -> None:
    scene.redis.admin.config_set("maxclients", 1)
    close_connections(scene)


def load_slowly(scene: Scene) -> None:
    """Restarts Redis with 3,000 keys that take a millisecond each to load: every reply is LOADING for three seconds."""
    if int(scene.redis.admin.info("server")["redis_version"].partition(".")[0]) < 7:
        pytest.skip("this redis-server is older than 7 and answers nothing while it loads")
    pipe = scene.redis.admin.pipeline(transaction=False)
    for number in range(3000):
        pipe.set(f"ballast{number}", os.urandom(2000))
    pipe.execute()
    scene.redis.admin.save()
    scene.redis.kill()
    scene.redis.start("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")


def inject(**faults) -> Callable[[Scene], None]:
    def work(scene: Scene) -> None:
        for name, value in faults.items():
            setattr(scene.proxy.faults, name, value)

    return work


@dataclass(frozen=True)
class Fault:
    """`kind`: the label in the fault counter; `opens`: the circuit breakers that must open."""

    name: str
    begin: Callable[[Scene], None]
    end: Callable[[Scene], None]
    kind: str
    opens: tuple[str, ...] = ("read", "write")


def set_plainly(**settings) -> Callable[[Scene], None]:
    def work(scene: Scene) -> None:
        for name, value in settings.items():
            scene.redis.admin.config_set(name.replace("_", "-"), value)

    return work


def save_again(scene: Scene) -> None:
    (scene.redis.folder / "dump.rdb").rmdir()
    scene.redis.admin.config_set("save", "")


FAULTS = [
    Fault("killed", lambda s: s.redis.kill(), lambda s: s.redis.start(), "connection"),
    Fault("stopped", lambda s: s.redis.freeze(), lambda s: s.redis.thaw(), "timeout"),
    Fault("200 ms late", inject(delay_seconds=0.2), inject(delay_seconds=0.0), "timeout"),
    Fault("10 kB/s", inject(bytes_per_second=10_000), inject(bytes_per_second=0.0), "timeout", opens=("read",)),
    Fault("full", fill_up, set_plainly(maxmemory=0), "oom", opens=("write",)),
    Fault("cannot save", refuse_snapshots, save_again, "misconf", opens=("write",)),
    Fault(
        "a replica",
        lambda s: s.redis.admin.replicaof("127.0.0.1", 1),
        lambda s: s.redis.admin.replicaof("NO", "ONE"),
        "readonly",
        opens=("write",),
    ),
    Fault("another password", set_password, set_plainly(requirepass=""), "auth"),
    Fault("too many clients", limit_clients, set_plainly(maxclients=1000), "clients"),
    Fault("loading", load_slowly, lambda s: None, "loading"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name.replace(" ", "-") for fault in FAULTS])
async def test_a_redis_fault_fails_no_request_costs_little_time_and_recovers(tmp_path, fault):
    async with scene(tmp_path) as on:
        bodies = await warmed(on)
        idle = [(await on.ask(target)).seconds for target in TARGETS * 2]
        await asyncio.to_thread(fault.begin, on)
        answers = [await on.ask(TARGETS[number % len(TARGETS)]) for number in range(REQUESTS)]
        fresh = [await on.ask(f"/img/w_{width}/coffee.png") for width in range(20, 23)]

        assert {answer.status for answer in (*answers, *fresh)} == {200}
        assert [answer.body for answer in answers] == [bodies[target] for target in TARGETS] * (
            REQUESTS // len(TARGETS)
        )
        assert max(answer.seconds for answer in answers) < max(idle) + TIMEOUT_SECONDS + NOISE_SECONDS
        late = statistics.median(answer.seconds for answer in answers[REQUESTS // 2 :])
        assert late < statistics.median(idle) + 0.01
        for side in fault.opens:
            await eventually(lambda: on.breaker(side))  # noqa: B023
        assert await on.breaker("read") == ("read" in fault.opens)
        await eventually(lambda: on.has_counted(fault.kind))
        assert (await on.ask("/api/health")).status == 200

        await asyncio.to_thread(fault.end, on)
        await eventually(on.is_well, seconds=20)
        assert [(await on.ask(target)).body for target in TARGETS] == list(bodies.values())
        logged = [event for event in on.server.events() if event["event"].startswith("redis.")]
        assert 1 <= len(logged) <= 12


async def test_the_server_starts_without_redis_and_connects_within_five_seconds(tmp_path):
    with running(tmp_path) as redis:
        redis.kill()
        begun = time.monotonic()
        held = serving(workers_count=1, disk_limit_bytes=0, redis_url=redis.url)
        server = await asyncio.to_thread(held.__enter__)
        try:
            started = time.monotonic() - begun
            answers = [await asyncio.to_thread(server.ask, target) for target in TARGETS]
            breaker = server.metric("imgserver_redis_breaker_state", side="read")
            await asyncio.to_thread(redis.start)
            back = await eventually(lambda: server.metric("imgserver_redis_up") == 1, seconds=10)
        finally:
            await asyncio.to_thread(held.__exit__, None, None, None)

    assert started < 3
    assert {answer.status for answer in answers} == {200}
    assert max(answer.seconds for answer in answers[1:]) < 1
    assert breaker == 1
    assert back < 5


def flipped(record: bytes) -> bytes:
    return record[:-50] + bytes([record[-50] ^ 1]) + record[-49:]


@pytest.mark.parametrize(
    ("put", "reason"),
    [
        (lambda admin, name, record, other: admin.set(name, flipped(record)), "checksum"),
        (lambda admin, name, record, other: admin.set(name, record[:-100]), "length"),
        (lambda admin, name, record, other: admin.set(name, other), "key"),
        (lambda admin, name, record, other: admin.set(name, record[:3] + b"\0" + record[4:]), "schema"),
        (lambda admin, name, record, other: admin.set(name, b""), "empty"),
        (lambda admin, name, record, other: (admin.delete(name), admin.lpush(name, "a list")), "type"),
        (lambda admin, name, record, other: (admin.delete(name), admin.setrange(name, 100 << 20, b"x")), "magic"),
    ],
    ids=["bit-flip", "truncated", "another-record", "old-schema", "empty", "a-list", "100-MB"],
)
async def test_a_corrupt_record_is_counted_rendered_again_and_replaced(scene_without_disk, put, reason):
    on = scene_without_disk
    target = TARGETS[0]
    body = (await on.ask(target)).body
    await eventually(lambda: len(on.redis.admin.keys("imgserver:*/*")) == 1)
    (name,) = on.redis.admin.keys("imgserver:*/*")
    record = on.redis.admin.get(name)
    before = await on.metric("imgserver_cache_corrupt_total", tier="redis", reason=reason)
    key = name.decode().removeprefix("imgserver:")
    put(on.redis.admin, name, record, encode(key + "0", decode(key, record)))
    answer = await on.ask(target)

    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["Cache-Status"] == "imgserver; fwd=uri-miss; stored"
    assert await on.metric("imgserver_cache_corrupt_total", tier="redis", reason=reason) == before + 1
    await eventually(lambda: is_record(on.redis, name))
    assert (await on.ask(target)).headers["Cache-Status"].startswith("imgserver; hit")


def is_record(redis: RedisServer, name: bytes) -> bool:
    if redis.admin.type(name) != b"string" or redis.admin.strlen(name) > 1 << 20:
        return False
    try:
        return bool(decode(name.decode().removeprefix("imgserver:"), redis.admin.get(name)).body)
    except Corrupt:
        return False


@pytest.fixture
async def scene_without_disk(tmp_path):
    async with scene(tmp_path, disk_limit_bytes=0) as found:
        yield found


# Fault 8: clients that disconnect during a Redis lookup.

FUZZ_REQUESTS = 10_000
FUZZ_CLIENTS = 24
# Many targets, because concurrent requests for one picture share one lookup.
FUZZ_TARGETS = [f"/img/w_{width}/cat.png" for width in range(10, 110)]


async def test_ten_thousand_requests_half_of_them_dropped_never_get_a_wrong_picture(tmp_path):
    # The long time-out keeps the circuit breaker closed on a busy machine; an open one would skip Redis.
    async with scene(tmp_path, disk_limit_bytes=0, redis_timeout_seconds=2) as on:
        bodies = {target: (await on.ask(target)).body for target in FUZZ_TARGETS}
        await eventually(lambda: len(on.redis.admin.keys("imgserver:*/*")) == len(FUZZ_TARGETS))
        on.proxy.faults.delay_seconds = 0.004
        numbers, draw, seen = iter(range(FUZZ_REQUESTS)), random.Random(8), Counter()
        before = await on.hits()

        async def client() -> None:
            for _ in numbers:
                target = draw.choice(FUZZ_TARGETS)
                patience = draw.uniform(0, 0.01) if draw.random() < 0.5 else None
                seen[await fetched(on.server.port, target, patience, bodies[target])] += 1

        await asyncio.gather(*(client() for _ in range(FUZZ_CLIENTS)))
        on.proxy.faults.delay_seconds = 0.0

        assert sum(seen.values()) == FUZZ_REQUESTS
        assert set(seen) <= {"right", "dropped"}
        assert seen["dropped"] > FUZZ_REQUESTS / 4
        # On a busy machine more clients disconnect before their lookup.
        assert await on.hits() - before > FUZZ_REQUESTS / 3
        assert await on.metric("imgserver_cache_corrupt_total", tier="redis", reason="key") == 0
        pool = [await on.metric("imgserver_redis_pool_connections", state=state) for state in ("idle", "used")]
        assert pool[1] == 0
        assert pool[0] <= RedisSettings().max_connections
        assert [(await on.ask(target)).body for target in FUZZ_TARGETS] == list(bodies.values())


async def fetched(port: int, target: str, patience: float | None, body: bytes) -> str:
    """One request on a new connection, which is dropped after `patience` seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        async with asyncio.timeout(patience):
            answer = await reader.read()
    except TimeoutError:
        return "dropped"
    finally:
        writer.transport.abort()
    head, _, found = answer.partition(b"\r\n\r\n")
    return "right" if head.startswith(b"HTTP/1.1 200 ") and found == body else f"wrong: {head[:60]!r}"
