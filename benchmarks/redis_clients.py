"""Clients of Redis: GETs of 60 kB through imgserver's client, `redis.asyncio`, valkey-glide and coredis.

All clients run in this process, on one uvloop, and take turns against one local redis-server. CPU is that of this
process with all its threads (valkey-glide talks to Redis from a thread); the CPU of Redis is not counted. imgserver's
client runs with all that production needs: a 50 ms time-out that ignores the event loop's own lateness, a circuit
breaker, bounded waiting. The libraries run plainly, without a short time-out, which favors them.
"""

import asyncio
import contextlib
import importlib.util
import resource
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field

import redis.asyncio
import uvloop

from benchmarks.cache import redis_server
from benchmarks.harness import Row
from imgserver.cache.redis.client import RedisClient, RedisSettings
from imgserver.cache.redis.tier import RedisTier
from imgserver.testing import make_rendition
from tests.redis_server import RedisServer

ROUNDS = 7
TURN_SECONDS = 1.0
WARM_UP_SECONDS = 0.3
CONCURRENCIES = (1, 16, 256)
BODY_BYTES = 60_000
# Concurrent requests read different records, so that they share the connection only.
RECORDS = 64
# A library that is at most this many times worse than our client in every figure would replace it.
LIMIT = 1.5
# The pool of `redis.asyncio`: the default of the setting `redis.max_connections`.
CONNECTIONS = 16

REQUIREMENTS = {"valkey-glide": ("glide", "valkey-glide>=2.6,<3"), "coredis": ("coredis", "coredis>=6.9,<7")}

