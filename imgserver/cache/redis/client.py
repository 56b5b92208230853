"""The link to Redis: every command bounded in time, every fault an absent answer, two breakers, probes behind them.

Nothing here raises for what Redis does or does not do. A user's command may cost `timeout_seconds` in all (place in the
pool, connecting, answer; not what the event loop itself is late by), and nothing once a breaker is open: then only a
probe in the background speaks to Redis. Look-ups share lanes (`lanes.py`); what is written has the client's pool.
"""

import asyncio
import logging
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import hiredis
from annotated_types import Ge, Gt, Le, doc
from redis import exceptions as faults
from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import RedisSSLContext, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from imgserver.cache.redis.circuit_breaker import CircuitBreaker
from imgserver.cache.redis.pipeline import Answer, Command, ConnectionLost, Endpoint, LagTolerantTimeout, PipelinedPool
from imgserver.runtime.background import BackgroundTasks, OnTaskFailure, log_task_failure

# Where Redis is and whom we trust there, from a URL: arguments for the client's connections.

SCHEMES = ("redis", "rediss", "unix")
# What a URL's query may not change: the code here depends on it.
_OURS = frozenset(
    {"protocol", "decode_responses", "encoding", "encoding_errors", "max_connections", "timeout", "retry"}
    | {"socket_timeout", "socket_connect_timeout", "retry_on_timeout", "retry_on_error", "health_check_interval"}
)


def address_of(url: str, ca_file: Path) -> dict[str, Any]:
    """What the URL says of where and who; how we speak is ours to say. ValueError: it cannot be used."""
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise ValueError(
            f"redis.url begins with redis://, rediss:// or unix://, not {scheme!r}; Sentinel and Cluster are not"
            " supported: give the address of a primary or of a proxy"
        )
    told = {name: value for name, value in dict(parse_url(url)).items() if name not in _OURS}
    if scheme == "rediss":
        return _with_tls(told, ca_file)
    if ca_file != Path():
        raise ValueError("redis.ca_file is for TLS: redis.url begins with rediss:// then")
    return told


def _with_tls(address: Mapping[str, Any], ca_file: Path) -> dict[str, Any]:
    options = {name: value for name, value in address.items() if name != "connection_class"}
    if ca_file != Path():
        options["ssl_ca_certs"] = str(ca_file)
    try:
        context = SSLConnection(**options).ssl_context
        context.get()
    except (OSError, RedisError, TypeError) as error:
        raise ValueError(f"redis.url or redis.ca_file: TLS cannot be set up: {error}") from error
    return {**options, "connection_class": _TlsConnection, "context": context}


