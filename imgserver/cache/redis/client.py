"""The Redis client: every command is bounded in time, every fault is a missing reply, and circuit breakers suspend it.

A command of a request takes `timeout_seconds` at most, for a free connection, connecting and the reply together (not
counting what the event loop itself is late by), and nothing while its circuit breaker is open: then only a probe in the
background talks to Redis. Reads share pipelined connections (`pipeline.py`); writes use a pool of redis-py.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, doc
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from imgserver.cache.redis.endpoint import Command, Endpoint, connection_options
from imgserver.cache.redis.faults import SERVER_FAULTS, WRITE_FAULTS, kind_of
from imgserver.cache.redis.pipeline import ConnectionLost, LagTolerantTimeout, PipelinedPool, Reply
from imgserver.cache.redis.probe import BACKGROUND_SECONDS, ProbedBreaker
from imgserver.runtime.background import BackgroundTasks, OnTaskFailure, log_task_failure
from imgserver.runtime.resources import MIB

# Purges and the subscription, which no request waits for, have connections of their own.
BACKGROUND_CONNECTIONS = 4
START_SECONDS = 0.25
MAX_BACKGROUND_JOBS = 256
# A healthy Redis replies in less than a millisecond. One that needs so much of the time-out is not healthy.
SLOW_SHARE = 0.8

_NAMESPACE = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """The Redis that replicas share.

    The URL of a socket is `unix:///run/redis.sock?db=1`. Sentinel and Cluster have no URL form here and are refused:
    give the address of a primary or of a proxy. With TLS the certificate must be valid for the URL's host and signed by
    an authority that the system or `ca_file` trusts.
    """

    url: Annotated[
        str,
        doc("redis://, rediss:// (TLS) or unix://; without a value here REDIS_URL counts; empty: no Redis"),
    ] = ""
    ca_file: Annotated[Path, doc("CA certificates (PEM) trusted for rediss:// besides the system's; empty: none")] = (
        Path()
    )
    namespace: Annotated[str, doc("prefix of every key")] = "imgserver"
    timeout_seconds: Annotated[float, Gt(0), Le(5), doc("longest time that a request waits for Redis")] = 0.05
    max_connections: Annotated[int, Ge(1), Le(1000), doc("connections for writes; lookups share two more")] = 16
    item_bytes: Annotated[int, Ge(0), Le(64 * MIB), doc("largest rendition stored in Redis")] = 2 * MIB
    ttl_seconds: Annotated[int, Ge(1), Le(90 * 86_400), doc("longest TTL of a record in Redis (±10 %)")] = 7 * 86_400


@dataclass(frozen=True, slots=True)
class RedisClientStatistics:
    """Totals since the start: `faults` by kind, those of probes included; `bypassed` commands met an open breaker.

    `connections` for requests, by state: `idle` and `used` of the pool for writes, `shared` by all reads.
    """

    connected: bool
    read_breaker: str
    write_breaker: str
    opened: int
    timeouts: int
    bypassed: int
    faults: Mapping[str, int]
    connections: Mapping[str, int]


Fill = Callable[[Pipeline], object]


class RedisClient:
    """Connections, circuit breakers and probes of one Redis. No command raises.

    `observe(operation, seconds)` is called for each command that was answered. Raises ValueError for a URL, a CA file
    or a namespace that cannot be used; a namespace has letters, digits, `.`, `_` and `-`.
    """

    def __init__(
        self,
        settings: RedisSettings,
        *,
        observe: Callable[[str, float], None] = lambda *_: None,
        on_task_failure: OnTaskFailure = log_task_failure,
    ) -> None:
        self.settings = settings
        if not _NAMESPACE.fullmatch(settings.namespace):
            raise ValueError("redis.namespace may have letters, digits, '.', '_' and '-' only")
        options = connection_options(settings.url, settings.ca_file)
        timeout = settings.timeout_seconds
        self._pipelines = PipelinedPool(Endpoint.of(options), seconds=timeout)
        self._writer = _client(options, connections=settings.max_connections, seconds=max(timeout, BACKGROUND_SECONDS))
        self.background = _client(options, connections=BACKGROUND_CONNECTIONS, seconds=BACKGROUND_SECONDS)
        self._observe = observe
        self._faults: Counter[str] = Counter()
        budget = SLOW_SHARE * timeout
        self._reads = ProbedBreaker("read", self._probe_read, budget_seconds=budget, faults=self._faults)
        self._writes = ProbedBreaker("write", self._probe_write, budget_seconds=budget, faults=self._faults)
        self._tasks = BackgroundTasks(on_failure=on_task_failure, close_seconds=BACKGROUND_SECONDS)
        self._timeouts = self._bypassed = self._jobs = 0

    @property
    def connected(self) -> bool:
        return not self._reads.breaker.is_open

    @property
    def suspended_reason(self) -> str:
        """Why reads are suspended; "" if they are not."""
        breaker = self._reads.breaker
        if not breaker.is_open:
            return ""
        return "not connected since the start" if breaker.reason == "start" else breaker.reason

    async def start(self) -> None:
        """Probes now, and again in the background whenever a breaker is open. Waits START_SECONDS at most."""
        breakers = (self._reads, self._writes)
        for one in breakers:
            await self._tasks.start(f"redis_{one.name}_probe", one.run)
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                for one in breakers:
                    await one.probed.wait()

    async def close(self) -> None:
        await self._tasks.close()
        await self._pipelines.close()
        for client in (self._writer, self.background):
            await client.aclose(close_connection_pool=True)

    async def read(self, operation: str, *commands: Command) -> list[Any] | None:
        """Returns a reply per command; a command that failed has its error in that place.

        None: no reply in time, or the breaker is open. `operation` is a metric label.
        """
        side = self._reads
        if side.breaker.is_open:
            self._bypassed += 1
            return None
        connection = self._pipelines.available()
        begun = time.monotonic()
        try:
            replies, seconds = await (
                connection.execute(*commands) if connection is not None else self._execute_when_available(*commands)
            )
        except Exception as error:
            # Any: whatever listens there need not be a Redis.
            self._count_fault(error, side, time.monotonic() - begun)
            return None
        self._count_replies(operation, replies, side, seconds)
        return replies

    async def write(self, operation: str, fill: Fill) -> list[Any] | None:
        """Like `read`, for the commands that `fill` puts into a pipeline. After None the write may have been done."""
        side = self._writes
        if side.breaker.is_open:
            self._bypassed += 1
            return None
        timeout = LagTolerantTimeout(self.settings.timeout_seconds)
        try:
            # One time-out for all steps: a free connection, connecting, the handshake, every reply.
            async with timeout:
                async with self._writer.pipeline(transaction=False) as pipe:
                    fill(pipe)
                    replies = await pipe.execute(raise_on_error=False)
                seconds = timeout.elapsed()
        except Exception as error:
            # Any: a broken handshake raises whatever redis-py's parser raises.
            self._count_fault(error, side, timeout.elapsed())
            return None
        self._count_replies(operation, replies, side, seconds)
        return replies

    async def run_in_background(self, work: Callable[[], Awaitable[object]]) -> None:
        """Dropped when MAX_BACKGROUND_JOBS are pending."""
        if self._jobs >= MAX_BACKGROUND_JOBS or self._tasks.closed:
            return
        self._jobs += 1
        await self._tasks.run_once("redis_cleanup", lambda: self._run_job(work))

    def name(self, *parts: str) -> str:
        """A key or channel of the namespace."""
        return f"{self.settings.namespace}:{':'.join(parts)}"

    def statistics(self) -> RedisClientStatistics:
        pool = self._writer.connection_pool.get_connection_count()
        return RedisClientStatistics(
            connected=self.connected,
            read_breaker=self._reads.breaker.state,
            write_breaker=self._writes.breaker.state,
            opened=self._reads.breaker.opened + self._writes.breaker.opened,
            timeouts=self._timeouts,
            bypassed=self._bypassed,
            faults=dict(self._faults),
            connections={
                "shared": len(self._pipelines),
                **{attributes["db.client.connection.state"]: count for count, attributes in pool},
            },
        )

    async def _execute_when_available(self, *commands: Command) -> Reply:
        """One time-out for connecting, waiting and the reply."""
        timeout = LagTolerantTimeout(self.settings.timeout_seconds)
        async with timeout:
            reply = await (await self._pipelines.wait_available()).execute(*commands)
            return Reply(reply.values, timeout.elapsed())

    def _count_replies(self, operation: str, replies: list[Any], side: ProbedBreaker, seconds: float) -> None:
        self._observe(operation, seconds)
        succeeded = True
        for reply in replies:
            if isinstance(reply, Exception):
                succeeded = False
                self._count_fault(reply, side, seconds)
        if succeeded:
            side.breaker.record_success(seconds)

    def _count_fault(self, error: Exception, side: ProbedBreaker, seconds: float) -> None:
        kind = kind_of(error)
        if kind == "wrongtype" or (isinstance(error, ConnectionLost) and error.counted):
            return
        if isinstance(error, ConnectionLost):
            error.counted = True
        self._faults[kind] += 1
        self._timeouts += kind == "timeout"
        if kind in WRITE_FAULTS:
            self._writes.breaker.trip(kind)
        elif kind in SERVER_FAULTS:
            self._reads.breaker.trip(kind)
            self._writes.breaker.trip(kind)
        else:
            side.breaker.record_fault(seconds)

    async def _run_job(self, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        finally:
            self._jobs -= 1

    async def _probe_read(self) -> object:
        # Not PING: a Redis that cannot save its snapshot refuses PING, but still replies to every read.
        connection = await self._pipelines.wait_available()
        (value,), _ = await connection.execute(("GET", self.name("probe")))
        if isinstance(value, Exception):
            raise value
        return value

    async def _probe_write(self) -> object:
        return await self._writer.set(self.name("probe"), b"", px=60_000)


def _client(options: Mapping[str, Any], *, connections: int, seconds: float) -> Redis:
    """`seconds` bounds each single step, for callers without a time-out of their own."""
    pool = BlockingConnectionPool(
        **options,
        max_connections=connections,
        timeout=seconds,
        socket_timeout=seconds,
        socket_connect_timeout=BACKGROUND_SECONDS,
        retry=Retry(NoBackoff(), 0),
        protocol=3,
        driver_info=None,
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    return Redis(connection_pool=pool)