Get = Callable[[int], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of one client at one concurrency. Latencies in seconds."""

    per_second: float
    cpu_ms: float
    median: float
    p99: float


@dataclass(slots=True)
class Client:
    """`get(number)` returns the record of that number, or raises."""

    name: str
    get: Get
    turns: dict[int, list[Turn]] = field(default_factory=lambda: {number: [] for number in CONCURRENCIES})

    def median(self, concurrency: int, figure: str) -> float:
        return statistics.median(getattr(turn, figure) for turn in self.turns[concurrency])

    def describe(self, concurrency: int) -> str:
        rate, cpu, median, p99 = (
            self.median(concurrency, figure) for figure in ("per_second", "cpu_ms", "median", "p99")
        )
        return f"{rate:,.0f} per second, {cpu:.3f} ms CPU, median {1000 * median:.2f} ms, p99 {1000 * p99:.2f} ms"


def measure_redis_clients() -> list[Row]:
    with redis_server() as server, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for number in range(RECORDS):
            server.admin.set(f"imgserver:{number}", bytes(BODY_BYTES))
        clients = runner.run(_measure(server))
    ours, _whole_tier, *others = clients
    rows = [_row(client, concurrency) for concurrency in CONCURRENCIES for client in clients]
    rows += [_against(ours, other) for other in others]
    return rows + [
        Row(f"Redis GET: {name}", f"not installed: pip install '{requirement}'")
        for name, (module, requirement) in REQUIREMENTS.items()
        if importlib.util.find_spec(module) is None
    ]


async def _measure(server: RedisServer) -> list[Client]:
    async with AsyncExitStack() as stack:
        clients = [
            Client(name, await stack.enter_async_context(opened(server))) for name, opened in _installed().items()
        ]
        for concurrency in CONCURRENCIES:
            for client in clients:
                await _take_turn(client, concurrency, WARM_UP_SECONDS)
            for _ in range(ROUNDS):
                for client in clients:
                    client.turns[concurrency].append(await _take_turn(client, concurrency, TURN_SECONDS))
        return clients


async def _take_turn(client: Client, concurrency: int, seconds: float) -> Turn:
    latencies: list[float] = []
    cpu, begun = _cpu_seconds(), time.perf_counter()
    await asyncio.gather(*(_get_until(begun + seconds, client.get, first, latencies) for first in range(concurrency)))
    cpu, wall = _cpu_seconds() - cpu, time.perf_counter() - begun
    latencies.sort()
    count = len(latencies)
    return Turn(count / wall, 1000 * cpu / count, latencies[count // 2], latencies[count * 99 // 100])


async def _get_until(end: float, get: Get, number: int, latencies: list[float]) -> None:
    begun = time.perf_counter()
    while begun < end:
        number += 1
        await get(number % RECORDS)
        now = time.perf_counter()
        latencies.append(now - begun)
        begun = now


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


Opened = Callable[[RedisServer], AbstractAsyncContextManager[Get]]


def _installed() -> Mapping[str, Opened]:
    optional: dict[str, Opened] = {"valkey-glide": _glide, "coredis": _coredis}
    found = {name: opened for name, opened in optional.items() if importlib.util.find_spec(REQUIREMENTS[name][0])}
    return {"imgserver": _ours, "imgserver, the whole tier": _our_tier, "redis.asyncio": _redis_py, **found}


@contextlib.asynccontextmanager
async def _ours(server: RedisServer) -> AsyncIterator[Get]:
    async with _link(server) as link:

        async def get(number: int) -> object:
            replies = await link.read("get", ("GET", f"imgserver:{number}"))
            if replies is None:
                raise RuntimeError("Redis did not reply in time")
            return replies[0]

        yield get


@contextlib.asynccontextmanager
async def _our_tier(server: RedisServer) -> AsyncIterator[Get]:
    """The record is decoded and its checksum verified as well."""
    async with _link(server) as link:
        tier = RedisTier(link)
        for number in range(RECORDS):
            await tier.put(f"record/{number}", make_rendition(bytes(BODY_BYTES)))

        async def get(number: int) -> object:
            rendition = await tier.get(f"record/{number}")
            if rendition is None:
                raise RuntimeError("imgserver's Redis tier missed")
            return rendition

        yield get


@contextlib.asynccontextmanager
async def _link(server: RedisServer) -> AsyncIterator[RedisClient]:
    link = RedisClient(RedisSettings(url=server.url))
    await link.start()
    try:
        yield link
    finally:
        await link.close()


@contextlib.asynccontextmanager
async def _redis_py(server: RedisServer) -> AsyncIterator[Get]:
    pool = redis.asyncio.BlockingConnectionPool.from_url(server.url, max_connections=CONNECTIONS)
    client = redis.asyncio.Redis(connection_pool=pool)
    try:
        yield lambda number: client.get(f"imgserver:{number}")
    finally:
        await client.aclose(close_connection_pool=True)


@contextlib.asynccontextmanager
async def _glide(server: RedisServer) -> AsyncIterator[Get]:
    import glide

    address = glide.NodeAddress("127.0.0.1", server.port)
    client = await glide.GlideClient.create(glide.GlideClientConfiguration([address], request_timeout=5_000))
    try:
        yield lambda number: client.get(f"imgserver:{number}")
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def _coredis(server: RedisServer) -> AsyncIterator[Get]:
    import coredis

    async with coredis.Redis(host="127.0.0.1", port=server.port) as client:
        yield lambda number: client.get(f"imgserver:{number}")


def _row(client: Client, concurrency: int) -> Row:
    raw = {
        "columns": "per second, CPU ms, median s, p99 s",
        "turns": [(turn.per_second, turn.cpu_ms, turn.median, turn.p99) for turn in client.turns[concurrency]],
    }
    return Row(f"Redis GET, concurrency {concurrency}: {client.name}", client.describe(concurrency), raw=raw)


def _against(ours: Client, other: Client) -> Row:
    """How many times worse than ours, per round; the worst of throughput and CPU at each concurrency, and of the
    median at concurrency 1."""
    ratios = {
        f"{what} at {concurrency}": statistics.median(
            getattr(a, figure) / getattr(b, figure)
            if figure == "per_second"
            else getattr(b, figure) / getattr(a, figure)
            for a, b in zip(ours.turns[concurrency], other.turns[concurrency], strict=True)
        )
        for concurrency in CONCURRENCIES
        for what, figure in (("throughput", "per_second"), ("CPU", "cpu_ms"), ("median", "median"))
        if figure != "median" or concurrency == 1
    }
    worst = max(ratios, key=ratios.__getitem__)
    shown = ", ".join(f"{what} {ratio:.2f}" for what, ratio in ratios.items())
    verdict = "replaces ours" if ratios[worst] <= LIMIT else "ours stays"
    return Row(
        f"Redis GET: {other.name}, times worse than ours ({LIMIT:g} or less would replace it)",
        f"{shown}: {verdict}",
        raw=ratios,
    )