class _TlsConnection(SSLConnection):
    """All connections share what they trust: to read the authorities' certificates anew for each one would hold the
    event loop for 15 ms."""

    def __init__(self, *, context: RedisSSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context = context


# What no user waits for (probes, purges, the subscription) has time, and connections of its own.
PATIENT_SECONDS = 1.0
PATIENT_CONNECTIONS = 4
START_SECONDS = 0.25
LATER_LIMIT = 256
CHEAP_SECONDS = 0.02

# Faults by the beginning of Redis' own words, else by the client's class.
_TEXTS = {
    "OOM": "oom",
    "command not allowed when used memory": "oom",
    "MISCONF": "misconf",
    "READONLY": "readonly",
    "You can't write against a read only": "readonly",
    "LOADING": "loading",
    "NOAUTH": "auth",
    "WRONGPASS": "auth",
    "max number of clients": "clients",
    "ERR max number of clients": "clients",
    "MASTERDOWN": "masterdown",
    "WRONGTYPE": "wrongtype",
}
_KINDS: tuple[tuple[type[Exception], str], ...] = (
    (faults.OutOfMemoryError, "oom"),
    (faults.ReadOnlyError, "readonly"),
    (faults.BusyLoadingError, "loading"),
    (faults.AuthenticationError, "auth"),
    (faults.TimeoutError, "timeout"),
    (TimeoutError, "timeout"),
    (faults.ConnectionError, "connection"),
    (OSError, "connection"),
    (faults.ResponseError, "response"),
    (hiredis.ReplyError, "response"),
)
# While these last no write will succeed, but reads do; or nothing at all will.
WRITE_FAULTS = frozenset({"oom", "misconf", "readonly"})
SERVER_FAULTS = frozenset({"loading", "auth", "clients", "masterdown"})

_NAMESPACE = re.compile(r"[A-Za-z0-9._-]{1,64}")
MIB = 1 << 20

log = logging.getLogger(__name__)


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
    """Totals since the start: `faults` by kind, probes' included; `bypassed` commands met an open breaker.

    `connections` are those that requests use, by state: `idle` and `used` of the pool, `shared` by all look-ups.
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
    """Clients, breakers and probes of one Redis. `observe(op, seconds)` is told of every answered command.

    ValueError: a URL of another kind, a CA file that cannot be used, or a namespace with other than letters, digits,
    `.`, `_` and `-`.
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
        options = address_of(settings.url, settings.ca_file)
        quick = settings.timeout_seconds
        self._lanes = PipelinedPool(Endpoint.of(options), seconds=quick)
        self._quick = _client(options, connections=settings.max_connections, seconds=max(quick, PATIENT_SECONDS))
        self.patient = _client(options, connections=PATIENT_CONNECTIONS, seconds=PATIENT_SECONDS)
        self._observe = observe
        # A healthy Redis answers in less than a millisecond; who needs most of the time-out is sick.
        self._reading = _Side("read", 0.8 * quick, self._probe_read)
        self._writing = _Side("write", 0.8 * quick, self._probe_write)
        self._tasks = BackgroundTasks(on_failure=on_task_failure, close_seconds=PATIENT_SECONDS)
        self._faults: Counter[str] = Counter()
        self._timeouts = self._bypassed = self._waiting = 0

    @property
    def connected(self) -> bool:
        return not self._reading.breaker.is_open

    async def start(self) -> None:
        """Probes at once, and for ever in the background: an absent Redis delays the start by 0.25 s at most."""
        sides = (self._reading, self._writing)
        for side in sides:
            await self._tasks.start(f"redis_{side.name}_probe", partial(self._keep, side))
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                for side in sides:
                    await side.probed.wait()

    async def close(self) -> None:
        await self._tasks.close()
        await self._lanes.close()
        for client in (self._quick, self.patient):
            await client.aclose(close_connection_pool=True)

    async def read(self, op: str, *commands: Command) -> list[Any] | None:
        """A reply per command, an error in the place of each that failed.

        None: no answer in time, or none was asked for. `op` is for the metrics.
        """
        side = self._reading
        if side.breaker.is_open:
            self._bypassed += 1
            return None
        lane = self._lanes.free()
        begun = time.monotonic()
        try:
            replies, seconds = await (lane.ask(*commands) if lane is not None else self._ask(*commands))
        except Exception as error:
            # Any: what is on the other side need not be a Redis.
            self._judge(error, side, time.monotonic() - begun)
            return None
        self._weigh(op, replies, side, seconds)
        return replies

    async def write(self, op: str, fill: Fill) -> list[Any] | None:
        """As `read` for what `fill` puts into a pipeline, behind the other breaker. None may also mean that it was
        done."""
        side = self._writing
        if side.breaker.is_open:
            self._bypassed += 1
            return None
        patience = LagTolerantTimeout(self.settings.timeout_seconds)
        try:
            # For all steps together: place in the pool, connecting, greeting, every reply.
            async with patience:
                async with self._quick.pipeline(transaction=False) as pipe:
                    fill(pipe)
                    replies = await pipe.execute(raise_on_error=False)
                seconds = patience.listened()
        except Exception as error:
            # Any: a broken handshake meets code of the library that expects a whole one.
            self._judge(error, side, patience.listened())
            return None
        self._weigh(op, replies, side, seconds)
        return replies

    async def later(self, work: Callable[[], Awaitable[object]]) -> None:
        """Has it done in the background; dropped when too much waits already."""
        if self._waiting >= LATER_LIMIT or self._tasks.closed:
            return
        self._waiting += 1
        await self._tasks.run_once("redis_later", lambda: self._do_later(work))

    def name(self, *parts: str) -> str:
        return f"{self.settings.namespace}:{':'.join(parts)}"

    def statistics(self) -> RedisClientStatistics:
        return RedisClientStatistics(
            connected=self.connected,
            read_breaker=self._reading.breaker.state,
            write_breaker=self._writing.breaker.state,
            opened=self._reading.breaker.opened + self._writing.breaker.opened,
            timeouts=self._timeouts,
            bypassed=self._bypassed,
            faults=dict(self._faults),
            connections={
                "shared": len(self._lanes),
                **{
                    told["db.client.connection.state"]: count
                    for count, told in self._quick.connection_pool.get_connection_count()
                },
            },
        )

    async def _ask(self, *commands: Command) -> Answer:
        """Connecting and answer have one time-out together."""
        patience = LagTolerantTimeout(self.settings.timeout_seconds)
        async with patience:
            answer = await (await self._lanes.opened()).ask(*commands)
            return Answer(answer.replies, patience.listened())

    def _weigh(self, op: str, replies: list[Any], side: "_Side", seconds: float) -> None:
        self._observe(op, seconds)
        refusals = [reply for reply in replies if isinstance(reply, Exception)]
        for refusal in refusals:
            self._judge(refusal, side, seconds)
        if not refusals:
            side.breaker.succeeded(seconds)

    def _judge(self, error: Exception, side: "_Side", seconds: float) -> None:
        fault = _fault(error)
        if fault == "wrongtype" or (isinstance(error, ConnectionLost) and error.told):
            return
        if isinstance(error, ConnectionLost):
            error.told = True
        self._faults[fault] += 1
        self._timeouts += fault == "timeout"
        if fault in WRITE_FAULTS:
            self._writing.breaker.trip(fault)
        elif fault in SERVER_FAULTS:
            self._reading.breaker.trip(fault)
            self._writing.breaker.trip(fault)
        else:
            side.breaker.failed(seconds)

    async def _do_later(self, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        finally:
            self._waiting -= 1

    async def _keep(self, side: "_Side") -> None:
        """Probes while the side's breaker is open."""
        while True:
            await side.wake.wait()
            await asyncio.sleep(side.breaker.pause())
            begun = time.monotonic()
            try:
                seconds = await self._probe(side)
            except Exception as error:
                side.tell(error)
                self._faults[_fault(error)] += 1
                refused = isinstance(error, OSError) or type(error) in (faults.ConnectionError, ConnectionLost)
                cheaply = refused and time.monotonic() - begun < CHEAP_SECONDS
                side.breaker.refuse(cheaply=cheaply)
            else:
                side.answered(seconds)
            side.probed.set()

    async def _probe(self, side: "_Side") -> float:
        """The first one may have to connect, for which a probe has time; the second is what a user would feel."""
        async with asyncio.timeout(PATIENT_SECONDS):
            await side.probe()
            begun = time.monotonic()
            await side.probe()
            return time.monotonic() - begun

    async def _probe_read(self) -> object:
        # Not PING, which a Redis that cannot save its snapshot refuses while it answers every read.
        (reply,), _ = await (await self._lanes.opened()).ask(("GET", self.name("probe")))
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def _probe_write(self) -> object:
        return await self._quick.set(self.name("probe"), b"", px=60_000)


class _Side:
    """A breaker with the probe that closes it again."""

    def __init__(self, name: str, budget_seconds: float, probe: Callable[[], Awaitable[object]]) -> None:
        self.name = name
        self.probe = probe
        self.wake = asyncio.Event()
        self.wake.set()
        self.probed = asyncio.Event()
        self.breaker = CircuitBreaker(budget_seconds=budget_seconds, on_open=self._opened)
        self._told = False

    def tell(self, error: Exception) -> None:
        """Once per absence: why a probe failed. A breaker that never closed has told nothing yet."""
        if not self._told:
            self._told = True
            log.warning("Redis does not answer a %s: %s", self.name, str(error) or type(error).__name__)

    def answered(self, seconds: float) -> None:
        if not self.breaker.is_within_budget(seconds):
            self.breaker.refuse(cheaply=False)
            return
        self.wake.clear()
        self._told = False
        self.breaker.close()
        log.info("Redis is used again for every %s", self.name)

    def _opened(self) -> None:
        self.wake.set()
        log.warning("Redis is left alone for every %s: %s", self.name, self.breaker.reason)


def _fault(error: Exception) -> str:
    """One of a few words, fit for a metric's label."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "certificate"
    for start, fault in _TEXTS.items():
        if text.startswith(start):
            return fault
    for kind, fault in _KINDS:
        if isinstance(error, kind):
            return fault
    return "other"


def _client(address: Mapping[str, Any], *, connections: int, seconds: float) -> Redis:
    """`seconds` bounds each step alone, for those who have no bound of their own."""
    pool = BlockingConnectionPool(
        **address,
        max_connections=connections,
        timeout=seconds,
        socket_timeout=seconds,
        socket_connect_timeout=PATIENT_SECONDS,
        retry=Retry(NoBackoff(), 0),
        protocol=3,
        driver_info=None,
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    return Redis(connection_pool=pool)
